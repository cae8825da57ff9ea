"""Strassen's product against float64 loops: halves of every kind, pieces, panels, chunks and passes."""

import numpy as np
import pytest
from cases import (
    ConvCase,
    assert_within,
    conv_arrays,
    conv_expected,
    conv_expected_gradients,
    to_nchw,
    to_nhwc,
)
from memory_orders import amid_nans

import fastconv as fc
from fastconv._kernels import conv_strassen, conv_strassen_columns
from fastconv._kernels.geometry import ConvGeometry
from fastconv._kernels.isa import tile_shape

ROWS, COLUMNS, LANES = tile_shape("f")
KERNELS = {"images": conv_strassen, "columns": conv_strassen_columns}


def case(name, batch, channels, size, filters, kernel=(1, 1), **arguments):
    return ConvCase(name, (batch, channels, *size), (filters, channels, *kernel), **arguments)


PLANES = [
    case(f"plane-{h}x{w}", 2, 6, (h, w), 10)
    for h, w in (
        (1, 1),
        (1, 2),
        (2, 1),
        (1, 3),
        (3, 1),
        (2, 2),
        (5, 5),
        (7, 7),
        (1, ROWS),
        (1, 4 * ROWS + 1),
        (1, 2 * COLUMNS),
        (1, 4 * COLUMNS + 1),
        (13, 14),
    )
]
CHANNELS = [
    case(f"channels-{c}-{k}", 1, c, (3, 5), k)
    for c, k in zip(
        (2, 4, 30, 34, 64, 66, 130),
        (2 * COLUMNS + 2, 2 * COLUMNS, 2 * COLUMNS - 2, 2 * LANES + 2, 2 * LANES, 2 * LANES - 2, 2),
        strict=True,
    )
]
SIZES = [
    case("3x3", 2, 6, (9, 11), 10, (3, 3)),
    case("3x3-two-rows", 2, 6, (4, 11), 10, (3, 3)),
    case("3x3-padded", 2, 34, (8, 7), 36, (3, 3), padding=1),
    case("3x3-all-padding", 1, 6, (2, 2), 10, (3, 3), padding=4),
    case("3x3-strided", 2, 34, (10, 11), 36, (3, 3), padding=1, stride=2),
    case("3x3-dilated", 2, 6, (10, 9), 10, (3, 3), padding=((2, 1), (0, 3)), dilation=(2, 3)),
    case("1x1-strided", 2, 34, (9, 8), 36, stride=(2, 3)),
    case("1x1-padded", 2, 6, (3, 4), 10, padding=1),
    case("1x1-of-a-row-cut-short", 2, 6, (4, 9), 10, stride=(1, 2)),
    case("2x4", 1, 6, (6, 9), 10, (2, 4), padding=((0, 1), (2, 0)), stride=(1, 2)),
    case("1x3", 1, 6, (5, 9), 10, (1, 3), padding=((0, 0), (1, 1))),
    case("no-images", 0, 6, (5, 5), 10),
    case("images-that-share-panels", 9, 6, (1, 5), 10),
]
LARGE = [
    case("pieces-of-a-plane", 2, 64, (101, 53), 70),
    case("pieces-of-rows", 1, 64, (47, 66), 36, (3, 3), padding=1),
    case("one-row-a-piece", 1, 2, (5, 3000), 4, (1, 3)),
    case("groups-of-panels", 1, 8, (20, 30), 42 * COLUMNS),
    case("chunks-of-images", 9, 40, (60, 90), 70),
    case("chunks-of-rows", 1, 64, (97, 96), 36, (3, 3), padding=1),
    case("chunks-of-images-with-bands", 5, 64, (33, 43), 36, (3, 3), padding=1, stride=2),
    case("one-row-a-chunk", 1, 2, (5, 6000), 4, (1, 3)),
    case("groups-of-strips", 1, 8, (20, 30), 400 * ROWS),
    case("channels-that-share-sets-of-the-cache", 2, 16, (16, 16), 34),
    case("long-sums", 1, 4100, (5, 7), 18),
    case("long-sums-with-taps", 2, 330, (6, 7), 18, (5, 5), padding=2),
    case("deep", 2, 900, (6, 7), 66),
]
CASES = [*PLANES, *CHANNELS, *SIZES]


