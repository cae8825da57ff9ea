"""`conv2d_backward` against the float64 reference, and against numerical gradients of `conv2d` itself."""

from itertools import product

import numpy as np
import pytest
import reference
from cases import (
    PLAIN_ALGORITHMS,
    SMALL_CONV_CASES,
    ConvCase,
    assert_within,
    conv_arrays,
    conv_expected_gradients,
    error_bound,
    runs,
    to_nchw,
    to_nhwc,
)
from memory_orders import HAS_FORBIDDEN_PAGES, between_forbidden_pages
from numpy.testing import assert_allclose, assert_array_equal
from test_conv2d import every_algorithm, every_named_run, every_run, some_plain_runs, some_runs, whole_numbers

import fastconv as fc

OF = ("x", "weight", "bias")


def assert_gradients(actual, case: ConvCase, dtype, algorithm, only=OF):
    expected = conv_expected_gradients(case, dtype)
    for of, gradient in zip(OF, actual, strict=True):
        if of in only:
            assert gradient.dtype == dtype
            assert_within(gradient, expected[of], case.tolerance(dtype, algorithm, of))
        else:
            assert gradient is None


# ---- values ----


@every_run
def test_matches_reference(algorithm, case: ConvCase, dtype):
    x, weight, _, grad_output = conv_arrays(case, dtype)
    gradients = fc.conv2d_backward(grad_output, x, weight, algorithm=algorithm, **case.arguments)
    assert_gradients(gradients, case, dtype, algorithm)


@every_run
def test_nhwc_matches_reference(algorithm, case: ConvCase):
    x, weight, _, grad_output = conv_arrays(case, np.float32)
    grad_x, grad_weight, grad_bias = fc.conv2d_backward(
        to_nhwc(grad_output), to_nhwc(x), weight, layout="NHWC", algorithm=algorithm, **case.arguments
    )
    assert_gradients((to_nchw(grad_x), grad_weight, grad_bias), case, np.float32, algorithm)


@pytest.mark.parametrize(("algorithm", "case"), runs(SMALL_CONV_CASES), ids=str)
def test_is_the_numerical_gradient_of_the_forward(algorithm, case: ConvCase):
    x, weight, bias, grad_output = conv_arrays(case, np.float64)
    arguments = {"algorithm": algorithm, **case.arguments}
    gradients = fc.conv2d_backward(grad_output, x, weight, **arguments)
    functions = [
        (lambda v: fc.conv2d(v, weight, bias, **arguments), x),
        (lambda v: fc.conv2d(x, v, bias, **arguments), weight),
        (lambda v: fc.conv2d(x, weight, v, **arguments), bias),
    ]
    for gradient, (function, at) in zip(gradients, functions, strict=True):
        assert_allclose(gradient, reference.numerical_gradient(function, at, grad_output), atol=1e-8)


@some_runs
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_unbatched(algorithm, case: ConvCase, layout):
    x, weight, _, grad_output = conv_arrays(case, np.float32)
    expected = reference.conv2d_backward(grad_output[:1], x[:1], weight, **case.arguments)
    image, grad = (to_nhwc(array[0]) if layout == "NHWC" else array[0] for array in (x, grad_output))
    grad_x, grad_weight, grad_bias = fc.conv2d_backward(
        grad, image, weight, layout=layout, algorithm=algorithm, **case.arguments
    )
    grad_x = to_nchw(grad_x) if layout == "NHWC" else grad_x
    for of, gradient, wanted in zip(OF, (grad_x[None], grad_weight, grad_bias), expected, strict=True):
        assert_within(gradient, wanted, case.tolerance(np.float32, algorithm, of))


@some_runs
@pytest.mark.parametrize("need", [(), ("x",), ("weight",), ("bias",), ("bias", "x"), ["weight", "x"], OF])
def test_gives_what_is_needed(algorithm, case: ConvCase, need):
    x, weight, _, grad_output = conv_arrays(case, np.float32)
    gradients = fc.conv2d_backward(grad_output, x, weight, algorithm=algorithm, need=need, **case.arguments)
    assert_gradients(gradients, case, np.float32, algorithm, only=need)


