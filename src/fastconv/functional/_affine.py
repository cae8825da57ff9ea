"""x W + b with W of shape (inputs, outputs), as textbooks have it; `linear` has the transpose."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv._kernels import channel_sum
from fastconv._kernels import linear as kernels
from fastconv._kernels.memory import new_array
from fastconv._threads import threads_for
from fastconv.functional._input import promote
from fastconv.functional._output import deliver
from fastconv.functional.linear import as_pixels

__all__ = ["affine", "affine_backward"]


def _check(x: FloatArray, weight: FloatArray) -> None:
    _checks.axes("W", weight, "inputs, outputs")
    if x.ndim != 2 or x.shape[1] != weight.shape[0]:
        needs = f"(N, inputs) with inputs = {weight.shape[0]}, as W has"
        raise _checks.argument_error("x", f"shape {x.shape}, flattened", needs)


def affine(x: ArrayLike, weight: ArrayLike, bias: ArrayLike) -> FloatArray:
    """x (N, inputs) times `weight` (inputs, outputs), plus `bias`, (outputs,) or (1, outputs)."""
    (rows, matrix, offset), dtype = promote(x=x, W=weight, b=bias)
    _check(rows, matrix)
    if offset.shape != (1, matrix.shape[1]):
        _checks.shape("b", offset, matrix.shape[1:], "one for each column of W")
    output = new_array((len(rows), matrix.shape[1]), rows.dtype.num)
    if matrix.size and output.size:
        kernels.affine(rows, matrix, offset, output, threads_for(rows.size * matrix.shape[1]))
    else:
        output[...] = offset
    return deliver(output, dtype)


def affine_backward(
    grad_output: ArrayLike, x: ArrayLike, weight: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The gradients of `affine` by x, `weight` and bias."""
    (grads, rows, matrix), dtype = promote(dout=grad_output, x=x, W=weight)
    _check(rows, matrix)
    _checks.shape("dout", grads, (len(rows), matrix.shape[1]), "that of the output")
    threads = threads_for(rows.size * matrix.shape[1])
    gradients: list[Any] = [
        new_array(shape, rows.dtype.num) for shape in (rows.shape, matrix.shape, matrix.shape[1:])
    ]
    grad_x, grad_weight, grad_bias = gradients
    if grads.size and matrix.size:
        kernels.forward(grads, matrix, None, grad_x, False, threads)
        kernels.grad_weight(rows, grads, grad_weight, threads)
    else:
        grad_x.fill(0)
        grad_weight.fill(0)
    channel_sum.grad_bias(as_pixels(grads), grads, grad_bias, threads_for(grads.size))
    return deliver(grad_x, dtype), deliver(grad_weight, dtype), deliver(grad_bias, dtype)
