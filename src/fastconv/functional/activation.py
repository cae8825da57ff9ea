"""Activations: elementwise ones, softmax and log-softmax.

Each works on arrays of any shape. A backward takes the gradient of the loss by the result, `grad_output`,
and what the forward took (`x`) or gave (`output`), whichever the formula needs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv._kernels import arrays, elementwise
from fastconv._threads import threads_for
from fastconv.functional._input import promote, promote_one
from fastconv.functional._output import deliver

__all__ = [
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
]


# So many multiply-adds an element counts as where threads are handed out: one that is moved, and one of which
# an exponential is computed.
_MOVED, _EXP = 8, 16


def _with_gradient(
    grad_output: ArrayLike, name: str, other: ArrayLike, halves: bool = False
) -> tuple[Any, Any, np.dtype[Any]]:
    """grad_output and the one other array, of the same shape, for a kernel; and the dtype of the result."""
    grad: Any = grad_output
    array: Any = other
    if arrays.native(grad, array):
        dtype = grad.dtype
    else:
        (grad, array), dtype = promote(grad_output=grad_output, halves=halves, **{name: other})
    if grad.shape != array.shape:
        _checks.shape("grad_output", grad, array.shape, f"that of {name}")
    return grad, array, dtype


def _through_softmax(grad_output: ArrayLike, output: ArrayLike, dim: int, logarithm: bool) -> FloatArray:
    """The gradient of softmax, or of its logarithm."""
    rows = type(dim) is int and dim == -1  # of float16 are converted where they are computed
    grad, given, dtype = _with_gradient(grad_output, "output", output, halves=rows)
    axis = _axis(dim, given)
    threads = threads_for((_EXP if logarithm else _MOVED) * given.size)
    return deliver(elementwise.softmax_backward(grad, given, axis, logarithm, threads), dtype)


def _axis(dim: int, x: FloatArray) -> int:
    """`dim`, which must be an axis of `x`, counted from the front."""
    axis = dim if type(dim) is int else _checks.integer("dim", dim)
    if not -x.ndim <= axis < x.ndim:
        raise _checks.argument_error("dim", dim, f"an axis of an array with {x.ndim}")
    return axis % x.ndim


def relu(x: ArrayLike) -> FloatArray:
    """The rectifier max(x, 0), element by element. NaN stays NaN.

    Parameters
    ----------
    x : array_like of any shape

    Returns
    -------
    ndarray of the shape of `x`

    Examples
    --------
    >>> relu([-2.0, 0.0, 3.0])
    array([0., 0., 3.])
    """
    data, dtype = promote_one("x", x, halves=True)
    return deliver(elementwise.relu(data, math.inf, threads_for(_MOVED * data.size)), dtype)


def relu_backward(grad_output: ArrayLike, x: ArrayLike) -> FloatArray:
    """The gradient of `relu` by its input: `grad_output` where x > 0 (or NaN), else 0.

    Parameters
    ----------
    grad_output : array_like of the shape of `x`
    x : array_like
        What `relu` took; what it gave does as well, since the two have the same sign.

    Examples
    --------
    >>> relu_backward([1.0, 1.0, 1.0], [-2.0, 0.0, 3.0])
    array([0., 0., 1.])
    """
    grad, data, dtype = _with_gradient(grad_output, "x", x, halves=True)
    return deliver(elementwise.relu_backward(grad, data, math.inf, threads_for(_MOVED * data.size)), dtype)


def relu6(x: ArrayLike) -> FloatArray:
    """The rectifier with a ceiling, min(max(x, 0), 6), element by element. NaN stays NaN.

    Examples
    --------
    >>> relu6([-2.0, 3.0, 8.0])
    array([0., 3., 6.])
    """
    data, dtype = promote_one("x", x, halves=True)
    return deliver(elementwise.relu(data, 6, threads_for(_MOVED * data.size)), dtype)


def relu6_backward(grad_output: ArrayLike, x: ArrayLike) -> FloatArray:
    """The gradient of `relu6` by its input: `grad_output` where 0 < x < 6 (or NaN), else 0.

    Parameters
    ----------
    grad_output : array_like of the shape of `x`
    x : array_like
        What `relu6` took; what it gave does as well, since it is 0 or 6 wherever the input is not between.

    Examples
    --------
    >>> relu6_backward([1.0, 1.0, 1.0], [-2.0, 3.0, 8.0])
    array([0., 1., 0.])
    """
    grad, data, dtype = _with_gradient(grad_output, "x", x, halves=True)
    return deliver(elementwise.relu_backward(grad, data, 6, threads_for(_MOVED * data.size)), dtype)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01) -> FloatArray:
    """x where x > 0, else negative_slope * x.

    Parameters
    ----------
    x : array_like of any shape
    negative_slope : float

    Examples
    --------
    >>> leaky_relu([-2.0, 0.0, 3.0], 0.5)
    array([-1.,  0.,  3.])
    """
    slope = _checks.number("negative_slope", negative_slope)
    data, dtype = promote_one("x", x, halves=True)
    return deliver(elementwise.leaky_relu(data, slope, threads_for(_MOVED * data.size)), dtype)


def leaky_relu_backward(grad_output: ArrayLike, x: ArrayLike, negative_slope: float = 0.01) -> FloatArray:
    """The gradient of `leaky_relu` by its input: `grad_output` where x > 0, else that times `negative_slope`.

    Examples
    --------
    >>> leaky_relu_backward([1.0, 1.0, 1.0], [-2.0, 0.0, 3.0], 0.5)
    array([0.5, 0.5, 1. ])
    """
    slope = _checks.number("negative_slope", negative_slope)
    grad, data, dtype = _with_gradient(grad_output, "x", x, halves=True)
    return deliver(elementwise.leaky_relu_backward(grad, data, slope, threads_for(_MOVED * data.size)), dtype)


def sigmoid(x: ArrayLike) -> FloatArray:
    """The logistic function 1 / (1 + exp(-x)), without overflow and precise on both sides.

    Examples
    --------
    >>> sigmoid([-1000.0, 0.0, 1000.0])
    array([0. , 0.5, 1. ])
    """
    data, dtype = promote_one("x", x, halves=True)
    return deliver(elementwise.sigmoid(data, threads_for(_EXP * data.size)), dtype)


def sigmoid_backward(grad_output: ArrayLike, output: ArrayLike) -> FloatArray:
    """The gradient of `sigmoid` by its input, from what it gave: grad_output * output * (1 - output).

    Examples
    --------
    >>> sigmoid_backward([1.0], sigmoid([0.0]))
    array([0.25])
    """
    grad, given, dtype = _with_gradient(grad_output, "output", output, halves=True)
    return deliver(elementwise.sigmoid_backward(grad, given, threads_for(_MOVED * given.size)), dtype)


def tanh(x: ArrayLike) -> FloatArray:
    """The hyperbolic tangent.

    Examples
    --------
    >>> tanh([-1000.0, 0.0, 1000.0])
    array([-1.,  0.,  1.])
    """
    data, dtype = promote_one("x", x, halves=True)
    return deliver(elementwise.tanh(data, threads_for(_EXP * data.size)), dtype)


def tanh_backward(grad_output: ArrayLike, output: ArrayLike) -> FloatArray:
    """The gradient of `tanh` by its input, from what it gave: grad_output * (1 - output^2).

    Examples
    --------
    >>> tanh_backward([1.0], tanh([0.0]))
    array([1.])
    """
    grad, given, dtype = _with_gradient(grad_output, "output", output, halves=True)
    return deliver(elementwise.tanh_backward(grad, given, threads_for(_MOVED * given.size)), dtype)


def softmax(x: ArrayLike, dim: int = -1) -> FloatArray:
    """exp(x) / sum(exp(x)) along the axis `dim`; the maximum is subtracted first, so that nothing overflows.

    Parameters
    ----------
    x : array_like with at least one axis
    dim : int
        The axis of the classes.

    Raises
    ------
    ValueError
        `x` has no axis `dim`.

    Examples
    --------
    >>> softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    data, dtype = promote_one("x", x)
    axis = _axis(dim, data)
    return deliver(elementwise.softmax(data, axis, False, threads_for(_EXP * data.size)), dtype)


