"""Weights in files: NumPy's own ``.npz``, and ``.safetensors``."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
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
    """A module, or whatever else can say of which arrays it is made."""

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
        A module, or what to write under which name. The state of an optimizer is more than arrays:
        ``fastconv.train.fit(checkpoint=...)`` keeps it, with all else that a training goes on from.

    Raises
    ------
    ValueError
        The path ends otherwise, or the format cannot keep a name as it is.
    TypeError
        `module` has no state that is a mapping of arrays, or a name is no string, or an array holds objects,
        or what ``.safetensors`` has no dtype for.
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
    file_format = _format(path)
    mapping = module if isinstance(module, Mapping) else _state_of(module)
    arrays = {_name(name): _array(name, value) for name, value in mapping.items()}
    for name, array in arrays.items():
        file_format.check(name, array)
    target = Path(path).resolve()
    beside = target.with_name(f".{os.urandom(8).hex()}")  # short: the target's name may be as long as any
    kept = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    try:
        # Whom the old file was hidden from must not read the new one either, not even before it is complete.
        with open(beside, "xb", opener=partial(os.open, mode=0o666 if kept is None else kept)) as file:
            if kept is not None:
                os.chmod(beside, kept)  # what the umask took
            file_format.write(file, arrays)
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
        Fit for ``module.load_state_dict``. bfloat16 becomes float32.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The path ends otherwise, or the file is damaged or of another kind, or has numbers that NumPy has no
        dtype for. Pickled objects are refused.

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
    file_format = _format(path)
    path = Path(path)
    with open(path, "rb") as file:
        return file_format.read(path, file)


class _Format(Protocol):
    """A module that knows one kind of file."""

    def check(self, name: str, array: NDArray[Any]) -> None: ...
    def write(self, file: IO[bytes], arrays: State) -> None: ...
    def read(self, path: Path, file: IO[bytes]) -> State: ...


def _format(path: PathLike) -> _Format:
    suffix = Path(path).suffix.lower()
    # Imported here, since those who only compute need none.
    if suffix == ".npz":
        from fastconv import _npz

        return _npz
    if suffix == ".safetensors":
        from fastconv import _safetensors

        return _safetensors
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
    if isinstance(value, Mapping):
        needs = "an array; the state of an optimizer is kept by fastconv.train.fit(checkpoint=...)"
        raise _checks.argument_error(f"module[{name!r}]", type(value).__name__, needs, TypeError)
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged nested sequences
        got = f"{type(value).__name__} ({error})"
        raise _checks.argument_error(f"module[{name!r}]", got, "an array", TypeError) from None
    if array.dtype.hasobject:
        raise _checks.argument_error(f"module[{name!r}]", f"dtype {array.dtype}", "numbers", TypeError)
    return array
