"""The sum of two arrays with the activation that follows it; biases and activations in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv._checks import FloatArray
from fastconv._kernels import arrays, elementwise, normalization
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT, promote, promote_one
from fastconv.functional._output import deliver

__all__ = ["activated", "add_bias", "plus"]

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


def add_bias(output: FloatArray, bias: FloatArray, layout: str) -> None:
    """Add a number for each channel to (..., C, H, W), or (..., C) with layout "NHWC", in place."""
    channels = len(bias)
    plane = 1 if layout == "NHWC" else math.prod(output.shape[-2:])
    if output.size:
        ncl = output.reshape(output.size // (channels * plane), channels, plane)
        offset = np.zeros(channels, output.dtype)
        threads = threads_for(WORK_AN_ELEMENT * output.size)
        normalization.affine(ncl, offset, offset + 1, bias, threads, ncl)


def activated(output: FloatArray, activation: str) -> FloatArray:
    """What `activation` makes of `output`, which it may overwrite."""
    ceiling = _CEILINGS[activation]
    if ceiling is None:
        return output
    data, dtype = promote_one("x", output, halves=True)
    into = data if data is output else None
    return deliver(elementwise.relu(data, ceiling, threads_for(WORK_AN_ELEMENT * data.size), into), dtype)
