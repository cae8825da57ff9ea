"""Convolution with a weight that stays: packed once, and with a batch normalization folded into it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv._checks import FloatArray, as_array, compute_dtype, result_dtype
from fastconv._kernels import arrays
from fastconv._kernels.isa import tile_shape
from fastconv._kernels.memory import new_array
from fastconv._spec import conv_spec
from fastconv._threads import threads_for
from fastconv.functional._input import computable
from fastconv.functional._output import deliver
from fastconv.functional._ways import Settled, Way
from fastconv.functional.conv import padded

__all__ = ["PackedConv2d", "fold_batch_norm"]


class PackedConv2d:
    """`conv2d` with a fixed weight, as a function of the image alone.

    Each kind of kernels packs the weight (where that pays) when images first call for it; what is packed fits
    images of all sizes. Threads may call at once: if two of them pack the same, one result is forgotten.

    Parameters
    ----------
    weight : ndarray, shape (K, C // groups, R, S)
    bias : ndarray, shape (K,), or None
        Both of one dtype, float32 or float64, C-contiguous, and never written to again.
    dtype : dtype
        What takes part in the dtype of the result for the two of them: that of `weight`, or float16.
    relu : bool
        Whether max(y, 0) is the result.
    **geometry
        stride, padding, dilation, groups, padding_mode, layout, as `conv2d` has them, all of them.
    """

    def __init__(
        self, weight: FloatArray, bias: FloatArray | None, dtype: np.dtype[Any], relu: bool, **geometry: Any
    ) -> None:
        self.weight, self.bias, self.dtype, self.relu = weight, bias, dtype, relu
        self.geometry = geometry
        self._ways = Settled(self._settle)
        self._packed: dict[tuple[str, str], FloatArray] = {}

    def __call__(self, x: ArrayLike) -> FloatArray:
        if arrays.native(x, self.weight):
            image: FloatArray = x  # type: ignore[assignment]
            dtype = image.dtype
        else:
            given = as_array("x", x)
            dtype = result_dtype(given, self.dtype)
            image = computable(given, compute_dtype(given, self.dtype))
        return deliver(self._ways[image.shape, image.dtype.char].run(image), dtype, None)

    def way(self, shape: tuple[int, ...], char: str) -> Way | None:
        """The way for images of a shape and dtype; None where the weight makes results of another dtype."""
        return self._ways[shape, char] if result_dtype(np.dtype(char), self.dtype).char == char else None

    def _settle(self, shape: tuple[int, ...], char: str) -> Way:
        from fastconv import _plan

        spec = conv_spec(shape, self.weight.shape, **self.geometry)
        tile = tile_shape(char)
        name = _plan.kernels("forward", "auto", spec.geometry, tile, packed=True)
        kernels, packs = _plan.MODULES[name], _plan.packs(name, spec.geometry, tile)
        bias = None if self.bias is None else self.bias.astype(char, copy=False)
        key = (name if packs else "", char)
        weight = self._packed.get(key)
        if weight is None:
            weight = self.weight.astype(char, copy=False)
            if packs:
                weight = kernels.pack_weight(spec.geometry, weight, threads_for(weight.size))
            weight = self._packed.setdefault(key, weight)
        forward = kernels.forward_packed if packs else kernels.forward
        geometry, out_shape, number, flops = spec.geometry, spec.out_shape, np.dtype(char).num, spec.flops
        relu, border = self.relu, spec.border is not None

        def run(image: FloatArray) -> FloatArray:
            y = new_array(out_shape, number)
            if y.size:
                if border:
                    image = padded(image, spec)
                forward(geometry, image, weight, bias, y, relu, threads_for(flops))
            return y

        return Way(run, out_shape)


def fold_batch_norm(
    weight: FloatArray,
    bias: FloatArray | None,
    mean: FloatArray,
    var: FloatArray,
    gamma: FloatArray | None,
    beta: FloatArray | None,
    eps: float,
) -> tuple[FloatArray, FloatArray]:
    """Weight and bias, in float64, of a convolution that also normalizes its result by these statistics."""
    scale = 1 / np.sqrt(var.astype(np.float64) + eps)
    if gamma is not None:
        scale *= gamma
    shift = ((0.0 if bias is None else bias) - mean.astype(np.float64)) * scale
    return weight * scale[:, np.newaxis, np.newaxis, np.newaxis], shift if beta is None else shift + beta
