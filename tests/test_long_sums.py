"""Sums of thousands of products: errors where all are alike, bits on any number of threads."""

import numpy as np
import pytest
import reference
from cases import ConvCase, assert_within, error_bound
from layouts import conv_and_gradients

import fastconv as fc

CASES = [
    ConvCase("channels", (2, 97, 13, 11), (19, 97, 3, 3), padding=1),
    ConvCase("two-tiles", (1, 130, 9, 31), (45, 130, 3, 3), padding=1),
    ConvCase("stride", (1, 130, 15, 14), (40, 130, 3, 3), stride=2, padding=1),
    ConvCase("dilation", (1, 78, 12, 9), (36, 78, 3, 3), padding=2, dilation=2),
    ConvCase("5x5", (1, 41, 9, 17), (17, 41, 5, 5), padding=2),
    ConvCase("points", (3, 1201, 4, 5), (35, 1201, 1, 1)),
    ConvCase("halves", (2, 1300, 8, 6), (24, 1300, 1, 1)),
    ConvCase("few-filters", (2, 131, 17, 19), (3, 131, 3, 3), padding=1),
    ConvCase("few-filters-stride", (1, 131, 17, 19), (2, 131, 3, 3), stride=2),
    ConvCase("groups", (1, 302, 9, 8), (8, 151, 3, 3), groups=2),
    ConvCase("line", (2, 300, 1, 40), (8, 300, 1, 5)),
    ConvCase("filters", (1, 7, 9, 10), (303, 7, 3, 3), padding=1),
    ConvCase("pixels", (9, 5, 61, 67), (18, 5, 3, 3)),
    ConvCase("one-channel", (60, 1, 129, 127), (1, 1, 3, 3)),
    ConvCase("large-kernel", (2, 3, 70, 72), (3, 1, 63, 59), groups=3),
    ConvCase("long-kernel", (2, 2, 1, 1500), (2, 1, 1, 1201), groups=2),
    ConvCase("larger-kernel", (2, 3, 40, 41), (4, 3, 31, 31), padding=3),
]


def results_if_possible(case, x, weight, grad_output, layout, algorithm):
    """None where the algorithm cannot do the case."""
    try:
        got = conv_and_gradients(x, weight, grad_output, layout, algorithm=algorithm, **case.arguments)
    except ValueError as error:
        if "algorithm" not in str(error):
            raise
        return None
    return dict(zip(("output", "x", "weight", "bias"), got, strict=True))


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


@pytest.fixture(params=["NCHW", "NHWC"])
def layout(request):
    return request.param


@pytest.fixture(params=["auto", "direct", "im2col", "winograd", "strassen"])
def algorithm(request):
    return request.param


# Sums of a tenth or of 1.1 are rounded the same way for long, those of a third in turn.
@pytest.mark.parametrize("value", [0.1, 1.1, 1 / 3])
def test_errors_of_equal_products_keep_their_bound(case, value, layout, algorithm):
    x = np.ones(case.x_shape, np.float32)
    weight = np.full(case.weight_shape, value, np.float32)
    grad_output = np.full(case.output_shape, value, np.float32)
    got = results_if_possible(case, x, weight, grad_output, layout, algorithm)
    if got is None:
        return
    exact = [array.astype(np.float64) for array in (grad_output, x, weight)]
    gradients = reference.conv2d_backward(*exact, **case.arguments)
    expected = dict(zip(("x", "weight", "bias"), gradients, strict=True))
    expected["output"] = reference.conv2d(*exact[1:], **case.arguments)
    for name, result in got.items():
        assert_within(result, expected[name], error_bound(np.float32, case.products[name], algorithm))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_on_any_number_of_threads(case, dtype, layout, algorithm, rng):
    x, weight, grad_output = (
        rng.standard_normal(shape).astype(dtype)
        for shape in (case.x_shape, case.weight_shape, case.output_shape)
    )
    several = []
    for threads in (1, 2, 3, 5):
        with fc.num_threads(threads):
            got = results_if_possible(case, x, weight, grad_output, layout, algorithm)
        if got is None:
            return
        several.append({name: result.tobytes() for name, result in got.items()})
    assert all(bits == several[0] for bits in several[1:])


@pytest.mark.parametrize("batch", [1, 3, 16, 17, 300])
@pytest.mark.parametrize("inputs", [4096, 65536])
def test_errors_of_equal_products_in_linear(batch, inputs):
    value = np.float32(1.1)
    weight, x = np.full((8, inputs), value), np.ones((batch, inputs), np.float32)
    exact = np.full((batch, 8), float(value) * inputs)
    assert_within(fc.linear(x, weight), exact, error_bound(np.float32, inputs, "direct"))
    grad_x, grad_weight, _ = fc.linear_backward(x, np.full((batch, 5), value), np.full((inputs, 5), value))
    assert_within(
        grad_x, np.full((batch, 5), float(value) * inputs), error_bound(np.float32, inputs, "direct")
    )
    assert_within(
        grad_weight, np.full((inputs, 5), float(value) * batch), error_bound(np.float32, batch, "direct")
    )
