"""One-dimensional convolution as a layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv import _checks, _spec, functional
from fastconv._checks import FloatArray
from fastconv.functional.conv1d import signal_padding
from fastconv.nn import init
from fastconv.nn.module import WeightedLayer
from fastconv.nn.parameter import Parameter, value_of

__all__ = ["Conv1d"]


class Conv1d(WeightedLayer):
    """Convolves signals with a bank of learned filters; see `fastconv.conv1d`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : int
    stride, padding, dilation, groups, padding_mode, layout
        As for `fastconv.conv1d`.
    bias : bool
        Whether there is a bias.
    dtype : dtype
        Of the parameters.
    rng : numpy.random.Generator, optional
        Where their first values come from: evenly distributed within 1 / sqrt(fan_in) of zero, as in
        PyTorch, where fan_in = in_channels / groups * kernel_size.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels // groups, kernel_size)
    bias : Parameter, shape (out_channels,), or None

    Raises
    ------
    ValueError, TypeError
        An argument is not what it must be.

    Examples
    --------
    >>> from fastconv import nn
    >>> nn.Conv1d(3, 8, kernel_size=3, padding=1)(np.zeros((2, 3, 10))).shape
    (2, 8, 10)
    """

    weight: Parameter

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        layout: str = "NCL",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.in_channels = _checks.integer("in_channels", in_channels, 1)
        self.out_channels = _checks.integer("out_channels", out_channels, 1)
        self.kernel_size = _spec.size("kernel_size", kernel_size, 1)
        self.stride = _spec.size("stride", stride, 1)
        signal_padding(padding)
        self.padding = padding
        self.dilation = _spec.size("dilation", dilation, 1)
        self.groups = _checks.integer("groups", groups, 1)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise _checks.argument_error("groups", self.groups, f"a divisor of {name} = {channels}")
        self.padding_mode = _checks.choice("padding_mode", padding_mode, _spec.PADDING_MODES)
        self.layout = _checks.choice("layout", layout, ("NCL", "NLC"))
        kept = _checks.parameter_dtype("dtype", dtype)
        shape = (self.out_channels, self.in_channels // self.groups, self.kernel_size)
        _spec.check_fits("weight", shape)
        self.weight = Parameter(np.zeros(shape, kept))
        self.bias = Parameter(np.zeros(self.out_channels, kept)) if _checks.boolean("bias", bias) else None
        init.default_(self.weight, self.bias, _checks.generator("rng", rng))

    def _arguments(self) -> dict[str, Any]:
        """What convolution and gradient take beside the arrays."""
        names = ("stride", "padding", "dilation", "groups", "padding_mode", "layout")
        return {name: getattr(self, name) for name in names}

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        return functional.conv1d(x, self.weight.data, value_of(self.bias), **self._arguments()), x

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return self._accumulate(
            *functional.conv1d_backward(
                grad_output, saved, self.weight.data, **self._arguments(), need=self._needed()
            )
        )

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * math.prod(self.weight.shape[1:])

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        usual = {"padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", "layout": "NCL"}
        for name, value in usual.items():
            if getattr(self, name) != value:
                text += f", {name}={getattr(self, name)!r}"
        return text if self.bias is not None else text + ", bias=False"
