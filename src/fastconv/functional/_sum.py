"""The sum of two arrays with the activation that follows it, and activations that overwrite their input."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike

from fastconv._checks import FloatArray
from fastconv._kernels import arrays, elementwise
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT, promote, promote_one
from fastconv.functional._output import deliver

__all__ = ["activated", "plus"]

_CEILINGS: dict[str, float | None] = {"": None, "ReLU": math.inf, "ReLU6": 6.0}


def plus(
    body: ArrayLike, shortcut: ArrayLike, activation: str = "", *, overwrite: bool = False
) -> FloatArray:
    """`activation` ("", "ReLU" or "ReLU6") of body + shortcut, of one shape; `overwrite` reuses `body`."""
    a: Any = body
    b: Any = shortcut
    if arrays.native(a, b):
        dtype = a.dtype
    else:
        (a, b), dtype = promote(body=body, shortcut=shortcut, halves=True)
    into: Any = body if overwrite and a is body else None
    threads = threads_for(WORK_AN_ELEMENT * a.size)
    return deliver(elementwise.plus(a, b, _CEILINGS[activation], threads, into), dtype)


def activated(output: FloatArray, activation: str) -> FloatArray:
    """What `activation` makes of `output`, which it may overwrite."""
    ceiling = _CEILINGS[activation]
    if ceiling is None:
        return output
    data, dtype = promote_one("x", output, halves=True)
    into = data if data is output else None
    return deliver(elementwise.relu(data, ceiling, threads_for(WORK_AN_ELEMENT * data.size), into), dtype)
