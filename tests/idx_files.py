"""Small files in the IDX format, written from its description, for the tests of what reads them."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: NDArray[Any]) -> bytes:
    code = CODES[array.dtype.str[1:]]
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(path: Path, array: NDArray[Any]) -> None:
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def bars(labels: NDArray[np.int64], rng: np.random.Generator, size: int = 28) -> NDArray[np.uint8]:
    """Images easy to tell apart; class k: a bright bar in the rows around size (k + 0.5) / 10, in noise."""
    images = rng.integers(0, 80, (len(labels), size, size), np.uint8)
    for image, label in zip(images, labels, strict=True):
        row = int(size * (label + 0.5) / 10)
        image[row - 1 : row + 2] += 160
    return images


def write_mnist_like(folder: Path, train: int, test: int, rng: np.random.Generator, suffix: str = "") -> None:
    """The four files, with `train` and `test` images of `bars`."""
    for part, count in (("train", train), ("t10k", test)):
        labels = rng.integers(0, 10, count)
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", bars(labels, rng))
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels.astype(np.uint8))
