"""Bad input: the error names the argument, what it got and what it needs, and nothing is written."""

from typing import Any

import numpy as np
import pytest
from bad_input import F32, NAN, NO_NUMBERS, NO_POSITIVE_PAIRS, case_id, ones, refuses

import fastconv as fc

EMPTY = np.zeros((0, 1, 1, 1), np.int64)
POOL = {"x": ones(2, 3, 6, 7), "kernel_size": 2, "out": ones(2, 3, 3, 3)}
BAD_POOL: list[tuple[str, Any]] = [
    *(("x", bad) for bad in NO_NUMBERS),
    ("x", ones(6, 7)),
    ("x", ones(1, 2, 3, 6, 7)),
    *(("kernel_size", bad) for bad in [*NO_POSITIVE_PAIRS, None]),
    ("kernel_size", (7, 1)),
    ("kernel_size", (1, 8)),
    *(("stride", bad) for bad in NO_POSITIVE_PAIRS),
    *(("padding", bad) for bad in [-1, 1.5, True, NAN, None, (1,), (1, 1, 1), ((0, 1),), "same"]),
    ("padding", 2),
    ("padding", (0, 2)),
    *(("ceil_mode", bad) for bad in [1, None, "yes"]),
    *(("layout", bad) for bad in ["NCWH", None]),
    *(("out", bad) for bad in [ones(2, 3, 3, 4), ones(2, 3, 3, 3, dtype=np.float64), [1.0]]),
    ("out", np.broadcast_to(F32(1), (2, 3, 3, 3))),
]


@pytest.mark.parametrize(
    ("name", "bad"),
    BAD_POOL
    + [("dilation", bad) for bad in [*NO_POSITIVE_PAIRS, None]]
    + [("return_indices", bad) for bad in [1, None, "yes"]],
    ids=case_id,
)
def test_max_pool2d(name, bad):
    named = "(x|kernel_size)" if name in ("x", "kernel_size") else name
    refuses(fc.max_pool2d, named, {**POOL, name: bad})


@pytest.mark.parametrize(
    ("name", "bad"),
    BAD_POOL
    + [("count_include_pad", bad) for bad in [1, None, "yes"]]
    + [("divisor_override", bad) for bad in [0, 1.5, True, "2", NAN, 10**400, -(2**63)]],
    ids=case_id,
)
def test_avg_pool2d(name, bad):
    named = "(x|kernel_size)" if name in ("x", "kernel_size") else name
    refuses(fc.avg_pool2d, named, {**POOL, name: bad})


@pytest.mark.parametrize("function", [fc.max_pool2d, fc.avg_pool2d])
def test_out_overlaps(function):
    memory = np.ones(400, F32)
    x = memory[100:226].reshape(1, 3, 6, 7)
    for first in (74, 100, 225):
        refuses(
            function, "out", {"x": x, "kernel_size": 2, "out": memory[first : first + 27].reshape(1, 3, 3, 3)}
        )
    beside = memory[226:253].reshape(1, 3, 3, 3)
    assert function(x, 2, out=beside) is beside


INDICES = np.zeros((2, 3, 3, 3), np.int64)
NO_INPUT_SIZES = [
    (2, 3, 6),
    (2, 3, 6, 7, 1),
    (2, 4, 6, 7),
    (1, 3, 6, 7),
    (2, 3, -6, 7),
    (2, 3, 6.0, 7),
    None,
    5,
    "abcd",
]
NO_INPUT_SIZES += [(2, 3, 6, True), (2, 3, NAN, 7)]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("grad_output", bad) for bad in NO_NUMBERS),
        ("grad_output", ones(2, 3, 3, 2)),
        ("grad_output", ones(3, 3)),
        *(("indices", bad) for bad in [INDICES[:1], INDICES + 42, INDICES - 1, INDICES.astype(float), None]),
        ("indices", INDICES == 0),
        *(("input_size", bad) for bad in NO_INPUT_SIZES),
        ("layout", "NCWH"),
    ],
    ids=case_id,
)
def test_max_pool2d_backward(name, bad):
    named = "(grad_output|indices|input_size)" if name != "layout" else name
    arguments = {"grad_output": ones(2, 3, 3, 3), "indices": INDICES, "input_size": (2, 3, 6, 7)}
    refuses(fc.max_pool2d_backward, named, {**arguments, name: bad})


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("grad_output", bad) for bad in NO_NUMBERS),
        ("grad_output", ones(2, 3, 3, 2)),
        ("grad_output", ones(3, 3)),
        *(("input_size", bad) for bad in NO_INPUT_SIZES),
        *((name, bad) for name, bad in BAD_POOL if name not in ("x", "out")),
        ("count_include_pad", None),
        ("divisor_override", 0),
    ],
    ids=case_id,
)
def test_avg_pool2d_backward(name, bad):
    shapes = ("grad_output", "input_size", "kernel_size")
    named = f"({'|'.join(shapes)})" if name in shapes else name
    arguments = {"grad_output": ones(2, 3, 3, 3), "input_size": (2, 3, 6, 7), "kernel_size": 2}
    refuses(fc.avg_pool2d_backward, named, {**arguments, name: bad})


def test_a_window_that_sees_no_pixel():
    """Its two columns are the padding to the left and to the right of a narrow image."""
    refuses(
        fc.max_pool2d,
        "padding",
        {"x": ones(1, 1, 2), "kernel_size": (1, 2), "padding": (0, 1), "dilation": 3},
    )


def test_results_that_fit_into_no_memory():
    with pytest.raises((ValueError, MemoryError)):
        fc.avg_pool2d_backward(ones(1, 1, 1, 1), (1, 1, 2**30, 2**31), (2**30, 2**31))
    with pytest.raises((ValueError, MemoryError)):
        fc.max_pool2d_backward(ones(1, 1, 1, 1), np.zeros((1, 1, 1, 1), int), (1, 1, 2**30, 2**31))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda: fc.max_pool2d_backward(ones(0, 1, 1, 1), EMPTY, (0, 1, 2**40, 2**40)), "input_size"),
        (lambda: fc.avg_pool2d_backward(ones(0, 1, 1, 1), (0, 1, 2**40, 2**40), 2), "input_size"),
        (lambda: fc.avg_pool2d_backward(ones(1, 1, 1, 1), (1, 1, 2**40, 2**20), 2), "input_size"),
        (lambda: fc.adaptive_avg_pool2d(ones(1, 1, 4, 4), 2**31 - 1), "output_size"),
        (lambda: fc.adaptive_max_pool2d(ones(0, 1, 4, 4), 2**31 - 1), "output_size"),
        (lambda: fc.adaptive_avg_pool2d(ones(4, 4, 2**10), 2**31 - 1, layout="NHWC"), "output_size"),
    ],
)
def test_what_fits_into_no_memory_is_refused_before_there_are_tables(function, name, monkeypatch):
    monkeypatch.setattr("fastconv._pool_spec.Windows", None)
    with pytest.raises(MemoryError, match=rf"^{name}: an array of shape \(.*\) does not fit into memory$"):
        function()
