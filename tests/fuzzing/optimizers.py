"""Steps of optimizers: parameters afterwards, against the formulas in float64."""

from typing import Any

import numpy as np

from fastconv import nn, optim

from .call import Array, Call, Expected, f64
from .drawing import Draw

STEPS = 2


def rounded(values: Array, dtype: Any) -> Array:
    """As what is kept in half precision is between steps; other dtypes' rounding is within the bound."""
    return f64(values.astype(dtype)) if dtype == np.float16 else values


def adam(data: Array, grad: Array, dtype: Any, lr: float, betas: Any, eps: float, weight_decay: float,
         amsgrad: bool, maximize: bool, apart: bool) -> Array:  # fmt: skip
    mean, square, largest = (np.zeros(data.shape) for _ in range(3))
    for step in range(1, STEPS + 1):
        g = (-grad if maximize else grad) + (0 if apart else weight_decay * data)
        data = data * (1 - lr * weight_decay if apart else 1)
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g**2
        largest = np.maximum(largest, square)
        root = np.sqrt((largest if amsgrad else square) / (1 - betas[1] ** step))
        data = rounded(data - lr * mean / (1 - betas[0] ** step) / (root + eps), dtype)
        mean, square, largest = (rounded(kept, dtype) for kept in (mean, square, largest))
    return data


def sgd(data: Array, grad: Array, dtype: Any, lr: float, momentum: float, dampening: float,
        weight_decay: float, nesterov: bool, maximize: bool) -> Array:  # fmt: skip
    velocity = np.zeros(data.shape)
    for step in range(STEPS):
        g = (-grad if maximize else grad) + weight_decay * data
        velocity = momentum * velocity + (1 - dampening) * g if step else g
        change = g + momentum * velocity if nesterov else velocity if momentum else g
        data, velocity = rounded(data - lr * change, dtype), rounded(velocity, dtype)
    return data


def optimizer(draw: Draw) -> Call:
    """Two steps of two parameters, which share the options; the second one's gradient is zero at times."""
    dtype = draw.one([np.float16, np.float32, np.float64])
    shapes = [draw.shape(*(draw.size(33) for _ in range(draw.integer(0, 3)))) for _ in range(2)]
    values = [draw.array(shape, dtype) for shape in shapes]
    kind = draw.one([optim.SGD, optim.Adam, optim.AdamW])
    options: dict[str, Any] = {"lr": draw.one([0.1, 0.5, 0, 1]), "weight_decay": draw.one([0, 0.25])}
    options["maximize"] = draw.chance(0.2)
    if kind is optim.SGD:
        options |= {
            "momentum": draw.one([0, 0.5, 0.875]),
            "dampening": draw.one([0, 0.25]),
            "nesterov": False,
        }
        if options["momentum"] and draw.chance(0.4):
            options |= {"dampening": 0, "nesterov": True}
    else:
        betas = draw.one([(0.9, 0.999), (0.5, 0.75), (0, 0)])
        options |= {"betas": betas, "eps": draw.one([1e-3, 0.5]), "amsgrad": draw.chance(0.3)}
    is_zero = draw.chance(0.1)

    def optimizer(first: Any, second: Any, **options: Any) -> Any:
        parameters = [nn.Parameter(value) for value in values]
        updates = kind(parameters, **options)
        for _ in range(STEPS):
            updates.zero_grad()
            parameters[0].grad = first
            if not is_zero:
                parameters[1].grad = second
            updates.step()
        return tuple(parameter.data for parameter in parameters)

    def expected(first: Any, second: Any, **options: Any) -> list[Expected]:
        results = []
        second = np.zeros(shapes[1]) if is_zero else second
        for value, grad in zip(values, (first, second), strict=True):
            start = f64(value)
            gradient = f64(np.asarray(grad).astype(dtype))
            assert gradient.shape == start.shape, "a gradient of another shape was accepted"
            if kind is optim.SGD:
                data = sgd(start, gradient, dtype, **options)
            else:
                data = adam(start, gradient, dtype, apart=kind is optim.AdamW, **options)
            large = float(np.abs(start).max(initial=0)) + float(np.abs(gradient).max(initial=0))
            scale = 4 * (1 + large) * float(np.square(1 + np.float64(options["lr"])))
            scale *= 1 + options["weight_decay"] * (1 + abs(options["lr"]))
            if dtype == np.float16:  # another rounding of what is kept, then of the value, which may overflow
                scale *= 2.0**13 if options["lr"] < 1000 else np.inf
            results.append(Expected(data, 4, "auto", scale, kept_in=dtype))
        return results

    optimizer.__name__ = kind.__name__
    # Gradients of any dtype: they are converted to the parameter's.
    arrays = [draw.array(shape, draw.one([dtype, np.float32, np.int8])) for shape in shapes]
    return Call(optimizer, {"first": arrays[0], "second": arrays[1], **options}, expected)
