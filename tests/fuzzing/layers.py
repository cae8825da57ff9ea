"""Layers, by way of their forward and backward."""

from dataclasses import replace
from typing import Any

import numpy as np

from fastconv import nn

from .call import Call, Expected, result_shape
from .convolution import draw_conv, expected_conv, expected_conv_backward
from .drawing import Draw
from .pooling import draw_pool, expected_avg, expected_avg_backward, expected_max, expected_max_backward


def conv_layer(draw: Draw) -> Call:
    """A layer's forward and backward; and frozen, with a batch norm and an activation, its forward again."""
    geometry, x_shape, weight_shape, layout = draw_conv(draw)
    geometry.pop("algorithm", None)
    dtype = draw.one([np.float32, np.float64])
    weight, bias = draw.array(weight_shape, dtype), draw.array(weight_shape[:1], dtype)
    shape = result_shape(expected_conv, {"x": np.zeros(x_shape), "weight": weight, **geometry})
    grad_output = draw.array(shape or x_shape, dtype)
    channels = x_shape[-1] if layout == "NHWC" else x_shape[-3]

    def conv_layer(x: Any, grad_output: Any, **geometry: Any) -> Any:
        layer = nn.Conv2d(channels, weight_shape[0], weight_shape[2:], **geometry, dtype=dtype)
        layer.weight.data, layer.bias.data = weight, bias
        y = layer(x)
        grad_x = layer.backward(grad_output)
        frozen = nn.freeze(nn.Sequential(layer, nn.ReLU()))(x)
        return y, grad_x, layer.weight.grad, layer.bias.grad, frozen

    def expected(x: Any, grad_output: Any, **geometry: Any) -> list[Expected]:
        (y,) = expected_conv(x, weight, bias, **geometry)
        y.dtype_of = ("x",)
        grads = expected_conv_backward(grad_output, x, weight, **geometry)
        frozen = replace(y, values=np.maximum(y.values, 0))
        return [y, *grads, frozen]

    arguments = {"x": draw.array(x_shape, dtype), "grad_output": grad_output, **geometry}
    return Call(conv_layer, arguments, expected)


def pool_layer(draw: Draw) -> Call:
    pool, x_shape, _ = draw_pool(draw)
    x = draw.array(x_shape, draw.one([np.float32, np.float64]))
    shape = result_shape(expected_avg, {"x": np.zeros(x_shape), **pool})
    grad_output = draw.array(shape or x_shape, x.dtype.newbyteorder("="))
    kind = draw.one([nn.MaxPool2d, nn.AvgPool2d])

    def pool_layer(x: Any, grad_output: Any, kernel_size: Any, **pool: Any) -> Any:
        layer = kind(kernel_size, **pool)
        return layer(x), layer.backward(grad_output)

    def expected(x: Any, grad_output: Any, **pool: Any) -> list[Expected]:
        if kind is nn.AvgPool2d:
            both = [*expected_avg(x, **pool), *expected_avg_backward(grad_output, np.shape(x), **pool)]
        else:
            y, indices = expected_max(x, return_indices=True, **pool)
            layout = pool.get("layout", "NCHW")
            both = [y, *expected_max_backward(grad_output, indices.values, np.shape(x), layout=layout)]
        both[0].dtype_of, both[1].dtype_of = ("x",), ("grad_output",)
        return both

    return Call(pool_layer, {"x": x, "grad_output": grad_output, **pool}, expected)
