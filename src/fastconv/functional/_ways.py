"""What layers whose arguments stay do to arrays of one shape and dtype: settled once, then run unchecked."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from fastconv._checks import FloatArray

__all__ = ["MOST_WAYS", "Settled", "Way"]

# So many sets of shapes and dtypes of a layer's inputs are remembered.
MOST_WAYS = 64

W = TypeVar("W")


class Way(NamedTuple):
    """A function of arrays of one shape and dtype, float32 or float64, C-contiguous, aligned and native.

    Its results are all that as well, of the same dtype. It checks nothing.
    """

    run: Callable[[FloatArray], FloatArray]
    out_shape: tuple[int, ...]


class Settled(dict[Hashable, W], Generic[W]):
    """What ``settle(*key)`` returned for each key; at most `most`, so that they don't pile up.

    Threads may ask at once; if two of them settle the same, one result is forgotten.
    """

    def __init__(self, settle: Callable[..., W], most: int = MOST_WAYS) -> None:
        self._settle, self._most = settle, most

    def __missing__(self, key: Any) -> W:
        result = self._settle(*key)
        if len(self) >= self._most:
            self.clear()
        self[key] = result
        return result
