"""NaN and infinities go where IEEE arithmetic sends them, whatever computes the convolution."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import reference
from cases import CONV_CASES, ConvCase, conv_arrays, error_bound, runs, to_nchw, to_nhwc
from numpy.typing import NDArray

import fastconv as fc
from fastconv.functional._packed import PackedConv2d

# Each kind of kernels, with remainders, padding that is beside every pixel, strides, dilation and groups.
NAMES = {
    *("kernel-3x3", "kernel-5x5", "kernel-1x3", "valid-5x5-stride-1", "valid-1x1-stride-2"),
    *("stride-2-dilation-3", "stride-beyond-kernel", "padding-asymmetric", "padding-beyond-image"),
    *("alexnet-first", "groups-2", "groups-wide", "depthwise-strided", "depthwise-dilated", "depthwise-5x5"),
    *("depthwise-times-2", "tile-1x1-7-of-17", "tile-3x3-1-of-1", "tile-3x3-2-of-33", "7x7-1x1", "7x7"),
    *("mnist-first", "even-channels", "even-channels-strided"),
}
CASES = [case for case in CONV_CASES if case.name in NAMES]
# One element each time, of an array by its place in `conv_arrays`.
X, WEIGHT, GRAD_OUTPUT = 0, 1, 3
SPOILT = ((X, np.nan), (X, -np.inf), (WEIGHT, np.inf), (GRAD_OUTPUT, np.inf))

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the reference


@pytest.fixture(autouse=True)
def threads_for_the_smallest_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)


@cache
def spoilt(case: ConvCase, dtype: Any, which: int, bad: float) -> tuple[tuple[NDArray[Any], ...], ...]:
    """The case's arrays with one bad element amid one of them; the output and the gradients to expect."""
    arrays = [array.copy() for array in conv_arrays(case, dtype)]
    arrays[which][tuple(size // 2 for size in arrays[which].shape)] = bad
    x, weight, bias, grad_output = arrays
    expected = reference.conv2d(x, weight, bias, **case.arguments)
    return tuple(arrays), (expected, *reference.conv2d_backward(grad_output, x, weight, **case.arguments))


def assert_same(actual: NDArray[Any], expected: NDArray[Any], bound: float) -> None:
    """The same NaNs and infinities, and the rest within the bound."""
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.where(np.isfinite(actual), 0, actual), np.where(finite, 0, expected))
    if finite.any():
        error = np.abs(actual[finite] - expected[finite]).max()
        assert error <= bound * np.abs(expected[finite]).max()


@pytest.mark.parametrize(("algorithm", "case"), runs(CASES), ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_where_they_go(algorithm: str, case: ConvCase, layout: str, dtype: Any) -> None:
    there, back = (to_nhwc, to_nchw) if layout == "NHWC" else (np.asarray, np.asarray)
    arguments = {"algorithm": algorithm, "layout": layout, **case.arguments}
    bound = {of: case.tolerance(dtype, algorithm, of) for of in ("output", "x", "weight")}
    for index, (which, bad) in enumerate(SPOILT):
        (x, weight, bias, grad_output), expected = spoilt(case, dtype, which, bad)
        with fc.num_threads(1 + index % 3):
            output = fc.conv2d(there(x), weight, bias, **arguments)
            grad_x, grad_weight, _ = fc.conv2d_backward(there(grad_output), there(x), weight, **arguments)
        if which != GRAD_OUTPUT:
            assert_same(back(output), expected[0], bound["output"])
        if which != WEIGHT:
            assert_same(grad_weight, expected[2], bound["weight"])
        if which == GRAD_OUTPUT:
            assert_same(back(grad_x), expected[1], bound["x"])
        if which == WEIGHT:
            # grad_output has zeros around it, and 0 times a weight that isn't finite is NaN: those are more.
            assert not np.isfinite(back(grad_x)[~np.isfinite(expected[1])]).any()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (7, 2)])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_packed_weights(kernel: int, stride: int, bad: float, dtype: Any, rng: np.random.Generator) -> None:
    """Frozen layers, where Winograd has only transformed weights; relu and bias, too."""
    x, weight, bias = (
        rng.normal(size=s).astype(dtype) for s in ((2, 32, 40, 40), (32, 32, kernel, kernel), (32,))
    )
    x[1, 3, 7, 9] = bad
    assert fc.conv2d_algorithm(x.shape, weight.shape, stride, padding=1, dtype=dtype) == "winograd"
    packed = PackedConv2d(
        weight, bias, x.dtype, True,
        stride=stride, padding=1, dilation=1, groups=1, padding_mode="zeros", layout="NCHW",
    )  # fmt: skip
    expected = np.maximum(reference.conv2d(x, weight, bias, stride, padding=1), 0)
    assert_same(packed(x), expected, error_bound(dtype, weight[0].size, "winograd"))


@pytest.mark.parametrize("algorithm", ["winograd", "strassen"])
def test_sums_that_overflow_only_in_between(algorithm: str, rng: np.random.Generator) -> None:
    """Transforms, or sums of quarters, exceed the largest number before the products' sums do."""
    x = rng.uniform(0.5, 1, (1, 8, 16, 16)).astype(np.float32) * np.float32(2.5e38)
    weight = rng.uniform(-1, 1, (8, 8, 3, 3)).astype(np.float32) / 100
    expected = reference.conv2d(x, weight)
    assert_same(fc.conv2d(x, weight, algorithm=algorithm), expected, error_bound(np.float32, 72, algorithm))
