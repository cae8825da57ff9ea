"""The cases that drive the tests of convolution and pooling: forward, gradients, threads and benchmarks.

A case knows its shapes, its floating-point operations and how far from the float64 reference a result may
be. Arrays and references are made once per case and dtype, and are read-only.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import cycle
from math import prod, sqrt
from typing import Any
from zlib import crc32

import numpy as np
import reference
from numpy.typing import DTypeLike, NDArray
from reference import Edges, Pair

from fastconv._kernels.geometry import ConvGeometry

Shape = tuple[int, int, int, int]

# The algorithms of convolution, as a user names them.
ALGORITHMS = ("auto", "direct", "im2col", "winograd", "strassen")

# Those that add the products themselves, so that sums of whole numbers are exact.
PLAIN_ALGORITHMS = ("direct", "im2col")

# Register tiles of the contraction kernels, (rows, columns), and vector lengths: where remainders begin.
TILE_ROWS = (6, 12, 14, 16)
TILE_COLUMNS = (16, 32)
LANES = (4, 8, 16)


def around(*sizes: int) -> list[int]:
    """Each size, one less, and one more."""
    return sorted({size + step for size in sizes for step in (-1, 0, 1)})


def error_bound(dtype: DTypeLike, products: int, algorithm: str) -> float:
    """How far a result may be from the exact one, relative to the largest result; as promised to the user."""
    eps = float(np.finfo(dtype).eps)
    if algorithm in PLAIN_ALGORITHMS:
        return eps * (4 * sqrt(products) + 4)
    return eps * (16 * sqrt(products) + 32)


def assert_within(
    actual: NDArray[Any], expected: NDArray[Any], bound: float, scale: NDArray[Any] | None = None
) -> None:
    """No error is larger than `bound` times the largest of `scale`, by default of the expected result."""
    assert actual.shape == expected.shape
    if expected.size:
        error = np.max(np.abs(actual - expected))
        allowed = bound * np.max(np.abs(expected if scale is None else scale))
        assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


def to_nhwc(array: NDArray[Any]) -> NDArray[Any]:
    """(N, C, H, W) to a C-contiguous (N, H, W, C), or (C, H, W) to (H, W, C)."""
    return np.ascontiguousarray(np.moveaxis(array, -3, -1))


def to_nchw(array: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `to_nhwc`."""
    return np.ascontiguousarray(np.moveaxis(array, -1, -3))


