"""Pools: every check of their arguments, and all geometry, cached by shapes. Nothing is checked below."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._checks import MOST_INTEGER, argument_error, boolean, choice, compute_dtype, integer
from fastconv._kernels.arrays import exact
from fastconv._kernels.pool import PoolGeometry
from fastconv._spec import LAYOUTS, Pair, Sides, check_fits, pair, sides, size

Table = NDArray[np.intp]

# Elements: tables of windows are about ten times as long as an axis in all. Those of longer axes are kept for
# few shapes, so that what is kept stays below some megabytes.
LONG = 4096


class Windows:
    """The windows of a pool along one axis.

    Attributes
    ----------
    size, outputs : int
        Pixels and windows.
    first, count : ndarray of intp, shape (outputs,)
        The first pixel inside the image that a window sees, and how many it sees.
    step : int
        From a pixel of a window to the next one: the dilation.
    stride, before, kernel : int
        Window i sees the pixels i*stride - before + k*step, k < kernel, as far as they are inside; stride 0
        where windows follow no such rule (kernel is the longest, then).
    divisor : ndarray of float64, shape (outputs,)
        What a mean is divided by, along this axis.
    even : bool
        All divisors are equal.
    seen_first, seen_count : ndarray of intp, shape (size,)
        The first window that sees a pixel, and how many do (without dilation).
    """

    __slots__ = (
        "before", "count", "divisor", "even", "first", "kernel", "outputs", "seen_count", "seen_first",
        "size", "step", "stride",
    )  # fmt: skip

    def __init__(
        self, size: int, first: Table, count: Table, step: int, stride: int, before: int, kernel: int
    ) -> None:
        self.size, self.outputs = size, len(first)
        self.first, self.count = np.ascontiguousarray(first, np.intp), np.ascontiguousarray(count, np.intp)
        self.step, self.stride, self.before, self.kernel = step, stride, before, kernel
        pixels = np.arange(size, dtype=np.intp)
        self.seen_first = np.searchsorted(first + count, pixels, side="right").astype(np.intp)
        self.seen_count = np.searchsorted(first, pixels, side="right").astype(np.intp) - self.seen_first
        self.divide_by(self.count)

    def divide_by(self, divisor: Any) -> None:
        """Set the divisors of means: one for each window, or one for all."""
        self.divisor = np.broadcast_to(np.asarray(divisor, np.float64), (self.outputs,))
        self.even = self.outputs == 0 or bool((self.divisor == self.divisor[0]).all())


def pool_output_size(
    extent: int, kernel: int, stride: int, padding: Pair, dilation: int, ceil_mode: bool
) -> int:
    """PyTorch's rule: a last window may hang over the end if it starts before the padding there."""
    room = extent + sum(padding) - dilation * (kernel - 1) - 1
    outputs = room // stride + 1
    if ceil_mode and room % stride and outputs * stride < extent + padding[0]:
        outputs += 1
    return outputs


