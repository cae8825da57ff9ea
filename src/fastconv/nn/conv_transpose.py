"""Transposed convolution as a layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv import _checks, _spec, functional
from fastconv._checks import FloatArray
from fastconv.nn import init
from fastconv.nn.module import WeightedLayer
from fastconv.nn.parameter import Parameter, value_of

__all__ = ["ConvTranspose2d"]


class ConvTranspose2d(WeightedLayer):
    """Spreads each pixel over a window by learned filters; see `fastconv.conv_transpose2d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (h, w)
    stride, padding, output_padding, groups, dilation, layout
        As for `fastconv.conv_transpose2d`.
    bias : bool
        Whether there is a bias.
    dtype : dtype
        Of the parameters.
    rng : numpy.random.Generator, optional
        Where their first values come from: evenly distributed within 1 / sqrt(fan) of zero, as in PyTorch,
        where fan = out_channels / groups * kernel_h * kernel_w.

    Attributes
    ----------
    weight : Parameter, shape (in_channels, out_channels // groups, kernel_h, kernel_w)
    bias : Parameter, shape (out_channels,), or None

    Raises
    ------
    ValueError, TypeError
        An argument is not what it must be.

    Examples
    --------
    >>> from fastconv import nn
    >>> nn.ConvTranspose2d(8, 3, kernel_size=4, stride=2, padding=1)(np.zeros((2, 8, 5, 6))).shape
    (2, 3, 10, 12)
    """

    weight: Parameter

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: _spec.Padding = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        *,
        layout: str = "NCHW",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.in_channels = _checks.integer("in_channels", in_channels, 1)
        self.out_channels = _checks.integer("out_channels", out_channels, 1)
        self.kernel_size = _spec.pair("kernel_size", kernel_size, 1)
        self.stride = _spec.pair("stride", stride, 1)
        sides = _spec.sides("padding", padding)
        if isinstance(sides, str):
            raise _checks.argument_error("padding", repr(padding), "numbers of pixels")
        self.padding = sides
        self.output_padding = _spec.pair("output_padding", output_padding, 0)
        self.dilation = _spec.pair("dilation", dilation, 1)
        self.groups = _checks.integer("groups", groups, 1)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise _checks.argument_error("groups", self.groups, f"a divisor of {name} = {channels}")
        self.layout = _checks.choice("layout", layout, _spec.LAYOUTS)
        kept = _checks.parameter_dtype("dtype", dtype)
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        _spec.check_fits("weight", shape)
        self.weight = Parameter(np.zeros(shape, kept))
        self.bias = Parameter(np.zeros(self.out_channels, kept)) if _checks.boolean("bias", bias) else None
        init.default_(self.weight, self.bias, _checks.generator("rng", rng))

    def _arguments(self) -> dict[str, Any]:
        """What the operation and its gradient take beside the arrays."""
        names = ("stride", "padding", "output_padding", "groups", "dilation", "layout")
        return {name: getattr(self, name) for name in names}

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        return functional.conv_transpose2d(x, self.weight.data, value_of(self.bias), **self._arguments()), x

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return self._accumulate(
            *functional.conv_transpose2d_backward(
                grad_output, saved, self.weight.data, **self._arguments(), need=self._needed()
            )
        )

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        """Each input pixel meets each weight of its channel once."""
        last = self.layout == "NHWC"
        pixels = math.prod(output_shape[:-3])
        for i, extent in enumerate(output_shape[-3:-1] if last else output_shape[-2:]):
            reach = self.dilation[i] * (self.kernel_size[i] - 1) + 1 + self.output_padding[i]
            pixels *= (extent + sum(self.padding[i]) - reach) // self.stride[i] + 1
        return pixels * math.prod(self.weight.shape)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        usual = {"padding": ((0, 0), (0, 0)), "output_padding": (0, 0), "groups": 1, "dilation": (1, 1)}
        usual |= {"layout": "NCHW"}
        for name, value in usual.items():
            if getattr(self, name) != value:
                text += f", {name}={getattr(self, name)!r}"
        return text if self.bias is not None else text + ", bias=False"