def tried(cases, layouts=("NCHW",)):
    """Kernels, case and layout, where the kernels can do that."""
    return [
        pytest.param(kernels, case, layout, id=f"{kernels}-{case}-{layout}")
        for kernels, module in KERNELS.items()
        for case in cases
        for layout in layouts
        if module.supports(case.geometry(layout))
    ]


def results(kernels, case, arrays, layout, threads, relu=False):
    """The output and, where there is no stride, the gradient of x, as (N, C, H, W)."""
    x, weight, bias, grad_output = arrays
    g = case.geometry(layout)
    if layout == "NHWC":
        x, grad_output = to_nhwc(x), to_nhwc(grad_output)
    buffers = [amid_nans(a.shape, x.dtype) for a in (grad_output, x)]
    (_, output), (_, grad_x) = buffers
    KERNELS[kernels].forward(g, x, weight, bias, output, relu, threads)
    done = [output]
    if KERNELS[kernels].supports(g, True):
        KERNELS[kernels].grad_input(g, grad_output, weight, grad_x, threads)
        done.append(grad_x)
    for whole, _ in buffers:
        assert np.isnan(whole[:64]).all()
        assert np.isnan(whole[-64:]).all()
    return [to_nchw(a) for a in done] if layout == "NHWC" else done


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("kernels", "case", "layout"), tried([*CASES, *LARGE], ("NCHW", "NHWC")))
def test_values(kernels, case, layout, threads, dtype):
    expected = (conv_expected(case, dtype), conv_expected_gradients(case, dtype)["x"])
    got = results(kernels, case, conv_arrays(case, dtype), layout, threads)
    for actual, wanted, of in zip(got, expected, ("output", "x"), strict=False):
        assert_within(actual, wanted, case.tolerance(dtype, "strassen", of))


@pytest.mark.parametrize(("kernels", "layout"), [("images", "NCHW"), ("images", "NHWC"), ("columns", "NCHW")])
def test_both_passes_are_tried_but_where_there_is_a_stride(kernels, layout):
    geometries = [
        case.geometry(layout) for case in [*CASES, *LARGE] if KERNELS[kernels].supports(case.geometry(layout))
    ]
    able = [KERNELS[kernels].supports(g, True) for g in geometries]
    assert able == [(g.stride_h, g.stride_w) == (1, 1) for g in geometries]
    assert len(able) - 7 <= sum(able) < len(able)
    assert len(able) >= len([*CASES, *LARGE]) - 2


@pytest.mark.parametrize(("kernels", "case", "layout"), tried([*PLANES[-4:], *SIZES[2:5], *LARGE]))
def test_same_bits_on_any_number_of_threads(kernels, case, layout, dtype):
    arrays = conv_arrays(case, dtype)
    expected = results(kernels, case, arrays, layout, 1)
    for threads in (2, 3, 5):
        for got, wanted in zip(results(kernels, case, arrays, layout, threads), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("kernels", "case", "layout"), tried([SIZES[2], PLANES[6], LARGE[0]]))
def test_images_do_not_meet(kernels, case, layout, dtype):
    """A result has the same bits whatever the other images are."""
    x, *others = conv_arrays(case, dtype)
    together = results(kernels, case, (x, *others), layout, 2)[0]
    alone = ConvGeometry(
        (1, *case.x_shape[1:]), case.weight_shape, case.output_shape[2:], (1, 1), (1, 1), case.edges, 1, False
    )
    output = np.empty((1, *case.output_shape[1:]), dtype)
    for image in range(len(x)):
        KERNELS[kernels].forward(alone, x[image : image + 1].copy(), *others[:2], output, False, 2)
        np.testing.assert_array_equal(output[0], together[image])


