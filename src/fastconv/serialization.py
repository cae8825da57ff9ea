"""Weights in files: NumPy's own ``.npz``, and ``.safetensors``."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastconv import _checks

__all__ = ["load", "save"]

PathLike: TypeAlias = str | os.PathLike[str]
State: TypeAlias = dict[str, NDArray[Any]]


class HasState(Protocol):
    """A module, an optimizer: whatever can say what it is made of."""

    def state_dict(self) -> Mapping[str, Any]: ...


def save(path: PathLike, module: HasState | Mapping[str, Any]) -> None:
    """Write the state of a module, or a mapping of arrays, into a file.

    The file is written beside its place and then moved there: an interrupted `save` leaves what was there
    before, never half a file. A file that is replaced keeps its permissions. The same arrays give the same
    bytes.

    Parameters
    ----------
    path : path
        Its ending decides the format: ``.npz``, or ``.safetensors`` (needs the package safetensors).
    module : Module or mapping of str to array_like
        A module (or anything else with a `state_dict`), or what to write under which name.

    Raises
    ------
    ValueError
        The path ends otherwise.
    TypeError
        A name is no string, or an array holds objects.
    OSError
        The file cannot be written.

    See Also
    --------
    load

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "weights.npz")
    ...     save(path, {"bias": [1.0, 2.0]})
    ...     load(path)
    {'bias': array([1., 2.])}
    """
    write, _ = _format(path)
    mapping = module if isinstance(module, Mapping) else _state_of(module)
    arrays = {_name(name): _array(name, value) for name, value in mapping.items()}
    target = Path(path).resolve()
    beside = target.with_name(f".{os.urandom(8).hex()}")  # short: the target's name may be as long as any
    kept = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    try:
        # Whom the old file was hidden from must not read the new one either, not even before it is complete.
        with open(beside, "xb", opener=partial(os.open, mode=0o666 if kept is None else kept)) as file:
            if kept is not None:
                os.chmod(beside, kept)  # what the umask took
            write(file, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def load(path: PathLike) -> State:
    """The arrays in a file that `save`, `numpy.savez` or the package safetensors wrote.

    Parameters
    ----------
    path : path
        Its ending tells the format: ``.npz`` or ``.safetensors``.

    Returns
    -------
    dict of str to ndarray
        Fit for ``module.load_state_dict``.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The path ends otherwise, or the file is damaged or of another kind. Pickled objects are refused.

    See Also
    --------
    load_torch : what PyTorch saved

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastconv as fc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fc.save(pathlib.Path(folder, "weights.npz"), {"bias": [1.0, 2.0]})
    ...     fc.load(pathlib.Path(folder, "weights.npz"))
    {'bias': array([1., 2.])}
    """
    _, read = _format(path)
    path = Path(path)
    with open(path, "rb") as file:
        return read(path, file)


def _format(path: PathLike) -> tuple[Callable[[IO[bytes], State], None], Callable[[Path, IO[bytes]], State]]:
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        return _write_npz, _read_npz
    if suffix == ".safetensors":
        return _write_safetensors, _read_safetensors
    raise _checks.argument_error("path", repr(os.fspath(path)), "a name that ends in .npz or .safetensors")


def _state_of(module: HasState) -> Mapping[str, Any]:
    if not hasattr(module, "state_dict"):
        raise _checks.argument_error(
            "module", type(module).__name__, "a module or a mapping of arrays", TypeError
        )
    return module.state_dict()


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise _checks.argument_error("module", f"the name {name!r}", "strings as names", TypeError)
    return name


def _array(name: str, value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise _checks.argument_error(f"module[{name!r}]", f"dtype {array.dtype}", "numbers", TypeError)
    return array


def _write_npz(file: IO[bytes], arrays: State) -> None:
    import zipfile  # not needed by those who only compute

    # By hand, since numpy.savez takes names as keywords: "file" and "allow_pickle" would not do.
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_npz(path: Path, file: IO[bytes]) -> State:
    import zipfile

    if not zipfile.is_zipfile(file):
        raise ValueError(f"{path}: not an .npz file, or damaged")
    file.seek(0)
    try:
        with np.load(file, allow_pickle=False) as archive:
            state: State = dict(archive)
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
    if not all(isinstance(array, np.ndarray) for array in state.values()):
        raise ValueError(f"{path}: holds more than arrays")
    return state


def _write_safetensors(file: IO[bytes], arrays: State) -> None:
    import safetensors.numpy

    # It writes the bytes as they lie in memory.
    native = {
        n: np.ascontiguousarray(a, a.dtype.newbyteorder("=")).reshape(a.shape) for n, a in arrays.items()
    }
    file.write(safetensors.numpy.save(native))


def _read_safetensors(path: Path, file: IO[bytes]) -> State:
    import safetensors
    import safetensors.numpy

    try:
        state: State = safetensors.numpy.load(file.read())
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a .safetensors file, or damaged ({error})") from None
    return state