def regular_windows(
    extent: int, kernel: int, stride: int, padding: Pair, dilation: int, ceil_mode: bool, count_padding: bool
) -> Windows:
    """Windows of `kernel` pixels, `stride` apart; none if the kernel does not fit. A count may be 0."""
    outputs = max(pool_output_size(extent, kernel, stride, padding, dilation, ceil_mode), 0)
    start = np.arange(outputs) * stride - padding[0]
    skipped = np.maximum(
        -(start // dilation), 0
    )  # taps in the padding before the image: ceil(-start / dilation)
    taps = np.minimum(
        -((start - extent) // dilation), kernel
    )  # up to the image's end: ceil((extent - start) / dilation)
    windows = Windows(
        extent,
        start + skipped * dilation,
        np.maximum(taps - skipped, 0),
        dilation,
        stride,
        padding[0],
        kernel,
    )
    if count_padding:
        windows.divide_by(np.minimum(start + kernel, extent + padding[1]) - start)
    return windows


def adaptive_windows(extent: int, outputs: int) -> Windows:
    """PyTorch's bins: window i sees pixels floor(i extent / outputs) up to ceil((i + 1) extent / outputs)."""
    if extent % outputs == 0:
        kernel = extent // outputs
        return regular_windows(extent, kernel, kernel, (0, 0), 1, False, False)
    steps = np.arange(outputs)
    first = steps * extent // outputs
    count = -(-(steps + 1) * extent // outputs) - first
    return Windows(extent, first, count, 1, 0, 0, int(count.max()))


class PoolSpec:
    """A pool over arrays of one shape.

    Attributes
    ----------
    x_shape, out_shape : tuple of int
        As the caller's arrays have them, batched or not.
    work : int
        About how many elements are read and written.
    """

    __slots__ = ("_columns", "_geometries", "_last", "_rows", "out_shape", "work", "x_shape")

    def __init__(
        self, x_shape: tuple[int, ...], rows: Windows, columns: Windows, channels_last: bool
    ) -> None:
        self.x_shape, self._rows, self._columns, self._last = x_shape, rows, columns, channels_last
        self.out_shape = _out_shape(x_shape, (rows.outputs, columns.outputs), channels_last)
        self._geometries: dict[np.dtype[Any], PoolGeometry] = {}
        self.work = math.prod(x_shape) + math.prod(self.out_shape)

    def geometry(self, dtype: np.dtype[Any]) -> PoolGeometry:
        """What the kernels for a dtype read; those for float16 compute in float32."""
        geometry = self._geometries.get(dtype)
        if geometry is None:
            geometry = PoolGeometry(
                *(self.x_shape, self.out_shape, self._rows, self._columns, self._last),
                compute_dtype(dtype),
            )
            self._geometries[dtype] = geometry
        return geometry


def _out_shape(x_shape: tuple[int, ...], outputs: Pair, channels_last: bool) -> tuple[int, ...]:
    return (*x_shape[:-3], *outputs, x_shape[-1]) if channels_last else (*x_shape[:-2], *outputs)


def image_size(name: str, x_shape: tuple[int, ...], layout: str) -> Pair:
    """(H, W) of a batch or an image; ValueError unless it has 3 or 4 axes, and pixels."""
    axes = "H, W, C" if layout == "NHWC" else "C, H, W"
    if len(x_shape) not in (3, 4):
        raise argument_error(name, f"shape {x_shape}", f"3 or 4 axes: ({axes}) or (N, {axes})")
    height, width = x_shape[-3:-1] if layout == "NHWC" else x_shape[-2:]
    if height < 1 or width < 1:
        raise argument_error(name, f"shape {x_shape}", "at least 1 x 1 pixels")
    return height, width


@functools.lru_cache(maxsize=4096)
def scatter_work(
    input_size: tuple[int, ...], grad_shape: tuple[int, ...], indices_shape: tuple[int, ...], layout: str
) -> int:
    """About how many elements the gradient of a maximum reads and writes; raises where shapes don't fit."""
    image_size("input_size", input_size, layout)
    if len(grad_shape) != len(input_size):
        raise argument_error(
            "grad_output", f"shape {grad_shape}", f"{len(input_size)} axes, as input_size has"
        )
    pixels = slice(-3, -1) if layout == "NHWC" else slice(-2, None)
    wanted = list(input_size)
    wanted[pixels] = grad_shape[pixels]
    for name, got, needed, reason in (
        ("grad_output", grad_shape, tuple(wanted), "with batch and channels of input_size"),
        ("indices", indices_shape, grad_shape, "that of grad_output"),
    ):
        if got != needed:
            raise argument_error(name, f"shape {got}", f"shape {needed}, {reason}")
    check_fits("input_size", input_size)
    return math.prod(input_size) + math.prod(grad_shape)


def _windows(
    extents: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    ceil_mode: bool,
    count_padding: bool,
) -> tuple[Windows, Windows]:
    both = []
    for i, axis in enumerate(("high", "wide")):
        if max(padding[i]) > kernel[i] // 2:
            needs = f"at most {kernel[i] // 2}, half the kernel, which is {kernel[i]} {axis}"
            raise argument_error("padding", max(padding[i]), needs)
        windows = regular_windows(
            extents[i], kernel[i], stride[i], padding[i], dilation[i], ceil_mode, count_padding
        )
        if not windows.outputs:
            reach, room = dilation[i] * (kernel[i] - 1) + 1, extents[i] + sum(padding[i])
            got = f"a kernel {reach} {axis}" + (" (with dilation)" if dilation[i] > 1 else "")
            raise argument_error("kernel_size", got, f"at most {room}, the image with its padding")
        if not windows.count.all():
            got = f"a window that sees no pixel (kernel {kernel[i]} {axis}, dilation {dilation[i]})"
            raise argument_error("padding", got, f"windows that each see one of the {extents[i]} pixels")
        both.append(windows)
    return both[0], both[1]


def divisor(value: Any) -> int:
    """What sums are divided by in place of the number of pixels."""
    checked = integer("divisor_override", value, -MOST_INTEGER, MOST_INTEGER)
    if checked == 0:
        raise argument_error("divisor_override", 0, "an integer other than 0")
    return checked


def pool_spec(
    x_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    divisor_override: Any,
    layout: Any,
    name: str = "x",
) -> PoolSpec:
    """The checked geometry of a pool; the same object for the same arguments. `name` is that of x_shape.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what it got and what it needs.
    MemoryError
        A result too large for any memory.
    """
    if not (
        exact(kernel_size, 1 if stride is None else stride, padding, dilation, layout)
        and type(padding) is not str
        and (ceil_mode is False or ceil_mode is True)
        and (count_include_pad is False or count_include_pad is True)
        and divisor_override is None
    ):
        kernel_size = pair("kernel_size", kernel_size, 1)
        stride = None if stride is None else pair("stride", stride, 1)
        padding, dilation = sides("padding", padding), pair("dilation", dilation, 1)
        if isinstance(padding, str):
            needs = "an integer, (h, w) or ((top, bottom), (left, right))"
            raise argument_error("padding", repr(padding), needs, TypeError)
        ceil_mode, count_include_pad = (
            boolean("ceil_mode", ceil_mode),
            boolean("count_include_pad", count_include_pad),
        )
        if divisor_override is not None:
            divisor_override = divisor(divisor_override)
        layout = choice("layout", layout, LAYOUTS)
    windows = (kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override)
    key = (x_shape, *windows, layout, name)
    return _cached_pool(*key) or _cached_long_pool(*key)


def _pool(
    x_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    layout: str,
    name: str,
) -> PoolSpec:
    layout = choice("layout", layout, LAYOUTS)
    kernel = pair("kernel_size", kernel_size, 1)
    padding = sides("padding", padding)
    assert not isinstance(padding, str)
    extents = image_size(name, x_shape, layout)
    check_fits(name, x_shape)  # before there are tables as long as an axis
    rows, columns = _windows(
        extents,
        kernel,
        kernel if stride is None else pair("stride", stride, 1),
        padding,
        pair("dilation", dilation, 1),
        ceil_mode,
        count_include_pad,
    )
    if divisor_override is not None:
        rows.divide_by(1)
        columns.divide_by(divisor_override)
    return PoolSpec(x_shape, rows, columns, layout == "NHWC")


@functools.lru_cache(maxsize=512)
def _cached_pool(x_shape: tuple[int, ...], *others: Any) -> PoolSpec | None:
    """None where the tables are too long to keep so many of them."""
    return None if max(x_shape, default=0) > LONG else _pool(x_shape, *others)


_cached_long_pool = functools.lru_cache(maxsize=8)(_pool)


def adaptive_spec(x_shape: tuple[int, ...], output_size: Any, layout: Any, name: str = "x") -> PoolSpec:
    """The same for a pool with PyTorch's adaptive bins."""
    layout = choice("layout", layout, LAYOUTS)
    if isinstance(output_size, (tuple, list)) and len(output_size) == 2:
        output_size = tuple(n if n is None else size("output_size", n, 1) for n in output_size)
    elif output_size is not None:
        output_size = pair("output_size", output_size, 1)
    sizes = output_size or (None, None)
    longest = max(*x_shape, *(n or 0 for n in sizes), 0)
    cached = _cached_adaptive if longest <= LONG else _cached_long_adaptive
    return cached(x_shape, sizes, layout, name)


def _adaptive(
    x_shape: tuple[int, ...], output_size: tuple[int | None, int | None], layout: str, name: str
) -> PoolSpec:
    extents = image_size(name, x_shape, layout)
    high, wide = (
        extent if outputs is None else outputs for extent, outputs in zip(extents, output_size, strict=True)
    )
    # Tables as long as both, which take seconds at such sizes, are made for what there is room for alone.
    check_fits(name, x_shape)
    check_fits("output_size", _out_shape(x_shape, (high, wide), layout == "NHWC"))
    rows, columns = map(adaptive_windows, extents, (high, wide))
    return PoolSpec(x_shape, rows, columns, layout == "NHWC")


_cached_adaptive = functools.lru_cache(maxsize=512)(_adaptive)
_cached_long_adaptive = functools.lru_cache(maxsize=8)(_adaptive)
