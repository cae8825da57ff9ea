"""An array that is learned, with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastconv import _checks
from fastconv._checks import FloatArray

__all__ = ["Parameter", "read_only", "value_of"]


class Parameter:
    """An array that is learned, `data`, and the gradient of the loss by it, `grad`.

    Parameters
    ----------
    data : array_like
        The first value, which is copied.
    dtype : dtype, optional
        float16, float32 or float64; by default that of `data`, or what its integers are computed in.

    Notes
    -----
    The arrays stay the same objects, of the same shape and dtype, for good: assigning to `data` or `grad`
    copies the values into them. So an optimizer or a layer may keep them.

    Examples
    --------
    >>> weight = Parameter([1.0, 2.0])
    >>> weight.grad
    array([0., 0.])
    >>> weight.data = [3, 4]
    >>> weight
    Parameter(shape=(2,), dtype=float64)
    """

    __slots__ = ("_data", "_grad")

    def __init__(self, data: ArrayLike, dtype: DTypeLike | None = None) -> None:
        given = _checks.as_array("data", data)
        kept = _checks.result_dtype(given) if dtype is None else _checks.parameter_dtype("dtype", dtype)
        self._data: FloatArray = np.array(given, kept, order="C")
        self._grad: FloatArray | None = None  # None stands for zeros not yet allocated

    def __getstate__(self) -> tuple[None, dict[str, FloatArray | None]]:
        """What is pickled by default; pickle's protocols 0 and 1 ask for a method, since there are slots."""
        return None, {"_data": self._data, "_grad": self._grad}

    @property
    def data(self) -> FloatArray:
        """The value. What is assigned must have its shape, and is copied."""
        return self._data

    @data.setter
    def data(self, value: ArrayLike) -> None:
        if value is not self._data:
            self._copy("data", value, self._data)

    @property
    def grad(self) -> FloatArray:
        """The sum of the gradients since the last `zero_grad`; what is assigned is copied, as to `data`."""
        if self._grad is None:
            self._grad = np.zeros_like(self._data)
        return self._grad

    @grad.setter
    def grad(self, value: ArrayLike) -> None:
        if value is None or value is not self._grad:
            self._copy("grad", value, self.grad)

    @staticmethod
    def _copy(name: str, value: ArrayLike, to: FloatArray) -> None:
        given = _checks.as_array(name, value)
        _checks.shape(name, given, to.shape, "that of the parameter")
        np.copyto(to, given, casting="unsafe")

    def make_read_only(self) -> None:
        """Let `data`, from now on another array object, never be written to again. It must have no views."""
        self._data = read_only(self._data)
        self._grad = None

    def accumulate(self, gradient: FloatArray) -> None:
        """Add `gradient` to `grad`. The first one may become `grad` itself: don't use it further."""
        _checks.shape("gradient", gradient, self._data.shape, "that of the parameter")
        if self._grad is None:
            self._grad = np.require(gradient, self._data.dtype, ("C", "A", "W"))
        else:
            with np.errstate(all="ignore"):  # NumPy's error state has no say in what layers compute
                self._grad += gradient

    def zero_grad(self) -> None:
        """Start a new sum of gradients."""
        self._grad = None

    def astype(self, dtype: DTypeLike) -> Parameter:
        """A copy in another dtype, the gradient included."""
        other = Parameter(self._data, dtype)
        if self._grad is not None:
            other.grad = self._grad
        return other

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `data`."""
        return self._data.shape

    @property
    def size(self) -> int:
        """The number of elements of `data`."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of `data`."""
        return self._data.dtype

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of `array`, both of which can't be written to; of the view the flag cannot be set back."""
    array.setflags(write=False)
    return array.view()


def value_of(parameter: Parameter | None) -> FloatArray | None:
    """The data of a parameter that a layer may do without."""
    return None if parameter is None else parameter.data
