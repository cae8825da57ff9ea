"""Transposed convolutions: every check of their arguments, and all geometry, cached by shapes."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from fastconv._checks import argument_error, choice, integer
from fastconv._kernels.geometry import ConvGeometry
from fastconv._spec import LAYOUTS, MOST_ELEMENTS, Pair, Sides, pair, sides


class TransposeSpec:
    """A transposed convolution of arrays of known shapes.

    Attributes
    ----------
    geometry : ConvGeometry
        Of the convolution whose gradient it is: that one's images are the results here.
    result_geometry : ConvGeometry
        Of a convolution whose results have the shape of the results here.
    out_shape, weight_shape : tuple of int
    out_channels : int
    flops : int
        Multiply-adds of the forward pass.
    algorithms : dict
        Modules of kernels already chosen.
    """

    __slots__ = (
        "algorithms", "flops", "geometry", "out_channels", "out_shape", "result_geometry", "weight_shape",
    )  # fmt: skip

    def __init__(
        self,
        x_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        stride: Pair,
        padding: Sides,
        output_padding: Pair,
        groups: int,
        dilation: Pair,
        layout: str,
    ) -> None:
        last = layout == "NHWC"
        axes = "H, W, C" if last else "C, H, W"
        if len(x_shape) not in (3, 4):
            raise argument_error("x", f"shape {x_shape}", f"3 or 4 axes: ({axes}) or (N, {axes})")
        if len(weight_shape) != 4 or weight_shape[2] < 1 or weight_shape[3] < 1:
            needs = "(in_channels, out_channels // groups, kernel_h, kernel_w), a kernel of at least 1 x 1"
            raise argument_error("weight", f"shape {weight_shape}", needs)
        batch = x_shape[:-3]
        height, width, channels = x_shape[-3:] if last else (x_shape[-2], x_shape[-1], x_shape[-3])
        in_channels, group_channels, kernel_h, kernel_w = weight_shape
        if in_channels != channels:
            raise argument_error(
                "weight", f"shape {weight_shape}", f"{channels} input channels (axis 0), as x has"
            )
        if channels % groups:
            raise argument_error("groups", groups, f"a divisor of the {channels} channels of x")
        if height < 1 or width < 1:
            raise argument_error("x", f"shape {x_shape}", "at least one row and one column of pixels")
        for i in (0, 1):
            if output_padding[i] >= max(stride[i], dilation[i]):
                needs = f"less than the stride or the dilation, here {max(stride[i], dilation[i])}"
                raise argument_error("output_padding", output_padding[i], needs)
        high, wide = map(
            transposed_size, (height, width), (kernel_h, kernel_w), stride, padding, output_padding, dilation
        )
        if high < 1 or wide < 1:
            got = f"{padding}, which leaves a result of {high} x {wide}"
            raise argument_error("padding", got, "a result of at least 1 x 1")
        images, out_channels = batch[0] if batch else 1, group_channels * groups
        padded_high, padded_wide = high + sum(padding[0]), wide + sum(padding[1])
        if max(images, 1) * max(out_channels, 1) * padded_high * padded_wide > MOST_ELEMENTS:
            got = f"a result of {padded_high} x {padded_wide} pixels with its padding"
            raise MemoryError(f"stride: {got} does not fit into memory")
        self.weight_shape, self.out_channels = weight_shape, out_channels
        self.out_shape = (*batch, high, wide, out_channels) if last else (*batch, out_channels, high, wide)
        self.geometry = ConvGeometry(
            (images, out_channels, high, wide),
            weight_shape,
            (height, width),
            stride,
            dilation,
            padding,
            groups,
            last,
        )
        self.result_geometry = ConvGeometry(
            (images, 1, high, wide),
            (out_channels, 1, 1, 1),
            (high, wide),
            (1, 1),
            (1, 1),
            ((0, 0), (0, 0)),
            1,
            last,
        )
        self.flops = images * height * width * channels * group_channels * kernel_h * kernel_w
        self.algorithms: dict[tuple[str, str, str], ModuleType] = {}


def transposed_size(
    extent: int, kernel: int, stride: int, padding: Pair, output_padding: int, dilation: int
) -> int:
    """(extent - 1)*stride - before - after + dilation*(kernel - 1) + output_padding + 1."""
    return (extent - 1) * stride - sum(padding) + dilation * (kernel - 1) + output_padding + 1


def transpose_spec(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    layout: Any,
) -> TransposeSpec:
    """The checked geometry of a transposed convolution; the same object for the same arguments.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what it got and what it needs.
    MemoryError
        A result too large for any memory.
    """
    if isinstance(padding, str):
        raise argument_error("padding", repr(padding), "an integer, (h, w) or ((top, bottom), (left, right))")
    return _cached_spec(
        x_shape,
        weight_shape,
        pair("stride", stride, 1),
        sides("padding", padding),
        pair("output_padding", output_padding, 0),
        integer("groups", groups, 1),
        pair("dilation", dilation, 1),
        choice("layout", layout, LAYOUTS),
    )


_cached_spec = functools.lru_cache(maxsize=1024)(TransposeSpec)
