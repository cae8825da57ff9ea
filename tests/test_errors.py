"""Bad input: the error names the argument, what it got and what it needs, and nothing is written."""

from typing import Any

import numpy as np
import pytest
from bad_input import F32, HUGE, NAN, NO_NUMBERS, NO_PADDINGS, NO_POSITIVE_PAIRS, case_id, ones, refuses

import fastconv as fc

# ---- conv2d ----

CONV = {"x": ones(2, 4, 5, 6), "weight": ones(6, 2, 3, 2), "bias": ones(6), "groups": 2}
MEMORY = ones(4, 4, 4, 4)
BAD_CONV: list[tuple[str, Any]] = [
    *(("x", bad) for bad in NO_NUMBERS),
    ("x", ones(5)),
    ("x", ones(5, 6)),
    ("x", ones(1, 2, 4, 5, 6)),
    ("x", ones(2, 3, 5, 6)),
    *(("weight", bad) for bad in NO_NUMBERS),
    ("weight", ones(6, 2, 3)),
    ("weight", ones(6, 2, 3, 3, 3)),
    ("weight", ones(6, 3, 3, 2)),
    ("weight", ones(6, 2, 0, 2)),
    ("weight", ones(6, 2, 6, 2)),
    ("weight", ones(6, 2, 2, 7)),
    *(
        ("bias", bad)
        for bad in [ones(5), ones(7), ones(1), ones(6, 1), np.float32(1), ones(6, dtype=complex), "bias"]
    ),
    *(("stride", bad) for bad in [*NO_POSITIVE_PAIRS, None]),
    *(("dilation", bad) for bad in [*NO_POSITIVE_PAIRS, None]),
    *(("padding", bad) for bad in NO_PADDINGS),
    *(("groups", bad) for bad in [0, -1, 1.0, True, NAN, None, "2", (1, 1), 4, 3]),
    *(("padding_mode", bad) for bad in ["mirror", None, 0, "ZEROS", []]),
    *(("layout", bad) for bad in ["NCWH", "nchw", None, 0, []]),
    *(("algorithm", bad) for bad in ["fft", None, 0, "Direct", []]),
    *(("activation", bad) for bad in ["tanh", 0, True, np.maximum]),
]
BAD_OUT = [
    ones(2, 6, 3, 4),
    ones(1, 6, 3, 5),
    ones(6, 3, 5),
    ones(2, 6, 3, 5, dtype=np.float64),
    ones(2, 6, 3, 5, dtype=np.int32),
    np.broadcast_to(F32(1), (2, 6, 3, 5)),
    ones(2, 6, 3, 5).tolist(),
    "out",
]


@pytest.mark.parametrize(("name", "bad"), BAD_CONV, ids=case_id)
def test_conv2d(name, bad):
    # Channels that do not match, and a kernel that does not fit, are a matter of both arrays.
    named = "(x|weight|groups)" if name in ("x", "weight", "groups") else name
    refuses(fc.conv2d, named, {**CONV, "out": ones(2, 6, 3, 5), name: bad})


@pytest.mark.parametrize("bad", BAD_OUT, ids=case_id)
def test_conv2d_out(bad):
    refuses(fc.conv2d, "out", {**CONV, "out": bad})


def test_conv2d_out_is_read_only():
    out = ones(2, 6, 3, 5)
    out.flags.writeable = False
    refuses(fc.conv2d, "out", {**CONV, "out": out})


@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_conv2d_out_overlaps(name):
    """Every array is a part of one memory, and `out` begins inside one of them."""
    memory = np.ones(1000, F32)
    shapes = {"x": (1, 2, 4, 4), "weight": (2, 2, 1, 1), "bias": (2,)}
    arrays = {
        key: memory[start : start + np.prod(shape)].reshape(shape)
        for (key, shape), start in zip(shapes.items(), (100, 300, 500), strict=True)
    }
    start = {"x": 100, "weight": 300, "bias": 500}[name]
    for first in (start - 31, start, start + np.prod(shapes[name]) - 1):
        refuses(fc.conv2d, "out", {**arrays, "out": memory[first : first + 32].reshape(1, 2, 4, 4)})
    beside = memory[start - 32 : start].reshape(1, 2, 4, 4)
    assert fc.conv2d(**arrays, out=beside) is beside


