"""The fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv import _checks
from fastconv._checks import FLOAT16, FLOAT32, FloatArray
from fastconv._kernels import arrays, channel_sum
from fastconv._kernels import linear as kernels
from fastconv._kernels.geometry import ConvGeometry
from fastconv._kernels.memory import new_array
from fastconv._threads import threads_for
from fastconv.functional._input import computable, promote
from fastconv.functional._output import deliver
from fastconv.functional._ways import Way

__all__ = ["linear", "linear_backward"]


def _check_weight(x_shape: tuple[int, ...], weight: FloatArray) -> None:
    _checks.axes("weight", weight, "out_features, in_features")
    if not x_shape or x_shape[-1] != weight.shape[1]:
        needs = f"(..., in_features) with in_features = {weight.shape[1]}, as weight has"
        raise _checks.argument_error("x", f"shape {x_shape}", needs)


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
    data: Any
    matrix: Any
    offset: Any
    if arrays.native(x, weight, bias):
        data, matrix, offset = x, weight, bias
        dtype = data.dtype
    else:
        (data, matrix, offset), dtype = promote(x=x, weight=weight, bias=bias, optional=["bias"], halves=True)
        if dtype == FLOAT16:  # but the weight, whose halves the kernel reads
            data = computable(data, FLOAT32)
            offset = None if offset is None else computable(offset, FLOAT32)
    _check_weight(data.shape, matrix)
    if offset is not None:
        _checks.shape("bias", offset, matrix.shape[:1], "one for each row of weight")
    output = new_array((*data.shape[:-1], len(matrix)), data.dtype.num)
    if not data.shape[-1]:
        output[...] = 0 if offset is None else offset
    elif output.size:
        kernels.forward(data, matrix, offset, output, False, threads_for(data.size * len(matrix)))
    return deliver(output, dtype, None)


def linear_way(
    shape: tuple[int, ...], char: str, weight: FloatArray, bias: FloatArray | None, relu: bool
) -> Way | None:
    """How to compute `linear`, max(y, 0) with `relu`, of arrays that aren't empty by parameters that stay.

    None where these make results of another dtype.
    """
    _check_weight(shape, weight)
    dtype = _checks.result_dtype(np.dtype(char), *(array for array in (weight, bias) if array is not None))
    if dtype.char != char:
        return None
    matrix = _checks.prepared(weight, dtype)
    offset = None if bias is None else _checks.prepared(bias, dtype)
    out_shape, work = (*shape[:-1], len(matrix)), math.prod(shape) * len(matrix)

    def run(x: FloatArray) -> FloatArray:
        y = new_array(out_shape, dtype.num)
        kernels.forward(x, matrix, offset, y, relu, threads_for(work))
        return y

    return Way(run, out_shape)


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
    (grad, data, matrix), dtype = promote(grad_output=grad_output, x=x, weight=weight)
    _check_weight(data.shape, matrix)
    _checks.shape("grad_output", grad, (*data.shape[:-1], matrix.shape[0]), "that of the output")
    threads, num = threads_for(data.size * len(matrix)), data.dtype.num

    grad_x = grad_weight = grad_bias = None
    if "x" in wanted:
        grad_x = new_array(data.shape, num)
        if not grad.size:
            grad_x.fill(0)
        elif grad_x.size:
            kernels.grad_input(grad, matrix, grad_x, threads)
    if "weight" in wanted:
        grad_weight = new_array(matrix.shape, num)
        if not math.prod(data.shape[:-1]):
            grad_weight.fill(0)
        elif grad_weight.size:
            kernels.grad_weight(grad, data, grad_weight, threads)
    if "bias" in wanted:
        grad_bias = new_array(matrix.shape[:1], num)
        channel_sum.grad_bias(as_pixels(grad), grad, grad_bias, threads_for(grad.size))
    return tuple(
        None if result is None else deliver(result, dtype, None)
        for result in (grad_x, grad_weight, grad_bias)
    )  # type: ignore[return-value]


def as_pixels(grads: FloatArray) -> ConvGeometry:
    """Results as the pixels of a convolution's, channels last."""
    *samples, features = grads.shape
    rows = math.prod(samples)
    return ConvGeometry(
        (1, 1, 1, rows), (features, 1, 1, 1), (1, rows), (1, 1), (1, 1), ((0, 0), (0, 0)), 1, True
    )
