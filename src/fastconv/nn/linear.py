"""The fully connected layer, and what stands before it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv import _checks, _spec, functional
from fastconv._checks import FloatArray
from fastconv.functional._ways import Way
from fastconv.nn import init
from fastconv.nn.module import Layer, WeightedLayer
from fastconv.nn.parameter import Parameter, value_of

__all__ = ["Flatten", "Linear"]


class Flatten(Layer):
    """Makes one axis of several.

    Parameters
    ----------
    start_dim, end_dim : int
        The first and the last of them. By default all axes but that of the batch.

    Examples
    --------
    >>> from fastconv import nn
    >>> nn.Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = _checks.integer("start_dim", start_dim)
        self.end_dim = _checks.integer("end_dim", end_dim)

    def _flat(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the output for an input of `shape`."""
        axes = len(shape)
        if not all(-axes <= dim < axes for dim in (self.start_dim, self.end_dim)):
            needs = f"the axes from {self.start_dim} to {self.end_dim}"
            raise _checks.argument_error("x", f"shape {shape}", needs)
        start, end = self.start_dim % axes, self.end_dim % axes
        if start > end:
            needs = f"axis {self.start_dim} not after axis {self.end_dim}"
            raise _checks.argument_error("x", f"shape {shape}", needs)
        return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        array = _checks.as_array("x", x)
        return array.reshape(self._flat(array.shape)), array.shape

    def _way(self, shape: tuple[int, ...], char: str) -> Way | None:
        flat = self._flat(shape)
        return Way(lambda x: x.reshape(flat), flat)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        gradient = _checks.as_array("grad_output", grad_output)
        _checks.shape("grad_output", gradient, self._flat(saved), "that of the output")
        return gradient.reshape(saved)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Linear(WeightedLayer):
    """x times the transposed `weight`, plus `bias`; see `fastconv.linear`.

    Parameters
    ----------
    in_features, out_features : int
        The sizes of the last axis of the input and of the output.
    bias : bool
        Whether there is a bias.
    dtype : dtype
        Of the parameters.
    rng : numpy.random.Generator, optional
        Where their first values come from: evenly distributed within 1 / sqrt(in_features) of zero, as in
        PyTorch.

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter, shape (out_features,), or None

    Examples
    --------
    >>> from fastconv import nn
    >>> nn.Linear(3, 5)(np.zeros((2, 3))).shape
    (2, 5)
    """

    weight: Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.in_features = _checks.integer("in_features", in_features, 1)
        self.out_features = _checks.integer("out_features", out_features, 1)
        kept = _checks.parameter_dtype("dtype", dtype)
        shape = (self.out_features, self.in_features)
        _spec.check_fits("weight", shape)
        self.weight = Parameter(np.zeros(shape, kept))
        self.bias = Parameter(np.zeros(self.out_features, kept)) if _checks.boolean("bias", bias) else None
        init.default_(self.weight, self.bias, _checks.generator("rng", rng))

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        return functional.linear(x, self.weight.data, value_of(self.bias)), x

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return self._accumulate(
            *functional.linear_backward(grad_output, saved, self.weight.data, need=self._needed())
        )

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.in_features

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
