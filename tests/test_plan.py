"""The plan as a table: what each kind of layer is computed by."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv import _plan, _work
from fastconv._kernels import conv_winograd
from fastconv._kernels.isa import tile_shape
from fastconv._spec import conv_spec

# (x, weight, stride, padding) -> kernels of the forward pass, of the input's gradient, of the weight's,
# with AVX2's tile for float32.
AVX2 = (6, 16, 8)
LAYERS = {
    "AlexNet's first": ((16, 3, 224, 224), (96, 3, 11, 11), 4, 2, "winograd", "winograd", "winograd"),
    "ResNet's first": ((16, 3, 224, 224), (64, 3, 7, 7), 2, 3, "winograd", "winograd", "winograd"),
    "5x5, stride 2, of one channel": ((8, 1, 96, 96), (16, 1, 5, 5), 2, 2, "rows", "rows", "direct"),
    "4x4": ((8, 64, 28, 28), (64, 64, 4, 4), 1, 1, "winograd", "winograd", "winograd"),
    "7x7 of a small image": ((1, 16, 14, 14), (16, 16, 7, 7), 1, 3, "direct", "direct", "direct"),
    "3x3": ((16, 128, 28, 28), (128, 128, 3, 3), 1, 1, "winograd", "winograd", "winograd"),
    "3x3 of a 13x13 image": ((16, 384, 13, 13), (256, 384, 3, 3), 1, 1, "winograd", "winograd", "winograd"),
    "3x3 of a 7x7 image": ((1, 512, 7, 7), (512, 512, 3, 3), 1, 1, "im2col", "winograd", "direct"),
    "3x3 of few channels": ((8, 3, 32, 32), (32, 3, 3, 3), 1, 1, "rows", "rows", "rows"),
    "3x3, stride 2": ((16, 128, 56, 56), (128, 128, 3, 3), 2, 1, "strassen_columns", "winograd", "direct"),
    "3x3, stride 2, of 32 channels": ((16, 32, 80, 80), (64, 32, 3, 3), 2, 1, "im2col", "rows", "direct"),
    "3x3, stride 2, of 256": ((16, 256, 28, 28), (256, 256, 3, 3), 2, 1, "im2col", "winograd", "direct"),
    "3x3, stride 2, of 512": ((16, 512, 14, 14), (512, 512, 3, 3), 2, 1, "direct", "direct", "direct"),
    "4x4, stride 2": ((16, 64, 64, 64), (128, 64, 4, 4), 2, 1, "winograd", "winograd", "winograd"),
    "2x2, stride 2": ((8, 96, 56, 56), (192, 96, 2, 2), 2, 0, "im2col", "rows", "direct"),
    "4x4, stride 2, few channels": ((16, 16, 32, 32), (32, 16, 4, 4), 2, 1, "rows", "winograd", "direct"),
    "patches": ((4, 3, 128, 128), (64, 3, 4, 4), 4, 0, "rows", "rows", "direct"),
    "2x2": ((16, 64, 56, 56), (64, 64, 2, 2), 1, 0, "winograd", "winograd", "winograd"),
    "5x5": ((16, 96, 27, 27), (256, 96, 5, 5), 1, 2, "winograd", "winograd", "winograd"),
    "5x5 of a 6x6 image": ((4, 64, 6, 6), (64, 64, 5, 5), 1, 2, "winograd", "winograd", "winograd"),
    "1x1": ((16, 64, 56, 56), (256, 64, 1, 1), 1, 0, "im2col", "im2col", "direct"),
    "1x1 of many channels": (
        (16, 1024, 14, 14),
        (256, 1024, 1, 1),
        1,
        0,
        "strassen_columns",
        "im2col",
        "direct",
    ),
    "1x1 of half as many": ((8, 512, 28, 28), (128, 512, 1, 1), 1, 0, "im2col", "im2col", "direct"),
    "LeNet's first": ((64, 1, 28, 28), (6, 1, 5, 5), 1, 2, "rows", "rows", "rows"),
    "LeNet's second": ((64, 6, 14, 14), (16, 6, 5, 5), 1, 0, "direct", "rows", "direct"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_kernels_of_a_layer(name: str) -> None:
    x_shape, weight_shape, stride, padding, *kernels = LAYERS[name]
    g = conv_spec(x_shape, weight_shape, stride, padding, 1, 1, "zeros", "NCHW").geometry
    assert [_plan.kernels(task, "auto", g, AVX2) for task in _plan.TASKS] == kernels


# What differs with AVX-512's tile.
WIDE = (14, 32, 16)
WIDE_LAYERS = {
    "3x3 of a 7x7 image": ("winograd", "winograd", "direct"),
    "3x3, stride 2": ("strassen", "direct", "direct"),
    "3x3, stride 2, of 32 channels": ("direct", "direct", "direct"),
    "3x3, stride 2, of 256": ("strassen", "direct", "direct"),
    "2x2, stride 2": ("strassen", "direct", "direct"),
    "4x4, stride 2, few channels": ("direct", "winograd", "direct"),
    "1x1": ("im2col", "direct", "direct"),
    "1x1 of many channels": ("strassen", "strassen", "direct"),
    "1x1 of half as many": ("strassen", "im2col", "direct"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_kernels_of_a_layer_with_wide_tiles(name: str) -> None:
    x_shape, weight_shape, stride, padding, *kernels = LAYERS[name]
    g = conv_spec(x_shape, weight_shape, stride, padding, 1, 1, "zeros", "NCHW").geometry
    expected = WIDE_LAYERS.get(name, kernels)
    assert [_plan.kernels(task, "auto", g, WIDE) for task in _plan.TASKS] == list(expected)


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "task", "kernels"),
    [
        ((64, 512, 2, 2), (512, 512, 3, 3), "grad_weight", "winograd"),  # direct: 1.3 of the time
        ((8, 192, 8, 8), (256, 192, 5, 5), "grad_input", "direct"),  # winograd: twice the time
        ((8, 256, 13, 13), (8, 256, 3, 3), "grad_input", "winograd"),  # direct: 1.4
        ((4, 256, 112, 112), (8, 256, 3, 3), "forward", "winograd"),  # direct: 1.3
    ],
)
def test_kernels_with_wide_tiles(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], task: str, kernels: str
) -> None:
    """As measured, where a model's mistake was dear."""
    padding = 0 if weight_shape[2] == 5 else 1
    g = conv_spec(x_shape, weight_shape, 1, padding, 1, 1, "zeros", "NCHW").geometry
    assert _plan.kernels(task, "auto", g, WIDE) == kernels


@pytest.mark.parametrize(
    ("dilation", "kernels"), [(2, "winograd"), (6, "winograd"), (12, "direct"), (18, "direct")]
)
def test_kernels_of_a_dilated_layer(dilation: int, kernels: str) -> None:
    """As far as few of the products are with padding, Winograd's blocks save more."""
    layer = ((1, 512, 33, 33), (256, 512, 3, 3), 1, dilation, dilation, 1, "zeros", "NCHW")
    assert _plan.kernels("forward", "auto", conv_spec(*layer).geometry, WIDE) == kernels


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "stride", "forward", "grad_input"),
    [
        ((16, 1024, 14, 14), (256, 1024, 1, 1), 1, "strassen", "strassen"),
        ((16, 64, 56, 56), (256, 64, 1, 1), 1, "im2col", "direct"),  # memory takes longer than an eighth
        ((1, 512, 7, 7), (512, 512, 1, 1), 1, "direct", "direct"),  # packing does
        ((16, 256, 28, 28), (256, 256, 3, 3), 2, "strassen", "direct"),
        ((16, 512, 14, 14), (512, 512, 3, 3), 2, "direct", "direct"),  # 7 rows make halves of 4
        ((8, 64, 64, 64), (64, 64, 7, 7), 1, "winograd", "winograd"),
        ((8, 256, 32, 32), (256, 256, 2, 2), 1, "winograd", "winograd"),
    ],
)
def test_kernels_of_many_channels(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: int, forward: str, grad_input: str
) -> None:
    """An eighth of the products less, where sums of quarters cost less than they do."""
    g = conv_spec(x_shape, weight_shape, stride, weight_shape[2] // 2, 1, 1, "zeros", "NCHW").geometry
    assert [_plan.kernels(task, "auto", g, WIDE) for task in _plan.TASKS[:2]] == [forward, grad_input]


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "kernels"),
    [
        ((16, 64, 1, 1000), (64, 64, 1, 3), "winograd"),
        ((16, 64, 1, 1000), (64, 64, 1, 5), "winograd"),
        ((16, 128, 1, 1000), (128, 128, 1, 7), "winograd"),
        ((16, 64, 56, 56), (64, 64, 3, 1), "winograd"),
        ((16, 1, 1, 4000), (16, 1, 1, 9), "rows"),  # transforms take longer than they save
        ((16, 256, 1, 1000), (256, 256, 1, 1), "im2col"),
    ],
)
def test_kernels_of_one_row_or_column(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], kernels: str
) -> None:
    padding = (weight_shape[2] // 2, weight_shape[3] // 2)
    g = conv_spec(x_shape, weight_shape, 1, padding, 1, 1, "zeros", "NCHW").geometry
    assert _plan.kernels("forward", "auto", g, AVX2) == kernels


def test_tiles_along_one_axis() -> None:
    """Of lines of four results, and with a dilation of seven, of groups of seven such lines."""
    for x_shape, weight_shape, dilation, tiles in [
        ((1, 3, 1, 41), (5, 3, 1, 3), 1, 10),
        ((1, 3, 2, 40), (5, 3, 1, 3), 1, 20),
        ((1, 3, 40, 2), (5, 3, 3, 1), 1, 20),
        ((1, 3, 1, 100), (5, 3, 1, 3), (9, 7), 23),  # 86 results: three groups, and two results in a fourth
    ]:
        spec = conv_spec(x_shape, weight_shape, 1, 0, dilation, 1, "zeros", "NCHW")
        assert conv_winograd.tiling(spec.geometry, False) == (tiles, 4, 6, 1)


@pytest.mark.parametrize(
    ("images", "size", "kernel", "stride", "forward", "grad_input"),
    [
        (1, 13, 3, 1, 16, 16),  # 4 by 4 blocks of 4x4 results
        (16, 2, 3, 1, 9, 9),  # 4 by 4 images, with zeros between them, are 11x11
        (1, 10, 2, 1, 9, 4),  # 11x11 results, and 10x10, in blocks of 5x5
        (1, 20, 4, 2, 4, 9),  # four 2x2 kernels: 10x10 results, and four times 11x11 of the gradient
        (3, 9, 1, 1, 0, 0),
    ],
)
def test_tiles(images: int, size: int, kernel: int, stride: int, forward: int, grad_input: int) -> None:
    x_shape, weight_shape = (images, 3, size, size), (5, 3, kernel, kernel)
    g = conv_spec(x_shape, weight_shape, stride, kernel // stride // 2, 1, 1, "zeros", "NCHW").geometry
    assert [conv_winograd.tiling(g, gradient)[0] for gradient in (False, True)] == [forward, grad_input]


@pytest.mark.parametrize("dilation", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 4, 13, 20])
def test_tiles_of_a_dilated_image(size: int, dilation: int) -> None:
    """Phases, which are images, need no more tiles together than each on its own."""
    layer = ((1, 3, size, size), (5, 3, 3, 3), 1, dilation, dilation, 1, "zeros", "NCHW")
    tiles, *_ = conv_winograd.tiling(conv_spec(*layer).geometry, False)
    along = sum(-(-len(range(size)[number::dilation]) // 4) for number in range(dilation))
    assert size**2 / 16 <= tiles <= along**2


@pytest.mark.parametrize(
    "axis",
    [(7, 7, 3, 1, 1, 1), (9, 9, 3, 1, 4, 4), (10, 4, 5, 3, 1, 2), (5, 1, 1, 1, 1, 0), (3, 9, 2, 1, 1, 4)],
)
def test_products_that_are_not_with_padding(axis: tuple[int, ...]) -> None:
    size, out, taps, stride, dilation, before = axis
    inputs = [i * stride + tap * dilation - before for i in range(out) for tap in range(taps)]
    assert _work.products(*axis) == sum(0 <= i < size for i in inputs)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_gradient_has_the_products_of_its_convolution(stride: int, padding: int) -> None:
    """Its windows reach beyond grad_output, into zeros, the farther the less the image was padded."""
    g = conv_spec((2, 6, 9, 11), (8, 6, 3, 3), stride, padding, 1, 1, "zeros", "NCHW").geometry
    forward, gradient = (_plan.work(task, g, WIDE) for task in _plan.TASKS[:2])
    counts = [w.seen * w.pixels * w.length * w.out_channels for w in (forward, gradient)]
    assert counts[0] == pytest.approx(counts[1])


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "stride", "images", "kernels"),
    [
        ((512, 7, 7), (512, 512, 3, 3), 1, 1, "im2col"),
        ((512, 7, 7), (512, 512, 3, 3), 1, 64, "winograd"),
        ((2048, 7, 7), (512, 2048, 1, 1), 1, 1, "im2col"),
        ((2048, 7, 7), (512, 2048, 1, 1), 1, 64, "strassen_columns"),
        ((128, 28, 28), (256, 128, 3, 3), 2, 1, "im2col"),
        ((128, 28, 28), (256, 128, 3, 3), 2, 64, "strassen_columns"),
    ],
)
def test_packed_weights_are_read(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: int, images: int, kernels: str
) -> None:
    """Those of sums of quarters are almost twice as many numbers, which takes longer for one image."""
    padding = weight_shape[2] // 2
    g = conv_spec((images, *x_shape), weight_shape, stride, padding, 1, 1, "zeros", "NCHW").geometry
    assert _plan.kernels("forward", "auto", g, AVX2, packed=True) == kernels


@pytest.mark.parametrize(("pixels", "in_place"), [(1, True), (512, True), (513, False)])
def test_im2col_packs_no_weight_for_few_pixels(pixels: int, in_place: bool) -> None:
    g = conv_spec((1, 64, 1, pixels), (64, 64, 1, 1), 1, 0, 1, 1, "zeros", "NCHW").geometry

    def packing(task: str) -> float:
        packed, plain = (_plan.work(task, g, AVX2, packed) for packed in (True, False))
        return _plan.cost("im2col", task, plain) - _plan.cost("im2col", task, packed)

    assert packing("grad_input") > 0
    assert (packing("forward") == 0) is in_place


@pytest.mark.parametrize(("images", "packed"), [(1, False), (20, False), (21, True), (100, True)])
def test_few_blocks_are_not_worth_transformed_weights(images: int, packed: bool) -> None:
    g = conv_spec((images, 384, 13, 13), (256, 384, 3, 3), 1, 1, 1, 1, "zeros", "NCHW").geometry
    assert _plan.packs("winograd", g, AVX2) is packed
    assert _plan.packs("direct", g, AVX2)
    assert _plan.packs("rows", g, AVX2)
    assert _plan.packs("im2col", g, AVX2)
    assert not _plan.packs("depthwise", g, AVX2)
    with_packed = _plan.cost("winograd", "forward", _plan.work("forward", g, AVX2, packed=True))
    without = _plan.cost("winograd", "forward", _plan.work("forward", g, AVX2))
    assert (with_packed < without) is packed


@pytest.mark.parametrize("task", _plan.TASKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_choice_is_able_and_cheapest(task: str, dtype: str, layout: str) -> None:
    for batch in (0, 1, 16):
        for size in (1, 3, 7, 28):
            for channels in (1, 3, 16, 65):
                for kernel, stride in ((1, 1), (3, 1), (3, 2), (5, 1)):
                    image = (size, size, channels) if layout == "NHWC" else (channels, size, size)
                    shapes = (batch, *image), (8, channels, kernel, kernel)
                    arguments = (stride, kernel // 2, 1, 1)
                    chosen = fc.conv2d_algorithm(*shapes, *arguments, layout=layout, dtype=dtype, task=task)
                    g = conv_spec(*shapes, *arguments, "zeros", layout).geometry
                    assert _plan.can(chosen, g)
                    tile = tile_shape(np.dtype(dtype).char)
                    w = _plan.work(task, g, tile)
                    names = [name for name in _plan.KERNELS[chosen] if _plan.able(name, task, g)]
                    least = min(_plan.cost(name, task, w) for name in names)
                    assert least == _plan.cost(_plan.kernels(task, "auto", g, tile), task, w)


def test_work_counts_every_product_once() -> None:
    g = conv_spec((2, 6, 9, 11), (8, 3, 3, 5), 1, 1, 1, 2, "zeros", "NCHW").geometry
    w = _plan.work("forward", g, AVX2)
    assert w.groups * w.pixels * w.out_channels * w.length == 2 * 8 * 9 * 9 * 3 * 15
