"""Padding that copies pixels of the image: reflect, replicate, circular; and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._checks import FloatArray
from fastconv._spec import Sides

_NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(x: FloatArray, border: Sides, mode: str, channels_last: bool) -> FloatArray:
    """`x`, 4 axes, with a border of pixels copied by `mode` around its two axes of pixels."""
    widths = [(0, 0), *border, (0, 0)] if channels_last else [(0, 0), (0, 0), *border]
    return np.pad(x, widths, mode=_NUMPY_MODES[mode])


def pad_backward(grad: FloatArray, border: Sides, mode: str, channels_last: bool) -> FloatArray:
    """The gradient of the image from that of the padded one: a border's goes where it was copied from."""
    for axis, (before, after) in zip((1, 2) if channels_last else (2, 3), border, strict=True):
        along = np.moveaxis(grad, axis, 0)
        inner = along[before : len(along) - after].copy()
        source = np.pad(np.arange(len(inner)), (before, after), mode=_NUMPY_MODES[mode])
        for i in (*range(before), *range(len(along) - after, len(along))):
            inner[source[i]] += along[i]
        grad = np.moveaxis(inner, 0, axis)
    return np.ascontiguousarray(grad)
