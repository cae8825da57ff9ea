"""NumPy's ``.npz``: a zip archive with a member ``name.npy`` for each array.

Written and read member by member: `numpy.savez` takes names as keywords ("file" would not do), and an opened
``.npz`` takes "x.npy" for "x".
"""

from __future__ import annotations

import reprlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _checks

__all__ = ["check", "read", "write"]

_SUFFIX = ".npy"
_LONGEST = 2**16 - 1
"""Bytes in the name of a member."""


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
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{path}: not an .npz file, or damaged")
    try:
        return _members(file)
    except (
        EOFError,
        KeyError,
        NotImplementedError,
        OSError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"{path}: damaged, or not from fastconv.save ({error})") from None


def _members(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            # Not `filename`, which may be a shorter name than the one in the file.
            name = info.orig_filename.removesuffix(_SUFFIX)
            if name in arrays:
                raise ValueError(f"two arrays {reprlib.repr(name)}")
            with archive.open(info) as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays
