"""Activations against a float64 reference, numerical gradients and PyTorch."""

import math

import numpy as np
import pytest
import reference_layers as reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastconv as fc
from fastconv import nn
from fastconv.functional._rectifier import rectified, rectified_backward

SHAPES = [(), (1,), (7,), (3, 4), (2, 3, 5, 1), (0,), (2, 0, 3)]
TOLERANCE = {np.float32: 4e-7, np.float64: 1e-15, np.float16: 1e-3}

ELEMENTWISE = {
    "relu": (fc.relu, reference.relu),
    "relu6": (fc.relu6, reference.relu6),
    "leaky_relu": (lambda x: fc.leaky_relu(x, 0.3), lambda x: reference.leaky_relu(x, 0.3)),
    "sigmoid": (fc.sigmoid, reference.sigmoid),
    "tanh": (fc.tanh, math.tanh),
}
ALONG_AXIS = {
    "softmax": (fc.softmax, reference.softmax),
    "log_softmax": (fc.log_softmax, reference.log_softmax),
}  # Each takes grad_output and x.
BACKWARD = {
    "relu": fc.relu_backward,
    "relu6": fc.relu6_backward,
    "leaky_relu": lambda grad, x: fc.leaky_relu_backward(grad, x, 0.3),
    "sigmoid": lambda grad, x: fc.sigmoid_backward(grad, fc.sigmoid(x)),
    "tanh": lambda grad, x: fc.tanh_backward(grad, fc.tanh(x)),
    "softmax": lambda grad, x: fc.softmax_backward(grad, fc.softmax(x)),
    "log_softmax": lambda grad, x: fc.log_softmax_backward(grad, fc.log_softmax(x)),
}
FORWARD = {name: forward for name, (forward, _) in (ELEMENTWISE | ALONG_AXIS).items()}


def away_from_zero(rng, shape):
    """Numbers of which some exceed 6, none so near 0 that a difference would straddle a kink there."""
    x = 4 * rng.standard_normal(shape)
    return x + np.copysign(0.01, x)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_values(name, shape, dtype, rng):
    forward, expected = ELEMENTWISE[name]
    x = (4 * rng.standard_normal(shape)).astype(dtype)
    output = forward(x)
    assert isinstance(output, np.ndarray)
    assert output.dtype == dtype
    assert output.shape == shape
    np.testing.assert_allclose(
        output, reference.elementwise(expected, x), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("shape", "dim"), [((7,), 0), ((3, 4), -1), ((3, 4), 0), ((2, 3, 5, 1), 1), ((0, 3), 1)]
)
@pytest.mark.parametrize("name", ALONG_AXIS)
def test_values_along_an_axis(name, shape, dim, dtype, rng):
    forward, expected = ALONG_AXIS[name]
    x = (4 * rng.standard_normal(shape)).astype(dtype)
    output = forward(x, dim)
    assert output.dtype == dtype
    tolerance = 4 * TOLERANCE[dtype]
    np.testing.assert_allclose(output, expected(x, dim), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(2, 0), (0,), (0, 3)])
@pytest.mark.parametrize("name", ALONG_AXIS)
def test_softmax_of_no_classes_is_empty(name, shape):
    output = FORWARD[name](np.zeros(shape, np.float32))
    assert output.shape == shape
    assert BACKWARD[name](output, output).shape == shape


@pytest.mark.parametrize("name", FORWARD)
def test_gradient_is_the_numerical_one(name, rng):
    x = away_from_zero(rng, (3, 5))
    grad_output = rng.standard_normal((3, 5))
    expected = reference.numerical_gradient(lambda x: float((FORWARD[name](x) * grad_output).sum()), x)
    np.testing.assert_allclose(BACKWARD[name](grad_output, x), expected, rtol=1e-7, atol=1e-9)
    single = BACKWARD[name](grad_output.astype(np.float32), x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("classes", [1, 3, 10, 33, 150])
@pytest.mark.parametrize("name", ALONG_AXIS)
def test_classes_along_every_axis(name, classes, dim, dtype, rng):
    """softmax and softmax_backward: rows, columns and whatever is left at the end of either."""
    shape = [3, 7, 19]
    shape[dim] = classes
    x, grad_output = rng.standard_normal((2, *shape)).astype(dtype)
    wide = x.astype(np.float64)
    output = FORWARD[name](x, dim)
    tolerance = 16 * np.finfo(dtype).eps
    powers = np.exp(wide - wide.max(dim, keepdims=True))
    probability = powers / powers.sum(dim, keepdims=True)
    exact = probability if name == "softmax" else np.log(probability)
    np.testing.assert_allclose(output, exact, rtol=tolerance, atol=tolerance)
    if name == "softmax":
        expected = probability * (grad_output - (grad_output * probability).sum(dim, keepdims=True))
    else:
        expected = grad_output - probability * grad_output.sum(dim, keepdims=True, dtype=np.float64)
    gradient = getattr(fc, f"{name}_backward")(grad_output, output, dim)
    np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance * max(1, classes**0.5))


