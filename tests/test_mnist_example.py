"""examples/mnist.py as people start it, on small files made here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_idx, write_mnist_like

import fastconv as fc

pytest.importorskip("matplotlib")

SCRIPT = Path(__file__).parents[1] / "examples" / "mnist.py"
PICTURES = ["confusion-matrix.png", "feature-maps.png", "filters.png", "learning-curves.png"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_mnist_like(folder, 320, 50, np.random.default_rng(0), ".gz")
    return folder


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments: object) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_it_learns_and_leaves_pictures_and_weights(data: Path, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        options = ("--data", data, "--epochs", 8, "--batch-size", 8, "--threads", 1, "--seed", seed)
        code, out, err = run(*options, "--output", tmp_path / name)
        assert code == 0, err
        assert "of the 50 held-out images read correctly, after 8 epochs" in out
        assert set(PICTURES) <= set(os.listdir(tmp_path / name))
        weights.append((tmp_path / name / "weights.npz").read_bytes())
    assert float(out.splitlines()[-1].split("%")[0]) > 90
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
    model = fc.models.LeNet()
    model.load_state_dict(fc.load(tmp_path / "one" / "weights.npz"))


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_what_was_learned_and_says_where(data: Path, tmp_path: Path) -> None:
    process = start("--data", data, "--epochs", 10_000, "--output", tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"what was learned so far is in {tmp_path / 'weights.npz'}" in out
    assert "Traceback" not in err
    fc.models.LeNet().load_state_dict(fc.load(tmp_path / "weights.npz"))


def assert_one_line(arguments: tuple[object, ...], *words: str) -> None:
    code, _, err = run(*arguments)
    assert code == 1
    assert len(err.splitlines()) == 1, err
    for word in words:
        assert word in err


def test_a_bad_file_is_named_in_one_line(data: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert_one_line(("--data", missing), f"{missing}: no such folder")
    folder = tmp_path / "data"
    folder.mkdir()
    assert_one_line(("--data", folder), "train-images-idx3-ubyte: no such file")
    for path in data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    labels = folder / "train-labels-idx1-ubyte.gz"
    good = labels.read_bytes()
    labels.write_bytes(good[:-9])
    assert_one_line(("--data", folder), str(labels), "damaged")
    labels.write_bytes(b"not what it should be")
    assert_one_line(("--data", folder), str(labels), "not an IDX file")
    labels.write_bytes((folder / "train-images-idx3-ubyte.gz").read_bytes())
    assert_one_line(("--data", folder), str(labels), "needs labels")
    write_idx(labels, np.full(320, 10, np.uint8))
    assert_one_line(("--data", folder), str(folder), "labels from 0 to 9")
    labels.write_bytes(good)
    occupied = tmp_path / "file"
    occupied.write_text("")
    assert_one_line(("--data", folder, "--output", occupied), str(occupied))


@pytest.mark.parametrize(
    "option", [("--epochs", "0"), ("--batch-size", "x"), ("--threads", "-1"), ("--seed", "1.5")]
)
def test_a_bad_option_is_named(option: tuple[str, str]) -> None:
    code, _, err = run(*option)
    assert code == 2
    assert f"argument {option[0]}: got" in err or "expected one argument" in err
