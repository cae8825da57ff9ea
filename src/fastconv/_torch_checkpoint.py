"""PyTorch's checkpoints, read without PyTorch.

A checkpoint is a pickle, which describes containers and tensors, and the bytes of the storages that the
tensors are views of: members of a zip archive since PyTorch 1.6, before that (the legacy format) behind the
pickle.

A pickle is a program for a stack machine. Python's machine is not used here, since it calls and changes
objects as the program likes, and believes the sizes that it states: the one below knows only those operations
that make plain data, and the few names that stand for tensors.
"""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastconv._file_content import Bounded, decoded, itemsize
from fastconv.serialization import PathLike

__all__ = ["load_torch"]

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
"""What a legacy file begins with: two pickled numbers."""

_KINDS = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "c8",
    "ComplexDoubleStorage": "c16",
}
"""What PyTorch's storages hold: dtypes, but for bfloat16."""

_DAMAGED = (
    *(ValueError, IndexError, KeyError, TypeError, NotImplementedError, zipfile.BadZipFile),
    DeprecationWarning,  # of an escape sequence that there is none of, where warnings are errors
)
"""What reading nonsense raises."""


class _RefusedError(Exception):
    """The file asks for what a checkpoint of tensors does not need."""


class _Global(NamedTuple):
    """A name that the pickle mentions."""

    module: str
    name: str


class _Storage(NamedTuple):
    """What tensors are views of."""

    key: str
    kind: str
    length: int

    @property
    def nbytes(self) -> int:
        return self.length * itemsize(self.kind)


class _Source(Protocol):
    size: int

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


def load_torch(path: PathLike) -> Any:
    """What ``torch.save`` wrote, with arrays for the tensors; PyTorch is not needed.

    Nothing in the file is executed: it may hold tensors, dictionaries, lists, tuples, strings, numbers, bool
    and None, and is refused if it holds anything else.

    Parameters
    ----------
    path : path
        Usually ``.pt`` or ``.pth``. The zip format and the one before it (PyTorch below 1.6) are read.

    Returns
    -------
    dict of str to ndarray, if the file holds a `state_dict`
        Fit for ``module.load_state_dict``. In general whatever was saved: ordered dictionaries become
        `collections.OrderedDict`, parameters plain arrays. bfloat16 becomes float32. Tensors that shared
        memory do so as arrays, too.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no checkpoint, or damaged, or holds more than tensors and plain data (a whole module, say: save
        its ``state_dict()`` instead).

    See Also
    --------
    load : the arrays in a file of NumPy or of the package safetensors

    Examples
    --------
    >>> from fastconv.models import ResNet
    >>> model = ResNet(18)
    >>> model.load_state_dict(load_torch("resnet18.pth"))  # doctest: +SKIP
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        read = _read_zip if file.read(4) == b"PK\3\4" else _read_legacy
        file.seek(0)
        try:
            return read(file, size)
        except _RefusedError as error:
            raise ValueError(f"{path}: holds {error}; only tensors and plain data are read") from None
        except _DAMAGED as error:
            raise ValueError(f"{path}: not a PyTorch checkpoint, or damaged ({error})") from None


# ---- files ----


def _read_zip(file: IO[bytes], size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
    (pickle_name,) = (name for name in members if name.endswith("/data.pkl") and name.count("/") == 1)
    root = pickle_name.removesuffix("data.pkl")

    def content(name: str) -> NDArray[np.uint8]:
        return _member(file, size, members[root + name])

    big = f"{root}byteorder" in members and content("byteorder").tobytes() == b"big"
    arrays: dict[_Storage, NDArray[Any]] = {}
    left = size

    def load(storage: _Storage) -> NDArray[Any]:
        nonlocal left
        if storage not in arrays:
            left -= storage.nbytes
            if left < 0:
                raise ValueError("the storages are larger than the file")
            data = content(f"data/{storage.key}")
            if data.nbytes != storage.nbytes:
                raise ValueError(f"storage {storage.key} has {data.nbytes} bytes, not {storage.nbytes}")
            arrays[storage] = decoded(data, storage.kind, ">" if big else "<")
        return arrays[storage]

    return _Machine(load).run(content("data.pkl").tobytes())


def _member(file: IO[bytes], size: int, info: zipfile.ZipInfo) -> NDArray[np.uint8]:
    """The bytes of a member, which PyTorch never compresses.

    Not by ``archive.read``, which doubles the memory, and refuses files whose checksums were switched off
    (``torch.serialization.set_crc32_options``).
    """
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    header = _bytes(file, size, info.header_offset, 30)
    names = header[26:30].view("<u2").sum()  # the lengths of the name and of what else follows
    data = _bytes(file, size, info.header_offset + 30 + int(names), info.file_size)
    if info.CRC and zlib.crc32(data.data) != info.CRC:
        raise ValueError(f"the checksum of {info.filename} is wrong")
    return data


def _bytes(file: IO[bytes], size: int, start: int, count: int) -> NDArray[np.uint8]:
    """`count` bytes of a file that has `size` of them."""
    if not 0 <= start <= start + count <= size:
        raise ValueError(f"the file ends at byte {size}, and should go to {start + count}")
    data = np.empty(count, np.uint8)
    file.seek(start)
    if file.readinto(data) != count:  # type: ignore[attr-defined]
        raise ValueError("the file became shorter")
    return data


def _read_legacy(file: IO[bytes], size: int) -> Any:
    source = Bounded(file, size)
    if [_Machine().run(source), _Machine().run(source)] != [_MAGIC, _VERSION]:
        raise ValueError("it does not begin as PyTorch's files do")
    _Machine().run(source)  # of the machine that wrote it; the storages are little-endian in any case
    start = file.tell()
    # The storages come after the pickle: read it to learn what they hold, read them, and read it again.
    seen: dict[str, _Storage] = {}

    def note(storage: _Storage) -> None:
        if seen.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {storage.key} is of two kinds")

    _Machine(note).run(source)
    keys = _Machine().run(source)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("the keys of the storages are no list of strings")
    arrays: dict[_Storage, NDArray[Any]] = {}
    for key in keys:
        storage, position = seen[key], file.tell()
        if int.from_bytes(_bytes(file, size, position, 8).tobytes(), "little") != storage.length:
            raise ValueError(f"storage {key} does not have {storage.length} elements")
        arrays[storage] = decoded(_bytes(file, size, position + 8, storage.nbytes), storage.kind, "<")
    file.seek(start)
    return _Machine(arrays.__getitem__).run(source)


# ---- the stack machine ----

_PUSH = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("STRING", "SHORT_BINSTRING", "BINSTRING"),  # of Python 2
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, type[Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT, _GET = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}
_IGNORED = {"PROTO", "FRAME"}

_ORDERED_DICT = _Global("collections", "OrderedDict")
_TENSORS = {_Global("torch._utils", "_rebuild_tensor"), _Global("torch._utils", "_rebuild_tensor_v2")}
_PARAMETER = _Global("torch._utils", "_rebuild_parameter")
_STORAGES = {_Global("torch", name): kind for name, kind in _KINDS.items()}
_ADMITTED = {_ORDERED_DICT, *_TENSORS, _PARAMETER, *_STORAGES}

_PLAIN = (type(None), bool, int, float, str)


class _Machine:
    """Runs the part of the pickle language that makes plain data and tensors; see `pickletools`.

    `storage` gives the content of a storage, or None as long as it is not to be had: tensors are None then.
    """

    def __init__(self, storage: Callable[[_Storage], NDArray[Any] | None] | None = None) -> None:
        self.storage = storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.pairs_left = 0

    def run(self, source: bytes | _Source) -> Any:
        """The object that the pickle makes; a file is left behind it."""
        self.pairs_left = len(source) if isinstance(source, bytes) else source.size
        for opcode, argument, _ in pickletools.genops(source):  # type: ignore[arg-type]
            self._step(opcode.name, argument)
        (result,) = self.stack
        _check_plain(result)
        return result

    def _step(self, name: str, argument: Any) -> None:
        push, pop = self.stack.append, self.stack.pop
        if name in _PUSH:
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _EMPTY:
            push(_EMPTY[name]())
        elif name in _TUPLES:
            push(tuple(reversed([pop() for _ in range(_TUPLES[name])])))
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "TUPLE":
            push(tuple(self._marked()))
        elif name == "LIST":
            push(self._marked())
        elif name == "DICT":
            items = self._marked()
            push({})
            self._set(items)
        elif name == "APPEND":
            self._extend([pop()])
        elif name == "APPENDS":
            self._extend(self._marked())
        elif name == "SETITEM":
            value, key = pop(), pop()
            self._set([key, value])
        elif name == "SETITEMS":
            self._set(self._marked())
        elif name in _PUT:
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in _GET:
            push(self.memo[argument])
        elif name == "GLOBAL":
            push(_admitted(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            last, first = pop(), pop()
            push(_admitted(first, last))
        elif name == "BINPERSID":
            push(_storage(pop()))
        elif name == "REDUCE":
            arguments, function = pop(), pop()
            push(self._called(function, arguments))
        elif name == "BUILD":  # the attributes of an object; `state_dict` gives its dictionary some
            pop()
            if type(self.stack[-1]) is not OrderedDict:
                raise _RefusedError(f"attributes of a {type(self.stack[-1]).__name__}")
        elif name not in _IGNORED and name != "STOP":
            raise _RefusedError(f"the pickle operation {name}")

    def _marked(self) -> list[Any]:
        """What was pushed since the latest mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("items for what is no list")
        self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError("items for what is no dictionary")
        _fill(target, zip(items[::2], items[1::2], strict=True))

    def _called(self, function: Any, arguments: Any) -> Any:
        if type(function) is not _Global or type(arguments) is not tuple:
            raise _RefusedError("a call of what is no function")
        if function == _ORDERED_DICT:
            result: OrderedDict[Any, Any] = OrderedDict()
            _fill(result, self._counted(*arguments)) if arguments else None
            return result
        if function == _PARAMETER:
            return arguments[0]
        if function in _TENSORS:
            return self._tensor(*arguments)
        raise _RefusedError(f"a call of {'.'.join(function)}")

    def _counted(self, pairs: Iterable[Any]) -> Iterator[Any]:
        """The pairs, each of which stands in the file, unless one list of them is used again and again."""
        for pair in pairs:
            self.pairs_left -= 1
            if self.pairs_left < 0:
                raise ValueError("more pairs than bytes")
            yield pair

    def _tensor(
        self,
        storage: Any,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: Any = None,
        backward_hooks: Any = None,
        metadata: Any = None,
    ) -> NDArray[Any] | None:
        """A view of a storage; `offset` and `stride` count elements."""
        if type(storage) is not _Storage or self.storage is None:
            raise _RefusedError("a tensor without storage")
        if metadata:
            raise _RefusedError("a tensor that is to be conjugated or negated")
        if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)):
            raise ValueError("a tensor has negative sizes")
        data = self.storage(storage)
        if data is None:
            return None
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if 0 in size:
            return np.empty(size, data.dtype)
        if last >= len(data):
            raise ValueError(f"a tensor reaches to element {last} of a storage of {len(data)}")
        steps = [step * data.itemsize if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
        return np.ndarray(size, data.dtype, data, offset * data.itemsize, steps)


def _fill(target: dict[Any, Any], pairs: Iterable[Any]) -> None:
    """Set items, by keys that have no parts: hashing a deep tuple of tuples would break the stack."""
    for key, value in pairs:
        if type(key) not in _PLAIN:
            raise _RefusedError(f"a {type(key).__name__} as the key of a dictionary")
        target[key] = value


def _admitted(module: Any, name: Any) -> _Global:
    if type(module) is not str or type(name) is not str:  # and maybe too deep for a message
        raise _RefusedError("a name that is no string")
    if _Global(module, name) not in _ADMITTED:
        raise _RefusedError(f"{module}.{name}")
    return _Global(module, name)


def _storage(reference: Any) -> _Storage:
    """From PyTorch's name for it: ("storage", type, key, device, number of elements), and maybe None."""
    if type(reference) is not tuple or reference[:1] != ("storage",):
        raise _RefusedError("a reference to something outside that is no storage")
    _, kind, key, _, count, *view = reference
    if type(kind) is not _Global or kind not in _STORAGES or any(part is not None for part in view):
        raise _RefusedError("a storage of an unknown kind")
    if type(key) is not str or type(count) is not int or count < 0:
        raise ValueError("a storage has a key that is no string, or no number of elements")
    return _Storage(key, _STORAGES[kind], count)


def _check_plain(result: Any) -> None:
    """Raise if names or storages themselves are in the result. Without recursion, since it may be deep."""
    seen: set[int] = set()
    left = [result]
    while left:
        value = left.pop()
        if type(value) in (_Global, _Storage):
            raise _RefusedError(f"a {type(value).__name__.strip('_').lower()} as a value")
        if id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, dict):
                left.extend(value.values())
            elif isinstance(value, (list, tuple)):
                left.extend(value)
