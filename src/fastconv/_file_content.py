"""Bytes of files that may lie about how many they are, and the numbers in them. Imports NumPy alone.

A kind of numbers is a name of one of NumPy's dtypes, or "bfloat16", which NumPy has not.
"""

from __future__ import annotations

from typing import IO, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bounded", "Readable", "at_most", "decoded", "itemsize"]

_PIECE = 2**20


class Readable(Protocol):
    """A file, or a member of an archive."""

    def read(self, size: int, /) -> bytes: ...


def at_most(file: Readable, count: int) -> bytearray:
    """The next `count` bytes, or fewer where the file ends; memory is taken for what is there alone."""
    content = bytearray()
    while len(content) < count:
        piece = file.read(min(count - len(content), _PIECE))
        if not piece:
            break
        content += piece
    return content


class Bounded:
    """A file of which no more is asked than it has, so that no memory is taken for what is not there."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, size: int) -> bytes:
        return self.file.read(min(size, self.size - self.file.tell()))


def itemsize(kind: str) -> int:
    """Bytes of a number in a file."""
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def decoded(data: NDArray[np.uint8], kind: str, order: Literal["<", ">"]) -> NDArray[Any]:
    """Bytes as numbers in native order, copied only where they must be; bfloat16 becomes float32."""
    if kind == "bool":
        return np.not_equal(data, 0)
    if kind == "bfloat16":  # the upper half of a float32
        return (data.view(f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    return data.view(np.dtype(kind).newbyteorder(order)).astype(kind, copy=False)
