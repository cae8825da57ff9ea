"""What a fuzzer draws: sizes, arrays in any dtype and order in memory, and values that nobody should pass."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from memory_orders import MEMORY_ORDERS
from numpy.typing import NDArray

T = TypeVar("T")
AnyArray = NDArray[Any]

DTYPES = [
    np.dtype(name)
    for name in ("f4", "f8", ">f4", ">f8", "f2", ">f2", "?", "i1", "u1", "i2", "i4", ">i8", "u8")
]
NO_DTYPES = [np.dtype(name) for name in ("c8", "O", "U2", "S2", "M8[s]", "g", "f4,f4", "V4")]

# Around the lengths of vectors and tiles, beside the many small ones.
SIZES = (7, 8, 9, 12, 13, 15, 16, 17, 31, 32, 33, 64, 65)

NO_NUMBERS: list[Any] = [
    *(-1, 0, 1, 3, -(2**31), 2**31 - 1, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30, 1.5, 2.0, -0.0, 1e300),
    *(float("nan"), float("inf"), True, False, None, "same", "valid", "2", b"2", "reflect", "NHWC", 1 + 2j),
    *(np.int8(2), np.int64(3), np.uint8(5), np.float32(2), np.bool_(True), np.array(2), np.array(1.5)),
    *(np.array([2, 1]), np.array([], int), [1, 2], (2, 1), (1, 2, 3), (), [], {}, {1, 2}, ((1, 0), (2, 1))),
    *(((1, 2), 1), (2**31 - 1, 1), (1, 2**62), (None, 1), (-1, 2), (1.0, 2), (True, 1), ("1", 2)),
    *(Ellipsis, slice(None), object(), int, range(2), np.datetime64("2020"), np.dtype("f4")),
]  # fmt: skip


class Draw:
    """Draws everything from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def integer(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def size(self, most: int = 65) -> int:
        if self.chance(0.02):
            return 0
        if self.chance(0.3):
            return min(self.one(SIZES), most)
        return self.integer(1, min(9, most))

    def pair(self, least: int, most: int) -> Any:
        """An int or two."""
        if self.chance(0.5):
            return self.integer(least, most)
        return (self.integer(least, most), self.integer(least, most))

    def shape(self, *axes: int, budget: int | None = None) -> tuple[int, ...]:
        """Of that many elements at most: few most often, up to millions now and then."""
        if budget is None:
            budget = self.one([4_000_000, 300_000]) if self.chance(0.001) else 4000
        sizes = list(axes)
        if budget > 4000:
            for axis in (-1, -2, -3)[: len(sizes)]:
                sizes[axis] *= self.integer(1, 40)
        while np.prod(np.maximum(sizes, 1)) > budget:
            largest = int(np.argmax(sizes))
            sizes[largest] = sizes[largest] // 2 + 1
        return tuple(sizes)

    def array(self, shape: Sequence[int], dtype: Any = None, limit: int = 3) -> AnyArray:
        """Whole numbers up to `limit`, and less, in any dtype, or one of those given, and order."""
        dtype = np.dtype(self.one(DTYPES) if dtype is None else dtype)
        signed = dtype.kind not in "u?"
        values = self.rng.integers(-limit if signed else 0, limit + 1, shape)
        array = values * 0.75 + 0.25 if dtype.kind == "f" and self.chance(0.3) else values
        return self.arranged(np.asarray(array).astype(dtype))

    def arranged(self, array: AnyArray) -> AnyArray:
        """In any order in memory."""
        if not array.size or not array.ndim or self.chance(0.5):
            return array
        return MEMORY_ORDERS[self.one(list(MEMORY_ORDERS))](array)

    def arrays(self, *shapes: Sequence[int]) -> list[AnyArray]:
        """Of one dtype, most often."""
        dtype = None if self.chance(0.3) else self.one(DTYPES[:2]) if self.chance(0.8) else self.one(DTYPES)
        return [self.array(shape, dtype) for shape in shapes]

    def no_array(self, array: AnyArray) -> Any:
        """Something that was `array` once."""
        kind = self.integer(0, 12)
        if kind == 0:
            return np.zeros(array.shape, self.one(NO_DTYPES))
        if kind == 1:
            return array[None]
        if kind == 2:
            return array[0] if array.ndim and len(array) else array.sum()
        if kind == 3:
            return array[..., :-1] if array.ndim else np.array(None)
        if kind == 4:
            return (
                np.broadcast_to(array.ravel()[:1], (2**20, 2**20, 2**12, 1)[: max(array.ndim, 1)])
                if array.size
                else array
            )
        if kind == 5:
            axis = self.integer(0, max(array.ndim - 1, 0))
            return array.take([], axis) if array.ndim else []
        if kind == 6:
            return array.tolist()
        if kind == 7:
            return array.T
        if kind == 8:
            return np.zeros((0, 2**31, 2**20, 1)[: max(array.ndim, 1)], np.float32)
        if kind == 9:
            return memoryview(np.ascontiguousarray(array)) if array.dtype.isnative else None
        if kind == 12:
            return array.reshape((1,) * (self.integer(20, 64) - array.ndim) + array.shape)
        if kind == 10:
            return [[1, 2], [3]]
        return self.one(NO_NUMBERS)
