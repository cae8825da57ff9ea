"""Pooling against the float64 reference. Inputs are whole numbers, so maxima and sums must be exact."""

import numpy as np
import pytest
import reference
from cases import (
    PARALLEL_POOL_CASES,
    POOL_CASES,
    SMALL_POOL_CASES,
    PoolCase,
    assert_within,
    pool_input,
    to_nchw,
    to_nhwc,
)
from memory_orders import HAS_FORBIDDEN_PAGES, MEMORY_ORDERS, between_forbidden_pages
from numpy.testing import assert_allclose, assert_array_equal

import fastconv as fc

EPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}
NAMES = [
    "kernel-3-stride-2",
    "2x2-stride-2-of-width-17",
    "padded-ceil-not-counted",
    "dilated-oblong",
    "channels-9",
]
SOME_POOL_CASES = [case for case in POOL_CASES if case.name in NAMES]

every_case = pytest.mark.parametrize("case", POOL_CASES, ids=str)
every_average = pytest.mark.parametrize("case", [case for case in POOL_CASES if case.can_average], ids=str)
some_cases = pytest.mark.parametrize("case", SOME_POOL_CASES, ids=str)
some_averages = pytest.mark.parametrize(
    "case", [case for case in SOME_POOL_CASES if case.can_average], ids=str
)
both_layouts = pytest.mark.parametrize("layout", ["NCHW", "NHWC"])


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    return to_nhwc(array) if layout == "NHWC" else array


def gradient_like(output: np.ndarray) -> np.ndarray:
    """Whole numbers, so that sums are exact in any order."""
    return np.random.default_rng(output.size).integers(-9, 10, output.shape).astype(output.dtype)


# ---- values ----


@both_layouts
@every_case
def test_max_pool2d(case: PoolCase, layout, dtype):
    x = pool_input(case, dtype)
    expected, expected_indices = reference.max_pool2d(x, **case.max_arguments)
    image = laid_out(x, layout)
    output, indices = fc.max_pool2d(image, **case.max_arguments, return_indices=True, layout=layout)
    assert output.dtype == dtype
    assert indices.dtype == np.int64
    assert_array_equal(output, laid_out(expected, layout))
    assert_array_equal(indices, laid_out(expected_indices, layout))
    assert_array_equal(fc.max_pool2d(image, **case.max_arguments, layout=layout), output)


@both_layouts
@every_case
def test_max_pool2d_backward(case: PoolCase, layout, dtype):
    x = pool_input(case, dtype)
    output, indices = reference.max_pool2d(x, **case.max_arguments)
    grad_output = gradient_like(output.astype(dtype))
    expected = reference.max_pool2d_backward(grad_output, indices, x.shape)
    grad_x = fc.max_pool2d_backward(
        laid_out(grad_output, layout), laid_out(indices, layout), laid_out(x, layout).shape, layout=layout
    )
    assert grad_x.dtype == dtype
    assert_array_equal(grad_x, laid_out(expected, layout))


@both_layouts
@every_average
def test_avg_pool2d(case: PoolCase, layout, dtype):
    x = pool_input(case, dtype)
    output = fc.avg_pool2d(laid_out(x, layout), **case.avg_arguments, layout=layout)
    assert output.dtype == dtype
    assert_within(output, laid_out(reference.avg_pool2d(x, **case.avg_arguments), layout), 2 * EPS[dtype])


@both_layouts
@every_average
def test_avg_pool2d_backward(case: PoolCase, layout, dtype):
    x = pool_input(case, dtype)
    grad_output = gradient_like(reference.avg_pool2d(x, **case.avg_arguments).astype(dtype))
    expected = reference.avg_pool2d_backward(grad_output, x.shape, **case.avg_arguments)
    grad_x = fc.avg_pool2d_backward(
        laid_out(grad_output, layout), laid_out(x, layout).shape, **case.avg_arguments, layout=layout
    )
    assert grad_x.dtype == dtype
    assert_within(grad_x, laid_out(expected, layout), (4 * case.window**0.5 + 4) * EPS[dtype])


@pytest.mark.parametrize("case", SMALL_POOL_CASES, ids=str)
def test_gradients_are_numerical_gradients_of_the_forward(case: PoolCase):
    x = pool_input(case)
    output, indices = fc.max_pool2d(x, **case.max_arguments, return_indices=True)
    grad_output = gradient_like(output)
    assert_allclose(
        fc.max_pool2d_backward(grad_output, indices, x.shape),
        reference.numerical_gradient(
            lambda v: fc.max_pool2d(v, **case.max_arguments), x, grad_output, step=0.25
        ),
        atol=1e-9,
    )
    if case.can_average:
        assert_allclose(
            fc.avg_pool2d_backward(grad_output, x.shape, **case.avg_arguments),
            reference.numerical_gradient(lambda v: fc.avg_pool2d(v, **case.avg_arguments), x, grad_output),
            atol=1e-8,
        )


