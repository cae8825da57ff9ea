"""fastconv.save and fastconv.load."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import serialization
from fastconv.serialization import load, save

STATE: dict[str, Any] = {
    "0.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "0.bias": np.float64(0.5) * np.arange(3),
    "file": np.array(7, np.int64),
    "allow_pickle": np.array([True, False]),
    "half": np.array([1, 2], np.float16),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "swapped": np.arange(3).astype(">f4"),
    "empty": np.zeros((0, 3), np.float32),
}


class Holder:
    """As a module: it has a state_dict."""

    def state_dict(self) -> dict[str, Any]:
        return STATE


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"weights{request.param}"


@pytest.mark.parametrize("what", [STATE, Holder()], ids=["mapping", "module"])
def test_round_trip(path: Path, what: Any) -> None:
    save(path, what)
    state = load(path)
    assert set(state) == set(STATE)
    for name, array in STATE.items():
        assert state[name].dtype == array.dtype.newbyteorder("=") or path.suffix == ".npz"
        np.testing.assert_array_equal(state[name], array)
        assert state[name].shape == array.shape


def test_numpy_reads_what_save_wrote_and_load_what_numpy_wrote(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    save(path, {"a": np.arange(3)})
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["a"], np.arange(3))
    np.savez_compressed(path, b=np.arange(4))
    np.testing.assert_array_equal(load(path)["b"], np.arange(4))


def test_same_arrays_same_bytes(path: Path) -> None:
    save(path, {"a": np.arange(3)})
    first = path.read_bytes()
    save(path, {"a": np.arange(3)})
    assert path.read_bytes() == first


def test_an_interrupted_save_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(path, {"a": np.arange(3)})
    before = path.read_bytes()

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serialization.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(path, {"a": np.arange(4)})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_save_keeps_a_link_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target.npz"
    link = tmp_path / "link.npz"
    link.symlink_to(target)
    save(link, {"a": np.arange(3)})
    assert link.is_symlink()
    np.testing.assert_array_equal(load(target)["a"], np.arange(3))


def test_save_obeys_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "a.npz", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.npz").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_save_keeps_the_permissions_of_what_it_replaces(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    save(path, {"a": np.arange(3)})
    path.chmod(mode)
    seen = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        sync(descriptor)

    monkeypatch.setattr(serialization.os, "fsync", watched)
    save(path, {"a": np.arange(4)})
    assert path.stat().st_mode & 0o777 == mode
    assert seen == [mode], "nor may others read the file before it is in its place"
    np.testing.assert_array_equal(load(path)["a"], np.arange(4))


@pytest.mark.parametrize("length", [246, 255])
def test_save_takes_every_name_that_a_file_may_have(tmp_path: Path, length: int) -> None:
    path = tmp_path / f"{'a' * (length - 4)}.npz"
    save(path, {"a": np.arange(3)})
    np.testing.assert_array_equal(load(path)["a"], np.arange(3))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("name", "state", "kind", "message"),
    [
        (
            "weights.pt",
            {},
            ValueError,
            r"path: got .*weights.pt', needs a name that ends in .npz or .safetensors",
        ),
        ("weights", {}, ValueError, "needs a name that ends in"),
        ("weights.npz", {3: np.ones(2)}, TypeError, "the name 3, needs strings"),
        ("weights.npz", {"a": np.array([None])}, TypeError, r"module\['a'\]: got dtype object"),
        ("weights.npz", {"a": [[1], [2, 3]]}, TypeError, r"module\['a'\]: got list \(.*\), needs an array"),
        ("weights.npz", [np.ones(2)], TypeError, "module: got list, needs a module or a mapping"),
    ],
)
def test_save_refuses_before_it_writes(
    tmp_path: Path, name: str, state: Any, kind: Any, message: str
) -> None:
    with pytest.raises(kind, match=message):
        save(tmp_path / name, state)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("used", [False, True])
def test_an_optimizer_is_refused_with_what_to_do_instead(path: Path, used: bool) -> None:
    layer = fc.nn.Linear(2, 2)
    optimizer = fc.optim.Adam(layer.parameters())
    if used:
        for parameter in layer.parameters():
            parameter.grad = np.ones_like(parameter.data)
        optimizer.step()
    for what in (optimizer, optimizer.state_dict()):
        with pytest.raises(TypeError, match=r"^module\['state'\]: got dict, needs .*train\.fit\(checkpoint="):
            save(path, what)
    assert os.listdir(path.parent) == []


def test_save_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "nowhere" / "weights.npz", STATE)


def test_load_names_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="weights"):
        load(path)


def test_load_names_a_damaged_file(path: Path) -> None:
    save(path, STATE)
    good = path.read_bytes()
    half = len(good) // 2
    for damaged in (b"", b"hello", good[:half], good[half:], pickle.dumps(STATE), good[:300] + good[310:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged") as error:
            load(path)
        assert str(error.value).startswith(str(path))


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("was_run",)


def test_load_runs_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("weights.npz", a=np.array([Hostile()], object))
    with pytest.raises(ValueError, match="damaged, or not from"):
        load("weights.npz")
    assert not Path("was_run").exists()
