"""Rectifiers that keep for their backward a bit of each element, instead of an array."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv._kernels import elementwise
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT, promote_one
from fastconv.functional._output import deliver

__all__ = ["Signs", "rectified", "rectified_backward"]


class Signs(NamedTuple):
    """Where the gradient of a rectifier passes: of which elements of the input."""

    bits: NDArray[np.int64]
    shape: tuple[int, ...]

    def mask(self) -> NDArray[np.bool_]:
        """The same as an array of bool."""
        count = math.prod(self.shape)
        set_bits = np.unpackbits(self.bits.view(np.uint8), count=count, bitorder="little")
        return set_bits.view(np.bool_).reshape(self.shape)


def rectified(x: ArrayLike, ceiling: float = math.inf) -> tuple[FloatArray, Signs]:
    """min(max(x, 0), ceiling), and what `rectified_backward` needs of `x`."""
    data, dtype = promote_one("x", x, halves=True)
    output, bits = elementwise.relu_bits(data, ceiling, threads_for(WORK_AN_ELEMENT * data.size))
    return deliver(output, dtype), Signs(bits, data.shape)


def rectified_backward(grad_output: ArrayLike, signs: Signs, in_place: bool = False) -> FloatArray:
    """`grad_output` where the gradient passes, else 0.

    With `in_place` it is `grad_output` itself, if that is a writeable array of the result's dtype.
    """
    grad: Any
    grad, dtype = promote_one("grad_output", grad_output, halves=True)
    _checks.shape("grad_output", grad, signs.shape, "that of x")
    own = isinstance(grad_output, np.ndarray) and grad_output.dtype == dtype and grad_output.flags.writeable
    out: Any = grad_output if in_place and own else None
    threads = threads_for(WORK_AN_ELEMENT * grad.size)
    result = elementwise.relu_backward_bits(grad, signs.bits, threads, grad if grad is out else None)
    return deliver(result, dtype, out)
