"""NumPy's ``.npz``: a zip archive with a member ``name.npy`` for each array.

Written and read member by member: `numpy.savez` takes names as keywords ("file" would not do), and an opened
``.npz`` takes "x.npy" for "x".
"""

from __future__ import annotations

import io
import math
import os
import reprlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _checks, _file_content

__all__ = ["check", "read", "write"]

_SUFFIX = ".npy"
_LONGEST = 2**16 - 1
"""Bytes in the name of a member."""
_LONGEST_HEADER = 10_000
"""Characters in the header of an array; NumPy reads no longer ones."""
_END = 22
"""Bytes at the end of an archive without comment: how many members there are, and where."""


def check(name: str, array: NDArray[Any]) -> None:
    """Raise ValueError unless a file can keep this name; any array that holds no objects will do."""
    member = name + _SUFFIX
    try:
        kept = len(member.encode()) <= _LONGEST and zipfile.ZipInfo(member).filename == member
    except UnicodeEncodeError:
        kept = False
    if not kept:
        needs = f"names without NUL and halves of surrogates, of at most {_LONGEST - len(_SUFFIX)} bytes"
        raise _checks.argument_error("module", f"the name {reprlib.repr(name)}", needs)


def write(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(name + _SUFFIX), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read(path: Path, file: IO[bytes]) -> dict[str, NDArray[Any]]:
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("no zip archive")
        return _members(file)
    except MemoryError:  # there is so much in the file
        raise
    except Exception as error:
        # Nonsense gets a dozen kinds of exceptions out of zipfile, the decompressors and NumPy.
        reason = " ".join(str(error).split())[:150]
        raise ValueError(f"{path}: damaged, or not from fastconv.save ({reason})") from None


def _members(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if _stated_count(file) not in (None, len(members)):
            raise ValueError("the archive's directory is not complete")
        for info in members:
            # Not `filename`, which may be a shorter name than the one in the file.
            name = info.orig_filename.removesuffix(_SUFFIX)
            if name in arrays:
                raise ValueError(f"two arrays {reprlib.repr(name)}")
            with archive.open(info) as member:
                arrays[name] = _array(member, info.file_size)
    return arrays


def _stated_count(file: IO[bytes]) -> int | None:
    """How many members there are by the end of the archive, which zipfile ignores; None if it is unclear."""
    file.seek(-_END, os.SEEK_END)
    end = file.read(_END)
    count = int.from_bytes(end[10:12], "little")
    return count if end.startswith(b"PK\5\6") and count < 2**16 - 1 else None


def _array(member: IO[bytes], size: int) -> NDArray[Any]:
    """The array in a member that has, or should have, `size` bytes."""
    try:
        shape, is_fortran, dtype, start = _header(member)
    except MemoryError:  # of nested brackets, or of LZMA's dictionary, whose size the file states
        raise ValueError("a header takes too much memory") from None
    if dtype.hasobject:
        raise ValueError("objects are not loaded")
    count = dtype.itemsize * math.prod(shape)
    if count != size - start:
        raise ValueError(f"an array of {count} bytes in a place of {size - start}")
    content = _file_content.at_most(member, count)
    return np.ndarray(shape, dtype, content, order="F" if is_fortran else "C")


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran's order, dtype, and where the content begins."""
    version = np.lib.format.read_magic(member)
    digits = 2 if version == (1, 0) else 4
    length = int.from_bytes(member.read(digits), "little")
    if length > 4 * _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    text = member.read(length).decode("utf-8" if version == (3, 0) else "latin-1")
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"a header of {len(text)} characters")
    # NumPy has a function for all versions but the last, whose strings are in UTF-8. Escaped, they are alike.
    escaped = text.encode("ascii", "backslashreplace")
    header = io.BytesIO(len(escaped).to_bytes(4, "little") + escaped)
    parts = np.lib.format.read_array_header_2_0(header, 10 * _LONGEST_HEADER)
    return *parts, np.lib.format.MAGIC_LEN + digits + length
