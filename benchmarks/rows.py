"""The shapes that are raced: the rows of the project's speed target, and other shapes of each kind.

Every row knows its arrays, its floating-point operations, the bytes it must move and the error it may have.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Pair = tuple[int, int]


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True)
class Row:
    """One shape: `n` images of `c` channels of `image` pixels, and a window that slides over them."""

    name: str
    n: int
    c: int
    image: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    layout: str
    dtype: np.dtype

    @property
    def dilation(self) -> Pair:
        return (1, 1)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, *self.image)

    @property
    def output_image(self) -> Pair:
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, padding, dilation, kernel, stride in zip(
                self.image, self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return height, width

    def _random(self, shape: tuple[int, ...], purpose: str) -> np.ndarray:
        """Numbers in [-1, 1) that depend on the row's name alone."""
        rng = np.random.default_rng(zlib.crc32(f"{self.name} {purpose}".encode()))
        return rng.uniform(-1, 1, shape).astype(self.dtype)


@dataclass(frozen=True)
class ConvRow(Row):
    k: int
    groups: int
    dilations: Pair

    @property
    def dilation(self) -> Pair:
        return self.dilations

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return (self.k, self.c // self.groups, *self.kernel)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.k, *self.output_image)

    @property
    def flops(self) -> int:
        """Operations of the forward pass, a multiply-add being two; the backward pass has twice as many."""
        return 2 * math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    @property
    def products(self) -> dict[str, int]:
        """How many products are summed into one element of each result."""
        pixels = self.n * math.prod(self.output_image)
        window = math.prod(self.kernel)
        return {
            "output": self.c // self.groups * window,
            "grad_x": self.k // self.groups * window,
            "grad_weight": pixels,
            "grad_bias": pixels,
        }

    @property
    def tolerances(self) -> dict[str, float]:
        """Errors allowed, relative to the largest result: eps (16 sqrt(L) + 32) where it sums L products."""
        eps = float(np.finfo(self.dtype).eps)
        return {result: eps * (16 * math.sqrt(count) + 32) for result, count in self.products.items()}

    @cached_property
    def x(self) -> np.ndarray:
        return self._random(self.x_shape, "x")

    @cached_property
    def weight(self) -> np.ndarray:
        return self._random(self.weight_shape, "weight")

    @cached_property
    def bias(self) -> np.ndarray:
        return self._random((self.k,), "bias")

    @cached_property
    def grad_output(self) -> np.ndarray:
        return self._random(self.output_shape, "grad_output")


@dataclass(frozen=True)
class PoolRow(Row):
    kind: str

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, *self.output_image)

    @property
    def bytes_moved(self) -> int:
        """Bytes of input and output: what one pass over memory costs at least, forward or backward."""
        return self.dtype.itemsize * (math.prod(self.x_shape) + math.prod(self.output_shape))

    @property
    def tolerances(self) -> dict[str, float]:
        """A maximum is exact; sums over a window, and of the gradients that meet in a pixel, are rounded."""
        eps = float(np.finfo(self.dtype).eps) * math.prod(self.kernel)
        return {"output": 0.0 if self.kind == "max" else eps, "grad_x": eps}

    @cached_property
    def x(self) -> np.ndarray:
        return self._random(self.x_shape, "x")

    @cached_property
    def grad_output(self) -> np.ndarray:
        return self._random(self.output_shape, "grad_output")


def conv(
    name: str,
    n: int,
    c: int,
    image: int | Pair,
    k: int,
    kernel: int | Pair,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    groups: int = 1,
    *,
    dilation: int | Pair = 1,
    layout: str = "NCHW",
    dtype: str = "float32",
) -> ConvRow:
    return ConvRow(
        name, n, c, _pair(image), _pair(kernel), _pair(stride), _pair(padding), layout, np.dtype(dtype),
        k, groups, _pair(dilation),
    )  # fmt: skip


def pool(
    name: str,
    kind: str,
    n: int,
    c: int,
    image: int | Pair,
    kernel: int | Pair,
    stride: int | Pair,
    padding: int | Pair = 0,
    *,
    layout: str = "NCHW",
    dtype: str = "float32",
) -> PoolRow:
    return PoolRow(
        name, n, c, _pair(image), _pair(kernel), _pair(stride), _pair(padding), layout, np.dtype(dtype), kind
    )


# Layers of AlexNet, VGG, ResNet, MobileNet, LeNet and a network for 8x8 digits: the targets hold for these.
CONV_ROWS = (
    conv("alex1", 16, 3, 224, 96, 11, 4, 2),
    conv("alex2", 16, 96, 27, 256, 5, 1, 2),
    conv("alex3", 16, 256, 13, 384, 3, 1, 1),
    conv("alex4", 16, 384, 13, 384, 3, 1, 1),
    conv("alex5", 16, 384, 13, 256, 3, 1, 1),
    conv("vgg1.2", 4, 64, 224, 64, 3, 1, 1),
    conv("vgg3.2", 4, 256, 56, 256, 3, 1, 1),
    conv("vgg5", 4, 512, 14, 512, 3, 1, 1),
    conv("res1", 16, 3, 224, 64, 7, 2, 3),
    conv("res2.3x3", 16, 64, 56, 64, 3, 1, 1),
    conv("res3.3x3", 16, 128, 28, 128, 3, 1, 1),
    conv("res3.s2", 16, 128, 56, 128, 3, 2, 1),
    conv("res2.1x1", 16, 64, 56, 256, 1),
    conv("res4.1x1", 16, 1024, 14, 256, 1),
    conv("mob.dw", 16, 128, 56, 128, 3, 1, 1, 128),
    conv("mob.dws2", 16, 128, 56, 128, 3, 2, 1, 128),
    conv("lenet1", 64, 1, 28, 6, 5, 1, 2),
    conv("lenet2", 64, 6, 14, 16, 5),
    conv("digits", 64, 16, 8, 32, 3, 1, 1),
)

