"""Depthwise convolution, against loops in float64: its kernels' blocks, edges, phases and cuts."""

import ctypes
import mmap
import os
import sys
from typing import Any

import numpy as np
import pytest
import reference
from cases import (
    ConvCase,
    around,
    assert_within,
    conv_arrays,
    conv_expected,
    conv_expected_gradients,
    to_nchw,
    to_nhwc,
)
from numpy.typing import NDArray

import fastconv as fc
from fastconv import _plan
from fastconv._kernels import conv_depthwise
from fastconv._kernels.geometry import ConvGeometry
from fastconv._kernels.isa import tile_shape


def depthwise(
    name: str, shape: tuple[int, int, int, int], kernel: int | tuple[int, int], **arguments: Any
) -> ConvCase:
    return ConvCase(name, shape, (shape[1], 1, *reference.pair(kernel)), groups=shape[1], **arguments)


def _widths() -> list[ConvCase]:
    """Rows that end anywhere in a vector, planes that end anywhere in a block of rows."""
    widths = sorted({1, 2, 3, *around(4, 8, 16, 32), 41})
    return [
        depthwise(
            f"{k}x{k}-stride-{stride}-of-{4 + i % 6}x{width}",
            (1, 2, 4 + i % 6, width),
            k,
            stride=stride,
            padding=k // 2,
        )
        for k, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (4, 1), (3, 3))
        for i, width in enumerate(widths)
    ]


def _turned() -> list[ConvCase]:
    """Narrow planes of so many channels that vectors of these pay; the last vector is not full."""
    return [
        depthwise(
            f"{k}x{k}-stride-{stride}-{channels}-of-{size}", (2, channels, *size), k, stride=stride, **rest
        )
        for k, stride, rest in (
            (
                (5, 1, {"padding": 2}),
                (5, 1, {}),
                (5, 1, {"padding": ((4, 0), (1, 3))}),
                (5, 2, {"padding": 2}),
                (7, 1, {"padding": 3}),
            )
        )
        for channels, size in ((33, (7, 7)), (16, (9, 5)), (23, (8, 8)), (17, (8, 3)))
        if size[1] >= k or rest
    ]


def _kernels() -> list[ConvCase]:
    shape = (1, 2, 11, 19)
    return [
        depthwise(
            f"kernel-{kernel}-stride-{stride}-dilation-{dilation}",
            shape,
            kernel,
            stride=stride,
            padding=2,
            dilation=dilation,
        )
        for kernel in (1, 2, 3, 5, (1, 3), (3, 1), (2, 3), (5, 2))
        for stride in (1, 2, 3, (1, 2), (2, 1))
        for dilation in (1, (2, 3))
    ] + [
        depthwise(f"large-{k}", (1, 2, 13, 14), k, padding=k // 2, stride=stride)
        for k in (7, 8, 9, 11)
        for stride in (1, 2)
    ]


def _edges() -> list[ConvCase]:
    return [
        depthwise(f"edges-{i}-kernel-{k}-stride-{stride}", (1, 2, *size), k, stride=stride, padding=padding)
        for k in (3, 5, (2, 3))
        for stride in (1, 2, 3)
        for i, (size, padding) in enumerate(
            [
                ((9, 21), ((1, 0), (0, 1))),
                ((9, 21), ((0, 2), (2, 0))),
                ((5, 6), 0),
                ((8, 9), (0, 4)),
                ((1, 1), 4),
                ((2, 3), ((7, 1), (0, 9))),
                ((3, 2), ((0, 11), (17, 0))),
                ((10, 40), ((3, 5), (6, 1))),
            ]
        )
    ]


def _channels() -> list[ConvCase]:
    return [
        depthwise(f"channels-{c}-stride-{stride}", (2, c, 7, 6), 3, stride=stride, padding=1)
        for c in (1, 2, 3, *around(4, 8, 16), 33)
        for stride in (1, 2)
    ]


def _cuts() -> list[ConvCase]:
    """Enough for several items a thread: by images, by channels, by rows."""
    return [
        depthwise("many-images", (9, 2, 40, 41), 3, padding=1),
        depthwise("many-channels", (1, 19, 30, 31), 3, padding=1, stride=2),
        depthwise("one-plane", (1, 1, 130, 70), 3, padding=1),
        depthwise("one-plane-strided", (1, 1, 151, 70), 3, padding=1, stride=2),
        depthwise("one-plane-many-bands", (1, 1, 2114, 9), 3, padding=1, stride=2),
        depthwise("one-plane-5x5", (1, 1, 131, 90), 5, padding=2, stride=3),
        depthwise("large-1x1", (1, 2, 80, 91), 1),
        depthwise("1x1-stride-1-2", (2, 2, 40, 42), 1, stride=(1, 2)),
        depthwise("one-plane-dense-5x5", (1, 1, 131, 90), 5, padding=2),
        depthwise("seven", (3, 64, 7, 7), 3, padding=1),
        depthwise("large-planes", (2, 5, 130, 131), 3, padding=1),
        depthwise("large-planes-of-many-channels", (1, 37, 60, 61), 3, padding=1),
    ]


def _wide() -> list[ConvCase]:
    """Rows of more vectors than go down a plane side by side, planes that end anywhere in a band of these."""
    return [
        depthwise(f"{k}x{k}-of-{height}x{width}", (1, 2, height, width), k, padding=padding)
        for k, padding in ((3, 1), (5, 2), (5, ((4, 0), (1, 3))))
        for height, width in ((1, 60), (4, 50), (7, 65), (8, 97), (9, 49), (12, 130), (17, 70), (5, 515))
    ]


CASES = [
    *_widths(),
    *_wide(),
    *_kernels(),
    *_turned(),
    *_edges(),
    *_channels(),
    *_cuts(),
    depthwise("no-images", (0, 3, 5, 6), 3, padding=1),
]
CASES = [case for case in CASES if min(case.output_shape[2:]) > 0]


def run(case: ConvCase, dtype: Any, layout: str) -> dict[str, NDArray[Any]]:
    """The output and the gradients of x, weight and bias, in NCHW."""
    x, weight, bias, grad_output = conv_arrays(case, dtype)
    into, back = (to_nhwc, to_nchw) if layout == "NHWC" else (np.asarray, np.asarray)
    arguments = {**case.arguments, "layout": layout}
    output = fc.conv2d(into(x), weight, bias, **arguments)
    grad_x, grad_weight, grad_bias = fc.conv2d_backward(into(grad_output), into(x), weight, **arguments)
    assert grad_x is not None
    assert grad_weight is not None
    assert grad_bias is not None
    return {"output": back(output), "x": back(grad_x), "weight": grad_weight, "bias": grad_bias}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: ConvCase, layout: str, dtype: type[np.floating[Any]]) -> None:
    results = run(case, dtype, layout)
    expected = {"output": conv_expected(case, dtype), **conv_expected_gradients(case, dtype)}
    # Of few channels' sums all may happen to cancel; what is usual for so many numbers is their norm.
    grads = conv_arrays(case, dtype)[3].astype(np.float64)
    usual = np.linalg.norm(grads.swapaxes(0, 1).reshape(grads.shape[1], -1), axis=1)
    for name, actual in results.items():
        assert actual.dtype == dtype
        scale = np.maximum(np.abs(expected[name]), usual) if name == "bias" else None
        assert_within(actual, expected[name], case.tolerance(dtype, "direct", name), scale)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("case", [*_cuts(), *_channels()[:6], *_turned()[::3], *_widths()[::9]], ids=str)
