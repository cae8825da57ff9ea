"""fastconv.save and fastconv.load on .npz: every name, files of other writers, and damaged ones."""

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv.serialization import load, save


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.npz"


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array))
    return file.getvalue()


# ---- names ----

NAMES = ["", "x", "x.npy", "x.npy.npy", ".npy", "é漢", "a\\b", "../x", "/abs", "a/", "file", "a" * 65531]


def test_names_are_kept(path: Path) -> None:
    state = {name: np.array([number]) for number, name in enumerate(NAMES)}
    save(path, state)
    assert load(path) == state
    with np.load(path) as archive:
        assert set(archive.files) == set(NAMES)
        np.testing.assert_array_equal(archive["é漢"], state["é漢"])


@pytest.mark.parametrize("name", ["a\0b", "\0", "a" * 65532, "漢" * 21844, "\ud800"])
def test_a_name_that_the_file_cannot_keep_is_refused_before_it_is_written(path: Path, name: str) -> None:
    save(path, {"a": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^module: got the name .*, needs names .* 65531 bytes") as error:
        save(path, {"b": np.arange(2), name: np.arange(2)})
    assert len(str(error.value)) < 250
    assert path.read_bytes() == before


def test_two_arrays_of_one_name_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", npy([1]))
        archive.writestr("a.npy", npy([2]))
    with pytest.raises(ValueError, match=r"weights\.npz: damaged.*two arrays 'a'"):
        load(path)


# ---- files of others ----


def test_what_numpy_wrote(path: Path) -> None:
    state: dict[str, Any] = {
        "x": np.arange(6.0).reshape(2, 3),
        "x.npy": np.arange(6).reshape(2, 3).T,
        "swapped": np.arange(3, dtype=">f4"),
        "empty": np.zeros((0, 3)),
        "none": np.float32(2),
        "record": np.array([(1, 2.5)], [("a", "i4"), ("é漢\U0001f600", "f8")]),
        "latin": np.array([(1, 2.5)], [("a", "i4"), ("é", "f8")]),
        "text": np.array("hello"),
        "date": np.array("2020-01-01", "M8[D]"),
        "wide": np.longdouble(1) / 3,
        "axes": np.ones((1,) * 64),
        "large": np.arange(10**6),
        "nothing": np.zeros(3, "V0"),
    }
    for write in (np.savez, np.savez_compressed):
        with pytest.warns(UserWarning, match="format 3.0"):
            write(path, **state)
        loaded = load(path)
        assert list(loaded) == list(state)
        for name, array in state.items():
            assert loaded[name].dtype == array.dtype
            np.testing.assert_array_equal(loaded[name], array, strict=True)
            assert loaded[name].flags.writeable
            assert loaded[name].flags.f_contiguous == np.asarray(array).flags.f_contiguous


def test_what_numpy_wrote_with_python_2(path: Path) -> None:
    content = npy([1.0, 2.0, 3.0]).replace(b"(3,), } ", b"(3L,), }")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.warns(UserWarning, match="Python 2"):
        np.testing.assert_array_equal(load(path)["a"], [1, 2, 3])


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_compression_and_names_without_a_suffix(path: Path, method: int) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a", npy(np.arange(1000)))
        archive.comment = b"by hand"
    np.testing.assert_array_equal(load(path)["a"], np.arange(1000))


# ---- damaged and hostile files ----


def archive_of(path: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("a.npy"), content, method)


def with_header(header: str, content: bytes = bytes(8)) -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def of_shape(shape: str, kind: str = "<f8") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}"


HEADERS = {
    "more than the file has": of_shape("(2,)"),
    "less than the file has": of_shape("()", "<f4"),
    "72 TiB": of_shape("(10000000000000,)"),
    "beyond 64 bits": of_shape("(10000000000000000000000000,)"),
    "beyond 64 bits together": of_shape("(4611686018427387904, 4)"),
    "empty, beyond 64 bits": of_shape("(0, 99999999999999999999999)"),
    "nothing, but often": of_shape("(4611686018427387904, 4)", "V0"),
    "negative": of_shape("(-1,)"),
    "negative twice": of_shape("(-1, -1)"),
    "no integer": of_shape("(1.5,)"),
    "bool": of_shape("(True,)"),
    "70 axes": of_shape("(" + "1, " * 70 + ")"),
    "no tuple": of_shape("1"),
    "objects": of_shape("(1,)", "O"),
    "other keys": "{1: 2}",
    "keys of two kinds": "{'descr': '<f8', b'x': 1}",
    "keys that cannot be": "{[]: 1}",
    "no dtype": "{'descr': [('a',)], 'fortran_order': False, 'shape': ()}",
    "open bracket": "{'descr': '<f8'",
    "open string": "'''",
    "minus": "-" * 5000 + "1",
    "brackets": "[" * 9000,
    "parentheses": "(" * 300 + ")" * 300,
    "no header": "",
    "longer than is read": of_shape("()") + " " * 20000,
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=list(HEADERS))
def test_a_header_that_lies_is_refused(path: Path, header: str) -> None:
    archive_of(path, with_header(header))
    with pytest.raises(ValueError, match=r"weights\.npz: damaged, or not from") as error:
        load(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 200


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0", b"\3\0"])
def test_a_length_of_the_header_that_lies_is_refused(path: Path, version: bytes) -> None:
    for length in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x05\0\0\0"):
        archive_of(path, b"\x93NUMPY" + version + length + of_shape("()").encode() + bytes(8))
        with pytest.raises(ValueError, match="damaged"):
            load(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_no_memory_is_taken_for_what_a_directory_makes_up(path: Path, method: int) -> None:
    """The header and the directory agree on two gigabytes, which the file does not have."""
    size = 2**31 - 1
    content = with_header(of_shape(f"({size},)", "|u1"), bytes(1000))
    archive_of(path, content, method)
    file = bytearray(path.read_bytes())
    directory = file.index(b"PK\1\2")
    file[directory + 24 : directory + 28] = (size + len(content) - 1000).to_bytes(4, "little")
    path.write_bytes(file)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="damaged"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_an_encrypted_member_is_refused(path: Path) -> None:
    archive_of(path, npy([1.0]))
    file = bytearray(path.read_bytes())
    file[6] |= 1
    file[file.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(file)
    with pytest.raises(ValueError, match=r"damaged, or not from .*encrypted"):
        load(path)


def test_a_member_that_is_no_array_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy([1.0]))
        archive.writestr("folder/", b"")
    with pytest.raises(ValueError, match="damaged, or not from"):
        load(path)


def test_a_directory_that_ends_too_early_is_found(path: Path) -> None:
    save(path, {"a": np.arange(3)})
    file = bytearray(path.read_bytes())
    file[-10:-6] = bytes(4)  # the size of the directory
    path.write_bytes(file)
    with pytest.raises(ValueError, match="damaged"):
        load(path)


def test_damaged_bytes_raise_nothing_else(path: Path) -> None:
    """And whatever is loaded all the same is what was saved."""
    state = {"stored": np.arange(30.0), "deflated": np.arange(50) % 7, "lzma": np.arange(40, dtype=np.int16)}
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(path, "w") as archive:
        for (name, array), method in zip(state.items(), methods, strict=True):
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(array), method)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    outcomes = []
    for _ in range(600):
        damaged = bytearray(whole)
        for position in random.integers(0, len(whole), random.integers(1, 4)):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except ValueError as error:
            outcomes.append(str(error).startswith(str(path)))
            continue
        assert list(loaded) == list(state)
        for name, array in state.items():
            np.testing.assert_array_equal(loaded[name], array, strict=True)
    assert all(outcomes)
    assert len(outcomes) > 300
