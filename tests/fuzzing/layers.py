"""Layers, by way of their forward, their backward and what their parameters get."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastconv import nn

from .call import Call, Expected, f64, fc_dtype, result_shape, typical
from .convolution import (
    draw_conv,
    draw_conv1d,
    draw_transpose,
    expected_conv,
    expected_conv1d,
    expected_conv1d_backward,
    expected_conv_backward,
    expected_transpose,
    expected_transpose_backward,
)
from .drawing import AnyArray, Draw
from .others import (
    ELEMENTWISE,
    expected_batch_norm,
    expected_batch_norm_backward,
    expected_linear,
    expected_linear_backward,
    expected_lrn,
    expected_lrn_backward,
    expected_softmax,
    expected_softmax_backward,
    ncl,
    same_shape,
)
from .pooling import (
    draw_images,
    draw_pool,
    expected_adaptive_avg,
    expected_adaptive_avg_backward,
    expected_adaptive_max,
    expected_avg,
    expected_avg_backward,
    expected_max,
    expected_max_backward,
)

Reference = Callable[..., list[Expected]]
PARAMETERS = (np.float16, np.float32, np.float64)
FLOATS = PARAMETERS[1:]


def coarser(*arrays: Any) -> Any:
    """Gradients in double precision are not more exact than what was kept of a forward in single precision.

    Numbers may have been arrays of either (see `session.plain`).
    """
    single = any(np.ndim(array) == 0 or fc_dtype(array)[1] == np.float32 for array in arrays)
    return np.float32 if single else np.float64


def weighted(
    draw: Draw, make: Callable[..., Any], shapes: Sequence[Any], references: Sequence[Any], geometry: Any
) -> Call:
    """Forward, backward twice (so that gradients are added), and frozen, of a layer with weight and bias."""
    dtype = draw.one(FLOATS)
    x_shape, weight_shape, bias_shape = shapes
    forward, backward = references
    weight = draw.array(weight_shape, dtype)
    bias = draw.array(bias_shape, dtype) if draw.chance(0.7) else None
    shape = result_shape(forward, {"x": np.zeros(x_shape), "weight": weight, **geometry})
    relu = draw.chance(0.5)
    needs_x = draw.chance(0.8)

    def layer_of(x: Any, grad_output: Any, **geometry: Any) -> Any:
        layer = make(bias=bias is not None, dtype=dtype, **geometry)
        layer.weight.data = weight
        if bias is not None:
            layer.bias.data = bias
        y = layer(x)
        grad_x = layer.backward(grad_output, need_x=needs_x)
        if needs_x:
            grad_x = layer.backward(grad_output)
        else:
            layer.backward(grad_output)
        frozen = nn.freeze(nn.Sequential(layer, nn.ReLU()) if relu else layer)(x)
        grads = [layer.weight.grad] + ([] if bias is None else [layer.bias.grad])
        return y, grad_x, *grads, frozen

    def expected(x: Any, grad_output: Any, **geometry: Any) -> list[Expected]:
        (y,) = forward(x, weight, bias, **geometry)
        y.dtype_of = ("x",)
        grad_x, *grads = backward(grad_output, x, weight, **geometry)[: 2 if bias is None else 3]
        grad_x = replace(grad_x, kept_in=coarser(x, grad_output)) if needs_x else Expected(None)
        grads = [replace(grad, values=2 * grad.values, scale=2 * grad.scale, kept_in=dtype) for grad in grads]
        frozen = replace(y, values=np.maximum(y.values, 0) if relu else y.values)
        return [y, grad_x, *grads, frozen]

    layer_of.__name__ = f"layer {make.__name__}"
    arguments = {"x": draw.array(x_shape, dtype), "grad_output": draw.array(shape or x_shape, dtype)}
    return Call(layer_of, {**arguments, **geometry}, expected)


def conv_layer(draw: Draw) -> Call:
    geometry, x_shape, weight_shape, layout = draw_conv(draw)
    geometry.pop("algorithm", None)
    channels = x_shape[-1] if layout == "NHWC" else x_shape[-3]

    def conv2d(**options: Any) -> nn.Conv2d:
        return nn.Conv2d(channels, weight_shape[0], weight_shape[2:], **options)

    shapes = (x_shape, weight_shape, weight_shape[:1])
    return weighted(draw, conv2d, shapes, (expected_conv, expected_conv_backward), geometry)


def conv1d_layer(draw: Draw) -> Call:
    geometry, x_shape, weight_shape = draw_conv1d(draw)
    geometry.pop("algorithm", None)
    channels = x_shape[-1] if geometry["layout"] == "NLC" else x_shape[-2]

    def conv1d(**options: Any) -> nn.Conv1d:
        return nn.Conv1d(channels, weight_shape[0], weight_shape[2], **options)

    shapes = (x_shape, weight_shape, weight_shape[:1])
    return weighted(draw, conv1d, shapes, (expected_conv1d, expected_conv1d_backward), geometry)


def transpose_layer(draw: Draw) -> Call:
    geometry, x_shape, weight_shape = draw_transpose(draw)
    made = weight_shape[1] * geometry.get("groups", 1)

    def conv_transpose2d(**options: Any) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(weight_shape[0], made, weight_shape[2:], **options)

    shapes = (x_shape, weight_shape, (made,))
    return weighted(
        draw, conv_transpose2d, shapes, (expected_transpose, expected_transpose_backward), geometry
    )


def linear_layer(draw: Draw) -> Call:
    rows, seen, made = draw.size(33), max(draw.size(), 1), max(draw.size(), 1)

    def linear(**options: Any) -> nn.Linear:
        return nn.Linear(seen, made, **options)

    shapes = ((rows, seen), (made, seen), (made,))
    return weighted(draw, linear, shapes, (expected_linear, expected_linear_backward), {})


def unweighted(
    draw: Draw, kind: Any, x: AnyArray, references: Sequence[Any], options: dict[str, Any]
) -> Call:
    """Forward and backward of a layer without parameters; `options` are what it is made with."""
    forward, backward = references
    shape = result_shape(forward, {"x": np.zeros(x.shape), **options})
    grad_output = draw.array(x.shape if shape is None else shape, x.dtype.newbyteorder("="))

    def layer_of(x: Any, grad_output: Any, **options: Any) -> Any:
        layer = kind(**options)
        return layer(x), layer.backward(grad_output)

    def expected(x: Any, grad_output: Any, **options: Any) -> list[Expected]:
        (y,), (grad_x,) = forward(x, **options), backward(grad_output, x, **options)
        y.dtype_of, grad_x.kept_in = ("x",), coarser(x, grad_output)
        return [y, grad_x]

    layer_of.__name__ = f"layer {kind.__name__}"
    return Call(layer_of, {"x": x, "grad_output": grad_output, **options}, expected)


def by_maxima(forward: Reference) -> Reference:
    """The backward of a maximum, as the positions of the forward's reference say."""

    def backward(grad_output: Any, x: Any, *, layout: str = "NCHW", **options: Any) -> list[Expected]:
        _, indices = forward(x, return_indices=True, layout=layout, **options)
        same_shape(grad_output, indices.values)
        return expected_max_backward(grad_output, indices.values, np.shape(x), layout=layout)

    return backward


def by_size(backward: Reference, **dropped: Any) -> Reference:
    """A backward that asks for the size of the input."""

    def with_input(grad_output: Any, x: Any, **options: Any) -> list[Expected]:
        kept = {name: value for name, value in options.items() if name not in dropped}
        return backward(grad_output, np.shape(x), **kept)

    return with_input


def pool_layer(draw: Draw) -> Call:
    pool, x_shape, _ = draw_pool(draw)
    x = draw.array(x_shape, draw.one(FLOATS))
    if draw.chance(0.5):
        return unweighted(draw, nn.AvgPool2d, x, (expected_avg, by_size(expected_avg_backward)), pool)
    return unweighted(draw, nn.MaxPool2d, x, (expected_max, by_maxima(expected_max)), pool)


def adaptive_layer(draw: Draw) -> Call:
    options: dict[str, Any] = {}
    x_shape, _ = draw_images(draw, options)
    x = draw.array(x_shape, draw.one(FLOATS))
    options["output_size"] = draw.one([draw.pair(1, 7), (None, draw.integer(1, 9)), draw.pair(1, 40)])
    if draw.chance(0.5):
        references: Any = expected_adaptive_max, by_maxima(expected_adaptive_max)
        return unweighted(draw, nn.AdaptiveMaxPool2d, x, references, options)
    references = expected_adaptive_avg, by_size(expected_adaptive_avg_backward, output_size=None)
    return unweighted(draw, nn.AdaptiveAvgPool2d, x, references, options)


def norm_layer(draw: Draw) -> Call:
    shape = draw.shape(draw.size(9), draw.size(17), draw.size(9), draw.size(9))
    options = {"size": draw.integer(1, 7), "layout": draw.one(["NCHW", "NHWC"])}
    x = draw.array(shape, draw.one(FLOATS))
    return unweighted(draw, nn.LocalResponseNorm, x, (expected_lrn, expected_lrn_backward), options)


ACTIVATIONS = {
    nn.ReLU: ("relu", "x"), nn.ReLU6: ("relu6", "x"), nn.LeakyReLU: ("leaky_relu", "x"),
    nn.Sigmoid: ("sigmoid", "output"), nn.Tanh: ("tanh", "output"),
}  # fmt: skip


def activation_layer(draw: Draw) -> Call:
    shape = draw.shape(*(draw.size(17) for _ in range(draw.integer(0, 4))))
    kind = draw.one(list(ACTIVATIONS))
    name, second = ACTIVATIONS[kind]
    options = {"negative_slope": draw.one([0.2, 0, 1])} if kind is nn.LeakyReLU and draw.chance(0.5) else {}

    def forward(x: Any, **options: Any) -> list[Expected]:
        return [Expected(ELEMENTWISE[name](x=x, **options), 4, "auto", typical(1, x) + 1)]

    def backward(grad_output: Any, x: Any, **options: Any) -> list[Expected]:
        same_shape(grad_output, x)
        of = {"x": x} if second == "x" else {"output": ELEMENTWISE[name](x=x)}
        values = ELEMENTWISE[f"{name}_backward"](grad_output=grad_output, **of, **options)
        return [Expected(values, 4, "auto", typical(1, grad_output) + 1)]

    return unweighted(draw, kind, draw.array(shape, draw.one(FLOATS)), (forward, backward), options)


def softmax_layer(draw: Draw) -> Call:
    shape = draw.shape(*(draw.size(17) for _ in range(draw.integer(1, 4))))
    options = {"dim": draw.integer(-len(shape), len(shape) - 1)}
    x = draw.array(shape, draw.one(FLOATS))
    return unweighted(draw, nn.Softmax, x, (expected_softmax, expected_softmax_gradient), options)


def expected_softmax_gradient(grad_output: Any, x: Any, dim: int) -> list[Expected]:
    (output,) = expected_softmax(x, dim)
    return expected_softmax_backward(grad_output, output.values, dim)


def batch_norm_layer(draw: Draw) -> Call:
    """Two batches in training, of which the second is gone back from; then as in use."""
    dtype, layout = draw.one(FLOATS), draw.one(["NCHW", "NHWC"])
    images, channels, high, wide = draw.shape(
        draw.integer(1, 9), draw.integer(1, 17), draw.integer(1, 9), draw.integer(1, 9)
    )
    shape = (images, high, wide, channels) if layout == "NHWC" else (images, channels, high, wide)
    x, grad_output = draw.array(shape, dtype), draw.array(shape, dtype)
    weight, bias = draw.array((channels,), dtype), draw.array((channels,), dtype)

    def batch_norm_layer(x: Any, grad_output: Any, eps: Any, momentum: Any, layout: Any) -> Any:
        layer = nn.BatchNorm2d(channels, eps, momentum, layout=layout, dtype=dtype)
        layer.weight.data, layer.bias.data = weight, bias
        layer(x)
        y = layer(x)
        grad_x = layer.backward(grad_output)
        grads = layer.weight.grad, layer.bias.grad
        return y, grad_x, *grads, layer.running_mean, layer.running_var, layer.eval()(x)

    def expected(x: Any, grad_output: Any, eps: float, momentum: Any, layout: str) -> list[Expected]:
        given = {"weight": weight, "eps": eps, "training": True, "layout": layout}
        y, mean, _ = expected_batch_norm(x, None, None, bias=bias, return_statistics=True, **given)
        grad_x, *grads = expected_batch_norm_backward(grad_output, x, **given)
        count = np.size(x) // channels
        # Of an empty batch nothing is known: what runs along stays 0 and 1.
        var = ncl(x, layout).var((0, 2)) * count / max(count - 1, 1) if count else np.ones(channels)
        share = 1.0 if momentum is None else 1.0 - (1 - momentum) ** 2  # None: the average of equal batches
        means, variances = share * mean.values, share * var + (1 - share)
        used = expected_batch_norm(x, means, variances, weight, bias, eps=eps, layout=layout)
        running = [Expected(value, count, "auto", mean.scale**2) for value in (means, variances)]
        y.dtype_of, grad_x.kept_in = ("x",), coarser(x, grad_output)
        return [y, grad_x, *(replace(each, kept_in=dtype) for each in (*grads, *running, *used))]

    options = {"eps": draw.one([0.01, 1]), "momentum": draw.one([0.1, 0.5, 1, None]), "layout": layout}
    return Call(batch_norm_layer, {"x": x, "grad_output": grad_output, **options}, expected)


# ---- networks ----


class Exact:
    """Values in float64; beside each, the same of absolute values, which rounding is in proportion to."""

    def __init__(self, values: Any, scale: Any, products: int = 1) -> None:
        self.values, self.scale, self.products = f64(values), f64(scale), products


def network(draw: Draw) -> Call:
    """Convolutions, batch norms, activations, pools and blocks, in use; and frozen."""
    dtype, layout = draw.one(FLOATS), draw.one(["NCHW", "NHWC"])
    images, channels, high, wide = draw.shape(
        draw.integer(1, 3), draw.integer(1, 17), draw.integer(1, 20), draw.integer(1, 20)
    )
    shape = (images, high, wide, channels) if layout == "NHWC" else (images, channels, high, wide)
    steps: list[Callable[[Exact], Exact]] = []
    parts = draw_parts(draw, steps, draw.integer(1, 5), channels, layout, dtype)
    if draw.chance(0.3):
        shape_before = result_shape(lambda x: [run(steps, x)], {"x": np.zeros(shape)})
        parts += tail(draw, steps, shape_before, dtype)
    network = nn.Sequential(*parts).eval()
    if draw.chance(0.3):
        network = network.astype(draw.one(PARAMETERS)).astype(dtype)
    frozen = nn.freeze(network)

    def run_network(x: Any) -> Any:
        return network(x), frozen(x), frozen(x)

    def expected(x: Any) -> list[Expected]:
        exact = run(steps, x)
        y = Expected(exact.values, exact.products, "auto", float(exact.scale.max(initial=0)), kept_in=dtype)
        return [y, y, y]

    return Call(run_network, {"x": draw.array(shape, dtype)}, expected)


def run(steps: list[Callable[[Exact], Exact]], x: Any) -> Exact:
    exact = Exact(x, np.abs(f64(x)))
    for step in steps:
        exact = step(exact)
    return exact


