"""The direct kernels leave padding out where channels are many: windows that borders cut, in every way."""

import numpy as np
import pytest
import reference
from cases import (
    ConvCase,
    assert_within,
    conv_arrays,
    conv_expected,
    conv_expected_gradients,
    to_nchw,
    to_nhwc,
)

import fastconv as fc

MANY = 37  # channels; from 32 on sums are taken by taps


def _cases() -> list[ConvCase]:
    geometries = [
        {"padding": 1},
        {"padding": 2},
        {"padding": ((0, 2), (1, 0))},
        {"padding": ((3, 0), (0, 4))},
        {"padding": 4},
        {"padding": 1, "stride": 2},
        {"padding": ((0, 1), (2, 0)), "stride": 2},
        {"padding": 3, "stride": (2, 1)},
        {"padding": 3, "stride": (1, 3)},
        {"padding": 2, "dilation": 2},
        {"padding": 5, "dilation": (3, 4), "stride": (2, 3)},
    ]
    kernels = [(3, 3), (1, 5), (4, 1), (2, 2)]
    return (
        [
            ConvCase(f"geometry-{i}-kernel-{h}x{w}", (2, MANY, 9, 11), (19, MANY, h, w), **geometry)
            for i, geometry in enumerate(geometries)
            for h, w in kernels
        ]
        + [
            # Of small images, enough for tiles that go across them: fewer and more than such a tile has.
            ConvCase(
                f"{images}-images-of-{h}x{w}-kernel-{kernel}",
                (images, 70, h, w),
                (35, 70, kernel, kernel),
                **how,
            )
            for images in (7, 13, 14, 15, 29)
            for h, w, kernel, how in [
                (2, 2, 3, {"padding": 1}),
                (3, 1, 3, {"padding": ((0, 2), (1, 1))}),
                (4, 4, 4, {}),
                (7, 8, 2, {"padding": ((1, 0), (1, 0)), "dilation": 2}),
                (4, 4, 3, {"padding": 1, "stride": 2}),
                (8, 7, 4, {"padding": 1, "stride": 2}),
                (5, 6, 1, {"stride": (1, 2)}),
                (3, 9, 3, {"padding": 2, "stride": 3}),
            ]
        ]
        + [
            ConvCase("across-strided-rows", (15, MANY, 7, 5), (17, MANY, 3, 3), padding=1, stride=(2, 1)),
            ConvCase("across-groups", (15, 2 * MANY, 4, 4), (20, MANY, 3, 3), padding=1, groups=2),
            ConvCase("nothing-but-borders", (2, MANY, 2, 3), (5, MANY, 7, 7), padding=3),
            ConvCase("windows-of-padding-alone", (1, MANY, 3, 3), (5, MANY, 2, 2), padding=6),
            ConvCase("one-pixel", (3, MANY, 1, 1), (33, MANY, 3, 3), padding=1),
            ConvCase("long-rows", (1, MANY, 4, 131), (9, MANY, 3, 3), padding=1, stride=2),
            ConvCase("many-rows", (1, 130, 45, 20), (3, 130, 3, 3), padding=1, stride=2),
            ConvCase(
                "chunks-of-padding", (1, 130, 45, 20), (3, 130, 3, 3), padding=((70, 90), (1, 1)), stride=2
            ),
            ConvCase("blocks", (1, 700, 5, 5), (20, 700, 3, 3), padding=1),
            ConvCase("bad-strides", (2, 64, 16, 32), (17, 64, 3, 3), padding=1, stride=2),
            # So many products of an input that tiles of few rows have the channels of a pixel as neighbours.
            ConvCase("turned", (2, MANY, 9, 11), (60, MANY, 3, 3), padding=((0, 1), (2, 0)), stride=2),
            ConvCase("turned-power-of-two", (1, 128, 9, 7), (70, 128, 3, 3), padding=1, stride=2),
            ConvCase("turned-pixels", (2, 16, 13, 17), (131, 16, 1, 1)),
            ConvCase("turned-windows-of-padding-alone", (1, MANY, 3, 3), (130, MANY, 2, 2), padding=6),
            ConvCase("turned-one-pixel", (3, 17, 1, 1), (33, 17, 3, 3), padding=1),
            ConvCase(
                "turned-chunks-of-padding", (1, 130, 45, 2), (15, 130, 3, 3), padding=((70, 90), (4, 1))
            ),
            ConvCase("turned-groups", (2, 2 * MANY, 7, 8), (120, MANY, 3, 3), padding=1, stride=2, groups=2),
            ConvCase("groups", (2, 2 * MANY, 7, 8), (10, MANY, 3, 3), padding=1, stride=2, groups=2),
        ]
    )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("case", _cases(), ids=str)
def test_values(case: ConvCase, layout: str, dtype: type[np.floating]) -> None:
    x, weight, bias, grad_output = conv_arrays(case, dtype)
    expected, gradients = conv_expected(case, dtype), conv_expected_gradients(case, dtype)
    there, back = (to_nhwc, to_nchw) if layout == "NHWC" else (np.asarray, np.asarray)
    options = {**case.arguments, "layout": layout, "algorithm": "direct"}
    out = fc.conv2d(there(x), weight, bias, **options)
    assert_within(back(out), expected, case.tolerance(dtype, "direct"))
    grad_x, *_ = fc.conv2d_backward(there(grad_output), there(x), weight, **options)
    assert_within(back(grad_x), gradients["x"], case.tolerance(dtype, "direct", "x"))
    for threads in (2, 5):
        with fc.num_threads(threads):
            np.testing.assert_array_equal(fc.conv2d(there(x), weight, bias, **options), out)
            again, *_ = fc.conv2d_backward(there(grad_output), there(x), weight, **options)
            np.testing.assert_array_equal(again, grad_x)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("images", "height", "width"), [(2, 8, 9), (15, 3, 2)])
def test_relu_is_the_last_step_of_every_output(
    images: int, height: int, width: int, stride: int, dtype: type[np.floating]
) -> None:
    rng = np.random.default_rng(3)
    convolution = fc.nn.Conv2d(MANY, 20, 3, stride=stride, padding=2, rng=rng, dtype=dtype)
    convolution.bias.data[:] = rng.normal(size=20)
    frozen = fc.nn.freeze(fc.nn.Sequential(convolution, fc.nn.ReLU()))
    x = rng.normal(size=(images, MANY, height, width)).astype(dtype)
    weight, bias = convolution.weight.data, convolution.bias.data
    expected = np.maximum(reference.conv2d(x, weight, bias, stride=stride, padding=2), 0)
    assert_within(frozen(x), expected, 1e-4 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("images", "size"), [(1, 9), (15, 4)])
def test_padding_times_a_weight_that_is_not_finite(
    images: int, size: int, stride: int, value: float, packed: bool, dtype: type[np.floating]
) -> None:
    """It is NaN, at the border of that weight's channel and nowhere else."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(images, MANY, size, size)).astype(dtype)
    convolution = fc.nn.Conv2d(MANY, 70, 3, stride=stride, padding=1, bias=False, rng=rng, dtype=dtype)
    convolution.weight.data[65, 3, 0, 1] = value
    weight = convolution.weight.data
    network = fc.nn.freeze(convolution) if packed else None
    out = network(x) if network else fc.conv2d(x, weight, stride=stride, padding=1, algorithm="direct")
    with np.errstate(invalid="ignore"):
        expected = reference.conv2d(x, weight, stride=stride, padding=1)
    assert np.isnan(expected[0, 65, 0]).all()
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(out), finite)
    assert_within(out[finite], expected[finite], 1e-4 if dtype is np.float32 else 1e-12)
