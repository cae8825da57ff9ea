"""The oracle for all but convolution and pooling: float64, in loops. Imports nothing of fastconv."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _float64(x: ArrayLike) -> Array:
    return np.array(x, np.float64)


def elementwise(function: Callable[[float], float], x: ArrayLike) -> Array:
    x = _float64(x)
    result = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        result[index] = function(float(x[index]))
    return result


def relu(x: float) -> float:
    return x if x > 0 else 0.0


def relu6(x: float) -> float:
    return min(relu(x), 6.0)


def leaky_relu(x: float, slope: float) -> float:
    return x if x > 0 else slope * x


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _lines(x: Array, axis: int) -> Iterator[Any]:
    """The index of each line of `x` along `axis`."""
    for index in np.ndindex(*np.delete(x.shape, axis)):
        yield (*index[:axis], slice(None), *index[axis:])


def softmax(x: ArrayLike, axis: int) -> Array:
    x = _float64(x)
    result = np.empty(x.shape)
    for line in _lines(x, axis % x.ndim):
        largest = max(x[line])
        powers = [math.exp(value - largest) for value in x[line]]
        result[line] = [power / math.fsum(powers) for power in powers]
    return result


def log_softmax(x: ArrayLike, axis: int) -> Array:
    x = _float64(x)
    result = np.empty(x.shape)
    for line in _lines(x, axis % x.ndim):
        largest = max(x[line])
        total = math.fsum(math.exp(value - largest) for value in x[line])
        result[line] = [value - largest - math.log(total) for value in x[line]]
    return result


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None) -> Array:
    x, weight = _float64(x), _float64(weight)
    result = np.zeros((*x.shape[:-1], len(weight)))
    for index in np.ndindex(result.shape):
        *row, output = index
        products = [x[(*row, i)] * weight[output, i] for i in range(weight.shape[1])]
        result[index] = math.fsum(products) + (0.0 if bias is None else _float64(bias)[output])
    return result


def batch_statistics(x: ArrayLike) -> tuple[Array, Array, int]:
    """Mean and biased variance of each channel of (N, C, ...), and how many values a channel has."""
    x = _float64(x)
    mean, variance = np.empty(x.shape[1]), np.empty(x.shape[1])
    for channel in range(x.shape[1]):
        values = x[:, channel].ravel().tolist()
        mean[channel] = math.fsum(values) / len(values)
        variance[channel] = math.fsum((value - mean[channel]) ** 2 for value in values) / len(values)
    return mean, variance, x.size // x.shape[1]


def batch_norm(
    x: ArrayLike, mean: Array, variance: Array, weight: ArrayLike, bias: ArrayLike, eps: float
) -> Array:
    x = _float64(x)
    weight, bias = _float64(weight), _float64(bias)
    result = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        channel = index[1]
        normalized = (x[index] - mean[channel]) / math.sqrt(variance[channel] + eps)
        result[index] = normalized * weight[channel] + bias[channel]
    return result


def local_response_norm(x: ArrayLike, size: int, alpha: float, beta: float, k: float) -> Array:
    x = _float64(x)
    result = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        image, channel, *place = index
        squares = [
            x[(image, neighbour, *place)] ** 2
            for neighbour in range(channel - size // 2, channel + (size - 1) // 2 + 1)
            if 0 <= neighbour < x.shape[1]
        ]
        result[index] = x[index] / (k + alpha / size * math.fsum(squares)) ** beta
    return result


def cross_entropy(
    logits: ArrayLike,
    probability: ArrayLike,
    weight: ArrayLike | None = None,
    smoothing: float = 0.0,
) -> float:
    """The sum over the samples of (N, C) logits, against the (N, C) target probabilities."""
    log_probability = log_softmax(logits, 1)
    probability = _float64(probability)
    samples, classes = probability.shape
    weights = np.ones(classes) if weight is None else _float64(weight)
    return -math.fsum(
        weights[c] * ((1 - smoothing) * probability[n, c] + smoothing / classes) * log_probability[n, c]
        for n in range(samples)
        for c in range(classes)
    )


def numerical_gradient(function: Callable[[Array], float], x: ArrayLike, step: float = 1e-5) -> Array:
    """The gradient of a scalar function of an array by central differences."""
    x = _float64(x)
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """The same values, C-contiguous and in native byte order."""
    return np.array(array, array.dtype.newbyteorder("="), order="C")
