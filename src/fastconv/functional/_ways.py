"""What layers whose arguments stay do to arrays of one shape and dtype: settled once, then run unchecked."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakMethod

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
    """What ``settle(*key)``, a method of the owner, returned for each key; at most `most`, lest they pile up.

    Threads may ask at once; if two of them settle the same, one result is forgotten. The owner isn't kept
    alive: else it would, in a circle, keep its packed weights until garbage is collected.
    """

    def __init__(self, settle: Callable[..., W], most: int = MOST_WAYS) -> None:
        self._settle, self._most = WeakMethod(settle), most

    def __missing__(self, key: Any) -> W:
        settle = self._settle()
        assert settle is not None, "the owner is gone"
        result: W = settle(*key)
        if len(self) >= self._most:
            self.clear()
        self[key] = result
        return result