@pytest.mark.parametrize("padding", [(5, 0), (0, 6), ((0, 5), (0, 0)), ((0, 0), (6, 0))])
def test_reflection_needs_a_larger_image(padding):
    refuses(fc.conv2d, "(padding|x)", {**CONV, "padding": padding, "padding_mode": "reflect"})
    grad_output = ones(2, 6, 3, 5)
    arguments = {**CONV, "padding": padding, "padding_mode": "reflect", "grad_output": grad_output}
    arguments.pop("bias")
    refuses(fc.conv2d_backward, "(padding|x|grad_output)", arguments)


def test_circular_padding_needs_no_more_than_one_turn():
    refuses(fc.conv2d, "(padding|x)", {**CONV, "padding": (6, 0), "padding_mode": "circular"})


@pytest.mark.parametrize(
    ("name", "bad"),
    [(name, bad) for name, bad in BAD_CONV if name not in ("bias", "activation")],
    ids=case_id,
)
@pytest.mark.parametrize("need", [("x", "weight", "bias"), ("x",), ("bias",)])
def test_conv2d_backward(need, name, bad):
    named = "(x|weight|groups)" if name in ("x", "weight", "groups") else name
    arguments = {"grad_output": ones(2, 6, 3, 5), **CONV, "need": need, name: bad}
    arguments.pop("bias")
    refuses(fc.conv2d_backward, named, arguments)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("grad_output", bad) for bad in NO_NUMBERS),
        ("grad_output", ones(2, 6, 3, 4)),
        ("grad_output", ones(2, 5, 3, 5)),
        ("grad_output", ones(1, 6, 3, 5)),
        ("grad_output", ones(6, 3, 5)),
        ("need", ("y",)),
        ("need", ("x", "y")),
        ("need", "both"),
        ("need", None),
        ("need", 1),
        ("need", (1,)),
    ],
    ids=case_id,
)
def test_conv2d_backward_alone(name, bad):
    arguments = {"grad_output": ones(2, 6, 3, 5), "x": CONV["x"], "weight": CONV["weight"], "groups": 2}
    refuses(fc.conv2d_backward, name, {**arguments, name: bad})


@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
@pytest.mark.parametrize("size", [2**31, 2**40, HUGE, 2**63, 2**64, 10**30])
def test_sizes_that_overflow(name, size):
    """Either the number is refused or there is no memory for the result."""
    x, weight = ones(1, 1, 3, 3), ones(1, 1, 2, 2)
    with pytest.raises((ValueError, MemoryError)):
        fc.conv2d(x, weight, **{name: size})
    with pytest.raises((ValueError, MemoryError)):
        fc.conv2d_backward(ones(1, 1, 1, 1), x, weight, **{name: size})


@pytest.mark.parametrize(
    ("good", "bad"),
    [(1, True), (1, 1.0), ((1, 1), (1, True)), ((1, 1), (1.0, 1)), (((1, 1), (1, 1)), ((1, 1), (1, True)))],
)
@pytest.mark.parametrize("function", [fc.conv2d, fc.max_pool2d])
def test_what_equals_a_good_argument_is_refused_after_it(function, good, bad):
    """As keys of a cache of geometry they would be the same."""
    second = {"weight": ones(2, 3, 3, 3)} if function is fc.conv2d else {"kernel_size": 3}
    for name in ("stride", "padding", "dilation"):
        if name == "padding" or not isinstance(good, tuple) or not isinstance(good[0], tuple):
            function(ones(1, 3, 6, 6), **second, **{name: good})
            refuses(function, name, {"x": ones(1, 3, 6, 6), **second, name: bad})


