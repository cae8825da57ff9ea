"""`out=` may be any memory of its own; what overlaps an input, by any way to look at it, is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc

X = np.arange(2 * 2 * 6 * 6, dtype=np.float32).reshape(2, 2, 6, 6) % 7
ONE = np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1)

# Each gives a result of its input's shape.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        f"conv2d-{algorithm}": lambda x, out, algorithm=algorithm: fc.conv2d(
            x, ONE, algorithm=algorithm, out=out
        )
        for algorithm in ("auto", "direct", "im2col")
    },
    "conv2d-nhwc": lambda x, out: fc.conv2d(x, np.ones((6, 6, 1, 1), np.float32), layout="NHWC", out=out),
    "conv2d-3x3": lambda x, out: fc.conv2d(x, np.ones((2, 2, 3, 3), np.float32), padding=1, out=out),
    "max_pool2d": lambda x, out: fc.max_pool2d(x, 3, 1, 1, out=out),
    "avg_pool2d": lambda x, out: fc.avg_pool2d(x, 3, 1, 1, out=out),
    "adaptive_max_pool2d": lambda x, out: fc.adaptive_max_pool2d(x, 6, out=out),
    "adaptive_avg_pool2d": lambda x, out: fc.adaptive_avg_pool2d(x, 6, out=out),
}
every_function = pytest.mark.parametrize("name", list(FUNCTIONS))


def overlapping() -> dict[str, tuple[Any, np.ndarray]]:
    """Pairs of an input and an `out` of one memory."""
    raw = np.zeros(2 * X.size, np.float32)

    def at(start: int) -> np.ndarray:
        return raw[start : start + X.size].reshape(X.shape)

    at(0)[...] = X
    last = at(X.size - 1)
    return {
        "itself": (at(0), at(0)),
        "an element on": (at(0), at(1)),
        "before": (at(40), at(0)),
        "reversed": (at(0), at(0)[::-1, :, ::-1]),
        "transposed": (at(0), at(0).swapaxes(2, 3)),
        "half": (at(0).reshape(-1).view(np.float16)[: X.size].reshape(X.shape), at(0)),
        "a memoryview": (memoryview(at(0)), at(0)),
        "an object with __array__": (Wrapped(at(0)), at(0)),
        "the last element": (raw[: X.size].reshape(X.shape), last),
    }


class Wrapped:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


@every_function
@pytest.mark.parametrize("way", list(overlapping()))
def test_overlap_is_refused(name, way):
    x, out = overlapping()[way]
    before = out.tobytes()
    with pytest.raises((ValueError, TypeError), match=r"^out: got "):
        FUNCTIONS[name](x, out)
    assert out.tobytes() == before


@every_function
def test_between_the_elements_of_an_input(name):
    """Elements that take turns share no memory."""
    both = np.zeros((*X.shape, 2), np.float32)
    both[..., 0] = X
    x, out = both[..., 0], both[..., 1]
    expected = FUNCTIONS[name](X, np.empty_like(X))
    assert FUNCTIONS[name](x, out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(x, X)


@every_function
def test_a_mask_would_hide_the_result(name):
    out = np.ma.array(np.zeros_like(X), mask=True)
    with pytest.raises(TypeError, match=r"^out: got MaskedArray, needs an array without a mask$"):
        FUNCTIONS[name](X, out)
    assert not out.data.any()


@every_function
def test_other_kinds_of_arrays_are_written_to(name, tmp_path):
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=X.shape)
    assert FUNCTIONS[name](X, out) is out
    np.testing.assert_array_equal(out, FUNCTIONS[name](X, np.empty_like(X)))


@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_signals(layout):
    raw = np.arange(2 * 4 * 4 + 1, dtype=np.float32)
    x, weight = raw[:-1].reshape(2, 4, 4), np.ones((4, 4, 1), np.float32)
    before = raw.tobytes()
    for out in (x, x[::-1], x.swapaxes(1, 2), raw[1:].reshape(2, 4, 4)):
        for given in (x, memoryview(x)):
            with pytest.raises(ValueError, match=r"^out: got an array that overlaps an input"):
                fc.conv1d(given, weight, layout=layout, out=out)
    assert raw.tobytes() == before
    out = np.empty_like(x)
    assert fc.conv1d(x, weight, layout=layout, out=out) is out
    np.testing.assert_array_equal(out, fc.conv1d(x, weight, layout=layout))


@pytest.mark.parametrize("which", ["weight", "bias"])
def test_overlap_with_the_others(which):
    arrays = {"weight": np.ones((2, 2, 3, 3), np.float32), "bias": np.ones(36, np.float32)[:2]}
    base = arrays[which] if arrays[which].base is None else arrays[which].base
    out = base.reshape(-1)[:4].reshape(1, 2, 1, 2)
    x = np.ones((1, 2, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"^out: got an array that overlaps an input"):
        fc.conv2d(x, **arrays, out=out)