def test_threads_give_the_same_bits(case: ConvCase, layout: str, dtype: type[np.floating[Any]]) -> None:
    geometry, arrays = case.geometry(layout), kernel_arrays(case, dtype, layout)
    one, *others = (run_kernels(geometry, arrays, threads) for threads in (1, 2, 3, 5, 9))
    for other in others:
        for name, result in one.items():
            np.testing.assert_array_equal(result, other[name], strict=True, err_msg=name)


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_tall_narrow_planes_need_little_workspace(kernel: int, dtype: type[np.floating[Any]]) -> None:
    x, weight = np.ones((1, 16, 20000, 5), dtype), np.ones((16, 1, kernel, kernel), dtype)
    fc.release_memory()
    with fc.num_threads(1):
        y = fc.conv2d(x, weight, padding=kernel // 2, groups=16)
    kept = fc.memory_info()["kept"]  # the result, still in use, is not counted
    assert y[0, 0, 100, 2] == kernel * min(kernel, 5)
    assert kept < 1 << 20


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_relu_and_special_values(layout: str, dtype: type[np.floating[Any]]) -> None:
    x = np.zeros((1, 3, 5, 11), dtype)
    x[0, 0], x[0, 1] = -1, 1
    x[0, 2, 2, 10] = np.nan
    weight = np.zeros((3, 1, 3, 3), dtype)
    weight[:, 0, 1, 1] = 1
    into, back = (to_nhwc, to_nchw) if layout == "NHWC" else (np.asarray, np.asarray)
    y = back(fc.conv2d(into(x), weight, padding=1, groups=3, layout=layout, activation="relu"))
    assert (y[0, 0] == 0).all()
    assert (y[0, 1] == 1).all()
    missing = np.isnan(y[0, 2])
    assert missing[1:4, 9:].all()
    assert missing.sum() == 6


def test_infinite_gradients_stay_where_they_are(dtype: type[np.floating[Any]]) -> None:
    """Lanes past the end of a row meet nothing, whatever the image holds there."""
    x = np.full((1, 1, 6, 10), np.inf, dtype)
    grad_output = np.ones((1, 1, 4, 4), dtype)
    _, grad_weight, _ = fc.conv2d_backward(
        grad_output, x, np.ones((1, 1, 3, 3), dtype), stride=(1, 2), padding=0
    )
    assert grad_weight is not None
    assert (grad_weight == np.inf).all()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("width", [5, 41])
@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_padding_times_a_weight_that_is_not_finite(
    kernel: int, width: int, layout: str, dtype: type[np.floating[Any]]
) -> None:
    """It is NaN, as in an image with zeros around it, at the border of that weight's channel alone."""
    case = depthwise("infinite", (2, 19, 7, width), kernel, padding=2)
    x, weight, bias, _ = conv_arrays(case, dtype)
    weight = weight.copy()
    weight[3, 0, 0, 1] = np.inf
    with np.errstate(invalid="ignore"):
        expected = reference.conv2d(x, weight, bias, padding=2, groups=19)
    there, back = (to_nhwc, to_nchw) if layout == "NHWC" else (np.asarray, np.asarray)
    out = back(fc.conv2d(there(x), weight, bias, layout=layout, **case.arguments))
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(out), np.isinf(expected))
    others = np.arange(19) != 3
    assert_within(out[:, others], expected[:, others], case.tolerance(dtype, "direct"))