@pytest.mark.parametrize(("kernels", "case", "layout"), tried([SIZES[2], LARGE[3]]))
def test_relu_follows_the_bias(kernels, case, layout, dtype):
    arrays = conv_arrays(case, dtype)
    plain, fused = (results(kernels, case, arrays, layout, 1, relu=relu)[0] for relu in (False, True))
    assert plain.min() < 0
    np.testing.assert_array_equal(fused, np.maximum(plain, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernels", KERNELS)
def test_packed_weights_where_something_is_not_finite(kernels, bad, dtype, rng):
    """They hold sums, of which the weights themselves can't be had again."""
    x, weight = rng.normal(size=(2, 6, 8, 8)).astype(dtype), rng.normal(size=(10, 6, 1, 1)).astype(dtype)
    x[1, 4, 2, 3] = bad
    g = ConvGeometry(x.shape, weight.shape, (8, 8), (1, 1), (1, 1), ((0, 0), (0, 0)), 1, False)
    output = np.empty((2, 10, 8, 8), dtype)
    packed = KERNELS[kernels].pack_weight(g, weight, 1)
    KERNELS[kernels].forward_packed(g, x, packed, None, output, True, 2)
    with np.errstate(invalid="ignore"):
        expected = np.einsum("kc,nchw->nkhw", weight[:, :, 0, 0].astype(np.float64), x.astype(np.float64))
    expected = np.maximum(expected, 0)
    here = np.zeros((2, 8, 8), bool)
    here[1, 2, 3] = True
    np.testing.assert_array_equal(output[1, :, 2, 3], expected[1, :, 2, 3].astype(dtype))
    np.testing.assert_allclose(output.transpose(0, 2, 3, 1)[~here], expected.transpose(0, 2, 3, 1)[~here],
                               rtol=0, atol=np.finfo(dtype).eps * 100)  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0, 0, 0), (1, 5, 0, 2), (2, 3, 4, 4), (2, 2, 4, 3)])
@pytest.mark.parametrize("kernels", KERNELS)
def test_what_is_not_finite_goes_where_it_belongs(kernels, at, bad, dtype, rng):
    """In any half of the image and of the channels, and in the middle pixel of an odd number."""
    x, weight = rng.normal(size=(3, 6, 5, 5)).astype(dtype), rng.normal(size=(10, 6, 1, 1)).astype(dtype)
    x[at] = bad
    g = ConvGeometry(x.shape, weight.shape, (5, 5), (1, 1), (1, 1), ((0, 0), (0, 0)), 1, False)
    output = np.empty((3, 10, 5, 5), dtype)
    KERNELS[kernels].forward(g, x, weight, None, output, False, 1)
    finite = np.ones((3, 5, 5), bool)
    finite[at[0], at[2], at[3]] = False
    np.testing.assert_array_equal(np.isfinite(output), np.broadcast_to(finite[:, None], output.shape))


@pytest.mark.parametrize(
    ("arguments", "images", "columns"),
    [
        ({}, (True, True), (True, True)),
        ({"groups": 2}, (False, False), (False, False)),
        ({"channels": 5}, (False, False), (False, False)),
        ({"filters": 5}, (False, False), (False, False)),
        ({"size": (1, 1)}, (False, False), (True, True)),
        ({"size": (1, 2)}, (True, True), (True, True)),
        ({"size": (1, 9), "stride": 2}, (False, False), (True, False)),
        ({"size": (3, 9), "stride": 2}, (True, False), (True, False)),
        ({"size": (3, 9), "kernel": (3, 1)}, (False, True), (True, True)),
        ({"size": (1, 9), "kernel": (1, 3)}, (False, False), (True, True)),
        ({"layout": "NHWC"}, (True, True), (False, False)),
    ],
)
def test_supports(arguments, images, columns):
    values = {
        "groups": 1,
        "channels": 6,
        "filters": 6,
        "size": (4, 5),
        "stride": 1,
        "kernel": (1, 1),
        "layout": "NCHW",
    } | arguments
    groups, kernel = values["groups"], values["kernel"]
    case = ConvCase(
        "tried",
        (1, values["channels"], *values["size"]),
        (values["filters"], values["channels"] // groups, *kernel),
        stride=values["stride"],
        groups=groups,
    )
    g = case.geometry(values["layout"])
    assert (conv_strassen.supports(g), conv_strassen.supports(g, True)) == images
    assert (conv_strassen_columns.supports(g), conv_strassen_columns.supports(g, True)) == columns


def test_what_it_leaves_to_others_is_direct(rng):
    """The gradient of the weight, and that of the input where there is a stride."""
    x, weight = (rng.normal(size=s).astype(np.float32) for s in ((2, 6, 9, 9), (10, 6, 3, 3)))
    for stride in (1, 2):
        grad = np.ones_like(fc.conv2d(x, weight, stride=stride, algorithm="strassen"))
        got, want = (
            fc.conv2d_backward(grad, x, weight, stride=stride, algorithm=name)
            for name in ("strassen", "direct")
        )
        np.testing.assert_array_equal(got[1], want[1])
        assert (got[0].tobytes() == want[0].tobytes()) is (stride == 2)
