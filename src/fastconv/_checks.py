"""What every public function asks of its arguments: dtypes, axes, shapes and numbers. Imports NumPy alone.

Every message reads ``name: got X, needs Y``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "MOST_INTEGER",
    "FloatArray",
    "argument_error",
    "as_array",
    "axes",
    "boolean",
    "choice",
    "compute_dtype",
    "dtypes_for",
    "float_array",
    "generator",
    "integer",
    "number",
    "parameter_dtype",
    "prepared",
    "result_dtype",
    "shape",
    "sizes",
    "subset",
]

FloatArray: TypeAlias = NDArray[np.floating[Any]]

FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
_FLOATS = (FLOAT16, FLOAT32, FLOAT64)

MOST_INTEGER = (1 << 63) - 1
"""What a C integer holds, and what converts to a float; for numbers that have no closer limit."""


def argument_error(
    name: str, got: object, needs: str, kind: type[ValueError] | type[TypeError] = ValueError
) -> ValueError | TypeError:
    """The exception, to be raised by the caller, for an argument that is not what it must be."""
    return kind(f"{name}: got {got}, needs {needs}")


def _cause(error: Exception) -> Exception | None:
    """What the error of an argument that did not convert is raised from; having no memory stays what it is.

    None for what conversions raise of themselves; anything else is a fault of the argument's own methods.
    """
    if isinstance(error, MemoryError):
        raise error
    return None if isinstance(error, (TypeError, ValueError, OverflowError)) else error


# ---- dtypes ----


@lru_cache(maxsize=1024)
def dtypes_for(*dtypes: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """The dtype of a result, and the one it is computed in."""
    promoted = np.result_type(*dtypes)
    if promoted.kind != "f":
        promoted = FLOAT32 if all(dtype.itemsize <= 2 for dtype in dtypes) else FLOAT64
    return promoted, FLOAT64 if promoted == FLOAT64 else FLOAT32


def result_dtype(*arrays: NDArray[Any] | np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a result of these arrays (or dtypes): float16, float32 or float64, in native byte order.

    Floating-point numbers promote as in NumPy. Where all are integers, bool and 8- and 16-bit ones give
    float32, wider ones float64, which holds them exactly below 2^53.
    """
    return dtypes_for(*(a if isinstance(a, np.dtype) else a.dtype for a in arrays))[0]


