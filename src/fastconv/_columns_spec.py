"""Column matrices of convolutions: every check of their arguments, and all geometry, cached by shapes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastconv._checks import argument_error, sizes
from fastconv._kernels.geometry import ConvGeometry
from fastconv._spec import MOST_ELEMENTS, Pair, Sides, pair, sides, windows


class ColumnsSpec(NamedTuple):
    """What a column matrix of images of a known shape looks like."""

    geometry: ConvGeometry
    cols_shape: tuple[int, ...]


def image_shape(name: str, value: Sequence[int]) -> tuple[int, ...]:
    """`value` as (N, C, H, W) or (C, H, W)."""
    needs = "3 or 4 axes: (C, H, W) or (N, C, H, W)"
    extents = sizes(name, value, needs)
    if len(extents) not in (3, 4):
        raise argument_error(name, extents, needs)
    return extents


def columns_spec(
    name: str, x_shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> ColumnsSpec:
    """The checked geometry of a column matrix; `name` is the argument that `x_shape` comes from.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what it got and what it needs.
    MemoryError
        A matrix too large for any memory.
    """
    if len(x_shape) not in (3, 4):
        raise argument_error(name, f"shape {x_shape}", "3 or 4 axes: (C, H, W) or (N, C, H, W)")
    return _cached_spec(
        x_shape,
        pair("kernel_size", kernel_size, 1),
        pair("stride", stride, 1),
        sides("padding", padding),
        pair("dilation", dilation, 1),
    )


@functools.lru_cache(maxsize=1024)
def _cached_spec(
    x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Sides | str, dilation: Pair
) -> ColumnsSpec:
    batch = x_shape[:-3]
    channels, *sizes = x_shape[-3:]
    size = (sizes[0], sizes[1])
    padding, out_size = windows("kernel_size", size, kernel, stride, padding, dilation)
    rows, positions = channels * kernel[0] * kernel[1], out_size[0] * out_size[1]
    images = batch[0] if batch else 1
    if max(images, 1) * max(rows, 1) * positions > MOST_ELEMENTS:
        raise MemoryError(f"kernel_size: a matrix of {rows} x {positions} elements does not fit into memory")
    geometry = ConvGeometry(
        (images, channels, *size), (rows, channels, *kernel), out_size, stride, dilation, padding, 1, False
    )
    return ColumnsSpec(geometry, (*batch, rows, positions))