def softmax_backward(grad_output: ArrayLike, output: ArrayLike, dim: int = -1) -> FloatArray:
    """The gradient of `softmax` by its input, from what it gave.

    It is output * (grad_output - sum(grad_output * output)).

    Examples
    --------
    >>> softmax_backward([1.0, 0.0], softmax([0.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return _through_softmax(grad_output, output, dim, False)


def log_softmax(x: ArrayLike, dim: int = -1) -> FloatArray:
    """log(softmax(x)) along the axis `dim`, exact where the softmax itself would be 0.

    Parameters
    ----------
    x : array_like with at least one axis
    dim : int
        The axis of the classes.

    Raises
    ------
    ValueError
        `x` has no axis `dim`.

    Examples
    --------
    >>> log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    data, dtype = promote_one("x", x)
    axis = _axis(dim, data)
    return deliver(elementwise.softmax(data, axis, True, threads_for(_EXP * data.size)), dtype)


def log_softmax_backward(grad_output: ArrayLike, output: ArrayLike, dim: int = -1) -> FloatArray:
    """The gradient of `log_softmax` by its input, from what it gave.

    It is grad_output - exp(output) * sum(grad_output).

    Examples
    --------
    >>> log_softmax_backward([1.0, 0.0], log_softmax([0.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return _through_softmax(grad_output, output, dim, True)
