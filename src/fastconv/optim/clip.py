"""Gradients kept within bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from fastconv import _checks
from fastconv.nn.parameter import Parameter

__all__ = ["clip_grad_norm"]


def clip_grad_norm(
    parameters: Parameter | Iterable[Parameter], max_norm: float, *, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients down by the same factor where their norm is above `max_norm`.

    As in PyTorch, the factor is max_norm / (norm + 1e-6), at most 1.

    Parameters
    ----------
    parameters : Parameter or iterable of Parameter
    max_norm : float
    error_if_nonfinite : bool
        Raise, and leave the gradients as they are, where the norm is infinite or NaN. Otherwise these spoil
        all gradients.

    Returns
    -------
    float
        The Euclidean norm of all gradients together, before.

    Raises
    ------
    ValueError
        With `error_if_nonfinite`, the norm is not finite.

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
    limit = _checks.number("max_norm", max_norm, 0)
    members = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    for parameter in members:
        if not isinstance(parameter, Parameter):
            raise _checks.argument_error("parameters", type(parameter).__name__, "a Parameter", TypeError)
    norm = math.sqrt(sum(float(np.vdot(parameter.grad, parameter.grad)) for parameter in members))
    if error_if_nonfinite and not math.isfinite(norm):
        raise _checks.argument_error("parameters", f"gradients of norm {norm}", "a finite norm")
    factor = limit / (norm + 1e-6)
    if not factor >= 1:  # NaN as well
        for parameter in members:
            parameter.grad *= factor
    return norm