@both_layouts
@some_cases
def test_unbatched(case: PoolCase, layout):
    x = pool_input(case, np.float32)[:1]
    image = laid_out(x[0], layout)
    expected, expected_indices = reference.max_pool2d(x, **case.max_arguments)
    output, indices = fc.max_pool2d(image, **case.max_arguments, return_indices=True, layout=layout)
    assert_array_equal(output, laid_out(expected[0], layout))
    assert_array_equal(indices, laid_out(expected_indices[0], layout))
    grad_output = gradient_like(output)
    grad_x = fc.max_pool2d_backward(grad_output, indices, image.shape, layout=layout)
    grad_nchw = to_nchw(grad_output) if layout == "NHWC" else grad_output
    expected_grad = reference.max_pool2d_backward(grad_nchw[None], expected_indices, x.shape)
    assert_array_equal(grad_x, laid_out(expected_grad[0], layout))
    if case.can_average:
        average = fc.avg_pool2d(image, **case.avg_arguments, layout=layout)
        expected = reference.avg_pool2d(x, **case.avg_arguments)
        assert_within(average, laid_out(expected[0], layout), 2 * EPS[np.float32])
        grad_x = fc.avg_pool2d_backward(grad_output, image.shape, **case.avg_arguments, layout=layout)
        expected_grad = reference.avg_pool2d_backward(grad_nchw[None], x.shape, **case.avg_arguments)
        assert_within(grad_x, laid_out(expected_grad[0], layout), 16 * EPS[np.float32])


# ---- NaN, infinities and ties ----


@both_layouts
@some_cases
def test_nan_wins_and_ties_go_to_the_first(case: PoolCase, layout, dtype):
    """So few values that nearly every window has ties, and many have a NaN or nothing but -inf."""
    rng = np.random.default_rng(11)
    x = rng.choice([np.nan, -np.inf, -np.inf, 0, -0.0, 1], size=case.x_shape).astype(dtype)
    expected, expected_indices = reference.max_pool2d(x, **case.max_arguments)
    output, indices = fc.max_pool2d(
        laid_out(x, layout), **case.max_arguments, return_indices=True, layout=layout
    )
    assert_array_equal(output, laid_out(expected, layout))
    assert_array_equal(indices, laid_out(expected_indices, layout))
    assert_array_equal(fc.max_pool2d(laid_out(x, layout), **case.max_arguments, layout=layout), output)


@both_layouts
@some_averages
def test_averages_of_nan_and_infinity(case: PoolCase, layout, dtype):
    rng = np.random.default_rng(12)
    x = rng.choice([np.nan, np.inf, *range(12)], size=case.x_shape).astype(dtype)
    expected = laid_out(reference.avg_pool2d(x, **case.avg_arguments), layout)
    output = fc.avg_pool2d(laid_out(x, layout), **case.avg_arguments, layout=layout)
    assert_allclose(output, expected, rtol=4 * EPS[dtype])
    assert np.isnan(expected).any()
    assert np.isinf(expected).any()


def test_padding_never_is_the_maximum(dtype):
    output = fc.max_pool2d(np.full((1, 2, 5, 5), -3, dtype), 3, 1, padding=1)
    assert_array_equal(output, np.full((1, 2, 5, 5), -3))


# ---- dtypes and memory ----


@pytest.mark.parametrize(
    ("given", "result"),
    [
        (np.float16, np.float16),
        (np.int8, np.float32),
        (np.uint16, np.float32),
        (np.int32, np.float64),
        (np.int64, np.float64),
        (">f4", np.float32),
        (">f8", np.float64),
        (">i2", np.float32),
    ],
)
def test_dtypes(given, result):
    x = np.random.default_rng(13).integers(0, 99, (2, 3, 7, 8)).astype(given)
    output = fc.max_pool2d(x, 3, 2, padding=1)
    assert output.dtype == result
    assert_array_equal(output, reference.max_pool2d(x, 3, 2, padding=1)[0])
    average = fc.avg_pool2d(x, 2, 2, padding=1)
    assert average.dtype == result
    assert_array_equal(average, reference.avg_pool2d(x, 2, 2, padding=1).astype(result))
    grad_output = x[:, :, :4, :4]
    indices = reference.max_pool2d(x, 3, 2, padding=1)[1]
    grad_x = fc.max_pool2d_backward(grad_output, indices, x.shape)
    assert grad_x.dtype == result
    assert_array_equal(grad_x, reference.max_pool2d_backward(grad_output, indices, x.shape))
    grad_x = fc.avg_pool2d_backward(grad_output, (2, 3, 8, 8), 2)
    assert grad_x.dtype == result
    assert_array_equal(grad_x, reference.avg_pool2d_backward(grad_output, (2, 3, 8, 8), 2).astype(result))


def test_bool():
    x = np.arange(72).reshape(1, 2, 6, 6) % 5 == 0
    assert fc.max_pool2d(x, 2).dtype == np.float32
    assert_array_equal(fc.max_pool2d(x, 2), reference.max_pool2d(x, 2)[0])
    assert_array_equal(fc.avg_pool2d(x, 2), reference.avg_pool2d(x, 2))


