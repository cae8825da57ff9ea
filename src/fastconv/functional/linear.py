"""The fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv import _checks
from fastconv._checks import FloatArray

__all__ = ["linear", "linear_backward"]


def _product(a: FloatArray, b: FloatArray) -> FloatArray:
    """a (M, K) times b (K, N): the only matrix product of this module."""
    product: FloatArray = a @ b
    return product


def _check_weight(x: FloatArray, weight: FloatArray) -> None:
    _checks.axes("weight", weight, "out_features, in_features")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        needs = f"(..., in_features) with in_features = {weight.shape[1]}, as weight has"
        raise _checks.argument_error("x", f"shape {x.shape}", needs)


def _rows(array: FloatArray) -> FloatArray:
    """(..., K) as the matrix (rows, K), zero-size arrays included."""
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def linear(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> FloatArray:
    """x times the transposed `weight`, plus `bias`: every output is connected to every input.

    Parameters
    ----------
    x : array_like, shape (..., in_features)
    weight : array_like, shape (out_features, in_features)
    bias : array_like, shape (out_features,), optional

    Returns
    -------
    ndarray, shape (..., out_features)

    Raises
    ------
    ValueError
        The shapes do not fit.

    Examples
    --------
    >>> linear([[1.0, 2.0]], weight=[[3.0, 4.0], [5.0, 6.0], [0.0, 0.0]], bias=[0.0, 1.0, 2.0])
    array([[11., 18.,  2.]])
    """
    (data, matrix, offset), dtype = _checks.promote(x=x, weight=weight, bias=bias, optional=["bias"])
    _check_weight(data, matrix)
    if offset is not None:
        _checks.shape("bias", offset, matrix.shape[:1], "one for each row of weight")
    output = _product(_rows(data), matrix.T)
    if offset is not None:
        output += offset
    return np.asarray(output.reshape(*data.shape[:-1], matrix.shape[0]), dtype)


def linear_backward(
    grad_output: ArrayLike, x: ArrayLike, weight: ArrayLike, *, need: Iterable[str] = ("x", "weight", "bias")
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """The gradients of `linear` by its input, weight and bias.

    Parameters
    ----------
    grad_output : array_like, shape (..., out_features)
    x : array_like, shape (..., in_features)
    weight : array_like, shape (out_features, in_features)
    need : iterable of str
        Which gradients to compute: any of "x", "weight" and "bias".

    Returns
    -------
    grad_x : ndarray, shape (..., in_features), or None where not needed
    grad_weight : ndarray, shape (out_features, in_features), or None
    grad_bias : ndarray, shape (out_features,), or None

    Raises
    ------
    ValueError
        The shapes do not fit.

    Examples
    --------
    >>> grad_x, grad_weight, grad_bias = linear_backward([[1.0, 0.0]], [[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]])
    >>> grad_x, grad_bias
    (array([[3., 4.]]), array([1., 0.]))
    >>> grad_weight
    array([[1., 2.],
           [0., 0.]])
    """
    wanted = _checks.subset("need", need, ("x", "weight", "bias"))
    (grad, data, matrix), dtype = _checks.promote(grad_output=grad_output, x=x, weight=weight)
    _check_weight(data, matrix)
    _checks.shape("grad_output", grad, (*data.shape[:-1], matrix.shape[0]), "that of the output")
    rows = _rows(grad)

    def result(array: Any) -> FloatArray:
        return np.asarray(array, dtype)

    return (
        result(_product(rows, matrix).reshape(data.shape)) if "x" in wanted else None,
        result(_product(rows.T, _rows(data))) if "weight" in wanted else None,
        result(rows.sum(axis=0)) if "bias" in wanted else None,
    )