@pytest.mark.parametrize("shape", [(1,), (0, 5), (5, 0), (3, 700, 10), (40, 1000), (3, 20_000)], ids=str)
@pytest.mark.parametrize("name", ALONG_AXIS)
def test_gradients_of_rows_of_halves(name, shape, threads, monkeypatch, rng):
    """Some rows are converted at a time, or one that is longer than that."""
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    grad_output = rng.standard_normal(shape).astype(np.float16)
    output = FORWARD[name](rng.standard_normal(shape)).astype(np.float16)
    grad, given = grad_output.astype(np.float64), output.astype(np.float64)
    if name == "softmax":
        expected = given * (grad - (grad * given).sum(-1, keepdims=True))
    else:
        expected = grad - np.exp(given) * grad.sum(-1, keepdims=True)
    backward = getattr(fc, f"{name}_backward")
    gradient = backward(grad_output, output)
    assert gradient.dtype == np.float16
    tolerance = np.finfo(np.float16).eps / 2 + 16 * np.finfo(np.float32).eps
    np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=2.0**-24)
    np.testing.assert_array_equal(backward(grad_output, output, len(shape) - 1), gradient)


def grid(dtype, rng):
    """Numbers of every magnitude, dense where exp reaches 0, 1 and infinity, and the special ones."""
    info = np.finfo(dtype)
    edge = float(np.log(info.max))
    spread = np.ldexp(rng.uniform(-2, 2, 40000), rng.integers(info.minexp - info.nmant, 10, 40000))
    even = rng.uniform(-1.2 * edge, 1.2 * edge, 40000)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny, info.smallest_subnormal]
    return np.concatenate([spread, even, rng.uniform(-2, 2, 40000), special]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_within_three_units_of_the_last_place(name, dtype, rng):
    x = grid(dtype, rng)
    wide = x.astype(np.longdouble)
    sigmoid = np.exp(np.minimum(wide, 0)) / (1 + np.exp(-np.abs(wide)))
    exact = sigmoid if name == "sigmoid" else np.tanh(wide)
    output = FORWARD[name](x)
    np.testing.assert_array_equal(np.isnan(output), np.isnan(x))
    there = ~np.isnan(x)
    unit = np.spacing(np.abs(exact[there].astype(dtype))).astype(np.longdouble)
    assert np.max(np.abs(output[there] - exact[there]) / unit) < 3
    zero = x == 0
    if name == "tanh":
        np.testing.assert_array_equal(np.signbit(output[zero]), np.signbit(x[zero]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_bits_depend_on_the_element_alone(name, dtype, rng):
    """Neither on its place in the vector, nor on memory's alignment, nor on the number of threads.

    relu, leaky_relu, sigmoid, tanh and relu_backward, leaky_relu_backward, sigmoid_backward, tanh_backward.
    """
    count = 150_001
    x = (3 * rng.standard_normal(count)).astype(dtype)
    grad_output = rng.standard_normal(count).astype(dtype)
    with fc.num_threads(1):
        output, gradient = FORWARD[name](x), BACKWARD[name](grad_output, x)
    with fc.num_threads(3):
        np.testing.assert_array_equal(FORWARD[name](x), output)
        np.testing.assert_array_equal(BACKWARD[name](grad_output, x), gradient)
    for start, size in ((1, 1), (1, 15), (2, 16), (3, 17), (5, 40)):
        part = slice(start, start + size)
        np.testing.assert_array_equal(FORWARD[name](x[part]), output[part])
        np.testing.assert_array_equal(BACKWARD[name](grad_output[part], x[part]), gradient[part])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("name", ALONG_AXIS)
def test_threads_do_not_change_a_softmax(name, dim, dtype, rng):
    x, grad_output = rng.standard_normal((2, 400, 301)).astype(dtype)
    backward = getattr(fc, f"{name}_backward")
    with fc.num_threads(1):
        output = FORWARD[name](x, dim)
        gradient = backward(grad_output, output, dim)
    with fc.num_threads(3):
        np.testing.assert_array_equal(FORWARD[name](x, dim), output)
        np.testing.assert_array_equal(backward(grad_output, output, dim), gradient)


@pytest.mark.parametrize("copies", [1, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_softmax_of_what_is_not_finite(dtype, copies):
    x = np.tile(np.array([[np.nan, 1], [np.inf, 1], [-np.inf, 0], [-np.inf, -np.inf]], dtype), copies)
    expected = np.tile([[np.nan, np.nan], [np.nan, np.nan], [0, 1 / copies], [np.nan, np.nan]], copies)
    np.testing.assert_allclose(fc.softmax(x, 1), expected, rtol=1e-6)
    np.testing.assert_allclose(fc.softmax(x.T, 0), expected.T, rtol=1e-6)


@pytest.mark.parametrize("name", FORWARD)
def test_memory_does_not_matter(name, memory_order, rng):
    x = memory_order(away_from_zero(rng, (5, 6)).astype(np.float32))
    grad_output = memory_order(rng.standard_normal((5, 6)).astype(np.float32))
    plain_x, plain_grad = reference.plain(x), reference.plain(grad_output)
    np.testing.assert_array_equal(FORWARD[name](x), FORWARD[name](plain_x))
    np.testing.assert_array_equal(BACKWARD[name](grad_output, x), BACKWARD[name](plain_grad, plain_x))
    np.testing.assert_array_equal(x, plain_x)
    np.testing.assert_array_equal(grad_output, plain_grad)


@pytest.mark.parametrize("name", FORWARD)
def test_dtypes_promote(name):
    x = np.array([[1, 0], [2, 3]])
    assert FORWARD[name](x.astype(np.uint8)).dtype == np.float32
    assert FORWARD[name](x).dtype == np.float64
    assert FORWARD[name](x.tolist()).dtype == np.float64
    assert BACKWARD[name](x.astype(np.float16), x.astype(np.float16)).dtype == np.float16
    assert BACKWARD[name](x.astype(np.float64), x.astype(np.float32)).dtype == np.float64


def test_relu_at_the_edges():
    x = np.array([-np.inf, -0.0, 0.0, np.nan, np.inf], np.float32)
    np.testing.assert_array_equal(fc.relu(x), np.array([0, 0, 0, np.nan, np.inf], np.float32))
    grad_output = np.array([np.inf, np.nan, np.inf, 2, np.inf], np.float32)
    np.testing.assert_array_equal(
        fc.relu_backward(grad_output, x), np.array([0, 0, 0, 2, np.inf], np.float32)
    )
    np.testing.assert_array_equal(fc.relu_backward(grad_output, fc.relu(x)), fc.relu_backward(grad_output, x))
    above = np.array([-np.inf, 0, 6, np.nan, np.inf], np.float32)
    np.testing.assert_array_equal(fc.relu6(above), np.array([0, 0, 6, np.nan, 6], np.float32))
    for x_or_output in (above, fc.relu6(above)):
        np.testing.assert_array_equal(
            fc.relu6_backward(grad_output, x_or_output), np.array([0, 0, 0, 2, 0], np.float32)
        )
    assert fc.leaky_relu(np.inf, 0.0) == np.inf
    assert fc.leaky_relu(-2.0, -1.5) == 3.0
    assert fc.leaky_relu(-2.0, 3.0) == -6.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_overflow_and_no_loss_in_the_tails(dtype):
    far = np.array([-80.0, 80.0], dtype)
    np.testing.assert_allclose(fc.sigmoid(far), [math.exp(-80), 1], rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(fc.sigmoid(np.array([-1e30, 1e30], dtype)), [0, 1])
    np.testing.assert_array_equal(fc.log_softmax(np.array([0.0, -1e30], dtype)), np.array([0, -1e30], dtype))
    np.testing.assert_array_equal(fc.softmax(np.array([1e30, -1e30], dtype)), [1, 0])


@given(
    hnp.arrays(
        np.float64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.floats(-1e3, 1e3)
    )
)
def test_softmax_is_a_distribution(x):
    probability = fc.softmax(x)
    assert (probability >= 0).all()
    np.testing.assert_allclose(probability.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(np.exp(fc.log_softmax(x)), probability, rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("name", FORWARD)
def test_bad_arrays_are_refused(name):
    with pytest.raises(TypeError, match=r"^x: got dtype complex128, needs real numbers"):
        FORWARD[name](np.zeros((2, 2), complex))
    with pytest.raises(ValueError, match=r"^grad_output: got shape \(2, 3\), needs shape \(2, 2\), that of "):
        BACKWARD[name](np.zeros((2, 3)), np.zeros((2, 2)))


@pytest.mark.parametrize("name", ALONG_AXIS)
def test_bad_axes_are_refused(name):
    with pytest.raises(ValueError, match=r"^dim: got 2, needs an axis of an array with 2"):
        FORWARD[name](np.zeros((2, 2)), 2)
    with pytest.raises(ValueError, match=r"^dim: got -1, needs an axis of an array with 0"):
        FORWARD[name](1.0)
    with pytest.raises(TypeError, match=r"^dim: got True, needs an integer"):
        FORWARD[name](np.zeros((2, 2)), True)


def test_bad_slopes_are_refused():
    with pytest.raises(TypeError, match=r"^negative_slope: got '1', needs a finite number"):
        fc.leaky_relu([1.0], "1")
    with pytest.raises(ValueError, match=r"^negative_slope: got nan, needs a finite number"):
        fc.leaky_relu_backward([1.0], [1.0], math.nan)


@pytest.mark.parametrize("name", FORWARD)
def test_agrees_with_pytorch(name, rng):
    torch = pytest.importorskip("torch")
    functions = {
        "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.3),
        "relu6": torch.nn.functional.relu6,
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
    }
    x = rng.standard_normal((3, 4, 5))
    x[0, 0, :3] = 0, 6, 7
    grad_output = rng.standard_normal((3, 4, 5))
    x_torch = torch.tensor(x, requires_grad=True)
    output = functions.get(name, getattr(torch, name, None))(x_torch)
    output.backward(torch.tensor(grad_output))
    np.testing.assert_allclose(FORWARD[name](x), output.detach().numpy(), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(BACKWARD[name](grad_output, x), x_torch.grad.numpy(), rtol=1e-13, atol=1e-14)


# ---- rectifiers that keep bits ----


@pytest.mark.parametrize("ceiling", [math.inf, 1.0])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_bits_kept_for_the_gradient(kind, ceiling, threads, monkeypatch, rng):
    """Sizes around those of vectors, of the groups of bits, and of the parts that go to threads."""
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    for size in (*range(36), 2047, 2048, 2049, 16_391, 40_009):
        x, grad_output = rng.standard_normal((2, size)).astype(kind)
        x[::7], x[3::11], x[5::13] = np.nan, 0, ceiling
        kept = x.copy()
        output, signs = rectified(x, ceiling)
        passes = np.isnan(x) | ((x > 0) & (x < ceiling)) | ((x > 0) & np.isinf(ceiling))
        assert output.dtype == kind
        np.testing.assert_array_equal(output, np.clip(x, 0, ceiling))
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_array_equal(signs.mask(), passes)
        gradient = rectified_backward(grad_output, signs)
        assert gradient.dtype == kind
        np.testing.assert_array_equal(gradient, np.where(passes, grad_output, 0))


def test_layers_that_keep_bits(memory_order, rng):
    x, grad_output = (memory_order(array * 8) for array in rng.standard_normal((2, 3, 5, 4)))
    for layer, forward, backward in (
        (nn.ReLU(), fc.relu, fc.relu_backward),
        (nn.ReLU6(), fc.relu6, fc.relu6_backward),
    ):
        np.testing.assert_array_equal(layer(x), forward(x))
        np.testing.assert_array_equal(layer.backward(grad_output), backward(grad_output, x))
        with pytest.raises(ValueError, match=r"^grad_output: got shape \(2,\), needs shape .* that of x"):
            layer.backward(np.ones(2))
    for shape in ((), (0,), (2, 0, 3)):
        layer = nn.ReLU()
        assert layer(np.ones(shape)).shape == layer.backward(np.ones(shape)).shape == shape
    layer([1, -2])
    np.testing.assert_array_equal(layer.backward(np.array([3, 4], np.float16)), [3, 0])