def compute_dtype(*arrays: NDArray[Any] | np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which these arrays (or dtypes) are computed: float32 or float64.

    It is `result_dtype`, but float16 is computed in float32.
    """
    return dtypes_for(*(a if isinstance(a, np.dtype) else a.dtype for a in arrays))[1]


def as_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """`value` as an array of real numbers, neither copied nor converted where it is an array already.

    Raises
    ------
    TypeError
        `value` is complex, an object, a string, a date, a record or a long double, or makes no array.
    """
    if type(value) is not np.ndarray:
        try:
            value = np.asarray(value)
        except Exception as error:  # ragged nested sequences, and what `__array__` raises
            got = f"{type(value).__name__} ({error})"
            raise argument_error(name, got, "an array", TypeError) from _cause(error)
    dtype = value.dtype
    if dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return value
    needs = "real numbers (float16, float32, float64, bool or integers)"
    raise argument_error(name, f"dtype {dtype}", needs, TypeError)


def prepared(array: NDArray[Any], dtype: np.dtype[Any]) -> FloatArray:
    """`array` C-contiguous, aligned and native in `dtype`; no copy where it is that."""
    array = np.asarray(array, dtype=dtype, order="C")
    return array if array.flags.aligned else array.copy()


def float_array(name: str, value: ArrayLike, dtype: np.dtype[Any] | None = None) -> FloatArray:
    """`value` as a C-contiguous, aligned, native float32 or float64 array; no copy where it is one.

    `dtype` is what to convert to, `compute_dtype` of the value by default. Raises as `as_array`.
    """
    array = as_array(name, value)
    return prepared(array, compute_dtype(array) if dtype is None else dtype)


def parameter_dtype(name: str, dtype: DTypeLike, *, halves: bool = True) -> np.dtype[Any]:
    """`dtype`, of parameters or computations: float16 (with `halves`), float32 or float64, native."""
    needs = "float16, float32 or float64" if halves else "float32 or float64"
    try:
        given = np.dtype(dtype).newbyteorder("=")
    except Exception as error:
        raise argument_error(name, repr(dtype), needs, TypeError) from _cause(error)
    if given not in _FLOATS or (given == FLOAT16 and not halves):
        raise argument_error(name, repr(dtype), needs, TypeError)
    return given


# ---- axes and shapes ----


def axes(name: str, array: NDArray[Any], *letters: str) -> None:
    """Raise ValueError unless `array` has as many axes as one of the `letters`, such as ``"N, C, H, W"``."""
    if array.ndim not in _counts(*letters):
        wanted = " or ".join(f"({form})" for form in letters)
        counts = " or ".join(str(form.count(",") + 1) for form in letters)
        plural = "axis" if counts == "1" else "axes"
        raise argument_error(name, f"shape {array.shape}", f"{counts} {plural}: {wanted}")


@lru_cache(maxsize=64)
def _counts(*letters: str) -> frozenset[int]:
    return frozenset(form.count(",") + 1 for form in letters)


def shape(name: str, array: NDArray[Any], wanted: Sequence[int], reason: str = "") -> None:
    """Raise ValueError unless `array` has the shape `wanted`; `reason` tells where that comes from."""
    if array.shape != tuple(wanted):
        raise argument_error(name, f"shape {array.shape}", f"shape {tuple(wanted)}{reason and ', ' + reason}")


def sizes(name: str, value: Any, needs: str) -> tuple[int, ...]:
    """`value`, integers of at least 0, as a tuple; `needs` is told where it is no sequence at all."""
    try:
        extents = tuple(value)
    except TypeError:
        raise argument_error(name, repr(value), needs, TypeError) from None
    return tuple(integer(name, extent, 0) for extent in extents)


# ---- numbers ----


def integer(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """`value` as an int; TypeError for what isn't one (bool and 2.0 included), ValueError out of bounds."""
    needs = "an integer" if minimum is None else f"an integer of at least {minimum}"
    if maximum is not None:
        needs += f" and at most {maximum}"
    if isinstance(value, (bool, np.bool_)):
        raise argument_error(name, repr(value), needs, TypeError)
    try:
        result = operator.index(value)
    except Exception as error:
        raise argument_error(name, repr(value), needs, TypeError) from _cause(error)
    if (minimum is not None and result < minimum) or (maximum is not None and result > maximum):
        raise argument_error(name, result, needs)
    return result


def number(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    below: float = math.inf,
    finite: bool = True,
) -> float:
    """`value` as a float; ValueError unless within the bounds and `finite`, TypeError if no real number.

    NaN is never within the bounds; without `finite`, infinity may be.
    """
    if type(value) is float and minimum <= value <= maximum and value < below and math.isfinite(value):
        return value
    needs = "a finite number" if finite else "a number"
    if minimum != -math.inf:
        needs += f" of at least {minimum:g}"
    if maximum != math.inf:
        needs += f" and at most {maximum:g}"
    if below != math.inf:
        needs += f" and below {below:g}"
    # float() takes NumPy's complex numbers, and arrays of one element of anything.
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    if kind not in "iuf" or isinstance(value, (bool, str, bytes)):
        raise argument_error(name, repr(value), needs, TypeError)
    try:
        result = float(value)
    except Exception as error:
        raise argument_error(name, repr(value), needs, TypeError) from _cause(error)
    bounded = minimum <= result <= maximum and (result < below or below == math.inf)
    if not bounded or (finite and math.isinf(result)):
        raise argument_error(name, repr(value), needs)
    return result


def boolean(name: str, value: Any) -> bool:
    """`value` as a bool; TypeError for anything but True and False."""
    if not isinstance(value, (bool, np.bool_)):
        raise argument_error(name, repr(value), "True or False", TypeError)
    return bool(value)


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """`value`, which must be one of the strings `options`."""
    if not isinstance(value, str) or value not in options:
        raise argument_error(name, repr(value), " or ".join(repr(option) for option in options))
    return value


def subset(name: str, value: Any, options: Sequence[str]) -> frozenset[str]:
    """`value`, an iterable of some of the strings `options`, as a set; a single string is refused."""
    needs = "some of " + ", ".join(repr(option) for option in options)
    try:
        chosen = None if isinstance(value, str) else frozenset(value)
    except TypeError:
        chosen = None
    if chosen is None:
        raise argument_error(name, repr(value), needs, TypeError)
    if not chosen.issubset(options):
        raise argument_error(name, repr(value), needs)
    return chosen


def generator(name: str, value: Any) -> np.random.Generator:
    """`value`, which must be a `numpy.random.Generator`; None makes a freshly seeded one."""
    if value is None:
        return np.random.default_rng()
    if not isinstance(value, np.random.Generator):
        needs = "a numpy.random.Generator, such as numpy.random.default_rng(0)"
        raise argument_error(name, type(value).__name__, needs, TypeError)
    return value