@pytest.mark.parametrize("dtype_char", ["f", "d"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("task", _plan.TASKS)
def test_it_is_chosen(task: str, layout: str, dtype_char: str) -> None:
    for case in [*_cuts(), *_kernels(), *_turned()]:
        geometry = case.geometry(layout)
        for algorithm in ("auto", "direct"):
            assert _plan.kernels(task, algorithm, geometry, tile_shape(dtype_char)) == "depthwise", case
        assert _plan.choose(task, geometry, tile_shape(dtype_char)) == "direct"


@pytest.mark.parametrize(
    ("channels", "out_channels", "groups", "supported"),
    [(4, 4, 4, True), (1, 1, 1, True), (4, 8, 4, False), (4, 4, 2, False), (4, 4, 1, False)],
)
def test_supports(channels: int, out_channels: int, groups: int, supported: bool) -> None:
    geometry = ConvGeometry(
        (1, channels, 5, 5),
        (out_channels, channels // groups, 3, 3),
        (3, 3),
        (1, 1),
        (1, 1),
        ((0, 0), (0, 0)),
        groups,
        False,
    )
    assert conv_depthwise.supports(geometry) is supported


# ---- nothing is read or written outside of an array ----


def kernel_arrays(case: ConvCase, dtype: Any, layout: str) -> list[NDArray[Any]]:
    """x, weight, bias, grad_output as the kernels read them."""
    x, weight, bias, grad_output = conv_arrays(case, dtype)
    return (
        [to_nhwc(x), weight, bias, to_nhwc(grad_output)]
        if layout == "NHWC"
        else [x, weight, bias, grad_output]
    )


def run_kernels(
    geometry: ConvGeometry, arrays: list[NDArray[Any]], threads: int, like: Any = np.empty_like
) -> dict[str, NDArray[Any]]:
    x, weight, bias, grad_output = arrays
    results = {"output": like(grad_output), "x": like(x), "weight": like(weight), "bias": like(bias)}
    conv_depthwise.forward(geometry, x, weight, bias, results["output"], False, threads)
    conv_depthwise.grad_input(geometry, grad_output, weight, results["x"], threads)
    conv_depthwise.grad_weight_and_bias(geometry, grad_output, x, results["weight"], results["bias"], threads)
    return results


class Guarded:
    """Arrays that begin or end at a page that may not be touched: to do so ends the process."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.maps: list[mmap.mmap] = []

    def copy(self, array: NDArray[Any], at_end: bool) -> NDArray[Any]:
        page = mmap.PAGESIZE
        room = -(-max(array.nbytes, 1) // page) * page
        memory = mmap.mmap(-1, room + 2 * page)
        self.maps.append(memory)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (begin, begin + page + room):
            assert self.libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0, os.strerror(
                ctypes.get_errno()
            )
        offset = page + (room - array.nbytes if at_end else 0)
        copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
        copy[...] = array
        return copy


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect by ctypes is tried on Linux alone")
@pytest.mark.parametrize("at_end", [False, True], ids=["at-begin", "at-end"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_guard_pages(layout: str, at_end: bool, dtype: type[np.floating[Any]]) -> None:
    guarded = Guarded()
    for case in [*_widths()[::2], *_wide(), *_kernels()[::5], *_edges()[::3], *_turned(), *_channels()]:
        if min(case.output_shape[2:]) == 0:
            continue
        arrays = [guarded.copy(array, at_end) for array in kernel_arrays(case, dtype, layout)]
        results = run_kernels(
            case.geometry(layout),
            arrays,
            1,
            lambda array: guarded.copy(np.full_like(array, np.nan), at_end),
        )
        expected = conv_expected(case, dtype)
        output = results["output"] if layout == "NCHW" else to_nchw(results["output"])
        assert_within(output, expected, case.tolerance(dtype, "direct", "output"))
        assert not np.isnan(results["x"]).any()
        assert not np.isnan(results["weight"]).any()
        assert not np.isnan(results["bias"]).any()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "stride", [17, 1000, 20_000, 1 << 30, (1, 1 << 30), (1 << 30, 1), (2, 1 << 20)], ids=str
)
def test_gradients_of_strides_far_beyond_the_image(stride, layout, rng):
    """A stride has as many phases, of which a tap sees a few: a workspace for all of them fits nowhere."""
    x, weight = (
        rng.integers(-9, 10, (2, 3, 5, 4)).astype(float),
        rng.integers(-9, 10, (3, 1, 3, 2)).astype(float),
    )
    expected = reference.conv2d(x, weight, stride=stride, groups=3)
    grad_output = rng.integers(-9, 10, expected.shape).astype(float)
    expected_grads = reference.conv2d_backward(grad_output, x, weight, stride=stride, groups=3)
    given = (grad_output, x) if layout == "NCHW" else (to_nhwc(grad_output), to_nhwc(x))
    grad_x, grad_weight, _ = fc.conv2d_backward(*given, weight, stride, groups=3, layout=layout)
    np.testing.assert_array_equal(grad_x if layout == "NCHW" else to_nchw(grad_x), expected_grads[0])
    np.testing.assert_array_equal(grad_weight, expected_grads[1])
