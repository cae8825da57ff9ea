"""Gradients kept within bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv.nn.parameter import Parameter

__all__ = ["clip_grad_norm"]

# Squares of so many elements are added in the gradient's own dtype, which is exact enough for float32.
_PART = 65536

# From here on a part's sum has not lost what counts to squares too small for float32, nor a sum to float64's.
_LEAST_OF_A_PART, _LEAST = 1e-25, 1e-280


def clip_grad_norm(
    parameters: Parameter | Iterable[Parameter], max_norm: float, *, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients down by the same factor where their norm is above `max_norm`.

    As in PyTorch, the factor is max_norm / (norm + 1e-6), at most 1.

    Parameters
    ----------
    parameters : Parameter or iterable of Parameter
    max_norm : float
        Infinity leaves the gradients as they are: their norm is only measured.
    error_if_nonfinite : bool
        Raise, and leave the gradients as they are, where the norm is infinite or NaN. Otherwise these spoil
        all gradients.

    Returns
    -------
    float
        The Euclidean norm of all gradients together, before; exact also where squares overflow or vanish.

    Raises
    ------
    ValueError
        `max_norm` is negative or NaN; or, with `error_if_nonfinite`, the norm is not finite.
    TypeError
        What is to be clipped is no Parameter, or `max_norm` no number.

    Examples
    --------
    >>> from fastconv import nn
    >>> weight = nn.Parameter([0.0, 0.0])
    >>> weight.grad = [3.0, 4.0]
    >>> clip_grad_norm(weight, max_norm=1.0)
    5.0
    >>> weight.grad.round(5)
    array([0.6, 0.8])
    """
    limit = _checks.number("max_norm", max_norm, 0, finite=False)
    error_if_nonfinite = _checks.boolean("error_if_nonfinite", error_if_nonfinite)
    members = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    for parameter in members:
        if not isinstance(parameter, Parameter):
            raise _checks.argument_error("parameters", type(parameter).__name__, "a Parameter", TypeError)
    norm = _norm([parameter.grad for parameter in members])
    if error_if_nonfinite and not math.isfinite(norm):
        raise _checks.argument_error("parameters", f"gradients of norm {norm}", "a finite norm")
    factor = limit / (norm + 1e-6)
    if limit < math.inf and not factor >= 1:  # NaN as well
        for parameter in members:
            _scale(parameter.grad, factor)
    return norm


@np.errstate(over="ignore", under="ignore")
def _norm(gradients: list[FloatArray]) -> float:
    squares = sum(_sum_of_squares(gradient, 1.0) for gradient in gradients)
    if _LEAST < squares < math.inf or math.isnan(squares):
        return math.sqrt(squares)
    largest = max((max(float(g.max()), -float(g.min())) for g in gradients if g.size), default=0.0)
    if largest in (0.0, math.inf):
        return largest
    return largest * math.sqrt(sum(_sum_of_squares(gradient, largest) for gradient in gradients))


def _sum_of_squares(gradient: FloatArray, unit: float) -> float:
    """Of the elements as multiples of `unit`."""
    row, total = gradient.reshape(-1), 0.0
    for start in range(0, row.size, _PART):
        part = row[start : start + _PART]
        square = float(np.dot(part, part)) if unit == 1 and part.dtype != np.float16 else 0.0
        if not _LEAST_OF_A_PART < square < math.inf and part.any():
            exact = part if unit == 1 else np.divide(part, unit, dtype=np.float64)
            square = float(np.einsum("i,i", exact, exact, dtype=np.float64))
        total += square
    return total


def _scale(gradient: FloatArray, factor: float) -> None:
    """Multiply in place; in float64 where the factor itself would lose digits in the gradient's dtype."""
    lossy = gradient.dtype == np.float16 or factor < np.finfo(gradient.dtype).tiny
    dtype = np.float64 if lossy else gradient.dtype
    np.multiply(gradient, factor, out=gradient, dtype=dtype, casting="same_kind")
