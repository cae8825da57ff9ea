"""Bytes of files that may be damaged, or lie about what they hold. Imports the standard library alone."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Readable", "at_most"]

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