def test_a_stride_beyond_the_image_is_no_error():
    output = fc.conv2d(ones(1, 1, 3, 3), ones(1, 1, 2, 2), stride=2**31 - 1)
    np.testing.assert_array_equal(output, [[[[4]]]])


def test_results_that_fit_into_no_memory():
    with pytest.raises((ValueError, MemoryError)):
        fc.conv2d(ones(1, 1, 1, 1), ones(1, 1, 1, 1), padding=2**28)
    with pytest.raises((ValueError, MemoryError)):
        fc.conv2d(np.broadcast_to(F32(1), (2**20, 2**20, 2**10, 2**10)), ones(1, 2**20, 1, 1))


# ---- conv2d_algorithm ----


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(
            ("x_shape", bad)
            for bad in [5, None, (1, 4, 5), "1", (1, 4, 5.0, 6), (1, 4, -5, 6), (1, 2, 3, 4, 5)]
        ),
        *(("weight_shape", bad) for bad in [5, None, (6, 2, 3), (6, 2, 0, 2), (6, 3, 3, 2), (6, 2, 9, 2)]),
        *(("dtype", bad) for bad in ["zz", "f4,(", "f2", int, 5, "<U3"]),
        ("stride", 0),
        ("groups", 3),
        ("task", "both"),
    ],
    ids=case_id,
)
def test_conv2d_algorithm(name, bad):
    arguments = {"x_shape": (2, 4, 5, 6), "weight_shape": (6, 2, 3, 2), "groups": 2, name: bad}
    named = "(x_shape|weight_shape|groups)" if name in ("x_shape", "groups") else name
    refuses(fc.conv2d_algorithm, named, arguments)


def test_conv2d_algorithm_without_memory():
    with pytest.raises(MemoryError, match=r"^x_shape: an image of "):
        fc.conv2d_algorithm((2**20, 2**20, 2**10, 2**10), (1, 2**20, 1, 1))


# ---- conv_output_size ----


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("input_size", bad) for bad in [-1, 1.5, True, NAN, None, "5"]),
        *(("kernel_size", bad) for bad in [0, -1, 1.5, True, NAN, None, 9]),
        *(("stride", bad) for bad in [0, -1, 1.5, True, NAN, None]),
        *(("dilation", bad) for bad in [0, -1, 1.5, True, NAN, None, 9]),
        *(("padding", bad) for bad in [-1, 1.5, True, NAN, None]),
    ],
    ids=case_id,
)
def test_conv_output_size(name, bad):
    arguments = {"input_size": 5, "kernel_size": 3, "stride": 1, "padding": 0, "dilation": 1, name: bad}
    named = "(input_size|kernel_size|dilation)" if name in ("kernel_size", "dilation") else name
    refuses(fc.conv_output_size, named, arguments)


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_workspaces_of_many_threads_that_fit_into_no_memory(algorithm, layout):
    """Bytes for a thread that fit into a number, and times 32 do not; so many filters are work for 32."""
    far, wide = 2**20 - 1, 2**31 - 1
    x = ones(1, 16, 1, 2, dtype=float) if layout == "NCHW" else ones(1, 1, 2, 16, dtype=float)
    grad_output = ones(1, 8192, 1, 3, dtype=float) if layout == "NCHW" else ones(1, 1, 3, 8192, dtype=float)
    weight = ones(8192, 16, 2, 2, dtype=float)
    how = {
        "stride": (1, wide),
        "padding": ((far, 0), (wide, wide)),
        "dilation": (far, 1),
        "algorithm": algorithm,
        "layout": layout,
    }
    with fc.num_threads(32):
        with pytest.raises(MemoryError):
            fc.conv2d(x, weight, **how)
        with pytest.raises(MemoryError):
            fc.conv2d_backward(grad_output, x, weight, **how, need=("weight",))
