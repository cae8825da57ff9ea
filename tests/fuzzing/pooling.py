"""Pools of all kinds and their gradients."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import reference

import fastconv as fc
from fastconv.compat import cs231n

from .call import Array, Call, Expected, as_given, draw_out, f64, nchw, result_shape, typical
from .drawing import Draw


def draw_pool(draw: Draw, dilated: bool = False) -> tuple[dict[str, Any], tuple[int, ...], str]:
    kernel = draw.pair(1, 5)
    pool: dict[str, Any] = {"kernel_size": kernel}
    if draw.chance(0.6):
        pool["stride"] = None if draw.chance(0.2) else draw.pair(1, 4)
    if draw.chance(0.5):
        least = min(reference.pair(kernel))
        pool["padding"] = draw.pair(0, least // 2) if draw.chance(0.7) else ((0, least // 2), (least // 2, 0))
    if draw.chance(0.3):
        pool["ceil_mode"] = True
    if dilated and draw.chance(0.3):
        pool["dilation"] = draw.pair(1, 3)
    x_shape, layout = draw_images(draw, pool)
    if draw.chance(0.1):  # what networks have most often; of rows of several vectors
        pool = {"kernel_size": 2} | ({"layout": layout} if "layout" in pool else {})
        high, wide = 2 * draw.integer(1, 9), 2 * draw.integer(1, 40)
        channels = draw.integer(1, 5)
        pixels = (high, wide, channels) if layout == "NHWC" else (channels, high, wide)
        x_shape = (*x_shape[:-3], *pixels)
    return pool, x_shape, layout


def draw_images(draw: Draw, arguments: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    layout = draw.one(["NCHW", "NHWC"])
    if layout == "NHWC" or draw.chance(0.3):
        arguments["layout"] = layout
    images, channels, high, wide = draw.shape(
        draw.integer(1, 5), draw.size(33), draw.size() + 3, draw.size() + 3
    )
    x_shape = (images, high, wide, channels) if layout == "NHWC" else (images, channels, high, wide)
    return x_shape[1:] if draw.chance(0.2) else x_shape, layout


def expected_max(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False, *,
                 layout="NCHW", out=None):  # fmt: skip
    images = nchw(x, layout)
    both = reference.max_pool2d(images, kernel_size, stride, padding, dilation, ceil_mode)
    return [Expected(as_given(part, x, layout)) for part in both[: 2 if return_indices else 1]]


def expected_max_backward(grad_output, indices, input_size, *, layout="NCHW"):
    like = np.empty(tuple(0 for _ in input_size))
    batched = len(input_size) == 4
    size = tuple(input_size) if batched else (1, *input_size)
    size = (size[0], size[3], size[1], size[2]) if layout == "NHWC" else size
    positions = nchw(indices, layout).astype(np.int64)
    assert np.all((positions >= 0) & (positions < size[2] * size[3])), "an index out of range was accepted"
    grad_x = reference.max_pool2d_backward(nchw(grad_output, layout), positions, size)
    most = grad_x.size and nchw(grad_output, layout)[0, 0].size if grad_x.size else 0
    return [Expected(as_given(grad_x, like, layout), most, "auto", typical(1, grad_output), ("grad_output",))]


def expected_avg(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                 divisor_override=None, *, layout="NCHW", out=None):  # fmt: skip
    y = reference.avg_pool2d(
        nchw(x, layout), kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
    taps = math.prod(reference.pair(kernel_size))
    return [Expected(as_given(y, x, layout), taps, "auto", typical(1, x))]


def expected_avg_backward(grad_output, input_size, kernel_size, stride=None, padding=0, ceil_mode=False,
                          count_include_pad=True, divisor_override=None, *, layout="NCHW"):  # fmt: skip
    size = tuple(input_size) if len(input_size) == 4 else (1, *input_size)
    size = (size[0], size[3], size[1], size[2]) if layout == "NHWC" else size
    grad_x = reference.avg_pool2d_backward(nchw(grad_output, layout), size, kernel_size, stride, padding,
                                           ceil_mode, count_include_pad, divisor_override)  # fmt: skip
    like = np.empty(tuple(0 for _ in input_size))
    taps = math.prod(reference.pair(kernel_size))
    return [Expected(as_given(grad_x, like, layout), taps, "auto", typical(1, grad_output))]


def max_pool2d(draw: Draw) -> Call:
    pool, x_shape, _ = draw_pool(draw, dilated=True)
    x = draw.array(x_shape)
    if x.dtype.kind == "f" and x.flags.writeable and x.size and draw.chance(0.2):
        x[draw.rng.random(x.shape) < 0.1] = draw.one([np.nan, np.inf, -np.inf])
    arguments = {"x": x, **pool}
    arguments |= draw_out(draw, expected_max, arguments)
    if draw.chance(0.4):
        arguments["return_indices"] = True
    return Call(fc.max_pool2d, arguments, expected_max)


def max_pool2d_backward(draw: Draw, function: Any = fc.max_pool2d_backward) -> Call:
    """Of positions that no pool would give, too: any in range do."""
    given: dict[str, Any] = {}
    input_size, layout = draw_images(draw, given)
    shape = list(input_size)
    for axis in (-3, -2) if layout == "NHWC" else (-2, -1):
        shape[axis] = draw.integer(1, max(shape[axis], 1))
    pixels = math.prod(input_size[-3:-1] if layout == "NHWC" else input_size[-2:])
    positions = draw.rng.integers(0, max(pixels, 1), shape)
    if draw.chance(0.1) and positions.size:
        positions.flat[draw.integer(0, positions.size - 1)] = draw.one([-1, pixels, 65535, 2**31 - 1])
    indices = draw.arranged(positions.astype(draw.one(["i8", "i8", "i4", ">i8", "u2"])))
    arguments = {"grad_output": draw.array(shape), "indices": indices, "input_size": input_size, **given}
    return Call(function, arguments, expected_max_backward)


def expected_shared(dout, x, size):
    images, grad = f64(x), f64(dout)
    windows = images.reshape(*grad.shape[:3], size, grad.shape[3], size)
    largest = windows == windows.max((3, 5), initial=-np.inf, keepdims=True)
    shares = grad[:, :, :, None, :, None] / np.maximum(largest.sum((3, 5), keepdims=True), 1)
    grad_x = np.where(largest, shares, 0).reshape(images.shape)
    return [Expected(grad_x, 1, dtype_of=("dout", "x"))]


def max_pool_shared(draw: Draw) -> Call:
    """Windows that tile the images, with many ties."""
    size = draw.integer(1, 4)
    shape = draw.shape(draw.integer(0, 3), draw.integer(0, 5), draw.size() + 1, draw.size() + 1)
    pixels = (*shape[:2], shape[2] * size, shape[3] * size)
    x, dout = draw.arrays(pixels, shape)

    def shared(dout, x, size):
        pool = {"pool_height": size, "pool_width": size, "stride": size}
        try:
            _, cache = cs231n.max_pool_forward_reshape(x, pool)
        except AssertionError as error:  # which is how the course refuses
            raise ValueError from error
        return cs231n.max_pool_backward_reshape(dout, cache)

    return Call(shared, {"dout": dout, "x": x, "size": size}, expected_shared)


def avg_pool2d(draw: Draw) -> Call:
    pool, x_shape, _ = draw_pool(draw)
    arguments = {"x": draw.array(x_shape), **pool, **draw_division(draw)}
    return Call(fc.avg_pool2d, arguments | draw_out(draw, expected_avg, arguments), expected_avg)


def draw_division(draw: Draw) -> dict[str, Any]:
    division: dict[str, Any] = {}
    if draw.chance(0.3):
        division["count_include_pad"] = False
    if draw.chance(0.1):
        division["divisor_override"] = draw.one([1, 3, -2])
    return division


def avg_pool2d_backward(draw: Draw) -> Call:
    pool, x_shape, _ = draw_pool(draw)
    pool |= draw_division(draw)
    shape = result_shape(expected_avg, {"x": np.zeros(x_shape), **pool})
    arguments = {"grad_output": draw.array(shape or x_shape), "input_size": x_shape, **pool}
    return Call(fc.avg_pool2d_backward, arguments, expected_avg_backward)


def bins(extent: int, outputs: int | None) -> list[slice]:
    outputs = extent if outputs is None else outputs
    if outputs > 100_000:
        raise MemoryError("a list of so many bins")
    return [slice(i * extent // outputs, -(-(i + 1) * extent // outputs)) for i in range(outputs)]


def both_bins(size: tuple[int, ...], output_size: Any) -> tuple[list[slice], list[slice]]:
    high, wide = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    return bins(size[0], high), bins(size[1], wide)


def averaging(extent: int, outputs: int | None) -> Array:
    """The matrix that takes the means of bins."""
    matrix = np.zeros((extent if outputs is None else outputs, extent))
    for i, pixels in enumerate(bins(extent, outputs)):
        matrix[i, pixels] = 1 / (pixels.stop - pixels.start)
    return matrix


def both_averaging(size: tuple[int, ...], output_size: Any) -> tuple[Array, Array]:
    high, wide = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    return averaging(size[0], high), averaging(size[1], wide)


def expected_adaptive_avg(x, output_size, *, layout="NCHW", out=None):
    images = nchw(x, layout)
    rows, columns = both_averaging(images.shape[2:], output_size)
    y = rows @ images @ columns.T
    return [Expected(as_given(y, x, layout), images[0, 0].size if images.size else 0, "auto", typical(1, x))]


def expected_adaptive_max(x, output_size, return_indices=False, *, layout="NCHW", out=None):
    images = nchw(x, layout)
    positions = np.arange(images.shape[2] * images.shape[3]).reshape(images.shape[2:])
    rows, columns = both_bins(images.shape[2:], output_size)
    y = np.zeros((*images.shape[:2], len(rows), len(columns)))
    where = np.zeros(y.shape, np.int64)
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            window = images[:, :, r, c].reshape(*y.shape[:2], positions[r, c].size)
            y[:, :, i, j] = window.max(-1)
            where[:, :, i, j] = positions[r, c].ravel()[window.argmax(-1)]
    parts = [y, where] if return_indices else [y]
    return [Expected(as_given(part, x, layout)) for part in parts]


def expected_adaptive_avg_backward(grad_output, input_size, *, layout="NCHW"):
    grad = nchw(grad_output, layout)
    size = tuple(input_size) if len(input_size) == 4 else (1, *input_size)
    size = (size[0], size[3], size[1], size[2]) if layout == "NHWC" else size
    rows, columns = both_averaging(size[2:], grad.shape[2:])
    grad_x = rows.T @ grad @ columns
    like = np.empty(tuple(0 for _ in input_size))
    return [Expected(as_given(grad_x, like, layout), len(rows) * len(columns), "auto", typical(1, grad))]


def adaptive(function: Any, expected: Callable[..., list[Expected]], draw: Draw) -> Call:
    arguments: dict[str, Any] = {}
    x_shape, _ = draw_images(draw, arguments)
    output_size = draw.one([draw.pair(1, 7), (None, draw.integer(1, 9)), None, draw.pair(1, 40)])
    arguments = {"x": draw.array(x_shape), "output_size": output_size, **arguments}
    arguments |= draw_out(draw, expected, arguments)
    if function is fc.adaptive_max_pool2d and draw.chance(0.4):
        arguments["return_indices"] = True
    return Call(function, arguments, expected)


def adaptive_avg_pool2d_backward(draw: Draw) -> Call:
    given: dict[str, Any] = {}
    input_size, layout = draw_images(draw, given)
    shape = list(input_size)
    for axis in (-3, -2) if layout == "NHWC" else (-2, -1):
        shape[axis] = draw.integer(1, 9)
    arguments = {"grad_output": draw.array(shape), "input_size": input_size, **given}
    return Call(fc.adaptive_avg_pool2d_backward, arguments, expected_adaptive_avg_backward)
