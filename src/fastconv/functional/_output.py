"""What happens to `out=` and to a result's dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._checks import FLOAT16, FLOAT32, FloatArray, argument_error, prepared
from fastconv._kernels import halves
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT


def checked_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *inputs: Any) -> FloatArray | None:
    """`out` if a kernel may write to it as it is; None if a new array must be made (for `deliver`).

    Raises
    ------
    TypeError
        `out` is no array, a masked one, or not of the result's dtype.
    ValueError
        `out` is of another shape, read-only, or overlaps an input.
    """
    if not isinstance(out, np.ndarray):
        raise argument_error(
            "out", type(out).__name__, f"an array of shape {shape} and dtype {dtype}", TypeError
        )
    if type(out) is not np.ndarray and isinstance(out, np.ma.MaskedArray):
        raise argument_error("out", "MaskedArray", "an array without a mask", TypeError)
    if out.shape != shape:
        raise argument_error("out", f"shape {out.shape}", f"shape {shape}")
    if out.dtype.newbyteorder("=") != dtype:
        raise argument_error("out", f"dtype {out.dtype}", f"dtype {dtype}", TypeError)
    if not out.flags.writeable:
        raise argument_error("out", "a read-only array", "a writeable one")
    # A memoryview, or what has __array__, may be memory of `out`, too.
    if any(array is not None and _overlap(out, np.asarray(array)) for array in inputs):
        raise argument_error("out", "an array that overlaps an input", "memory of its own")
    native = out.flags.c_contiguous and out.flags.aligned and out.dtype.isnative and dtype.itemsize >= 4
    return out if native else None


def deliver(result: FloatArray, dtype: np.dtype[Any], out: np.ndarray[Any, Any] | None = None) -> FloatArray:
    """The result in the caller's dtype, in `out` if there is one."""
    if out is None:
        return result if result.dtype is dtype else converted(result, dtype)
    if out is not result:
        out[...] = converted(result, dtype)
    return out


def converted(result: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    """The result of a kernel, in float32 or float64, in the dtype that the caller is to get."""
    if result.dtype == dtype:
        return result
    if dtype == FLOAT16 and result.dtype == FLOAT32:
        return halves.from_single(prepared(result, FLOAT32), threads_for(WORK_AN_ELEMENT * result.size))
    return result.astype(dtype)


def _overlap(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Whether memory is shared; where that is too hard to tell, whether the ranges of addresses meet."""
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]  # any int will do
    except np.exceptions.TooHardError:
        return np.may_share_memory(a, b)
