"""The fully connected layer against loops, numerical gradients and PyTorch."""

import numpy as np
import pytest
import reference_layers as reference

import fastconv as fc

SHAPES = [((5, 3), 4), ((3,), 4), ((2, 3, 7), 5), ((1, 1), 1), ((0, 3), 2), ((2, 0), 3), ((2, 3), 0)]


def arrays(rng, x_shape, out_features, dtype=np.float64):
    x = rng.standard_normal(x_shape).astype(dtype)
    weight = rng.standard_normal((out_features, x_shape[-1])).astype(dtype)
    bias = rng.standard_normal(out_features).astype(dtype)
    grad_output = rng.standard_normal((*x_shape[:-1], out_features)).astype(dtype)
    return x, weight, bias, grad_output


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("x_shape", "out_features"), SHAPES, ids=str)
def test_values(x_shape, out_features, dtype, rng):
    x, weight, bias, _ = arrays(rng, x_shape, out_features, dtype)
    for b in (bias, None):
        output = fc.linear(x, weight, b)
        assert output.dtype == dtype
        tolerance = 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(output, reference.linear(x, weight, b), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("x_shape", "out_features"), SHAPES, ids=str)
def test_gradients_are_the_numerical_ones(x_shape, out_features, rng):
    x, weight, bias, grad_output = arrays(rng, x_shape, out_features)

    def loss(x=x, weight=weight, bias=bias):
        return float((fc.linear(x, weight, bias) * grad_output).sum())

    gradients = fc.linear_backward(grad_output, x, weight)
    for gradient, array, name in zip(gradients, (x, weight, bias), ("x", "weight", "bias"), strict=True):
        expected = reference.numerical_gradient(lambda a, name=name: loss(**{name: a}), array)
        assert gradient.shape == array.shape
        np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8)


def test_only_what_is_needed(rng):
    x, weight, _, grad_output = arrays(rng, (5, 3), 4)
    everything = fc.linear_backward(grad_output, x, weight)
    for i, name in enumerate(("x", "weight", "bias")):
        gradients = fc.linear_backward(grad_output, x, weight, need=(name,))
        assert [gradient is None for gradient in gradients] == [j != i for j in range(3)]
        np.testing.assert_array_equal(gradients[i], everything[i])
    with pytest.raises(ValueError, match=r"^need: got "):
        fc.linear_backward(grad_output, x, weight, need=("input",))


def test_memory_does_not_matter(memory_order, rng):
    given = [memory_order(array) for array in arrays(rng, (5, 6), 4)]
    x, weight, bias, grad_output = given
    plain_x, plain_weight, plain_bias, plain_grad = (reference.plain(array) for array in given)
    np.testing.assert_array_equal(fc.linear(x, weight, bias), fc.linear(plain_x, plain_weight, plain_bias))
    for gradient, expected in zip(
        fc.linear_backward(grad_output, x, weight),
        fc.linear_backward(plain_grad, plain_x, plain_weight),
        strict=True,
    ):
        np.testing.assert_array_equal(gradient, expected)


def test_dtypes_promote(rng):
    x, weight, _, _ = arrays(rng, (5, 6), 4)
    mixed = fc.linear(x.astype(np.float16), weight)
    assert mixed.dtype == np.float64
    np.testing.assert_allclose(mixed, fc.linear(x.astype(np.float16).astype(np.float64), weight))


@pytest.mark.parametrize(
    ("argument", "shape"), [("x", (5, 4)), ("x", ()), ("weight", (4,)), ("bias", (3,)), ("bias", (1, 4))]
)
def test_bad_shapes_are_refused(argument, shape, rng):
    x, weight, bias, _ = arrays(rng, (5, 3), 4)
    given = {"x": x, "weight": weight, "bias": bias} | {argument: np.zeros(shape)}
    with pytest.raises(ValueError, match=rf"^{argument}: got shape .*, needs "):
        fc.linear(**given)


def test_bad_gradients_are_refused(rng):
    x, weight, _, grad_output = arrays(rng, (5, 3), 4)
    with pytest.raises(ValueError, match=r"^grad_output: got shape \(4, 5\), needs shape \(5, 4\)"):
        fc.linear_backward(grad_output.T, x, weight)
    with pytest.raises(TypeError, match=r"^weight: got dtype complex128"):
        fc.linear_backward(grad_output, x, weight.astype(complex))
