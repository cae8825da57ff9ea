"""Hypothesis draws pools: shapes, kernels, strides, paddings, dilations, dtypes and orders in memory."""

import hypothesis.strategies as st
import numpy as np
import reference
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from strategies import Pool, as_layout, from_layout, pools

import fastconv as fc


@given(pools(dilated=True))
def test_max_pool2d_is_exact(pool: Pool):
    """So few different values that many windows have ties."""
    x = as_layout(pool.x, pool.layout)
    expected, expected_indices = reference.max_pool2d(pool.x, **pool.arguments)
    output, indices = fc.max_pool2d(x, **pool.arguments, return_indices=True, layout=pool.layout)
    assert_array_equal(from_layout(output, pool.layout), expected)
    assert_array_equal(from_layout(indices, pool.layout), expected_indices)
    grad_x = fc.max_pool2d_backward(output, indices, x.shape, layout=pool.layout)
    expected_grad = reference.max_pool2d_backward(expected, expected_indices, pool.x.shape)
    assert_array_equal(from_layout(grad_x, pool.layout), expected_grad)


@given(pools(dilated=False), st.booleans(), st.none() | st.sampled_from([-3, -1, 1, 7]))
def test_avg_pool2d_is_exact_but_for_the_division(pool: Pool, count_include_pad: bool, divisor: int | None):
    arguments = {**pool.arguments, "count_include_pad": count_include_pad, "divisor_override": divisor}
    x = as_layout(pool.x, pool.layout)
    expected = reference.avg_pool2d(pool.x, **arguments)
    output = fc.avg_pool2d(x, **arguments, layout=pool.layout)
    eps = np.finfo(output.dtype).eps
    assert_allclose(from_layout(output, pool.layout), expected, rtol=2 * eps)
    grad_output = np.round(expected)
    expected_grad = reference.avg_pool2d_backward(grad_output, pool.x.shape, **arguments)
    grad_x = fc.avg_pool2d_backward(
        as_layout(grad_output, pool.layout), x.shape, **arguments, layout=pool.layout
    )
    assert_allclose(from_layout(grad_x, pool.layout), expected_grad, rtol=0, atol=1e-11)
