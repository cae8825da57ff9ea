"""Convolutions: every check of their arguments, all geometry, cached by shapes. Below, nothing is checked."""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import Any, TypeAlias

from fastconv._checks import argument_error, choice, integer
from fastconv._kernels.arrays import exact
from fastconv._kernels.geometry import ConvGeometry

Pair: TypeAlias = tuple[int, int]
Sides: TypeAlias = tuple[Pair, Pair]
Padding: TypeAlias = int | str | tuple[Any, Any]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
LAYOUTS = ("NCHW", "NHWC")

# Elements: no image with its padding, and no result, may have more. Far beyond any memory, so that
# products of sizes and steps fit 64 bits everywhere below.
MOST_ELEMENTS = 1 << 56
MOST_SIZE = (1 << 31) - 1


def check_fits(name: str, shape: tuple[int, ...]) -> None:
    """MemoryError where no memory has room for an array of this shape, of its other axes if one is empty."""
    if math.prod(max(extent, 1) for extent in shape) > MOST_ELEMENTS:
        raise MemoryError(f"{name}: an array of shape {shape} does not fit into memory")


def pair(name: str, value: Any, minimum: int) -> Pair:
    """An int or (h, w) as a pair of ints of at least `minimum`."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise argument_error(name, value, "an integer or a pair (h, w)")
        return size(name, value[0], minimum), size(name, value[1], minimum)
    both = size(name, value, minimum)
    return both, both


def size(name: str, value: Any, minimum: int) -> int:
    """An int from `minimum` to MOST_SIZE."""
    return integer(name, value, minimum, MOST_SIZE)


def sides(name: str, value: Any) -> Sides | str:
    """Padding as ((top, bottom), (left, right)), or one of the words "same" and "valid"."""
    if isinstance(value, str):
        return choice(name, value, ("same", "valid"))
    if isinstance(value, (tuple, list)) and any(isinstance(side, (tuple, list)) for side in value):
        if len(value) != 2 or not all(isinstance(side, (tuple, list)) and len(side) == 2 for side in value):
            raise argument_error(
                name, value, "an integer, (h, w), ((top, bottom), (left, right)), 'same' or 'valid'"
            )
        return pair(name, value[0], 0), pair(name, value[1], 0)
    height, width = pair(name, value, 0)
    return (height, height), (width, width)


def same_padding(extent: int, kernel: int, stride: int, dilation: int) -> Pair:
    """Padding that gives ceil(extent / stride) results; the odd one goes after (ONNX's SAME_UPPER)."""
    results = -(-extent // stride)
    total = max((results - 1) * stride + dilation * (kernel - 1) + 1 - extent, 0)
    return total // 2, total - total // 2


def output_size(extent: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """floor((extent + before + after - dilation*(kernel - 1) - 1) / stride) + 1; below 1: it does not fit."""
    return (extent + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def windows(
    name: str, sizes: Pair, kernel: Pair, stride: Pair, padding: Sides | str, dilation: Pair
) -> tuple[Sides, Pair]:
    """The padding in numbers, and how many windows each axis has; `name` is the kernel's argument."""
    if padding == "valid":
        padding = ((0, 0), (0, 0))
    elif padding == "same":
        padding = tuple(map(same_padding, sizes, kernel, stride, dilation))  # type: ignore[assignment]
    assert not isinstance(padding, str)
    for i, axis in enumerate(("high", "wide")):
        reach, room = dilation[i] * (kernel[i] - 1) + 1, sizes[i] + sum(padding[i])
        if reach > room:
            got = f"a kernel {reach} {axis} (with dilation)"
            raise argument_error(name, got, f"at most {room}, the image with its padding")
    high, wide = map(output_size, sizes, kernel, stride, padding, dilation)
    return padding, (high, wide)


class ConvSpec:
    """A convolution of arrays of known shapes.

    Attributes
    ----------
    geometry : ConvGeometry
        Sizes for the kernels, with padding settled; that of the padded image where `pad_first`.
    x_shape, weight_shape, out_shape : tuple of int
        As the caller's arrays have them; x and out batched or not.
    border : ((int, int), (int, int)) or None
        Padding to be made by copying, since its mode is not "zeros".
    padding_mode, layout : str
    flops : int
        Multiply-adds of the forward pass.
    algorithms : dict
        Modules of kernels already chosen, by (task, algorithm asked for, dtype, packed).
    """

    __slots__ = (
        "algorithms", "batched", "border", "flops", "geometry", "layout", "out_shape", "padding_mode",
        "weight_shape", "x_shape",
    )  # fmt: skip

    def __init__(
        self,
        x_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        stride: Pair,
        padding: Sides | str,
        dilation: Pair,
        groups: int,
        padding_mode: str,
        layout: str,
    ) -> None:
        self.x_shape, self.weight_shape = x_shape, weight_shape
        self.padding_mode, self.layout = padding_mode, layout
        self.algorithms: dict[tuple[str, str, str], ModuleType] = {}
        last = layout == "NHWC"
        axes = "H, W, C" if last else "C, H, W"
        if len(x_shape) not in (3, 4):
            raise argument_error("x", f"shape {x_shape}", f"3 or 4 axes: ({axes}) or (N, {axes})")
        if len(weight_shape) != 4:
            raise argument_error(
                "weight",
                f"shape {weight_shape}",
                "4 axes: (out_channels, in_channels // groups, kernel_h, kernel_w)",
            )
        self.batched = len(x_shape) == 4
        batch = x_shape[0] if self.batched else 1
        height, width, channels = x_shape[-3:] if last else (x_shape[-2], x_shape[-1], x_shape[-3])
        out_channels, group_channels, kernel_h, kernel_w = weight_shape
        if kernel_h < 1 or kernel_w < 1:
            raise argument_error("weight", f"shape {weight_shape}", "a kernel of at least 1 x 1")
        if channels % groups:
            raise argument_error("groups", groups, f"a divisor of the {channels} channels of x")
        if out_channels % groups:
            raise argument_error(
                "groups", groups, f"a divisor of the {out_channels} output channels of weight"
            )
        if group_channels * groups != channels:
            needs = f"{channels // groups} input channels (axis 1): x has {channels}, in {groups} group(s)"
            raise argument_error("weight", f"shape {weight_shape}", needs)

        sizes, kernel = (height, width), (kernel_h, kernel_w)
        padding, out_size = windows("weight", sizes, kernel, stride, padding, dilation)
        for extent, before_after in zip(sizes, padding, strict=True):
            check_border(padding_mode, extent, before_after)
        padded = (height + sum(padding[0])) * (width + sum(padding[1])) * max(channels, 1)
        if (
            max(padded, max(batch, 1) * max(out_channels, 1) * out_size[0] * out_size[1], batch * padded)
            > MOST_ELEMENTS
        ):
            raise MemoryError(f"x: an image of {padded} elements with its padding does not fit into memory")
        out = (*out_size, out_channels) if last else (out_channels, *out_size)
        self.out_shape = (batch, *out) if self.batched else out
        self.border = None
        if padding_mode != "zeros" and any(map(any, padding)):
            self.border = padding
            sizes = (height + sum(padding[0]), width + sum(padding[1]))
            padding = ((0, 0), (0, 0))
        self.geometry = ConvGeometry(
            (batch, channels, *sizes), weight_shape, out_size, stride, dilation, padding, groups, last
        )
        self.flops = batch * out_channels * out_size[0] * out_size[1] * group_channels * kernel_h * kernel_w


def check_border(padding_mode: str, extent: int, before_after: Pair) -> None:
    """A reflected border must be narrower than the image, a circular one at most as wide."""
    if padding_mode == "zeros" or not any(before_after):
        return
    most = {"reflect": extent - 1, "circular": extent, "replicate": max(before_after) if extent else 0}[
        padding_mode
    ]
    if max(before_after) > most:
        raise argument_error(
            "padding",
            max(before_after),
            f"at most {most} for padding_mode={padding_mode!r} on {extent} pixels",
        )


def conv_spec(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    layout: Any,
) -> ConvSpec:
    """The checked geometry of a convolution; the same object for the same arguments.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what it got and what it needs.
    MemoryError
        A result or padded image too large for any memory.
    """
    if not exact(stride, padding, dilation, groups, padding_mode, layout):
        stride, padding, dilation = (
            pair("stride", stride, 1),
            sides("padding", padding),
            pair("dilation", dilation, 1),
        )
        groups = integer("groups", groups, 1)
        padding_mode = choice("padding_mode", padding_mode, PADDING_MODES)
        layout = choice("layout", layout, LAYOUTS)
    return _cached_spec(x_shape, weight_shape, stride, padding, dilation, groups, padding_mode, layout)


@functools.lru_cache(maxsize=4096)
def _cached_spec(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str,
    layout: str,
) -> ConvSpec:
    return ConvSpec(
        x_shape,
        weight_shape,
        pair("stride", stride, 1),
        sides("padding", padding),
        pair("dilation", dilation, 1),
        integer("groups", groups, 1),
        choice("padding_mode", padding_mode, PADDING_MODES),
        choice("layout", layout, LAYOUTS),
    )