@every_algorithm
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 3), ((1, 2), (0, 3)), "same", "valid"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_padding_modes(mode, padding, layout, algorithm):
    groups = 1 if algorithm == "strassen" else 2
    x, weight = whole_numbers(2, (2, 4, 5, 6), (4, 4 // groups, 3, 3))
    arguments = {"padding": padding, "groups": groups, "padding_mode": mode}
    grad_output = whole_numbers(3, reference.conv2d(x, weight, **arguments).shape)[0]
    expected = reference.conv2d_backward(grad_output, x, weight, **arguments)
    if layout == "NHWC":
        x, grad_output = to_nhwc(x), to_nhwc(grad_output)
    grad_x, *others = fc.conv2d_backward(
        *(array.astype(np.float32) for array in (grad_output, x, weight)),
        layout=layout,
        algorithm=algorithm,
        **arguments,
    )
    grad_x = to_nchw(grad_x) if layout == "NHWC" else grad_x
    for gradient, wanted in zip((grad_x, *others), expected, strict=True):
        assert_within(gradient, wanted, error_bound(np.float32, grad_output.size, algorithm))


@every_algorithm
@pytest.mark.parametrize("padding", ["same", ((1, 0), (2, 3))])
def test_forms_of_padding(padding, algorithm):
    x, weight = whole_numbers(2, (2, 4, 5, 6), (4, 4, 3, 3))
    grad_output = whole_numbers(3, reference.conv2d(x, weight, padding=padding).shape)[0]
    expected = reference.conv2d_backward(grad_output, x, weight, padding=padding)
    arrays = (array.astype(np.float32) for array in (grad_output, x, weight))
    gradients = fc.conv2d_backward(*arrays, padding=padding, algorithm=algorithm)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert_within(gradient, wanted, error_bound(np.float32, grad_output.size, algorithm))


@every_algorithm
def test_no_images_give_zeros(algorithm, dtype):
    x, grad_output = np.zeros((0, 2, 5, 5), dtype), np.zeros((0, 4, 3, 3), dtype)
    grad_x, grad_weight, grad_bias = fc.conv2d_backward(
        grad_output, x, np.ones((4, 2, 3, 3), dtype), algorithm=algorithm
    )
    assert grad_x.shape == x.shape
    assert_array_equal(grad_weight, np.zeros((4, 2, 3, 3)))
    assert_array_equal(grad_bias, np.zeros(4))


# ---- dtypes and memory ----


@pytest.mark.parametrize(
    ("dtypes", "result"),
    [
        ((np.float32, np.float32, np.float64), np.float64),
        ((np.float64, np.float32, np.float32), np.float64),
        ((np.float16, np.float16, np.float16), np.float16),
        ((np.int8, np.int16, np.float32), np.float32),
        ((np.int32, np.int64, np.int32), np.float64),
        ((">f4", "<f4", ">f4"), np.float32),
    ],
)
@pytest.mark.parametrize("algorithm", PLAIN_ALGORITHMS)
def test_dtypes(dtypes, result, algorithm):
    arrays = whole_numbers(3, (2, 4, 3, 3), (2, 3, 7, 6), (4, 3, 3, 2))
    expected = reference.conv2d_backward(*arrays, stride=2)
    arrays = [array.astype(dtype) for array, dtype in zip(arrays, dtypes, strict=True)]
    for gradient, wanted in zip(
        fc.conv2d_backward(*arrays, stride=2, algorithm=algorithm), expected, strict=True
    ):
        assert gradient.dtype == result
        assert_array_equal(gradient, wanted.astype(result))


@some_plain_runs
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_memory_orders(algorithm, case: ConvCase, memory_order, layout, dtype):
    shapes = (case.output_shape, case.x_shape, case.weight_shape)
    grad_output, x, weight = (memory_order(array.astype(dtype)) for array in whole_numbers(4, *shapes))
    copies = [array.copy() for array in (grad_output, x, weight)]
    expected = reference.conv2d_backward(grad_output, x, weight, **case.arguments)
    images = [np.moveaxis(array, 1, -1) if layout == "NHWC" else array for array in (grad_output, x)]
    gradients = fc.conv2d_backward(*images, weight, algorithm=algorithm, layout=layout, **case.arguments)
    grad_x = np.moveaxis(gradients[0], -1, 1) if layout == "NHWC" else gradients[0]
    for gradient, wanted in zip((grad_x, *gradients[1:]), expected, strict=True):
        assert_array_equal(gradient, wanted)
    for array, copy in zip((grad_output, x, weight), copies, strict=True):
        assert_array_equal(array, copy)


@pytest.mark.skipif(not HAS_FORBIDDEN_PAGES, reason="needs mprotect")
@every_named_run
def test_touches_nothing_outside_its_arrays(algorithm, case: ConvCase):
    if case.is_empty:
        return
    x, weight, _, grad_output = conv_arrays(case, np.float32)
    for layout, at_end in product(("NCHW", "NHWC"), (True, False)):
        images = (to_nhwc(grad_output), to_nhwc(x)) if layout == "NHWC" else (grad_output, x)
        arrays = [between_forbidden_pages(array, at_end) for array in (*images, weight)]
        grad_x, *others = fc.conv2d_backward(*arrays, layout=layout, algorithm=algorithm, **case.arguments)
        grad_x = to_nchw(grad_x) if layout == "NHWC" else grad_x
        assert_gradients((grad_x, *others), case, np.float32, algorithm)
