"""The format ``.safetensors``, by the package of that name."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from fastconv import _checks, _file_content

__all__ = ["check", "read", "write"]

_KINDS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
"""The dtypes of the format that NumPy has, and bfloat16."""


def check(name: str, array: NDArray[Any]) -> None:
    """Raise ValueError or TypeError unless a file can hold this array under this name."""
    if name == "__metadata__":
        raise _checks.argument_error("module", f"the name {name!r}", "one that the format has not taken")
    try:
        name.encode()
    except UnicodeEncodeError:
        needs = "names without halves of surrogates"
        raise _checks.argument_error("module", f"the name {reprlib.repr(name)}", needs) from None
    if array.dtype.name not in _KINDS.values():
        needs = f"one that .safetensors has: {', '.join(_KINDS.values())}"
        raise _checks.argument_error(f"module[{name!r}]", f"dtype {array.dtype}", needs, TypeError)


def write(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    # The package writes the bytes as they lie in memory.
    native = {
        n: np.ascontiguousarray(a, a.dtype.newbyteorder("=")).reshape(a.shape) for n, a in arrays.items()
    }
    file.write(safetensors.numpy.save(native))


def read(path: Path, file: IO[bytes]) -> dict[str, NDArray[Any]]:
    # Not by safetensors.numpy.load, which has no bfloat16.
    try:
        tensors = safetensors.deserialize(file.read())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a .safetensors file, or damaged ({error})") from None
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in tensors:
        kind = _KINDS.get(tensor["dtype"])
        if kind is None:
            raise ValueError(f"{path}: {name!r} is of {tensor['dtype']}, and NumPy has none such")
        data = np.frombuffer(tensor["data"], np.uint8)
        arrays[name] = _file_content.decoded(data, kind, "<").reshape(tensor["shape"])
    return arrays
