"""fastconv.save and fastconv.load on .npz: every name, files of other writers, and damaged ones."""

import io
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
