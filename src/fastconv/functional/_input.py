"""What every function does with the arrays that it is given, before kernels see them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv._checks import FLOAT16, FLOAT32, FloatArray, as_array, dtypes_for, prepared
from fastconv._kernels import arrays as kernel_arrays
from fastconv._kernels import halves
from fastconv._threads import threads_for

__all__ = ["computable", "exact", "promote", "promote_one"]

WORK_AN_ELEMENT = 8
"""So many multiply-adds an element that is moved or converted counts as, where threads are handed out."""


def computable(array: NDArray[Any], dtype: np.dtype[Any]) -> FloatArray:
    """`array` C-contiguous, aligned, native, and in `dtype`, float32 or float64; no copy where it is that."""
    if array.dtype == FLOAT16 and dtype == FLOAT32:
        return halves.to_single(prepared(array, FLOAT16), threads_for(WORK_AN_ELEMENT * array.size))
    return prepared(array, dtype)


def promote(
    *,
    optional: Any = (),  # a Sequence[str]; but mypy takes it for possible that **values holds it
    halves: Any = False,  # a bool
    **values: ArrayLike | None,
) -> tuple[tuple[Any, ...], np.dtype[Any]]:
    """The named values as `computable` makes them, in their common compute dtype, and their result dtype.

    The `optional` ones may be None, and stay it. With `halves`, all are float16 where the result is, for a
    kernel that converts by itself. The arrays come in a tuple, in the order of the names.

    Examples
    --------
    >>> arrays, result = promote(x=[1, 2], weight=np.ones(2, np.float16), bias=None, optional=["bias"])
    >>> x, weight, bias = arrays
    >>> x.dtype, weight.dtype, bias, result
    (dtype('float64'), dtype('float64'), None, dtype('float64'))
    """
    given = tuple(values.values())
    if kernel_arrays.all_native(given, halves):
        return given, given[0].dtype  # type: ignore[union-attr]
    arrays = [
        None if value is None and name in optional else as_array(name, value)  # type: ignore[arg-type]
        for name, value in values.items()
    ]
    result, compute = dtypes_for(*[array.dtype for array in arrays if array is not None])
    if halves and result == FLOAT16:
        compute = FLOAT16
    return tuple(None if array is None else computable(array, compute) for array in arrays), result


def promote_one(name: str, value: ArrayLike, *, halves: bool = False) -> tuple[Any, np.dtype[Any]]:
    """`promote` of a single value; one that kernels can read already is returned as it is, at once."""
    if kernel_arrays.native(value, value):
        return value, value.dtype  # type: ignore[union-attr]
    (array,), dtype = promote(**{name: value}, halves=halves)
    return array, dtype


def exact(algorithm: str, *values: ArrayLike | None) -> str:
    """`algorithm`, but "direct" instead of "auto" where all values are integers: sums are to be exact."""
    if algorithm != "auto" or any(v is not None and np.asarray(v).dtype.kind not in "biu" for v in values):
        return algorithm
    return "direct"
