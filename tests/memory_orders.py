"""Ways in which the values of an array may lie in memory: `MEMORY_ORDERS[name](array)` gives such an array.

The values stay what they were, except for "broadcast", which repeats the first along an axis: what is
expected of an operation must be computed from the array that comes out.
"""

import ctypes
import math
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastconv._kernels import memory

AnyArray = NDArray[Any]


def c_order(array: AnyArray) -> AnyArray:
    return np.array(array, order="C")


def fortran_order(array: AnyArray) -> AnyArray:
    return np.array(array, order="F")


def axes_moved(array: AnyArray) -> AnyArray:
    """Axis 1 is the innermost in memory: channels last."""
    return (
        np.moveaxis(np.array(np.moveaxis(array, 1, -1), order="C"), -1, 1)
        if array.ndim > 1
        else c_order(array)
    )


def every_other(array: AnyArray) -> AnyArray:
    """Every other element along every axis of a larger array whose other elements are 99."""
    around = np.full([2 * length for length in array.shape], 99, array.dtype)
    view = around[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def window(array: AnyArray) -> AnyArray:
    """The middle of a larger array whose other elements are 99: rows are contiguous, planes are not."""
    view = np.full([length + 2 for length in array.shape], 99, array.dtype)[(slice(1, -1),) * array.ndim]
    view[...] = array
    return view


def reversed_axes(array: AnyArray) -> AnyArray:
    """Negative strides along every axis."""
    backwards = (slice(None, None, -1),) * array.ndim
    return np.array(array[backwards], order="C")[backwards]


def read_only(array: AnyArray) -> AnyArray:
    array = c_order(array)
    array.flags.writeable = False
    return array


def unaligned(array: AnyArray) -> AnyArray:
    """The first element lies at an odd address."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def off_vector(array: AnyArray) -> AnyArray:
    """Aligned for an element but for no vector of them."""
    raw = np.zeros(array.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + array.itemsize
    view = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def byte_swapped(array: AnyArray) -> AnyArray:
    return array.astype(array.dtype.newbyteorder())


def broadcast(array: AnyArray) -> AnyArray:
    """Stride 0 along the axis before the last: its first element, repeated."""
    axis = max(array.ndim - 2, 0)
    return np.broadcast_to(np.take(array, [0], axis), array.shape)


MEMORY_ORDERS: dict[str, Callable[[AnyArray], AnyArray]] = {
    "C": c_order,
    "Fortran": fortran_order,
    "axes-moved": axes_moved,
    "every-other": every_other,
    "window": window,
    "reversed": reversed_axes,
    "read-only": read_only,
    "unaligned": unaligned,
    "off-vector": off_vector,
    "byte-swapped": byte_swapped,
    "broadcast": broadcast,
}


# ---- the edge of what may be touched ----


def _forbid(address: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def between_forbidden_pages(array: AnyArray, at_end: bool) -> AnyArray:
    """A copy that ends just before (or starts just behind) a page that must not be touched.

    One element read or written beyond it ends the process. Only where there is mprotect.
    """
    page = mmap.PAGESIZE
    inner = -(-max(array.nbytes, 1) // page) * page
    region = mmap.mmap(-1, inner + 2 * page)
    base = np.frombuffer(region, np.uint8)
    offset = page + (inner - array.nbytes if at_end else 0)
    copy = base[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    _forbid(base.ctypes.data, page)
    _forbid(base.ctypes.data + page + inner, page)
    return copy


HAS_FORBIDDEN_PAGES = sys.platform.startswith(("linux", "darwin"))


def amid_nans(shape: tuple[int, ...], dtype: DTypeLike) -> tuple[AnyArray, AnyArray]:
    """A larger array of NaN and an array in the middle of it, to see what is left out and what is overrun."""
    size = math.prod(shape)
    whole = np.full(size + 128, np.nan, dtype)
    return whole, whole[64 : 64 + size].reshape(shape)


def spoil_recycled_memory(dtype: DTypeLike, value: float = np.nan) -> None:
    """Puts a number into blocks of memory that the next call may get for results or workspaces."""
    sizes = [(4 + quarter) << power for power in range(4, 15) for quarter in range(4)]
    for array in [memory.new_array((size,), np.dtype(dtype).num) for size in sizes for _ in range(3)]:
        array.fill(value)