@both_layouts
@some_cases
def test_memory_orders(case: PoolCase, memory_order, layout, dtype):
    x = memory_order(pool_input(case, dtype))
    copy = x.copy()
    expected, expected_indices = reference.max_pool2d(x, **case.max_arguments)
    image = np.moveaxis(x, 1, -1) if layout == "NHWC" else x
    output, indices = fc.max_pool2d(image, **case.max_arguments, return_indices=True, layout=layout)
    assert_array_equal(output, laid_out(expected, layout))
    assert_array_equal(indices, laid_out(expected_indices, layout))

    grad_output, taken = memory_order(gradient_like(expected)), memory_order(expected_indices)
    expected_grad = reference.max_pool2d_backward(grad_output, taken, x.shape)
    if layout == "NHWC":
        grad_image, taken = np.moveaxis(grad_output, 1, -1), np.moveaxis(taken, 1, -1)
    else:
        grad_image = grad_output
    grad_x = fc.max_pool2d_backward(grad_image, taken, image.shape, layout=layout)
    assert_array_equal(grad_x, laid_out(expected_grad, layout))
    if case.can_average:
        average = fc.avg_pool2d(image, **case.avg_arguments, layout=layout)
        expected = reference.avg_pool2d(x, **case.avg_arguments)
        assert_within(average, laid_out(expected, layout), 2 * EPS[dtype])
        grad_x = fc.avg_pool2d_backward(grad_image, image.shape, **case.avg_arguments, layout=layout)
        expected_grad = reference.avg_pool2d_backward(grad_output, x.shape, **case.avg_arguments)
        assert_within(grad_x, laid_out(expected_grad, layout), 16 * EPS[np.float64])
    assert_array_equal(x, copy)


@pytest.mark.parametrize("order", ["C", "Fortran", "axes-moved", "every-other", "reversed", "off-vector"])
@both_layouts
@some_averages
def test_out_receives_the_result(case: PoolCase, layout, order, dtype):
    x = laid_out(pool_input(case, dtype), layout)
    for function, arguments in ((fc.max_pool2d, case.max_arguments), (fc.avg_pool2d, case.avg_arguments)):
        expected = function(x, **arguments, layout=layout)
        out = MEMORY_ORDERS[order](np.full(expected.shape, np.nan, dtype))
        assert function(x, **arguments, layout=layout, out=out) is out
        assert_array_equal(out, expected)


def test_out_goes_with_indices(dtype):
    x = pool_input(SOME_POOL_CASES[0], dtype)
    out = np.full((2, 3, 5, 6), np.nan, dtype)
    output, indices = fc.max_pool2d(x, 3, 2, return_indices=True, out=out)
    assert output is out
    expected, expected_indices = reference.max_pool2d(x, 3, 2)
    assert_array_equal(out, expected)
    assert_array_equal(indices, expected_indices)


@pytest.mark.skipif(not HAS_FORBIDDEN_PAGES, reason="needs mprotect")
@pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
@both_layouts
@every_case
def test_touches_nothing_outside_its_arrays(case: PoolCase, at_end, layout):
    if case.is_empty:
        return
    x = between_forbidden_pages(laid_out(pool_input(case, np.float32), layout), at_end)
    expected, expected_indices = (
        laid_out(array, layout) for array in reference.max_pool2d(pool_input(case), **case.max_arguments)
    )
    out = between_forbidden_pages(np.zeros(expected.shape, np.float32), at_end)
    _, indices = fc.max_pool2d(x, **case.max_arguments, return_indices=True, layout=layout, out=out)
    assert_array_equal(out, expected)
    assert_array_equal(indices, expected_indices)
    grad_output = between_forbidden_pages(np.ones(expected.shape, np.float32), at_end)
    grad_x = fc.max_pool2d_backward(
        grad_output, between_forbidden_pages(indices, at_end), x.shape, layout=layout
    )
    assert grad_x.sum() == grad_output.size
    if case.can_average:
        fc.avg_pool2d(x, **case.avg_arguments, layout=layout, out=out)
        expected = laid_out(reference.avg_pool2d(pool_input(case), **case.avg_arguments), layout)
        assert_within(out, expected, 2 * EPS[np.float32])
        fc.avg_pool2d_backward(grad_output, x.shape, **case.avg_arguments, layout=layout)


# ---- threads ----


@both_layouts
@pytest.mark.parametrize("case", PARALLEL_POOL_CASES, ids=str)
def test_same_bits_on_any_number_of_threads(case: PoolCase, layout, dtype):
    """Values that round, so that another order of summation would show."""
    x = laid_out(np.random.default_rng(14).normal(size=case.x_shape).astype(dtype), layout)

    def everything() -> list[bytes]:
        output, indices = fc.max_pool2d(x, **case.max_arguments, return_indices=True, layout=layout)
        average = fc.avg_pool2d(x, **case.avg_arguments, layout=layout)
        grad_x = fc.max_pool2d_backward(average, indices, x.shape, layout=layout)
        grad_average = fc.avg_pool2d_backward(output, x.shape, **case.avg_arguments, layout=layout)
        return [array.tobytes() for array in (output, indices, average, grad_x, grad_average)]

    results = []
    for threads in (1, 2, 3, 5):
        with fc.num_threads(threads):
            results.append(everything())
    assert all(result == results[0] for result in results)
