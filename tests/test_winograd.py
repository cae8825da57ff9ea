"""Winograd's kernels against float64 loops: every remainder of a tile, a vector and a register tile."""

import itertools
from functools import cache

import numpy as np
import pytest
import reference
from cases import ConvCase, assert_within, conv_arrays, conv_expected, conv_expected_gradients
from memory_orders import amid_nans

from fastconv._kernels import conv_winograd
from fastconv._kernels.geometry import ConvGeometry
from fastconv._kernels.isa import tile_shape

ROWS, COLUMNS, LANES = tile_shape("f")


def case(name, batch, channels, size, filters, padding=1, groups=1, side=3, dilation=1, stride=1):
    weight_shape = (filters, channels // groups, *reference.pair(side))
    shape = (batch, channels, *size)
    return ConvCase(name, shape, weight_shape, stride, padding, dilation, groups)


def _sizes():
    widths = itertools.cycle([(1, 2), (5, 1), (7, 1), (13, 1), (4, 3), (3, 1), (9, 1)])
    return [
        case(f"size-{h}x{w}", 2, 3, (h, w), 4, padding=padding)
        for h, (w, padding) in zip(range(1, 14), widths, strict=False)
    ] + [
        case(f"5x5-size-{h}x{w}", 2, 3, (h, w), 4, 2, side=5)
        for h, w in zip(range(1, 8), (5, 1, 4, 7, 2, 3, 6), strict=True)
    ]


def _paddings():
    edges = [((0, 0), (0, 0)), ((0, 3), (2, 1)), ((1, 0), (0, 1)), ((3, 0), (0, 3)), ((2, 2), (3, 3))]
    return [case(f"padding-{e}", 3, 2, (5, 6), 3, padding=e) for e in edges] + [
        case(f"5x5-padding-{e}", 3, 2, (5, 6), 3, padding=e, side=5) for e in [*edges, ((4, 5), (6, 0))]
    ]


def _channels():
    counts = sorted({n + d for n in (LANES, COLUMNS, 2 * COLUMNS) for d in (-1, 0, 1)} | {1, 2, 3, 7})
    pairs = [*zip(counts, counts[::-1], strict=True), (66, 65), (1, 300), (263, 2)]
    return [case(f"channels-{c}-{k}", 2, c, (6, 5), k) for c, k in pairs] + [
        case(f"5x5-channels-{c}-{k}", 2, c, (3, 4), k, 2, side=5) for c, k in pairs
    ]


def _tiles():
    """Counts of tiles around the rows of a register tile and around a block, of images that share one."""
    return [case(f"tiles-{n}", n, 2, (4, 4), 3) for n in (ROWS - 1, ROWS, ROWS + 1, 47, 49)] + [
        case(f"shared-{n}-of-{h}x{w}", n, 2, (h, w), 3)
        for n, h, w in ((5, 13, 13), (2, 13, 3), (9, 1, 1), (16, 5, 5), (11, 9, 2))
    ]


def _dilations():
    """Phases of several sizes, some without inputs, some without results, with padding on all sides; along a
    row in groups that are cut by blocks, by segments of a row and by the ends of rows."""
    edges = [((0, 0), (0, 0)), ((2, 2), (2, 2)), ((1, 4), (3, 0)), ((7, 0), (0, 9))]
    interleaved = [
        (1, 160, 0, 9),
        (1, 1000, 41, 47),
        (5, 21, 8, 8),
        (3, 40, 13, 30),
        (9, 3, 2, 2),
        (2, 500, 0, 200),
    ]
    return (
        [
            case(f"{side}-dilation-{d}-of-{n}x{w}", n, 2, (h, w), 3, ((h // 2,) * 2, (p, p)), 1, side, (1, d))
            for side, h in [((1, 2), 1), ((1, 3), 1), (3, 3)]
            for n, w, p, d in interleaved
        ]
        + [
            case(f"{side}x{side}-dilation-{d}-of-{h}x{w}-padding-{e}", 2, 3, (h, w), 5, e, 1, side, d)
            for side in (3, 5)
            for d in (2, 3, (1, 2), (3, 1), (5, 7))
            for (h, w), e in zip([(30, 33), (11, 10), (9, 13), (8, 23)], edges, strict=True)
            if all(
                n + sum(p) > (side - 1) * step
                for n, p, step in zip((h, w), e, np.broadcast_to(d, 2), strict=True)
            )
        ]
        + [case(f"dilated-images-{n}", n, 4, (5, 6), 6, 4, 2, 3, 4) for n in (1, 3, 9)]
    )


def _parts():
    """Kernels that are sums of small ones: phases of a stride, runs of taps, or both."""
    edges = [((0, 0), (0, 0)), ((2, 3), (4, 1)), ((9, 0), (0, 11)), ((0, 7), (13, 2))]
    sides = {1: (6, 7, 10), 2: (3, 4, 5, 6, 7, 10, 11), 3: (5, 7), 4: (11, 21)}
    return [
        case(f"{k}x{k}-stride-{s}-of-{h}x{w}-padding-{e}", 2, c, (h, w), 5, e, 1, k, 1, s)
        for s, kernels in sides.items()
        for k in kernels
        for c, (h, w), e in zip([3, 1, 17, 2], [(23, 31), (11, 24), (21, 13), (20, 9)], edges, strict=True)
        if all(n + sum(p) >= k for n, p in zip((h, w), e, strict=True))
    ]


LINES = [(1, 2), (1, 3), (1, 4), (1, 5), (2, 1), (3, 1), (4, 1), (5, 1)]


def _lines():
    """Kernels of one row or column: tiles along one axis."""
    edges = [((0, 0), (0, 0)), ((0, 3), (2, 1)), ((4, 0), (0, 4)), ((2, 2), (3, 3))]
    counts = sorted({n + d for n in (LANES, COLUMNS) for d in (-1, 0, 1)} | {1, 2, 66})
    paddings = itertools.cycle([0, ((1, 2), (7, 4)), ((5, 3), (1, 0))])
    parts = {1: (6, 7, 10), 2: (3, 4, 7), 4: (11, 40)}
    strided = [
        case(f"line-{k}-stride-{s}-padding-{p}-{down}", 2, 3, size, 5, p, 1, kernel, 1, stride)
        for s, kernels in parts.items()
        for k, p in zip(kernels, paddings, strict=False)
        for down, size, kernel, stride in [
            (False, (3, 2 * k + 9), (1, k), (1, s)),
            (True, (2 * k + 9, 3), (k, 1), (s, 1)),
        ]
    ]
    sizes = itertools.product(LINES, [(5, 6), (7, 13), (11, 5)])
    return [
        *(
            case(f"line-{h}x{w}-of-{rows}x{columns}-{e}", 3, 2, (rows, columns), 3, e, 1, (h, w))
            for ((h, w), (rows, columns)), e in zip(sizes, itertools.cycle(edges), strict=False)
        ),
        *(case(f"line-1x3-of-1x{n}", 2, 3, (1, n), 4, ((0, 0), (1, 1)), 1, (1, 3)) for n in range(1, 14)),
        *(case(f"line-3x1-of-{n}x1", 2, 3, (n, 1), 4, ((1, 1), (0, 0)), 1, (3, 1)) for n in range(1, 14)),
        *(
            case(f"line-channels-{c}-{k}-{side}", 2, c, (6, 5), k, 1, 1, side)
            for c, k in zip(counts, counts[::-1], strict=True)
            for side in ((1, 3), (4, 1))
        ),
        *(
            case(f"line-tiles-{n}", 1, 2, (1, 4 * n), 3, ((0, 0), (1, 1)), 1, (1, 3))
            for n in (ROWS - 1, ROWS, ROWS + 1, 95, 97, 287, 289)
        ),
        *(case(f"line-column-tiles-{n}", 1, 2, (2, n), 3, 0, 1, (2, 1)) for n in (95, 97, 289)),
        *(
            case(f"line-{side}-dilation-{d}", 2, 3, size, 5, e, 1, side, d)
            for side, size in [((1, 3), (3, 33)), ((1, 2), (4, 21)), ((5, 1), (30, 4))]
            for d in ((2, 2), (1, 3), (7, 1))
            for e in (0, ((3, 1), (2, 4)))
        ),
        *(case(f"line-groups-3-{side}", 2, 27, (5, 9), 51, 1, 3, side, (2, 1)) for side in ((1, 3), (2, 1))),
        *(
            case(f"line-shared-{n}-{side}", n, 2, (h, w), 3, 0, 1, side)
            for n, h, w, side in [(9, 1, 3, (1, 3)), (16, 5, 2, (4, 1)), (11, 2, 7, (1, 2))]
        ),
        *(case(f"line-nothing-{n}-{c}-{k}", n, c, (1, 9), k, 0, 1, (1, 3)) for n, c, k in NOTHING),
        *(case(f"line-nothing-{n}-{c}-{k}-parts", n, c, (9, 1), k, 0, 1, (7, 1)) for n, c, k in NOTHING),
        *strided,
    ]


NOTHING = [(0, 3, 4), (2, 0, 4), (2, 3, 0)]
CASES = [
    *_sizes(),
    *_lines(),
    *(
        case(f"{side}x{side}-size-{h}x{w}", 2, 3, (h, w), 4, side // 2, side=side)
        for side in (2, 4)
        for h, w in [(1, 5), (2, 3), (3, 9), (5, 4), (7, 12), (9, 6)]
    ),
    *(
        case(f"{side}x{side}-padding-{e}", 3, 2, (5, 6), 3, e, side=side)
        for side in (2, 4)
        for e in [((0, 0), (0, 0)), ((0, 4), (3, 1))]
    ),
    *(
        case(f"{side}x{side}-channels-{n}", 2, n, (6, 5), 2 * n, side // 2, side=side)
        for side in (2, 4)
        for n in (LANES, COLUMNS + 1, 66)
    ),
    *(case(f"2x2-tiles-{n}", n, 2, (5, 5), 3, 0, side=2) for n in (ROWS - 1, ROWS, ROWS + 1, 47, 49)),
    case("2x2-dilation", 2, 3, (11, 12), 5, 3, 1, 2, 2),
    case("2x2-groups-3", 2, 3 * 9, (5, 6), 3 * 17, 1, 3, 2),
    case("4x4-dilation", 2, 3, (11, 12), 5, 3, 1, 4, 2),
    case("4x4-groups-3", 2, 3 * 9, (5, 6), 3 * 17, 2, 3, 4),
    *_parts(),
    *_dilations(),
    *_paddings(),
    *_channels(),
    *_tiles(),
    case("groups-2", 2, 6, (7, 5), 10, groups=2),
    case("groups-3", 1, 3 * 9, (5, 9), 3 * 17, groups=3),
    case("5x5-groups-3", 2, 3 * 9, (5, 6), 3 * 17, 2, groups=3, side=5),
    *(
        case(f"5x5-shared-{n}-of-{h}x{w}", n, 2, (h, w), 3, 2, side=5)
        for n, h, w in ((5, 9, 9), (9, 1, 1), (47, 2, 2))
    ),
    case("depthwise", 2, 5, (6, 6), 5, groups=5),
    case("nothing-batch", 0, 3, (5, 5), 4),
    case("nothing-in", 2, 0, (5, 5), 4),
    case("nothing-out", 2, 3, (5, 5), 0),
    *(case(f"nothing-{n}-{c}-{k}-of-parts", n, c, (9, 9), k, 2, 1, 7, 1, 2) for n, c, k in NOTHING),
]
LARGE = [
    ConvCase("c64", (2, 64, 14, 13), (48, 64, 3, 3), padding=1),
    ConvCase("c512", (1, 512, 8, 7), (16, 512, 3, 3), padding=1),
    ConvCase("k512", (1, 16, 7, 8), (512, 16, 3, 3), padding=1),
    # Beyond the tiles and the channels for which each block transforms the weights that it needs.
    case("many-tiles", 3, 5, (40, 41), 18),
    case("5x5-many-tiles", 3, 66, (20, 19), 70, 2, side=5),
    case("many-tiles-deep", 1, 470, (48, 47), 3),
    case("dilated", 3, 66, (40, 41), 70, 2, dilation=2),
    case("4x4-many-tiles", 3, 66, (30, 29), 70, 2, side=4),
    case("2x2-many-tiles", 3, 66, (41, 39), 70, 1, side=2),
    case("7x7", 2, 34, (20, 21), 70, 3, side=7),
    case("7x7-stride-2", 3, 20, (50, 53), 70, 3, side=7, stride=2),
    case("4x4-stride-2", 3, 20, (50, 53), 70, 1, side=4, stride=2),
    case("parts-of-one-image-at-a-time", 3, 1, (2, 550_000), 1, ((0, 0), (3, 3)), side=(1, 7)),
    case("line", 3, 66, (1, 1300), 70, ((0, 0), (2, 2)), side=(1, 5)),
    case("line-deep", 2, 470, (9, 40), 40, ((1, 1), (0, 0)), side=(3, 1)),
    case("line-7", 2, 34, (20, 41), 70, ((0, 0), (3, 3)), side=(1, 7)),
    case("line-of-column-4-stride-2", 3, 20, (50, 53), 70, ((1, 1), (0, 0)), side=(4, 1), stride=(2, 1)),
    case("line-of-wide-dilation", 2, 66, (1, 2600), 70, ((0, 0), (0, 512)), side=(1, 2), dilation=(1, 512)),
    case("line-dilated", 3, 66, (3, 400), 70, ((0, 0), (8, 8)), side=(1, 3), dilation=(1, 8)),
]


def geometry(case, channels_last):
    return case.geometry("NHWC" if channels_last else "NCHW")


def laid_out(array, channels_last):
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if channels_last else array


def results(case, arrays, channels_last, threads, relu=False):
    """The output and the gradients of x and weight, as (N, C, H, W)."""
    x, weight, bias, grad_output = arrays
    g = geometry(case, channels_last)
    x, grad_output = laid_out(x, channels_last), laid_out(grad_output, channels_last)
    buffers = [amid_nans(a.shape, x.dtype) for a in (grad_output, x, weight)]
    output, grad_x, grad_weight = (inner for _, inner in buffers)
    conv_winograd.forward(g, x, weight, bias, output, relu, threads)
    conv_winograd.grad_input(g, grad_output, weight, grad_x, threads)
    conv_winograd.grad_weight(g, grad_output, x, grad_weight, threads)
    for whole, _ in buffers:
        assert np.isnan(whole[:64]).all()
        assert np.isnan(whole[-64:]).all()
    if channels_last:
        output, grad_x = (a.transpose(0, 3, 1, 2) for a in (output, grad_x))
    return output, grad_x, grad_weight


def check(case, dtype, got):
    gradients = conv_expected_gradients(case, dtype)
    expected = (conv_expected(case, dtype), gradients["x"], gradients["weight"])
    for actual, wanted, of in zip(got, expected, ("output", "x", "weight"), strict=True):
        assert_within(actual, wanted, case.tolerance(dtype, "winograd", of))


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case, channels_last, dtype):
    check(case, dtype, results(case, conv_arrays(case, dtype), channels_last, threads=1))


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_values_of_many_channels(case, dtype):
    check(case, dtype, results(case, conv_arrays(case, dtype), False, threads=2))


@cache
def positive(case, dtype):
    return tuple(np.abs(array) for array in conv_arrays(case, dtype))


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_error_where_nothing_cancels(case):
    """All terms positive: the direct sum in float64 is the reference, by an independent path."""
    arrays = positive(case, np.float32)
    output, _, _ = results(case, arrays, False, threads=1)
    x, weight, bias, _ = (array.astype(np.float64) for array in arrays)
    padded = np.pad(x, ((0, 0), (0, 0), *case.edges))
    (down, right), dilations = reference.pair(case.stride), reference.pair(case.dilation)
    reach = [(taps - 1) * d + 1 for taps, d in zip(case.weight_shape[2:], dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, (2, 3))
    windows = windows[:, :, ::down, ::right, :: dilations[0], :: dilations[1]]
    expected = np.einsum("nchwij,kcij->nkhw", windows, weight, optimize=True) + bias[:, None, None]
    assert_within(output, expected, case.tolerance(np.float32, "winograd"))


WIDE = case("wide", 5, 9, (9, 50), 70)
WIDE_5X5 = case("5x5-wide", 5, 9, (9, 50), 70, 2, side=5)
OF_PARTS = case("wide-of-parts", 5, 9, (19, 90), 70, 2, side=7, stride=2)
OF_SMALL_PARTS = case("wide-of-small-parts", 5, 9, (19, 90), 70, 1, side=4, stride=2)
OF_ROWS = case("wide-of-rows", 5, 9, (9, 50), 70, 1, side=(1, 4))
OF_COLUMNS = case("wide-of-columns", 5, 9, (19, 50), 70, 1, side=(7, 1), stride=(2, 1))
KINDS = [WIDE, WIDE_5X5, OF_PARTS, OF_SMALL_PARTS, OF_ROWS, OF_COLUMNS]
THREADED = [CASES[12], *LARGE, *KINDS, case("grouped", 3, 34, (13, 13), 66, groups=2)]


@pytest.mark.parametrize("case", THREADED, ids=str)
def test_same_bits_on_any_number_of_threads(case, dtype):
    arrays = conv_arrays(case, dtype)
    expected = results(case, arrays, False, threads=1)
    for threads in (2, 3, 5):
        for got, wanted in zip(results(case, arrays, False, threads), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_layouts_give_the_same_bits(case):
    arrays = conv_arrays(case, np.float32)
    for got, wanted in zip(results(case, arrays, True, 1), results(case, arrays, False, 1), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_relu_follows_the_bias(case, dtype):
    arrays = conv_arrays(case, dtype)
    plain, fused = (results(case, arrays, False, 1, relu=relu)[0] for relu in (False, True))
    assert plain.min() < 0
    np.testing.assert_array_equal(fused, np.maximum(plain, 0))


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_packed_weights_and_no_bias(case, dtype):
    x, weight, bias, _ = conv_arrays(case, dtype)
    g = geometry(case, False)
    packed = conv_winograd.pack_weight(g, weight, 2)
    without = np.empty(case.output_shape, dtype)
    for _ in range(2):
        conv_winograd.forward_packed(g, x, packed, None, without, False, 2)
    expected = conv_expected(case, dtype) - bias[:, None, None]
    assert_within(without, expected, case.tolerance(dtype, "winograd"))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (11, 4), (6, 1), (7, 1)])
def test_what_no_window_sees_may_be_infinite(kernel, stride, dtype):
    """Parts have taps that the kernel has not, which meet pixels behind its windows."""
    size = kernel + 3 * stride
    seen = case(f"seen-{kernel}-{stride}", 1, 2, (size, size), 3, 0, 1, kernel, 1, stride)
    x, weight, bias, grad_output = conv_arrays(seen, dtype)
    larger = np.full((1, 2, size + stride - 1, size + stride - 1), np.inf, dtype)
    larger[..., :size, :size] = x
    whole = case("larger", *larger.shape[:2], larger.shape[2:], 3, 0, 1, kernel, 1, stride)
    assert whole.output_shape == seen.output_shape
    output, grad_x, grad_weight = results(whole, (larger, weight, bias, grad_output), False, 1)
    assert not grad_x[..., size:, :].any()
    assert not grad_x[..., size:].any()
    check(seen, dtype, (output, grad_x[..., :size, :size], grad_weight))


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups", "able"),
    [
        ((3, 3), (1, 1), (1, 1), 2, True),
        ((4, 4), (1, 1), (1, 2), 2, True),
        ((5, 5), (1, 1), (1, 2), 1, True),
        ((1, 1), (1, 1), (1, 1), 1, False),
        ((2, 2), (1, 1), (2, 1), 2, True),
        ((2, 2), (2, 2), (1, 1), 1, False),
        ((3, 2), (1, 1), (1, 1), 1, False),
        ((3, 5), (1, 1), (1, 1), 1, False),
        ((1, 2), (1, 1), (3, 1), 2, True),
        ((5, 1), (1, 1), (1, 2), 1, True),
        ((1, 3), (2, 1), (1, 1), 1, False),
        ((1, 3), (1, 2), (5, 1), 1, True),
        ((1, 3), (1, 3), (1, 1), 1, False),
        ((7, 1), (1, 1), (1, 2), 1, True),
        ((7, 1), (1, 1), (2, 1), 1, False),
        ((7, 1), (1, 1), (1, 1), 2, False),
        ((10, 1), (1, 1), (1, 1), 1, True),
        ((1, 11), (1, 1), (1, 1), 1, False),
        ((3, 3), (2, 2), (1, 1), 1, True),
        ((3, 3), (2, 2), (1, 1), 2, False),
        ((3, 3), (3, 3), (1, 1), 1, False),
        ((5, 5), (2, 2), (1, 1), 1, True),
        ((5, 5), (2, 1), (1, 1), 1, False),
        ((6, 6), (1, 1), (1, 1), 1, True),
        ((6, 6), (3, 3), (1, 1), 1, True),
        ((7, 7), (3, 3), (1, 1), 1, True),
        ((7, 7), (1, 1), (1, 2), 1, False),
        ((7, 7), (1, 1), (1, 1), 2, False),
        ((10, 10), (1, 1), (1, 1), 1, True),
        ((11, 11), (1, 1), (1, 1), 1, False),
        ((20, 20), (2, 2), (1, 1), 1, True),
        ((21, 21), (2, 2), (1, 1), 1, False),
    ],
)
def test_supports(kernel, stride, dilation, groups, able):
    g = ConvGeometry(
        (1, 4, 199, 199), (4, 4 // groups, *kernel), (1, 1), stride, dilation, ((0, 0), (0, 0)), groups, False
    )
    assert conv_winograd.supports(g) is able