def _frozen(*arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    for array in arrays:
        array.flags.writeable = False
    return arrays


# ---- convolution ----


@dataclass(frozen=True)
class ConvCase:
    name: str
    x_shape: Shape
    weight_shape: Shape
    stride: Pair = 1
    padding: int | tuple[int, int] | tuple[Edges, Edges] = 0
    dilation: Pair = 1
    groups: int = 1

    def __str__(self) -> str:
        return self.name

    @property
    def arguments(self) -> dict[str, Any]:
        """What `conv2d` and `conv2d_backward` take beside the arrays."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def edges(self) -> tuple[Edges, Edges]:
        """The padding as ((top, bottom), (left, right))."""
        return reference.explicit_padding(self.padding, self.x_shape[2:], self.weight_shape[2:])

    @cached_property
    def output_shape(self) -> Shape:
        height, width = (
            reference.conv_output_size(
                self.x_shape[2 + axis],
                self.weight_shape[2 + axis],
                reference.pair(self.stride)[axis],
                self.edges[axis],
                reference.pair(self.dilation)[axis],
            )
            for axis in (0, 1)
        )
        return (self.x_shape[0], self.weight_shape[0], height, width)

    @property
    def flops(self) -> int:
        """Multiplications and additions of one forward; each of the two large gradients costs the same."""
        return 2 * prod(self.output_shape) * prod(self.weight_shape[1:])

    @property
    def products(self) -> dict[str, int]:
        """The most products that are summed into one element of the output and of each gradient."""
        batch, channels_out, height, width = self.output_shape
        return {
            "output": prod(self.weight_shape[1:]),
            "x": channels_out // self.groups * prod(self.weight_shape[2:]),
            "weight": batch * height * width,
            "bias": batch * height * width,
        }

    @property
    def is_small(self) -> bool:
        """Small enough for a numerical gradient, and not empty."""
        return not self.is_empty and prod(self.x_shape) <= 200 and self.flops <= 20_000

    @property
    def is_empty(self) -> bool:
        return 0 in (*self.x_shape, *self.weight_shape)

    @property
    def has_symmetric_padding(self) -> bool:
        return all(before == after for before, after in self.edges)

    def tolerance(self, dtype: DTypeLike, algorithm: str, of: str = "output") -> float:
        """The error bound of the output, or of the gradient of "x", "weight" or "bias"."""
        return error_bound(dtype, self.products[of], algorithm)

    def geometry(self, layout: str = "NCHW") -> ConvGeometry:
        """What kernels take beside the arrays."""
        return ConvGeometry(
            self.x_shape,
            self.weight_shape,
            self.output_shape[2:],
            reference.pair(self.stride),
            reference.pair(self.dilation),
            self.edges,
            self.groups,
            layout == "NHWC",
        )

    def suits(self, algorithm: str) -> bool:
        """Whether `algorithm` can do the case; where it cannot, asking for it raises ValueError."""
        if algorithm == "strassen":
            channels = (self.x_shape[1], self.weight_shape[0])
            return self.groups == 1 and all(n > 0 and n % 2 == 0 for n in channels)
        if algorithm != "winograd":
            return True
        axes = {
            (taps, stride, dilation)
            for taps, stride, dilation in zip(
                self.weight_shape[2:], reference.pair(self.stride), reference.pair(self.dilation), strict=True
            )
            if (taps, stride) != (1, 1)
        }
        if len({(taps, stride) for taps, stride, _ in axes}) != 1:
            return False
        taps, stride, _ = next(iter(axes))
        whole = stride == 1 and 2 <= taps <= 5
        parts = self.groups == 1 and all(dilation == 1 for _, _, dilation in axes)
        return whole or (parts and stride < taps <= 10 * stride)


def runs(cases: list[ConvCase]) -> list[tuple[str, ConvCase]]:
    """Each case with each algorithm that can do it."""
    return [(algorithm, case) for case in cases for algorithm in ALGORITHMS if case.suits(algorithm)]


@cache
def conv_arrays(case: ConvCase, dtype: DTypeLike) -> tuple[NDArray[Any], ...]:
    """x, weight, bias, grad_output: normally distributed, the same at every call."""
    rng = np.random.default_rng(crc32(case.name.encode()))
    shapes = (case.x_shape, case.weight_shape, case.weight_shape[:1], case.output_shape)
    return _frozen(*(rng.normal(size=shape).astype(dtype) for shape in shapes))


@cache
def conv_expected(case: ConvCase, dtype: DTypeLike) -> NDArray[np.float64]:
    x, weight, bias, _ = conv_arrays(case, dtype)
    return _frozen(reference.conv2d(x, weight, bias, **case.arguments))[0]


@cache
def conv_expected_gradients(case: ConvCase, dtype: DTypeLike) -> dict[str, NDArray[np.float64]]:
    """The gradients of x, weight and bias, by those names."""
    x, weight, _, grad_output = conv_arrays(case, dtype)
    gradients = reference.conv2d_backward(grad_output, x, weight, **case.arguments)
    return dict(zip(("x", "weight", "bias"), _frozen(*gradients), strict=True))


def _kernels() -> list[ConvCase]:
    square = [(1, 1), (2, 2), (3, 3), (5, 5), (7, 7), (11, 11)]
    oblong = [(1, 2), (1, 3), (3, 1), (2, 3), (5, 2), (1, 7), (7, 1), (3, 11)]
    cases = [
        ConvCase(f"kernel-{kh}x{kw}", (2, 3, 12, 13), (5, 3, kh, kw), padding=(kh // 2, kw // 2))
        for kh, kw in square + oblong
    ]
    cases += [
        ConvCase(f"valid-{k}x{k}-stride-{stride}", (1, 5, 11, 13), (4, 5, k, k), stride=stride)
        for k in (1, 3, 5, 11)
        for stride in (1, 2)
    ]
    return cases


def _steps() -> list[ConvCase]:
    """Strides and dilations, those that share a factor too: their gradients visit some pixels never."""
    pairs: list[tuple[Pair, Pair]] = [(2, 1), (3, 1), (4, 1), (5, 1), (1, 2), (1, 3), (2, 2), (3, 2), (2, 3)]
    pairs += [(3, 3), (4, 2), (4, 6), ((1, 3), 1), ((3, 1), (1, 2)), ((2, 1), (2, 3))]
    cases = [
        ConvCase(f"stride-{stride}-dilation-{dilation}", (2, 3, 15, 17), (4, 3, 3, 3), stride, 1, dilation)
        for stride, dilation in pairs
    ]
    cases += [
        ConvCase("stride-beyond-kernel", (2, 3, 10, 11), (4, 3, 2, 2), stride=3),
        ConvCase("stride-beyond-1x1", (2, 3, 9, 10), (4, 3, 1, 1), stride=4),
        ConvCase("stride-beyond-image", (2, 3, 4, 5), (4, 3, 3, 3), stride=7),
        ConvCase("strided-1x1-padded", (1, 4, 7, 6), (7, 4, 1, 1), stride=2, padding=1),
        ConvCase("rows-left-over", (1, 2, 12, 14), (3, 2, 3, 3), stride=4),
        ConvCase("patches", (2, 3, 8, 70), (5, 3, 4, 4), stride=4),
        ConvCase("stride-4-wide", (1, 3, 9, 70), (5, 3, 5, 5), stride=4, padding=2),
        ConvCase("patches-of-3", (2, 3, 6, 105), (5, 3, 3, 3), stride=3),
        ConvCase("stride-3-wide", (1, 3, 8, 57), (5, 3, 5, 5), stride=3, padding=2),
    ]
    return cases


def _paddings() -> list[ConvCase]:
    return [
        ConvCase("padding-asymmetric", (2, 3, 8, 9), (4, 3, 3, 3), padding=((1, 2), (0, 3))),
        ConvCase("padding-one-side", (2, 3, 5, 6), (4, 3, 2, 2), padding=((0, 1), (1, 0))),
        ConvCase("padding-strided", (2, 3, 8, 9), (4, 3, 5, 4), stride=(2, 3), padding=((3, 0), (0, 2))),
        ConvCase("padding-beyond-kernel", (1, 2, 4, 3), (3, 2, 3, 3), padding=5),
        ConvCase("padding-beyond-image", (1, 2, 1, 2), (3, 2, 2, 3), stride=2, padding=(4, 3), dilation=2),
        ConvCase("padding-meets-no-pixel", (1, 2, 1, 1), (3, 2, 2, 2), padding=1, dilation=2),
        ConvCase("alexnet-first", (1, 3, 47, 51), (13, 3, 11, 11), stride=4, padding=((1, 2), (1, 2))),
    ]


def _groups() -> list[ConvCase]:
    cases = [
        ConvCase("groups-2", (2, 6, 8, 7), (8, 3, 3, 3), padding=1, groups=2),
        ConvCase("groups-3-strided", (2, 9, 8, 7), (6, 3, 3, 2), stride=2, padding=1, groups=3),
        ConvCase("groups-5-1x1", (2, 10, 5, 5), (15, 2, 1, 1), groups=5),
        ConvCase("groups-wide", (1, 34, 7, 7), (26, 17, 3, 3), padding=1, groups=2),
        ConvCase("depthwise-strided", (2, 9, 11, 10), (9, 1, 3, 3), stride=2, padding=1, groups=9),
        ConvCase("depthwise-dilated", (1, 5, 11, 12), (5, 1, 3, 3), padding=2, dilation=2, groups=5),
        ConvCase("depthwise-5x5", (1, 7, 13, 17), (7, 1, 5, 5), padding=2, groups=7),
        ConvCase("depthwise-times-2", (2, 5, 6, 7), (10, 1, 3, 3), padding=1, groups=5),
        ConvCase("depthwise-times-3-strided", (1, 4, 9, 8), (12, 1, 2, 3), stride=(2, 1), groups=4),
    ]
    return cases + [
        ConvCase(f"depthwise-{c}", (1, c, 6, width), (c, 1, 3, 3), padding=1, groups=c)
        for c, width in zip(around(*LANES), around(*LANES)[::-1], strict=True)
    ]


def _tiles() -> list[ConvCase]:
    """Every remainder of a register tile: output channels and pixels may be its rows or its columns."""
    rows, columns = [1, 2, *around(*TILE_ROWS)], [1, 2, *around(*TILE_COLUMNS, *LANES)]
    by_1x1 = [
        ConvCase(f"tile-1x1-{o}-of-{width}", (1, 3, 1, width), (o, 3, 1, 1))
        for i, o in enumerate(sorted({*rows, *around(*TILE_COLUMNS)}))
        for width in columns[i % 3 :: 3]
    ]
    by_3x3 = [
        ConvCase(f"tile-3x3-{o}-of-{width}", (1, c, 3, width), (o, c, 3, 3), padding=1)
        for i, (o, c) in enumerate(zip(rows, cycle([1, 2, 3, 5, 4, 7, 8, 9])))
        for width in columns[i % 4 :: 4]
    ]
    depth = [
        ConvCase(f"depth-{c}", (1, c, 4, 5), (7, c, 1, 1))
        for c in (*around(4, 8, 16, 64), 127, 257, 300, 521)
    ]
    return by_1x1 + by_3x3 + depth


def _images() -> list[ConvCase]:
    return [
        ConvCase("one-pixel", (1, 1, 1, 1), (1, 1, 1, 1)),
        ConvCase("one-pixel-padded", (2, 3, 1, 1), (4, 3, 3, 3), padding=1),
        ConvCase("one-row", (2, 3, 1, 19), (4, 3, 1, 5), stride=2, padding=(0, 2)),
        ConvCase("one-column", (2, 3, 19, 1), (4, 3, 5, 1), stride=2, padding=(2, 0)),
        ConvCase("7x7", (3, 13, 7, 7), (17, 13, 3, 3), padding=1),
        ConvCase("7x7-1x1", (3, 16, 7, 7), (12, 16, 1, 1)),
        ConvCase("even-channels", (3, 34, 9, 11), (38, 34, 3, 3), padding=((1, 2), (0, 1))),
        ConvCase("even-channels-strided", (2, 34, 11, 10), (36, 34, 3, 3), stride=2, padding=1),
        ConvCase("primes", (3, 7, 13, 17), (11, 7, 5, 3), stride=(1, 2), padding=(2, 1)),
        ConvCase("kernel-is-image", (2, 3, 5, 6), (4, 3, 5, 6)),
        ConvCase("kernel-is-padded-image", (2, 3, 3, 4), (4, 3, 5, 6), padding=1),
        ConvCase("dilated-kernel-is-image", (2, 3, 5, 7), (4, 3, 3, 3), dilation=(2, 3)),
        ConvCase("wide", (1, 1, 5, 131), (3, 1, 3, 3), padding=1),
        ConvCase("batch-odd", (7, 2, 5, 5), (3, 2, 3, 3)),
        ConvCase("mnist-first", (2, 1, 28, 28), (6, 1, 5, 5), padding=2),
        ConvCase("small-grouped", (2, 4, 4, 4), (4, 2, 3, 2), padding=((0, 1), (1, 1)), groups=2),
        ConvCase("small-strided", (2, 2, 5, 4), (3, 2, 2, 3), stride=2, padding=1),
        ConvCase("small-dilated", (1, 2, 6, 5), (2, 2, 2, 2), stride=2, padding=(1, 2), dilation=(2, 1)),
    ]


def _blocks() -> list[ConvCase]:
    """More than one cache block of the contraction in each direction, and enough work for several threads."""
    return [
        ConvCase("deep", (2, 67, 6, 7), (19, 67, 3, 3), padding=1),
        ConvCase("many-filters", (1, 9, 6, 5), (203, 9, 3, 3), padding=1),
        ConvCase("many-pixels", (1, 2, 61, 67), (5, 2, 1, 1)),
        ConvCase("work-3x3", (5, 16, 23, 19), (24, 16, 3, 3), padding=1),
        ConvCase("work-small-images", (17, 33, 2, 3), (40, 33, 3, 3), padding=1),
        ConvCase("work-1x1", (3, 130, 14, 14), (70, 130, 1, 1)),
        ConvCase("work-strided", (4, 20, 27, 25), (33, 20, 3, 3), stride=2, padding=1),
        ConvCase("work-depthwise", (7, 23, 15, 17), (23, 1, 3, 3), padding=1, groups=23),
    ]


def _nothing() -> list[ConvCase]:
    return [
        ConvCase("no-images", (0, 3, 6, 5), (4, 3, 3, 3), padding=1),
        ConvCase("no-filters", (2, 3, 6, 5), (0, 3, 3, 3), padding=1),
        ConvCase("no-channels", (2, 0, 6, 5), (4, 0, 3, 3), padding=1),
        ConvCase("no-images-depthwise", (0, 4, 6, 5), (4, 1, 2, 2), stride=2, groups=4),
    ]


CONV_CASES = [
    *_kernels(),
    *_steps(),
    *_paddings(),
    *_groups(),
    *_tiles(),
    *_images(),
    *_blocks(),
    *_nothing(),
]
# One for each way through the kernels, for what does not depend on the shapes.
_SOME = (
    *("kernel-3x3", "stride-2-dilation-3", "groups-2", "depthwise-dilated", "7x7-1x1", "tile-1x1-7-of-17"),
    "even-channels",
)
SOME_CONV_CASES = [case for case in CONV_CASES if case.name in _SOME]
SMALL_CONV_CASES = [case for case in CONV_CASES if case.is_small]
PARALLEL_CONV_CASES = [
    case for case in CONV_CASES if case.flops >= 2_000_000 or case.name.startswith(("work", "depth"))
]


# ---- pooling ----


@dataclass(frozen=True)
class PoolCase:
    name: str
    x_shape: Shape
    kernel_size: Pair
    stride: Pair | None = None
    padding: int | tuple[int, int] | tuple[Edges, Edges] = 0
    dilation: Pair = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def max_arguments(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return {name: getattr(self, name) for name in names}

    @property
    def avg_arguments(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        return {name: getattr(self, name) for name in names}

    @property
    def can_average(self) -> bool:
        """Average pooling has no dilation."""
        return self.dilation == 1

    @property
    def has_symmetric_padding(self) -> bool:
        """PyTorch can do no other."""
        edges = reference.explicit_padding(self.padding, self.x_shape[2:], (1, 1))
        return all(before == after for before, after in edges)

    @property
    def window(self) -> int:
        """Pixels under one window."""
        return prod(reference.pair(self.kernel_size))

    @property
    def is_small(self) -> bool:
        """Small enough for a numerical gradient, and not empty."""
        return 0 < prod(self.x_shape) <= 100

    @property
    def is_empty(self) -> bool:
        return 0 in self.x_shape


@cache
def pool_input(case: PoolCase, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Distinct whole numbers, half of them negative, in random order: maxima and sums are exact."""
    rng = np.random.default_rng(crc32(case.name.encode()))
    size = prod(case.x_shape)
    return _frozen((rng.permutation(size) - size // 2).reshape(case.x_shape).astype(dtype))[0]


def averages(cases: list[PoolCase]) -> list[PoolCase]:
    """The cases that average pooling can do."""
    return [case for case in cases if case.can_average]


def _pools() -> list[PoolCase]:
    x = (2, 3, 11, 13)
    cases = [
        PoolCase(f"kernel-{kernel}-stride-{stride}", x, kernel, stride)
        for kernel in (1, 2, 3, 5, (2, 3), (1, 4), (3, 1))
        for stride in (None, 1, 2, 3, (1, 2))
    ]
    cases += [
        PoolCase(f"2x2-stride-{stride}-of-width-{width}", (1, 2, 4, width), 2, stride)
        for width in around(*LANES, 32)
        for stride in (1, 2)
    ]
    cases += [
        PoolCase(f"3x3-of-width-{width}", (1, 2, 5, width), 3, 2, padding=1, ceil_mode=width % 2 == 0)
        for width in (1, 2, *around(*LANES, 32))
    ]
    return cases + [
        PoolCase(f"channels-{c}", (2, c, 4, 5), 2, 2, padding=1, count_include_pad=c % 2 == 0)
        for c in (1, *around(*LANES))
    ]


def _pool_options() -> list[PoolCase]:
    x = (2, 3, 10, 9)
    return [
        PoolCase("padded", x, 3, 2, padding=1),
        PoolCase("padded-oblong", x, (3, 5), (1, 2), padding=(1, 2)),
        PoolCase("padded-not-counted", x, 3, 2, padding=1, count_include_pad=False),
        PoolCase("padded-ceil", x, 3, 2, padding=1, ceil_mode=True),
        PoolCase(
            "padded-ceil-not-counted", x, (4, 3), 3, padding=(2, 1), ceil_mode=True, count_include_pad=False
        ),
        PoolCase("padded-unevenly", x, 3, 2, padding=((1, 0), (0, 1))),
        PoolCase("padded-at-the-end", x, 2, 2, padding=((0, 1), (0, 1)), count_include_pad=False),
        PoolCase("padded-unevenly-ceil", x, (5, 4), 3, padding=((2, 1), (0, 2)), ceil_mode=True),
        PoolCase("padded-unevenly-dilated", x, 3, 1, padding=((0, 1), (1, 0)), dilation=2),
        PoolCase("ceil", x, 2, ceil_mode=True),
        PoolCase("ceil-drops-window-in-padding", (1, 2, 5, 5), 2, 3, padding=1, ceil_mode=True),
        PoolCase("ceil-stride-beyond-kernel", x, 2, 4, ceil_mode=True),
        PoolCase("divisor", x, 3, 2, padding=1, divisor_override=5),
        PoolCase("divisor-negative", x, 2, divisor_override=-3),
        PoolCase("divisor-ceil", x, 3, 2, ceil_mode=True, count_include_pad=False, divisor_override=1),
        PoolCase("dilated", x, 3, 1, dilation=2),
        PoolCase("dilated-oblong", x, (2, 3), (2, 1), padding=(1, 1), dilation=(3, 2), ceil_mode=True),
        PoolCase("dilated-strided", x, 3, 3, padding=1, dilation=3),
        PoolCase("alexnet", (1, 5, 13, 13), 3, 2),
        PoolCase("resnet", (1, 4, 16, 16), 3, 2, padding=1),
        PoolCase("global", (3, 5, 7, 7), 7),
        PoolCase("one-pixel", (1, 1, 1, 1), 1),
        PoolCase("one-pixel-padded", (1, 2, 1, 1), 2, 1, padding=1),
        PoolCase("one-row", (1, 2, 1, 17), (1, 3), 2, padding=(0, 1)),
        PoolCase("one-column", (1, 2, 17, 1), (3, 1), 2, padding=(1, 0)),
        PoolCase("small-overlapping", (2, 2, 5, 6), 3, 1, padding=1),
        PoolCase("small-gaps", (1, 2, 7, 8), 2, 3),
        PoolCase("small-ceil", (1, 2, 6, 7), 3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        PoolCase("small-divisor", (1, 2, 6, 7), 2, 2, padding=1, divisor_override=3),
        PoolCase("work", (6, 16, 28, 27), 3, 2, padding=1),
        PoolCase("work-2x2", (6, 24, 26, 28), 2),
        PoolCase("no-images", (0, 3, 6, 5), 2),
        PoolCase("no-channels", (2, 0, 6, 5), 3, 2, padding=1),
    ]


POOL_CASES = [*_pools(), *_pool_options()]
_SOME = (
    "kernel-3-stride-2",
    "2x2-stride-2-of-width-17",
    "padded-ceil-not-counted",
    "dilated-oblong",
    "channels-9",
)
SOME_POOL_CASES = [case for case in POOL_CASES if case.name in _SOME]
SMALL_POOL_CASES = [case for case in POOL_CASES if case.is_small]
TORCH_POOL_CASES = [case for case in POOL_CASES if case.has_symmetric_padding and not case.is_empty]
PARALLEL_POOL_CASES = [case for case in POOL_CASES if case.name.startswith(("work", "channels", "no-"))]
