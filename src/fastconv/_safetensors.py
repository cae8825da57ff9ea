"""The format ``.safetensors``, by the package of that name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

__all__ = ["check", "read", "write"]


def check(name: str, array: NDArray[Any]) -> None:
    """Raise unless a file can hold this array under this name."""


def write(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    # The package writes the bytes as they lie in memory.
    native = {
        n: np.ascontiguousarray(a, a.dtype.newbyteorder("=")).reshape(a.shape) for n, a in arrays.items()
    }
    file.write(safetensors.numpy.save(native))


def read(path: Path, file: IO[bytes]) -> dict[str, NDArray[Any]]:
    try:
        state: dict[str, NDArray[Any]] = safetensors.numpy.load(file.read())
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a .safetensors file, or damaged ({error})") from None
    return state
