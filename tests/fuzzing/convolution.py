"""Convolutions, their gradients, and matrices of columns."""

import math
from typing import Any

import numpy as np
import reference

import fastconv as fc

from .call import (
    BOTH,
    Array,
    Call,
    Expected,
    as_given,
    chosen,
    draw_need,
    draw_out,
    f64,
    nchw,
    result_shape,
    typical,
)
from .drawing import Draw

# ---- convolution ----


def draw_geometry(draw: Draw, most_padding: int = 3) -> dict[str, Any]:
    geometry: dict[str, Any] = {}
    if draw.chance(0.5):
        geometry["stride"] = draw.pair(1, 4)
    if draw.chance(0.6):
        geometry["padding"] = draw.one(
            [draw.pair(0, most_padding), ((1, 0), (draw.integer(0, 3), 2)), "same", "valid"]
        )
    if draw.chance(0.3):
        geometry["dilation"] = draw.pair(1, 3)
    return geometry


def draw_conv(draw: Draw) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], str]:
    """Geometry, shapes of x and weight, layout."""
    geometry = draw_geometry(draw)
    groups = draw.integer(1, 4) if draw.chance(0.3) else 1
    seen, made = draw.size(33), draw.size(33)
    if draw.chance(0.06):
        groups, seen = 1, draw.integer(32, 40)  # so many that sums are taken by taps
    elif draw.chance(0.2):
        groups, seen = max(draw.size(33), 1), 1  # depthwise
        made = draw.integer(1, 2)
    kernel = (3, 3) if draw.chance(0.4) else (draw.integer(1, 7), draw.integer(1, 7))
    if seen == 1 and draw.chance(0.5):  # the gradient of such a one has kernels of its own
        geometry["stride"] = 2
        kernel = draw.one([kernel, kernel, (3, 3), (5, 5)])
    if groups > 1:
        geometry["groups"] = groups
    height, width = draw.size() + draw.integer(0, 9), draw.size() + draw.integer(0, 9)
    images, channels, height, width = draw.shape(draw.integer(1, 3), groups * seen, height, width)
    channels = max(channels // groups, 1 if seen else 0) * groups
    weight_shape = (groups * made, channels // groups, *kernel)
    while math.prod(weight_shape) * height * width * images > 40_000_000 and weight_shape[0] > groups:
        weight_shape = (weight_shape[0] // groups // 2 * groups or groups, *weight_shape[1:])
    layout = draw.one(["NCHW", "NHWC"])
    x_shape = (images, height, width, channels) if layout == "NHWC" else (images, channels, height, width)
    if layout == "NHWC" or draw.chance(0.3):
        geometry["layout"] = layout
    if draw.chance(0.1):
        geometry["padding_mode"] = draw.one(["reflect", "replicate", "circular", "zeros"])
    if draw.chance(0.4):
        geometry["algorithm"] = draw.one(["auto", "direct", "im2col", "winograd", "winograd", "strassen"])
        if geometry["algorithm"] == "winograd" and draw.chance(0.8):  # what it is able to do
            stride = draw.one([1, 1, 1, 2, 2, 3, 4])
            kernel = (
                draw.integer(2, 5) if stride == 1 and draw.chance(0.6) else 2 * stride + draw.integer(1, 6)
            )
            geometry.pop("stride", None)
            geometry.pop("dilation", None)
            shape = draw.one([(kernel, kernel), (kernel, 1), (1, kernel)])
            if stride > 1:
                geometry["stride"] = tuple(stride if taps > 1 else 1 for taps in shape)
            if stride == 1 and kernel <= 5 and draw.chance(0.5):
                geometry["dilation"] = draw.one([2, 3, (1, 7), (4, 1)])
            weight_shape = (*weight_shape[:2], *shape)
        if geometry["algorithm"] == "strassen" and draw.chance(0.8):
            geometry.pop("groups", None)
            channels = 2 * draw.integer(1, 20)
            if draw.chance(0.5):  # one row of results is for the kernels that add columns
                height, kernel = 1, (1, kernel[1])
                x_shape = (images, 1, width, channels) if layout == "NHWC" else (images, channels, 1, width)
            weight_shape = (2 * draw.integer(1, 40), channels, *kernel)
            x_shape = (*x_shape[:3], channels) if layout == "NHWC" else (images, channels, *x_shape[2:])
    return geometry, x_shape[1:] if draw.chance(0.2) else x_shape, weight_shape, layout


def expected_conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
                  layout="NCHW", algorithm="auto", activation=None, out=None):  # fmt: skip
    y = reference.conv2d(nchw(x, layout), weight, bias, stride, padding, dilation, groups, padding_mode)
    if activation is not None:
        y = np.maximum(y, 0)
    products = math.prod(np.shape(weight)[1:])
    return [Expected(as_given(y, x, layout), products, algorithm, typical(products, x, weight))]


def expected_conv_backward(grad_output, x, weight, stride=1, padding=0, dilation=1, groups=1, *,
                           padding_mode="zeros", layout="NCHW", algorithm="auto", need=BOTH):  # fmt: skip
    grad, images = nchw(grad_output, layout), nchw(x, layout)
    grads = reference.conv2d_backward(grad, images, weight, stride, padding, dilation, groups, padding_mode)
    shape = np.shape(weight)
    by_input = shape[0] // groups * shape[2] * shape[3] if shape[0] else 0
    by_weight = grad.shape[0] * grad.shape[2] * grad.shape[3]
    # A border that is copied gathers the gradients of its copies.
    many = 1 if padding_mode == "zeros" else 4
    return chosen(need, [
        Expected(as_given(grads[0], x, layout), by_input * many, algorithm, typical(by_input, grad, weight)),
        Expected(grads[1], by_weight, algorithm, typical(by_weight, grad, images)),
        Expected(grads[2], by_weight, algorithm, typical(by_weight, grad)),
    ])  # fmt: skip


def conv2d(draw: Draw) -> Call:
    geometry, x_shape, weight_shape, _ = draw_conv(draw)
    x, weight, bias = draw.arrays(x_shape, weight_shape, weight_shape[:1])
    arguments = {"x": x, "weight": weight, **({"bias": bias} if draw.chance(0.5) else {}), **geometry}
    arguments |= draw_out(draw, expected_conv, arguments)
    if draw.chance(0.2):
        arguments["activation"] = "relu"
    return Call(fc.conv2d, arguments, expected_conv)


def draw_backward(
    draw: Draw, drawn: tuple[Any, ...], function: Any, expected_forward: Any, expected: Any
) -> Call:
    """A call of the backward pass, with a grad_output of the shape that the forward pass gives, if any."""
    geometry, x_shape, weight_shape = drawn
    forward = {"x": np.zeros(x_shape), "weight": np.zeros(weight_shape), **geometry}
    shape = result_shape(expected_forward, forward)
    grad_output, x, weight = draw.arrays(shape or x_shape, x_shape, weight_shape)
    arguments = {"grad_output": grad_output, "x": x, "weight": weight, **geometry, **draw_need(draw)}
    return Call(function, arguments, expected)


def conv2d_backward(draw: Draw) -> Call:
    return draw_backward(draw, draw_conv(draw)[:3], fc.conv2d_backward, expected_conv, expected_conv_backward)


def line(value: Any) -> Any:
    """An argument of a signal as that of an image one pixel high."""
    return ((0, 0), tuple(value)) if isinstance(value, (tuple, list)) else (0, value)


def images_of(signal: Any, layout: str) -> Array:
    return np.expand_dims(f64(signal), -3 if layout == "NLC" else -2)


def expected_conv1d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, layout="NCL",
                    algorithm="auto", activation=None, padding_mode="zeros", out=None):  # fmt: skip
    padding = padding if isinstance(padding, str) else line(padding)
    two = "NHWC" if layout == "NLC" else "NCHW"
    (y,) = expected_conv(images_of(x, layout), f64(weight)[:, :, None], bias, (1, stride), padding,
                         (1, dilation), groups, layout=two, algorithm=algorithm, activation=activation,
                         padding_mode=padding_mode)  # fmt: skip
    y.values = y.values[..., 0, :, :] if layout == "NLC" else y.values[..., 0, :]
    return [y]


def expected_conv1d_backward(grad_output, x, weight, stride=1, padding=0, dilation=1, groups=1, *,
                             layout="NCL", algorithm="auto", padding_mode="zeros", need=BOTH):  # fmt: skip
    padding = padding if isinstance(padding, str) else line(padding)
    two = "NHWC" if layout == "NLC" else "NCHW"
    grads = expected_conv_backward(images_of(grad_output, layout), images_of(x, layout),
                                   f64(weight)[:, :, None], (1, stride), padding, (1, dilation), groups,
                                   layout=two, algorithm=algorithm, need=need,
                                   padding_mode=padding_mode)  # fmt: skip
    if grads[0].values is not None:
        grads[0].values = grads[0].values.reshape(np.shape(x))
    if grads[1].values is not None:
        grads[1].values = grads[1].values.reshape(np.shape(weight))
    return grads


def draw_conv1d(draw: Draw) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    geometry, x_shape, weight_shape, layout = draw_conv(draw)
    for name in ("stride", "dilation"):
        if name in geometry:
            geometry[name] = draw.integer(1, 3)
    if not isinstance(geometry.get("padding", ""), str):
        geometry["padding"] = draw.one([draw.integer(0, 3), (draw.integer(0, 3), draw.integer(0, 3))])
    geometry["layout"] = "NLC" if layout == "NHWC" else "NCL"
    without = -3 if layout == "NHWC" else -2
    x = list(x_shape)
    del x[without]
    return geometry, tuple(x), (*weight_shape[:2], weight_shape[3])


def conv1d(draw: Draw) -> Call:
    geometry, x_shape, weight_shape = draw_conv1d(draw)
    x, weight, bias = draw.arrays(x_shape, weight_shape, weight_shape[:1])
    arguments = {"x": x, "weight": weight, "bias": bias if draw.chance(0.5) else None, **geometry}
    return Call(fc.conv1d, arguments | draw_out(draw, expected_conv1d, arguments), expected_conv1d)


def conv1d_backward(draw: Draw) -> Call:
    return draw_backward(
        draw, draw_conv1d(draw), fc.conv1d_backward, expected_conv1d, expected_conv1d_backward
    )


def expected_transpose(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                       layout="NCHW"):  # fmt: skip
    y = reference.conv_transpose2d(
        nchw(x, layout), weight, bias, stride, padding, output_padding, groups, dilation
    )
    products = np.shape(weight)[0] // groups * math.prod(np.shape(weight)[2:])
    return [Expected(as_given(y, x, layout), products, "auto", typical(products, x, weight))]


def expected_transpose_backward(grad_output, x, weight, stride=1, padding=0, output_padding=0, groups=1,
                                dilation=1, *, layout="NCHW", need=BOTH):  # fmt: skip
    grad, images = nchw(grad_output, layout), nchw(x, layout)
    grads = reference.conv_transpose2d_backward(
        grad, images, weight, stride, padding, output_padding, groups, dilation
    )
    by_input, by_weight = math.prod(np.shape(weight)[1:]), images.size // max(images.shape[1], 1)
    by_bias = grad.size // max(grad.shape[1], 1)
    return chosen(need, [
        Expected(as_given(grads[0], x, layout), by_input, "auto", typical(by_input, grad, weight)),
        Expected(grads[1], by_weight, "auto", typical(by_weight, grad, images)),
        Expected(grads[2], by_bias, "auto", typical(by_bias, grad)),
    ])  # fmt: skip


def draw_transpose(draw: Draw) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    geometry, x_shape, weight_shape, layout = draw_conv(draw)
    for name in ("algorithm", "padding_mode"):
        geometry.pop(name, None)
    if isinstance(geometry.get("padding"), str):
        geometry["padding"] = 1
    if draw.chance(0.2):
        geometry["output_padding"] = draw.pair(0, 2)
    groups = geometry.get("groups", 1)
    channels = x_shape[-1] if layout == "NHWC" else x_shape[-3]
    return geometry, x_shape, (channels, weight_shape[0] // groups, *weight_shape[2:])


def conv_transpose2d(draw: Draw) -> Call:
    geometry, x_shape, weight_shape = draw_transpose(draw)
    x, weight, bias = draw.arrays(x_shape, weight_shape, (weight_shape[1] * geometry.get("groups", 1),))
    arguments = {"x": x, "weight": weight, "bias": bias if draw.chance(0.5) else None, **geometry}
    return Call(fc.conv_transpose2d, arguments, expected_transpose)


def conv_transpose2d_backward(draw: Draw) -> Call:
    return draw_backward(
        draw,
        draw_transpose(draw),
        fc.conv_transpose2d_backward,
        expected_transpose,
        expected_transpose_backward,
    )


# ---- columns ----


def lines_of(x: Any) -> Array:
    return f64(x) if np.ndim(x) == 4 else f64(x)[None]


def expected_im2col(x, kernel_size, stride=1, padding=0, dilation=1):
    cols = reference.im2col(lines_of(x), kernel_size, stride, padding, dilation)
    return [Expected(cols if np.ndim(x) == 4 else cols[0])]


def expected_im2col_backward(grad_output, input_size, kernel_size, stride=1, padding=0, dilation=1):
    batched = len(input_size) == 4
    cols = f64(grad_output) if batched else f64(grad_output)[None]
    size = tuple(input_size) if batched else (1, *input_size)
    x = reference.col2im(cols, size, kernel_size, stride, padding, dilation)
    taps = math.prod(reference.pair(kernel_size))
    return [Expected(x if batched else x[0], taps, "auto", typical(taps, grad_output))]


def draw_columns(draw: Draw, budget: int | None = None) -> tuple[tuple[int, ...], dict[str, Any]]:
    x_shape = draw.shape(
        draw.integer(1, 3), draw.size(9), draw.size(33) + 3, draw.size(33) + 3, budget=budget
    )
    x_shape = x_shape[1:] if draw.chance(0.2) else x_shape
    return x_shape, {"kernel_size": draw.pair(1, 5), **draw_geometry(draw)}


def im2col(draw: Draw) -> Call:
    x_shape, geometry = draw_columns(draw)
    return Call(fc.im2col, {"x": draw.array(x_shape), **geometry}, expected_im2col)


def im2col_backward(draw: Draw, function: Any = fc.im2col_backward, name: str = "grad_output") -> Call:
    # The columns that are drawn here are up to 25 times as many, and some orders in memory take 8 times that.
    x_shape, geometry = draw_columns(draw, budget=100_000 if draw.chance(0.001) else 4000)
    shape = result_shape(expected_im2col, {"x": np.zeros(x_shape), **geometry})
    arguments = {name: draw.array(shape or x_shape), "input_size": x_shape, **geometry}

    def expected(**given: Any) -> list[Expected]:
        return expected_im2col_backward(given.pop(name), **given)

    return Call(function, arguments, expected)


def col2im_backward(draw: Draw) -> Call:
    x_shape, geometry = draw_columns(draw)
    arguments = {"grad_output": draw.array(x_shape), "input_size": x_shape, **geometry}

    def expected(grad_output: Any, input_size: Any, **given: Any) -> list[Expected]:
        return expected_im2col(grad_output, **given)

    return Call(fc.col2im_backward, arguments, expected)