POOL_ROWS = (
    pool("max3s2.55", "max", 16, 96, 55, 3, 2),
    pool("avg3s2.55", "avg", 16, 96, 55, 3, 2),
    pool("max2s2.224", "max", 4, 64, 224, 2, 2),
    pool("max3s2p1.112", "max", 16, 64, 112, 3, 2, 1),
    pool("max2s2.8", "max", 64, 16, 8, 2, 2),
)

# Nothing may be tuned to the rows above alone: these are of the same kinds, in sizes that divide by little.
OTHER_CONV_ROWS = (
    conv("odd.3x3", 8, 61, 28, 67, 3, 1, 1),
    conv("odd.1x1", 8, 131, 28, 253, 1),
    conv("prime.image", 4, 32, (53, 47), 48, 3, 1, 1),
    conv("valid.3x3", 8, 64, 30, 64, 3),
    conv("batch1.3x3", 1, 128, 28, 128, 3, 1, 1),
    conv("batch1.1x1", 1, 512, 14, 512, 1),
    conv("batch1.first", 1, 3, 224, 64, 7, 2, 3),
    conv("small7.3x3", 16, 512, 7, 512, 3, 1, 1),
    conv("small7.1x1", 16, 512, 7, 2048, 1),
    conv("res3.1x1s2", 16, 256, 56, 128, 1, 2),
    conv("first.odd", 4, 3, (97, 101), 24, 3, 2, 1),
    conv("k5.64", 8, 64, 28, 64, 5, 1, 2),
    conv("k5.s2", 8, 48, 35, 64, 5, 2, 2),
    conv("k7.64", 4, 64, 28, 64, 7, 1, 3),
    conv("k2.64", 8, 64, 29, 64, 2),
    conv("small2.3x3", 64, 512, 2, 512, 3, 1, 1),
    conv("k3.s2", 16, 32, 32, 64, 3, 2, 1),
    conv("k4.s2", 16, 64, 64, 128, 4, 2, 1),
    conv("k4.s2.deep", 16, 256, 16, 512, 4, 2, 1),
    conv("k8.s4", 16, 4, 84, 32, 8, 4),
    conv("patch2", 8, 96, 56, 192, 2, 2),
    conv("patch4", 8, 3, 224, 96, 4, 4),
    conv("row.1x7", 8, 128, 17, 128, (1, 7), 1, (0, 3)),
    conv("column.7x1", 8, 128, 17, 128, (7, 1), 1, (3, 0)),
    conv("line3", 16, 128, (1, 500), 128, (1, 3), 1, (0, 1)),
    conv("line5.odd", 8, 61, (1, 997), 67, (1, 5), 1, (0, 2)),
    conv("line3.dilated.8", 8, 64, (1, 1000), 64, (1, 3), 1, (0, 8), dilation=(1, 8)),
    conv("line8.s4", 16, 64, (1, 2000), 128, (1, 8), (1, 4), (0, 2)),
    conv("dilated.2", 8, 64, 28, 64, 3, 1, 2, dilation=2),
    conv("groups4", 8, 128, 28, 128, 3, 1, 1, 4),
    conv("groups32", 8, 128, 56, 128, 3, 1, 1, 32),
    conv("dw5", 8, 96, 28, 96, 5, 1, 2, 96),
    conv("dw.odd", 8, 61, 29, 61, 3, 1, 1, 61),
    conv("nhwc.3x3", 8, 64, 56, 64, 3, 1, 1, layout="NHWC"),
    conv("nhwc.1x1", 8, 64, 56, 256, 1, layout="NHWC"),
    conv("nhwc.dw", 8, 128, 56, 128, 3, 1, 1, 128, layout="NHWC"),
    conv("f64.3x3", 8, 64, 28, 64, 3, 1, 1, dtype="float64"),
    conv("f64.1x1", 8, 256, 14, 256, 1, dtype="float64"),
    conv("f64.lenet1", 64, 1, 28, 6, 5, 1, 2, dtype="float64"),
)

OTHER_POOL_ROWS = (
    pool("max2s2.odd", "max", 8, 61, (57, 53), 2, 2),
    pool("max3s1.same", "max", 8, 64, 28, 3, 1, 1),
    pool("max3s2.batch1", "max", 1, 64, 112, 3, 2, 1),
    pool("max3s3.30", "max", 8, 64, 30, 3, 3),
    pool("max3s2.nhwc", "max", 8, 64, 56, 3, 2, 1, layout="NHWC"),
    pool("max2s2.f64", "max", 8, 64, 56, 2, 2, dtype="float64"),
    pool("avg2s2.56", "avg", 8, 64, 56, 2, 2),
    pool("avg3s1.same", "avg", 8, 64, 28, 3, 1, 1),
    pool("avg7.7", "avg", 16, 512, 7, 7, 1),
    pool("avg2s2.f64", "avg", 8, 64, 56, 2, 2, dtype="float64"),
)
