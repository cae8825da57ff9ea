"""Hypothesis draws convolutions: shapes, strides, paddings, dilations, groups, dtypes, orders in memory.

Values are whole numbers small enough that every sum is exact: any order of summation must give the result
of the reference to the last bit.
"""

import hypothesis.strategies as st
import numpy as np
import reference
from cases import PLAIN_ALGORITHMS, error_bound
from hypothesis import given
from numpy.testing import assert_array_equal
from strategies import Convolution, as_layout, convolutions, from_layout

import fastconv as fc


@given(convolutions(), st.sampled_from(PLAIN_ALGORITHMS))
def test_conv2d_is_exact(conv: Convolution, algorithm: str):
    expected = reference.conv2d(conv.x, conv.weight, conv.bias, **conv.arguments)
    x = as_layout(conv.x, conv.layout)
    arguments = {"layout": conv.layout, "algorithm": algorithm, **conv.arguments}
    output = fc.conv2d(x, conv.weight, conv.bias, **arguments)
    assert_array_equal(from_layout(output, conv.layout), expected)
    output = fc.conv2d(x, conv.weight, conv.bias, activation="relu", **arguments)
    assert_array_equal(from_layout(output, conv.layout), np.maximum(expected, 0))


@given(convolutions(), st.sampled_from(PLAIN_ALGORITHMS))
def test_conv2d_backward_is_exact(conv: Convolution, algorithm: str):
    expected = reference.conv2d_backward(conv.grad_output, conv.x, conv.weight, **conv.arguments)
    grad_x, grad_weight, grad_bias = fc.conv2d_backward(
        as_layout(conv.grad_output, conv.layout),
        as_layout(conv.x, conv.layout),
        conv.weight,
        layout=conv.layout,
        algorithm=algorithm,
        **conv.arguments,
    )
    assert_array_equal(from_layout(grad_x, conv.layout), expected[0])
    assert_array_equal(grad_weight, expected[1])
    assert_array_equal(grad_bias, expected[2])


@given(convolutions())
def test_auto_keeps_its_bound(conv: Convolution):
    """Relative to the products that are summed: of whole numbers, a result may well be zero."""
    output = fc.conv2d(as_layout(conv.x, conv.layout), conv.weight, layout=conv.layout, **conv.arguments)
    expected = reference.conv2d(conv.x, conv.weight, **conv.arguments)
    scale = reference.conv2d(np.abs(conv.x), np.abs(conv.weight), **conv.arguments)
    assert output.shape == as_layout(expected, conv.layout).shape
    allowed = error_bound(np.float32, conv.weight[0].size, "auto") * np.max(scale, initial=0)
    assert (np.abs(from_layout(output, conv.layout) - expected) <= allowed).all()


@given(convolutions())
def test_gradients_are_adjoint_to_the_forward(conv: Convolution):
    """<conv(x, w), g> = <x, grad_x> = <w, grad_w>: needs no reference at all."""
    arguments = {"algorithm": "im2col", **conv.arguments}
    x, weight, grad_output = (array.astype(np.float64) for array in (conv.x, conv.weight, conv.grad_output))
    grad_x, grad_weight, _ = fc.conv2d_backward(grad_output, x, weight, **arguments)
    product = np.sum(fc.conv2d(x, weight, **arguments) * grad_output)
    assert np.sum(x * grad_x) == product
    assert np.sum(weight * grad_weight) == product


@given(convolutions(), st.sampled_from(PLAIN_ALGORITHMS))
def test_images_and_groups_are_independent(conv: Convolution, algorithm: str):
    """Each image, and each group of channels, gives what it gives alone."""
    arguments = {"algorithm": algorithm, **conv.arguments}
    groups = arguments.pop("groups")
    whole = fc.conv2d(conv.x, conv.weight, conv.bias, groups=groups, **arguments)
    made, seen = len(conv.weight) // groups, conv.weight.shape[1]
    for n, g in np.ndindex(len(conv.x), groups):
        outs, ins = slice(g * made, (g + 1) * made), slice(g * seen, (g + 1) * seen)
        alone = fc.conv2d(conv.x[n, ins], conv.weight[outs], conv.bias[outs], **arguments)
        assert_array_equal(whole[n, outs], alone)
