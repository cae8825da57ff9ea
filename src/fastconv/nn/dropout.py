"""Dropout as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv import _checks, functional
from fastconv._checks import FloatArray
from fastconv.nn.module import Layer

__all__ = ["Dropout"]


class Dropout(Layer):
    """While training, sets elements to zero with probability `p`, scales the others; see `fastconv.dropout`.

    Parameters
    ----------
    p : float
        Between 0 and 1.
    inplace : bool
        Accepted because PyTorch has it. The input is never overwritten.
    rng : numpy.random.Generator, optional
        Draws what is dropped.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.Dropout(0.5, rng=np.random.default_rng(0))
    >>> layer(np.ones(6))
    array([2., 2., 2., 0., 0., 0.])
    >>> layer.eval()(np.ones(3))
    array([1., 1., 1.])
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rng: np.random.Generator | None = None
    ) -> None:
        self.p = _checks.number("p", p, 0, 1)
        _checks.boolean("inplace", inplace)
        self.rng = _checks.generator("rng", rng)

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        output, mask = functional.dropout(x, self.p, self.training, rng=self.rng)
        return output, (mask, self.p)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.dropout_backward(grad_output, *saved)

    def extra_repr(self) -> str:
        return f"p={self.p}"
