"""The oracle of the tests: convolution and pooling in float64, as plain loops over NumPy arrays.

Nothing here knows of fastconv. Every convolution walks the same list, `window_taps`: through kernel tap
(ky, kx), the windows see those rows and columns of the padded input. A forward gathers along that list; a
gradient scatters along it, and never calls a forward.

Shapes: N images, C input channels, O output channels, G groups, (H, W) the image, (KH, KW) the kernel,
(OH, OW) the output. Images are (N, C, H, W) and weights (O, C // G, KH, KW). Arguments mean what they mean in
PyTorch; padding may also be ((top, bottom), (left, right)), "same" or "valid".
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Pair = int | tuple[int, int]
Edges = tuple[int, int]
PoolPadding = int | tuple[int, int] | tuple[Edges, Edges]
Padding = PoolPadding | str

NUMPY_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


# ---- geometry ----

MOST_POSITIONS = 10_000_000


def pair(value: Pair) -> tuple[int, int]:
    """An int stands for (int, int)."""
    return (value, value) if isinstance(value, int) else value


def conv_output_size(
    size: int, kernel: int, stride: int = 1, edges: Edges = (0, 0), dilation: int = 1
) -> int:
    """How many positions a dilated kernel takes along one padded axis; MemoryError where that is too many."""
    positions = 0
    start = -edges[0]
    while start + (kernel - 1) * dilation < size + edges[1]:
        positions += 1
        start += stride
        if positions == MOST_POSITIONS:
            raise MemoryError("too many positions")
    return positions


def pool_output_size(
    size: int, kernel: int, stride: int, edges: Edges, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """With `ceil_mode` a last window may hang over the end, if it starts before the padding there."""
    positions = conv_output_size(size, kernel, stride, edges, dilation)
    if ceil_mode:
        last_reached = (positions - 1) * stride + (kernel - 1) * dilation + 1
        something_is_left = last_reached < size + sum(edges)
        if something_is_left and positions * stride < size + edges[0]:
            positions += 1
    return positions


def explicit_padding(
    padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: Pair = 1, dilation: Pair = 1
) -> tuple[Edges, Edges]:
    """Any form of `padding` as ((top, bottom), (left, right)).

    "same" gives ceil(size / stride) outputs; the odd row or column goes last (ONNX's SAME_UPPER).
    """
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding == "same":
        edges = []
        for length, taps, step, gap in zip(size, kernel, pair(stride), pair(dilation), strict=True):
            outputs = -(-length // step)
            total = max((outputs - 1) * step + (taps - 1) * gap + 1 - length, 0)
            edges.append((total // 2, total - total // 2))
        return (edges[0], edges[1])
    assert not isinstance(padding, str)
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    return (
        (vertical, vertical) if isinstance(vertical, int) else vertical,
        (horizontal, horizontal) if isinstance(horizontal, int) else horizontal,
    )


def window_taps(
    output_size: tuple[int, int], kernel: tuple[int, int], stride: Pair, dilation: Pair
) -> Iterator[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Every tap (ky, kx), row by row, with the rows and columns of the padded image windows see by it."""
    (step_y, step_x), (gap_y, gap_x) = pair(stride), pair(dilation)
    high, wide = output_size
    if high > 0 and wide > 0:
        for ky, kx in np.ndindex(kernel):
            rows = slice(ky * gap_y, ky * gap_y + (high - 1) * step_y + 1, step_y)
            columns = slice(kx * gap_x, kx * gap_x + (wide - 1) * step_x + 1, step_x)
            yield (ky, kx), (rows, columns)


def contract(weight: Array, images: Array) -> Array:
    """Filters of one tap (K, C) over images (N, C, H, W): (N, K, H, W)."""
    return np.moveaxis(np.tensordot(weight, images, (1, 1)), 0, 1)


def padded_sources(length: int, edges: Edges, mode: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which positions of a padded axis are copies, and of which positions."""
    if mode == "zeros":
        return np.arange(length) + edges[0], np.arange(length)
    sources = np.pad(np.arange(length), edges, mode=NUMPY_PAD_MODES[mode])  # type: ignore[call-overload]
    return np.arange(len(sources)), sources


def pad(x: ArrayLike, padding: tuple[Edges, Edges], mode: str = "zeros") -> Array:
    """`x` with rows above and below, columns left and right."""
    x = np.asarray(x, np.float64)
    rows, y = padded_sources(x.shape[2], padding[0], mode)
    columns, source = padded_sources(x.shape[3], padding[1], mode)
    padded = np.zeros((*x.shape[:2], *(x.shape[2 + i] + sum(padding[i]) for i in (0, 1))))
    padded[:, :, *np.ix_(rows, columns)] = x[:, :, *np.ix_(y, source)]
    return padded


def pad_backward(
    grad_padded: Array, input_size: tuple[int, ...], padding: tuple[Edges, Edges], mode: str = "zeros"
) -> Array:
    """The gradient of `pad`: every copy of a pixel gives back what it received."""
    grad_x = np.zeros(input_size)
    rows, y = padded_sources(input_size[2], padding[0], mode)
    columns, source = padded_sources(input_size[3], padding[1], mode)
    np.add.at(grad_x, (..., *np.ix_(y, source)), grad_padded[:, :, *np.ix_(rows, columns)])
    return grad_x


# ---- convolution ----


def group_channels(out_channels: int, in_channels: int, groups: int) -> list[tuple[slice, slice]]:
    """Per group: the output channels it makes, the input channels it sees."""
    made, seen = out_channels // groups, in_channels // groups
    return [(slice(g * made, (g + 1) * made), slice(g * seen, (g + 1) * seen)) for g in range(groups)]


def _output_size(
    size: tuple[int, int], kernel: tuple[int, int], stride: Pair, edges: tuple[Edges, Edges], dilation: Pair
) -> tuple[int, int]:
    (step_y, step_x), (gap_y, gap_x) = pair(stride), pair(dilation)
    return (
        conv_output_size(size[0], kernel[0], step_y, edges[0], gap_y),
        conv_output_size(size[1], kernel[1], step_x, edges[1], gap_x),
    )


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Array:
    """Cross-correlation: (N, C, H, W) and (O, C // G, KH, KW) give (N, O, OH, OW)."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    size, kernel = x.shape[2:], weight.shape[2:]
    edges = explicit_padding(padding, size, kernel, stride, dilation)
    padded = pad(x, edges, padding_mode)
    output_size = _output_size(size, kernel, stride, edges, dilation)
    output = np.zeros((x.shape[0], weight.shape[0], *output_size))
    if bias is not None:
        output += np.asarray(bias, np.float64)[:, None, None]
    channels = group_channels(weight.shape[0], x.shape[1], groups)
    for (ky, kx), (rows, columns) in window_taps(output_size, kernel, stride, dilation):
        for made, seen in channels:
            output[:, made] += contract(weight[made, :, ky, kx], padded[:, seen, rows, columns])
    return output


def conv2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Array, Array, Array]:
    """The gradients of sum(conv2d(x, weight, bias) * grad_output): of x, of weight and of bias."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    grad_output = np.asarray(grad_output, np.float64)
    size, kernel = x.shape[2:], weight.shape[2:]
    edges = explicit_padding(padding, size, kernel, stride, dilation)
    padded = pad(x, edges, padding_mode)
    grad_padded, grad_weight = np.zeros_like(padded), np.zeros_like(weight)
    channels = group_channels(weight.shape[0], x.shape[1], groups)
    for (ky, kx), (rows, columns) in window_taps(grad_output.shape[2:], kernel, stride, dilation):
        for made, seen in channels:
            grad_padded[:, seen, rows, columns] += contract(weight[made, :, ky, kx].T, grad_output[:, made])
            grad_weight[made, :, ky, kx] += np.tensordot(
                grad_output[:, made], padded[:, seen, rows, columns], ((0, 2, 3), (0, 2, 3))
            )
    grad_bias = grad_output.sum(axis=(0, 2, 3))
    return pad_backward(grad_padded, x.shape, edges, padding_mode), grad_weight, grad_bias


def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Pair = 1,
    padding: int | tuple[int, int] | tuple[Edges, Edges] = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Array:
    """Each pixel of (N, C, H, W) lays a filter of (C, O // G, KH, KW), times its value, onto the output."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    size, kernel = x.shape[2:], weight.shape[2:]
    edges = explicit_padding(padding, size, kernel)
    added = pair(output_padding)
    reach = [
        (size[i] - 1) * pair(stride)[i] + (kernel[i] - 1) * pair(dilation)[i] + 1 + added[i] for i in (0, 1)
    ]
    whole = np.zeros((x.shape[0], weight.shape[1] * groups, *reach))
    for (ky, kx), (rows, columns) in window_taps(size, kernel, stride, dilation):
        for seen, made in group_channels(x.shape[1], whole.shape[1], groups):
            whole[:, made, rows, columns] += contract(weight[seen, :, ky, kx].T, x[:, seen])
    (top, bottom), (left, right) = edges
    output = whole[:, :, top : reach[0] - bottom, left : reach[1] - right]
    return output if bias is None else output + np.asarray(bias, np.float64)[:, None, None]


def conv_transpose2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: Pair = 1,
    padding: int | tuple[int, int] | tuple[Edges, Edges] = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> tuple[Array, Array, Array]:
    """Through each tap, a pixel and its weight receive what the output pixel that they met received."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    size, kernel = x.shape[2:], weight.shape[2:]
    whole = pad(grad_output, explicit_padding(padding, size, kernel))
    grad_x, grad_weight = np.zeros_like(x), np.zeros_like(weight)
    for (ky, kx), (rows, columns) in window_taps(size, kernel, stride, dilation):
        for seen, made in group_channels(x.shape[1], whole.shape[1], groups):
            grad = whole[:, made, rows, columns]
            grad_x[:, seen] += contract(weight[seen, :, ky, kx], grad)
            grad_weight[seen, :, ky, kx] += np.tensordot(x[:, seen], grad, ((0, 2, 3), (0, 2, 3)))
    return grad_x, grad_weight, np.asarray(grad_output, np.float64).sum(axis=(0, 2, 3))


def im2col(
    x: ArrayLike, kernel_size: Pair, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1
) -> Array:
    """PyTorch's unfold: (N, C, H, W) gives (N, C * KH * KW, OH * OW), one column for each output pixel."""
    x = np.asarray(x, np.float64)
    kernel, size = pair(kernel_size), x.shape[2:]
    edges = explicit_padding(padding, size, kernel, stride, dilation)
    padded = pad(x, edges)
    output_size = _output_size(size, kernel, stride, edges, dilation)
    cols = np.zeros((*x.shape[:2], *kernel, *output_size))
    for (ky, kx), (rows, columns) in window_taps(output_size, kernel, stride, dilation):
        cols[:, :, ky, kx] = padded[:, :, rows, columns]
    return cols.reshape(x.shape[0], x.shape[1] * kernel[0] * kernel[1], output_size[0] * output_size[1])


def col2im(
    cols: ArrayLike,
    input_size: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
) -> Array:
    """PyTorch's fold: every column is added back to the pixels it came from; the gradient of `im2col`."""
    kernel, size = pair(kernel_size), (input_size[2], input_size[3])
    edges = explicit_padding(padding, size, kernel, stride, dilation)
    output_size = _output_size(size, kernel, stride, edges, dilation)
    cols = np.asarray(cols, np.float64).reshape(*input_size[:2], *kernel, *output_size)
    padded = np.zeros((*input_size[:2], size[0] + sum(edges[0]), size[1] + sum(edges[1])))
    for (ky, kx), (rows, columns) in window_taps(output_size, kernel, stride, dilation):
        padded[:, :, rows, columns] += cols[:, :, ky, kx]
    return pad_backward(padded, input_size, edges)


# ---- pooling ----


def seen_pixels(
    outputs: int, step: int, start: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which windows see a pixel of the image by a tap that begins at `start`, and which pixel."""
    pixels = np.arange(outputs) * step + start
    windows = np.flatnonzero((pixels >= 0) & (pixels < length))
    return windows, pixels[windows]


def _pool_geometry(
    size: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None,
    padding: PoolPadding,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[tuple[int, int], tuple[int, int], tuple[Edges, Edges], tuple[int, int]]:
    kernel, gaps = pair(kernel_size), pair(dilation)
    edges = explicit_padding(padding, (size[-2], size[-1]), kernel)
    steps = kernel if stride is None else pair(stride)
    output_size = tuple(
        pool_output_size(size[axis - 2], kernel[axis], steps[axis], edges[axis], gaps[axis], ceil_mode)
        for axis in (0, 1)
    )
    return kernel, steps, edges, (output_size[0], output_size[1])


def max_pool2d(
    x: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: PoolPadding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Array, NDArray[np.int64]]:
    """The largest of each window and its flat position y * W + x in its plane.

    Padding never wins. Of equals the first wins, row by row. NaN beats every number, a later NaN an earlier.
    """
    x = np.asarray(x, np.float64)
    height, width = x.shape[2:]
    dilations = pair(dilation)
    kernel, steps, edges, output_size = _pool_geometry(
        x.shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    output = np.full((*x.shape[:2], *output_size), -np.inf)
    indices = np.full(output.shape, -1, np.int64)
    for ky, kx in np.ndindex(kernel):
        rows, iy = seen_pixels(output_size[0], steps[0], ky * dilations[0] - edges[0][0], height)
        columns, ix = seen_pixels(output_size[1], steps[1], kx * dilations[1] - edges[1][0], width)
        windows, places = np.ix_(rows, columns), np.ix_(iy, ix)
        value, best, best_index = x[:, :, *places], output[:, :, *windows], indices[:, :, *windows]
        wins = (value > best) | np.isnan(value) | (best_index < 0)
        output[:, :, *windows] = np.where(wins, value, best)
        indices[:, :, *windows] = np.where(wins, places[0] * width + places[1], best_index)
    return output, indices


def max_pool2d_backward(
    grad_output: ArrayLike, indices: NDArray[np.int64], input_size: tuple[int, ...]
) -> Array:
    """Each output's gradient goes to the pixel it came from."""
    grad_output = np.asarray(grad_output, np.float64)
    grad_x = np.zeros(input_size)
    n, c = np.ogrid[: input_size[0], : input_size[1]]
    image, channel = n[..., None, None], c[..., None, None]
    np.add.at(grad_x, (image, channel, indices // input_size[3], indices % input_size[3]), grad_output)
    return grad_x


def _average_windows(
    size: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None,
    padding: PoolPadding,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Iterator[tuple[int, int, slice, slice, int]]:
    """Each output pixel, the rows and columns it averages, and what it divides by."""
    height, width = size[-2:]
    kernel, steps, edges, output_size = _pool_geometry(
        size, kernel_size, stride, padding, ceil_mode=ceil_mode
    )
    for oy, ox in np.ndindex(output_size):
        top, left = oy * steps[0] - edges[0][0], ox * steps[1] - edges[1][0]
        rows_with_pad = range(top, min(top + kernel[0], height + edges[0][1]))
        columns_with_pad = range(left, min(left + kernel[1], width + edges[1][1]))
        rows = slice(max(top, 0), min(top + kernel[0], height))
        columns = slice(max(left, 0), min(left + kernel[1], width))
        if divisor_override is not None:
            divisor = divisor_override
        elif count_include_pad:
            divisor = len(rows_with_pad) * len(columns_with_pad)
        else:
            divisor = (rows.stop - rows.start) * (columns.stop - columns.start)
        yield oy, ox, rows, columns, divisor


def avg_pool2d(
    x: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: PoolPadding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The mean of each window; padding counts as zeros, or not at all without `count_include_pad`."""
    x = np.asarray(x, np.float64)
    output_size = _pool_geometry(x.shape, kernel_size, stride, padding, ceil_mode=ceil_mode)[3]
    output = np.zeros((*x.shape[:2], *output_size))
    windows = _average_windows(
        x.shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
    for oy, ox, rows, columns, divisor in windows:
        output[:, :, oy, ox] = x[:, :, rows, columns].sum(axis=(2, 3)) / divisor
    return output


def avg_pool2d_backward(
    grad_output: ArrayLike,
    input_size: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: PoolPadding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Each output's gradient is shared evenly by the pixels it averaged."""
    grad_output = np.asarray(grad_output, np.float64)
    grad_x = np.zeros(input_size)
    windows = _average_windows(
        input_size, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
    for oy, ox, rows, columns, divisor in windows:
        grad_x[:, :, rows, columns] += grad_output[:, :, oy, ox, None, None] / divisor
    return grad_x


# ---- gradients ----


def numerical_gradient(
    function: Callable[[Array], Any], at: ArrayLike, grad_output: ArrayLike, step: float = 1e-4
) -> Array:
    """The gradient of sum(function(at) * grad_output) by central differences.

    Exact but for rounding where `function` is linear or bilinear, as convolution and average pooling are.
    """
    point = np.array(at, np.float64)
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        value = point[index]
        point[index] = value + step
        above = np.sum(function(point) * np.asarray(grad_output))
        point[index] = value - step
        below = np.sum(function(point) * np.asarray(grad_output))
        point[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient
