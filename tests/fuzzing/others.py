"""All but convolution and pooling."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastconv as fc

from .call import BOTH, Array, Call, Expected, chosen, draw_need, f64, typical
from .drawing import Draw


def expected_linear(x, weight, bias=None):
    y = f64(x) @ f64(weight).T + (0 if bias is None else f64(bias))
    return [Expected(y, np.shape(weight)[1], "auto", typical(np.shape(weight)[1], x, weight))]


def expected_linear_backward(grad_output, x, weight, *, need=BOTH):
    many, made = math.prod(np.shape(x)[:-1]), np.shape(weight)[0]
    grad, rows = (f64(a).reshape(many, n) for a, n in zip((grad_output, x), np.shape(weight), strict=True))
    return chosen(need, [
        Expected((grad @ f64(weight)).reshape(np.shape(x)), made, "auto", typical(made, grad, weight)),
        Expected(grad.T @ rows, many, "auto", typical(many, grad, rows)),
        Expected(grad.sum(0), many, "auto", typical(many, grad)),
    ])  # fmt: skip


def linear(draw: Draw, backward: bool = False) -> Call:
    rows = [(), (draw.size(33),), (draw.integer(1, 4), draw.size(9))][draw.integer(0, 2)]
    *rows, seen = draw.shape(*rows, max(draw.size(), 1))
    if draw.chance(0.15):  # few rows times a wide matrix have kernels of their own
        rows, seen = [draw.integer(1, 5)], draw.integer(65, 400)
    made = max(draw.size(), 1)
    x, weight, bias, grad = draw.arrays((*rows, seen), (made, seen), (made,), (*rows, made))
    if backward:
        arguments = {"grad_output": grad, "x": x, "weight": weight, **draw_need(draw)}
        return Call(fc.linear_backward, arguments, expected_linear_backward)
    arguments = {"x": x, "weight": weight, "bias": bias if draw.chance(0.5) else None}
    return Call(fc.linear, arguments, expected_linear)


def s(x: Any) -> Array:
    return 1 / (1 + np.exp(-f64(x)))


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "relu": lambda x: np.maximum(f64(x), 0),
    "relu6": lambda x: np.clip(f64(x), 0, 6),
    "leaky_relu": lambda x, negative_slope=0.01: np.where(f64(x) > 0, f64(x), float(negative_slope) * f64(x)),
    "sigmoid": s,
    "tanh": lambda x: np.tanh(f64(x)),
    "relu_backward": lambda grad_output, x: np.where(f64(x) <= 0, 0, f64(grad_output)),  # of NaN, too
    "relu6_backward": lambda grad_output, x: np.where((f64(x) <= 0) | (f64(x) >= 6), 0, f64(grad_output)),
    "leaky_relu_backward": lambda grad_output, x, negative_slope=0.01: (
        f64(grad_output) * np.where(f64(x) > 0, 1.0, float(negative_slope))
    ),
    "sigmoid_backward": lambda grad_output, output: f64(grad_output) * f64(output) * (1 - f64(output)),
    "tanh_backward": lambda grad_output, output: f64(grad_output) * (1 - f64(output) ** 2),
}


def same_shape(*arrays: Any) -> None:
    """Nothing is broadcast: a reference that would do it must not pass for one."""
    assert len({np.shape(array) for array in arrays}) == 1, "shapes differ"


def elementwise(name: str, draw: Draw) -> Call:
    shape = draw.shape(*(draw.size(17) for _ in range(draw.integer(0, 4))))
    arguments: dict[str, Any] = {}
    arrays = draw.arrays(shape, shape)
    if name.endswith("_backward"):
        second = "output" if name in ("sigmoid_backward", "tanh_backward") else "x"
        arguments = {"grad_output": arrays[0], second: arrays[1]}
    else:
        arguments = {"x": arrays[0]}
    if "leaky" in name and draw.chance(0.5):
        arguments["negative_slope"] = draw.one([0.2, 0, 1, 0.01])

    def expected(**given: Any) -> list[Expected]:
        same_shape(*(value for key, value in given.items() if key in ("grad_output", "x", "output")))
        arrays = [given[key] for key in given if key in ("grad_output", "x", "output")]
        return [Expected(ELEMENTWISE[name](**given), 4, "auto", typical(1, *arrays) + 1)]

    return Call(getattr(fc, name), arguments, expected)


def expected_softmax(x: Any, dim: int = -1, log: bool = False) -> list[Expected]:
    shifted = f64(x) - f64(x).max(axis=dim, keepdims=True, initial=-np.inf)
    total = np.exp(shifted).sum(axis=dim, keepdims=True)
    y = shifted - np.log(total) if log else np.exp(shifted) / total
    return [Expected(y, np.shape(x)[dim], "auto", 1 + float(np.abs(f64(x)).max(initial=0)))]


def expected_softmax_backward(
    grad_output: Any, output: Any, dim: int = -1, log: bool = False
) -> list[Expected]:
    same_shape(grad_output, output)
    g, y = f64(grad_output), f64(output)
    total = (g if log else g * y).sum(axis=dim, keepdims=True)
    grad_x = g - np.exp(y) * total if log else y * (g - total)
    many = np.shape(output)[dim]
    large = float(np.abs(g).max(initial=0)) * many * float(np.exp(np.abs(y)).max(initial=1))
    return [Expected(grad_x, many, "auto", large)]


def softmax(name: str, draw: Draw) -> Call:
    shape = draw.shape(*(draw.size(17) for _ in range(draw.integer(1, 4))))
    grad, x = draw.arrays(shape, shape)
    dim = {"dim": draw.integer(-len(shape), len(shape) - 1)} if draw.chance(0.6) else {}
    log = name.startswith("log_")
    if name.endswith("_backward"):
        expected = partial(expected_softmax_backward, log=log)
        return Call(getattr(fc, name), {"grad_output": grad, "output": x, **dim}, expected)
    return Call(getattr(fc, name), {"x": x, **dim}, partial(expected_softmax, log=log))


def dropout(draw: Draw) -> Call:
    x = draw.array(draw.shape(*(draw.size(17) for _ in range(draw.integer(0, 4)))))
    seed = draw.integer(0, 2**31)

    def function(x: Any, p: Any = 0.5, training: Any = True) -> Any:
        y, mask = fc.dropout(x, p, training, rng=np.random.default_rng(seed))
        return y, fc.dropout_backward(np.ones_like(y), mask, p)

    def expected(x: Any, p: float = 0.5, training: bool = True) -> list[Expected]:
        p = p if training else 0.0
        keep = np.random.default_rng(seed).random(np.shape(x), dtype=np.float32) >= p if p else np.True_
        factor = np.where(keep, 1 / (1 - p) if p < 1 else 0.0, 0.0) * np.ones(np.shape(x))
        return [Expected(f64(x) * factor, 2), Expected(factor, 2)]

    function.__name__ = "dropout"
    arguments = {"x": x, "p": draw.one([0.5, 0, 1, 0.25]), "training": draw.chance(0.8)}
    return Call(function, arguments, expected)


def ncl(x: Any, layout: str) -> Array:
    channels_first = np.moveaxis(f64(x), -1, 1) if layout == "NHWC" else f64(x)
    return channels_first.reshape(*channels_first.shape[:2], math.prod(channels_first.shape[2:]))


def from_ncl(y: Array, x: Any, layout: str) -> Array:
    shape = np.shape(x)
    if layout == "NHWC":
        return np.moveaxis(y.reshape(shape[0], shape[-1], *shape[1:-1]), 1, -1)
    return y.reshape(shape)


def expected_batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1,
                        eps=1e-5, *, layout="NCHW", return_statistics=False):  # fmt: skip
    data = ncl(x, layout)
    count = data.shape[0] * data.shape[2]
    mean = data.mean((0, 2)) if training and count else 0 if running_mean is None else f64(running_mean)
    var = data.var((0, 2)) if training and count else 1 if running_var is None else f64(running_var)

    def column(a: Any) -> Array:
        return np.broadcast_to(a, data.shape[1])[:, None]

    inverse = 1 / np.sqrt(np.broadcast_to(var, data.shape[1]) + eps) if count else np.ones(data.shape[1])
    y = (data - column(mean)) * column(inverse)
    y = y * (1 if weight is None else column(f64(weight))) + (0 if bias is None else column(f64(bias)))
    # Cancellation of the mean is magnified by 1 / standard deviation.
    magnified = float(np.abs(f64(x)).max(initial=0) * np.max(inverse, initial=1)) + 1
    result = [Expected(from_ncl(y, x, layout), max(count, 1), "auto", magnified * 10)]
    if return_statistics:
        result += [Expected(np.broadcast_to(mean, data.shape[1]), count, "auto", magnified),
                   Expected(inverse, count, "auto", magnified)]  # fmt: skip
    return result


def batch_norm(draw: Draw) -> Call:
    shape = draw.shape(draw.size(9), draw.size(17), *(draw.size(9) for _ in range(draw.integer(0, 2))))
    layout = draw.one(["NCHW", "NHWC"])
    channels = shape[-1] if layout == "NHWC" else shape[1]
    x, mean, weight, bias = draw.arrays(shape, (channels,), (channels,), (channels,))
    arguments = {
        "x": x,
        "running_mean": mean,
        "running_var": np.abs(mean) + 1 if mean.dtype.kind == "f" else np.ones(channels, mean.dtype),
        **({"weight": weight, "bias": bias} if draw.chance(0.5) else {}),
        "layout": layout,
        "eps": 0.01,
    }
    if draw.chance(0.5):
        arguments["training"] = True
        arguments["running_mean"], arguments["running_var"] = draw.one(
            [(None, None), (np.zeros(channels), np.ones(channels))]
        )
    return Call(fc.batch_norm, arguments, expected_batch_norm, ("running_mean", "running_var"))


def expected_batch_norm_backward(grad_output, x, running_mean=None, running_var=None, weight=None,
                                 training=False, eps=1e-5, *, layout="NCHW", need=BOTH):  # fmt: skip
    same_shape(grad_output, x)
    data, grad = ncl(x, layout), ncl(grad_output, layout)
    count = data.shape[0] * data.shape[2]
    mean = data.mean((0, 2)) if training and count else f64(running_mean) if running_mean is not None else 0
    var = data.var((0, 2)) if training and count else f64(running_var) if running_var is not None else 1
    inverse = 1 / np.sqrt(np.broadcast_to(var, data.shape[1]) + eps) if count else np.ones(data.shape[1])
    normalized = (data - np.broadcast_to(mean, data.shape[1])[:, None]) * inverse[:, None]
    grad_weight, grad_bias = (grad * normalized).sum((0, 2)), grad.sum((0, 2))
    grad_x = grad
    if training and count:
        grad_x = grad - grad_bias[:, None] / count - normalized * grad_weight[:, None] / count
    grad_x = grad_x * inverse[:, None] * (1 if weight is None else f64(weight)[:, None])
    large = float(np.max(inverse, initial=1)) * (1 + float(np.abs(f64(x)).max(initial=0)))
    large *= (1 + float(np.abs(grad).max(initial=0))) * (
        1 + float(np.abs(0 if weight is None else f64(weight)).max(initial=0))
    )
    return chosen(need, [
        Expected(from_ncl(grad_x, x, layout), count, "auto", large * 10),
        Expected(grad_weight, count, "auto", large * math.sqrt(count)),
        Expected(grad_bias, count, "auto", large * math.sqrt(count)),
    ])  # fmt: skip


def batch_norm_backward(draw: Draw) -> Call:
    forward = batch_norm(draw).arguments
    forward.pop("bias", None)
    grad = draw.array(forward["x"].shape, forward["x"].dtype)
    if not forward.get("training"):
        forward["running_mean"], forward["running_var"] = (
            f64(forward["running_mean"]),
            f64(forward["running_var"]),
        )
    return Call(
        fc.batch_norm_backward,
        {"grad_output": grad, **forward, **draw_need(draw)},
        expected_batch_norm_backward,
    )


def window_sum(array: Array, before: int, after: int) -> Array:
    if not array.size:  # however many channels it has
        return array
    before, after = min(before, array.shape[1]), min(after, array.shape[1])
    padded = np.pad(array, ((0, 0), (before, after), (0, 0)))
    return sum((padded[:, i : i + array.shape[1]] for i in range(before + after + 1)), np.zeros(array.shape))


def cancelled(response: Array, k: float) -> Array:
    """By how much a response may be smaller than the two terms that it is the sum of, where k is negative."""
    with np.errstate(divide="ignore"):
        return 1 + 2 * abs(k) / np.abs(response)


def expected_lrn(x, size, alpha=1e-4, beta=0.75, k=1.0, *, layout="NCHW"):
    data = ncl(x, layout)
    response = k + alpha / size * window_sum(data**2, size // 2, (size - 1) // 2)
    y = data / response**beta
    large = float(np.nanmax(np.abs(y) * cancelled(response, k), initial=0))
    return [Expected(from_ncl(y, x, layout), size, "auto", max(typical(1, x), large))]


def expected_lrn_backward(grad_output, x, size, alpha=1e-4, beta=0.75, k=1.0, *, layout="NCHW"):
    same_shape(grad_output, x)
    data, grad = ncl(x, layout), ncl(grad_output, layout)
    response = k + alpha / size * window_sum(data**2, size // 2, (size - 1) // 2)
    through = window_sum(grad * data * response ** (-beta - 1), (size - 1) // 2, size // 2)
    grad_x = grad * response**-beta - 2 * alpha * beta / size * data * through
    large = (1 + float(np.abs(data).max(initial=0)) ** 2) * (1 + float(np.abs(grad).max(initial=0)))
    terms = np.abs(grad * response**-beta) * cancelled(response, k)
    terms = terms + np.abs(2 * alpha * beta / size * data) * window_sum(
        np.abs(grad * data * response ** (-beta - 1)) * cancelled(response, k), (size - 1) // 2, size // 2
    )
    return [
        Expected(from_ncl(grad_x, x, layout), size, "auto", max(large, float(np.nanmax(terms, initial=0))))
    ]


def local_response_norm(draw: Draw, backward: bool = False) -> Call:
    shape = draw.shape(draw.size(4), draw.size(17), *(draw.size(9) for _ in range(draw.integer(1, 2))))
    grad, x = draw.arrays(shape, shape)
    arguments = {"x": x, "size": draw.integer(1, 7), "layout": draw.one(["NCHW", "NHWC"])}
    if draw.chance(0.5):
        arguments |= {"alpha": 0.5, "k": 2, "beta": draw.one([0.75, 0.5, 1, 0.3])}
    if backward:
        arguments = {"grad_output": grad, **arguments}
        return Call(fc.local_response_norm_backward, arguments, expected_lrn_backward)
    return Call(fc.local_response_norm, arguments, expected_lrn)


def expected_cross_entropy(logits, target, weight=None, *, ignore_index=-100, reduction="mean",
                           label_smoothing=0.0):  # fmt: skip
    axis = min(np.ndim(logits) - 1, 1)
    moved = np.moveaxis(f64(logits), axis, -1)
    scores = moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])
    classes, given = scores.shape[1], np.asarray(target)
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    weights = np.ones(classes) if weight is None else f64(weight)
    assert weights.shape == (classes,), "weights of another shape were accepted"
    if given.dtype.kind == "f":
        same_shape(logits, target)
        wanted = np.moveaxis(f64(given), axis, -1).reshape(scores.shape)
        divisor, counts = float(len(wanted)), np.ones((len(wanted), 1))
    else:
        assert given.shape == moved.shape[:-1], "targets of another shape were accepted"
        counts = given.reshape(-1, 1) != ignore_index
        wanted = ((given.reshape(-1, 1) == np.arange(classes)) & counts).astype(np.float64)
        assert np.array_equal(wanted.sum(1, keepdims=True), counts), "a target that is no class was accepted"
        divisor = float((wanted @ weights).sum())
    wanted = ((1 - label_smoothing) * wanted + label_smoothing / classes * counts) * weights
    by = divisor if reduction == "mean" else 1.0
    # A mean over samples without weight divides by zero.
    grad = (np.exp(log_p) * wanted.sum(1, keepdims=True) - wanted) / (by if by else 1.0)
    loss = -(wanted * log_p).sum() / by if by else np.nan
    share = np.abs(wanted).max(initial=0.0) / (by if by else 1.0)
    largest = share * np.abs(log_p).max(initial=1.0) * (len(wanted) if reduction == "sum" else by)
    return [
        Expected(loss, log_p.size, "auto", largest),
        Expected(np.moveaxis(grad.reshape(moved.shape), -1, axis), classes, "auto", share,
                 ("logits", "weight")),
    ]  # fmt: skip


def cross_entropy(draw: Draw) -> Call:
    samples, classes = draw.integer(1, 40), draw.integer(1, 20)
    inner = draw.one([(), (), (draw.integer(1, 40),), (draw.integer(1, 9), draw.integer(1, 9))])
    shape = (classes,) if not inner and draw.chance(0.1) else draw.shape(samples, classes, *inner)
    classes = shape[min(len(shape) - 1, 1)]
    without = shape[:1] + shape[2:] if len(shape) > 1 else ()
    arguments: dict[str, Any] = {"logits": draw.array(shape)}
    if draw.chance(0.3):
        dtype = draw.one([np.float16, np.float32, np.float64])
        arguments["target"] = draw.arranged(draw.rng.random(shape).astype(dtype))
    else:
        numbers = np.asarray(draw.rng.integers(0, classes + draw.chance(0.05), without))
        arguments["target"] = draw.arranged(numbers.astype(draw.one(["i8", "i4", "u1"])))
    if draw.chance(0.3):
        arguments["weight"] = np.abs(draw.array((classes,), draw.one([np.float32, np.float64]))) + 0.5
    if draw.chance(0.4):
        arguments["label_smoothing"] = draw.one([0.1, 0.5, 1])
    if draw.chance(0.3):
        arguments["reduction"] = draw.one(["sum", "mean"])
    if draw.chance(0.3):
        arguments["ignore_index"] = draw.integer(0, 3)
    return Call(fc.cross_entropy, arguments, expected_cross_entropy)


def mse_loss(draw: Draw) -> Call:
    shape = draw.shape(*(draw.size(17) for _ in range(draw.integer(0, 3))))
    prediction, target = draw.arrays(shape, shape)

    def expected(prediction: Any, target: Any, reduction: str = "mean") -> list[Expected]:
        same_shape(prediction, target)
        difference = f64(prediction) - f64(target)
        count = difference.size if reduction == "mean" else 1
        loss = np.square(difference).sum() / count if count else np.nan
        grad = Expected(2 * difference / max(count, 1), 2, dtype_of=("prediction", "target"))
        return [Expected(loss, max(difference.size, 1), "auto", 1.0), grad]

    return Call(
        fc.mse_loss,
        {"prediction": prediction, "target": target, "reduction": draw.one(["mean", "sum"])},
        expected,
    )


def conv_output_size(draw: Draw) -> Call:
    arguments = {"input_size": draw.size(), "kernel_size": draw.integer(1, 5), "stride": draw.integer(1, 3),
                 "padding": draw.one([0, 2, (1, 0)]), "dilation": draw.integer(1, 2)}  # fmt: skip

    def expected(
        input_size: int, kernel_size: int, stride: int = 1, padding: Any = 0, dilation: int = 1
    ) -> list[Expected]:
        before, after = padding if isinstance(padding, (tuple, list)) else (padding, padding)
        room = input_size + before + after - dilation * (kernel_size - 1) - 1
        assert room >= 0, "a kernel that does not fit was accepted"
        return [Expected(room // stride + 1)]

    return Call(fc.conv_output_size, arguments, expected)