def draw_parts(draw: Draw, steps: list[Any], count: int, channels: int, layout: str, dtype: Any) -> list[Any]:
    """So many parts of a network, the reference of each in `steps`."""
    parts: list[nn.Module] = []
    kinds = ["conv", "conv", "norm", "relu", "max", "avg", "block", "dropout"]
    for _ in range(count):
        kind = draw.one(kinds)
        if kind == "conv":
            made = draw.integer(1, 17)
            parts.append(conv_part(draw, steps, channels, made, layout, dtype))
            channels = made
        elif kind == "norm":
            parts.append(norm_part(draw, steps, channels, layout, dtype))
        elif kind == "relu":
            parts.append(nn.ReLU())
            steps.append(relu)
        elif kind == "dropout":
            parts.append(nn.Dropout())
        elif kind == "block":
            inner: list[Any] = []
            body = [conv_part(draw, inner, channels, channels, layout, dtype)]
            if draw.chance(0.5):
                body.append(norm_part(draw, inner, channels, layout, dtype))
            parts.append(nn.Residual(nn.Sequential(*body)))
            steps.append(block(inner))
            if draw.chance(0.5):  # which is computed along with the sum, when frozen
                parts.append(nn.ReLU())
                steps.append(relu)
        else:
            reference = expected_max if kind == "max" else expected_avg
            kernel = {"kernel_size": 3, "stride": 1, "padding": 1, "layout": layout}
            parts.append((nn.MaxPool2d if kind == "max" else nn.AvgPool2d)(**kernel))
            steps.append(pool(reference, kernel))
    return parts


def conv_part(draw: Draw, steps: list[Any], channels: int, made: int, layout: str, dtype: Any) -> nn.Conv2d:
    size = draw.one([1, 3, 3, 5])
    geometry = {"padding": size // 2, "layout": layout}
    layer = nn.Conv2d(channels, made, size, dtype=dtype, **geometry)
    layer.weight.data = draw.array(layer.weight.shape, dtype)
    layer.bias.data = draw.array((made,), dtype)
    weight, bias = f64(layer.weight.data), f64(layer.bias.data)

    def step(x: Exact) -> Exact:
        (y,) = expected_conv(x.values, weight, bias, **geometry)
        (scale,) = expected_conv(x.scale, np.abs(weight), np.abs(bias), **geometry)
        return Exact(y.values, scale.values, x.products + y.products)

    steps.append(step)
    return layer


def norm_part(draw: Draw, steps: list[Any], channels: int, layout: str, dtype: Any) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, layout=layout, dtype=dtype)
    layer.weight.data, layer.bias.data = draw.array((channels,), dtype), draw.array((channels,), dtype)
    mean, var = draw.array((channels,), dtype), np.abs(draw.array((channels,), dtype)) + 0.5
    layer.running_mean[...], layer.running_var[...] = mean, var
    weight, bias = f64(layer.weight.data), f64(layer.bias.data)

    def step(x: Exact) -> Exact:
        (y,) = expected_batch_norm(x.values, mean, var, weight, bias, layout=layout)
        (scale,) = expected_batch_norm(
            x.scale, -np.abs(f64(mean)), var, np.abs(weight), np.abs(bias), layout=layout
        )
        return Exact(y.values, scale.values, x.products + 2)

    steps.append(step)
    return layer


def tail(draw: Draw, steps: list[Any], shape: Any, dtype: Any) -> list[nn.Module]:
    """A fully connected layer behind all others."""
    made = draw.integer(1, 20)
    layer = nn.Linear(math.prod(shape[1:]), made, dtype=dtype)
    weight, bias = draw.array(layer.weight.shape, dtype), draw.array((made,), dtype)
    layer.weight.data, layer.bias.data = weight, bias

    def step(x: Exact) -> Exact:
        shape = (len(x.values), weight.shape[1])
        (y,) = expected_linear(x.values.reshape(shape), weight, bias)
        (scale,) = expected_linear(x.scale.reshape(shape), np.abs(f64(weight)), np.abs(f64(bias)))
        return Exact(y.values, scale.values, x.products + y.products)

    steps.append(step)
    return [nn.Flatten(), layer]


def relu(x: Exact) -> Exact:
    return Exact(np.maximum(x.values, 0), x.scale, x.products)


def pool(reference: Reference, options: dict[str, Any]) -> Callable[[Exact], Exact]:
    def step(x: Exact) -> Exact:
        (y,), (scale,) = reference(x.values, **options), reference(x.scale, **options)
        return Exact(y.values, scale.values, x.products + y.products)

    return step


def block(inner: list[Callable[[Exact], Exact]]) -> Callable[[Exact], Exact]:
    def step(x: Exact) -> Exact:
        y = x
        for part in inner:
            y = part(y)
        return Exact(x.values + y.values, x.scale + y.scale, x.products + y.products)

    return step
