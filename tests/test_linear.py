"""The fully connected layer against loops, numerical gradients and PyTorch."""

import numpy as np
import pytest
import reference_layers as reference
from memory_orders import HAS_FORBIDDEN_PAGES, between_forbidden_pages

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


@pytest.mark.parametrize("batch", [1, 2, 3, 16, 17])
@pytest.mark.parametrize(
    "sizes", [(1, 1), (5, 3), (31, 4), (33, 9), (4097, 13), (32768, 5), (32769, 5)], ids=str
)
def test_halves_are_read_as_they_lie(sizes, batch, rng):
    """Few rows convert the weight as they read it, others beforehand. Small numbers: no sum is rounded."""
    channels, outputs = sizes
    x, weight, bias = (
        rng.integers(-1, 2, shape) for shape in ((batch, channels), (outputs, channels), (outputs,))
    )
    for threads in (1, 2, 3):
        with fc.num_threads(threads):
            for b in (bias, 0 * bias):
                given = [array.astype(np.float16) for array in (x, weight, b)]
                given = given if b.any() else given[:2]
                output = fc.linear(*given)
                assert output.dtype == np.float16
                np.testing.assert_array_equal(output, x @ weight.T + b)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65504, 2.0**-24])
def test_any_half_in_a_weight(value):
    weight = np.ones((5, 37), np.float16)
    weight[3, 36] = value
    expected = np.array([1, 1, 1, value, 1], np.float16)
    np.testing.assert_array_equal(fc.linear(np.eye(1, 37, 36, dtype=np.float16), weight), expected[None])


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


# Batches on both sides of a tile and of what is streamed; features around vectors, tiles and blocks.
BATCHES = [1, 2, 3, 4, 11, 12, 13, 16, 17, 24, 193, 280, 281]
FEATURES = [
    *[(1, 1), (3, 7), (15, 16), (17, 31), (32, 33), (127, 4), (128, 5), (129, 65), (1031, 257)],
    *[(255, 9), (256, 10), (257, 11)],
]


def whole_numbers(rng, *shape):
    return rng.integers(-9, 10, shape)


@pytest.mark.parametrize("features", FEATURES, ids=str)
@pytest.mark.parametrize("batch", BATCHES)
def test_whole_numbers_are_exact(batch, features, dtype, rng):
    channels, outputs = features
    x, weight = whole_numbers(rng, batch, channels), whole_numbers(rng, outputs, channels)
    bias, grad_output = whole_numbers(rng, outputs), whole_numbers(rng, batch, outputs)
    given = [array.astype(dtype) for array in (x, weight, bias)]
    np.testing.assert_array_equal(fc.linear(*given[:2]), x @ weight.T)
    np.testing.assert_array_equal(fc.linear(*given), x @ weight.T + bias)
    gradients = fc.linear_backward(grad_output.astype(dtype), *given[:2])
    for gradient, expected in zip(
        gradients, (grad_output @ weight, grad_output.T @ x, grad_output.sum(0)), strict=True
    ):
        assert gradient.dtype == dtype
        np.testing.assert_array_equal(gradient, expected)


# Sums of few results are cut into ranges of at least 512 terms, of which eight are the most: sizes around
# those at which there is one more, and primes. Of several blocks there are fewer ranges each.
LONG = [1023, 1024, 1025, 1031, 1535, 1536, 1537, 4093, 4096, 4097]
LONG_SIZES = [(17, c, 37) for c in LONG] + [(31, 3000, 1), (283, 2053, 7), (19, 2053, 521), (281, 1100, 270)]
CUT_SIZES = [(17, 1031, 37), (100, 4099, 100), (283, 2053, 7), (19, 2053, 521)]


@pytest.mark.parametrize("sizes", LONG_SIZES, ids=str)
def test_long_sums_of_whole_numbers_are_exact(sizes, dtype, rng):
    """Of each product of a layer: the sums are over channels, over outputs, over the batch."""
    batch, long, outputs = sizes
    x, weight, bias = (
        whole_numbers(rng, *shape).astype(dtype) for shape in ((batch, long), (outputs, long), (outputs,))
    )
    expected = x.astype(int) @ weight.astype(int).T + bias.astype(int)
    network = fc.nn.Sequential(fc.nn.Linear(long, outputs, dtype=dtype), fc.nn.ReLU())
    network[0].weight.data[...], network[0].bias.data[...] = weight, bias
    frozen = fc.nn.freeze(network)
    for threads in (1, 2, 3):
        with fc.num_threads(threads):
            np.testing.assert_array_equal(fc.linear(x, weight), expected - bias)
            np.testing.assert_array_equal(fc.linear(x, weight, bias), expected)
            np.testing.assert_array_equal(frozen(x), np.maximum(expected, 0))
            grad_x, _, _ = fc.linear_backward(x, np.zeros((batch, outputs), dtype), weight.T, need=["x"])
            np.testing.assert_array_equal(grad_x, expected - bias)
            _, grad_weight, _ = fc.linear_backward(x.T, weight.T, np.zeros((batch, outputs)), need=["weight"])
            np.testing.assert_array_equal(grad_weight, expected - bias)


@pytest.mark.parametrize("sizes", CUT_SIZES, ids=str)
def test_long_sums_have_the_same_bits_on_any_number_of_threads(sizes, dtype, rng):
    batch, long, outputs = sizes
    x, weight, bias, grad_output = arrays(rng, (batch, long), outputs, dtype)
    results = []
    for threads in (1, 2, 3, 7):
        with fc.num_threads(threads):
            output = fc.linear(x, weight, bias)
            gradients = fc.linear_backward(grad_output, x, weight)
            over_batch = fc.linear_backward(weight.T, x.T, np.zeros((outputs, batch), dtype), need=["weight"])
        results.append([array.tobytes() for array in (output, *gradients, over_batch[1])])
    assert all(result == results[0] for result in results)


def test_nan_and_infinity_in_any_range_of_a_sum_stay_in_their_rows(dtype, rng):
    x, weight, bias, _ = arrays(rng, (20, 4096), 34, dtype)
    for at in range(0, 4096, 512):
        bad = x.copy()
        bad[3, at], bad[5, at + 511] = np.nan, np.inf
        output = fc.linear(bad, weight, bias)
        assert np.isnan(output[3]).all()
        np.testing.assert_array_equal(output[5], np.copysign(np.inf, weight[:, at + 511]))
        assert np.isfinite(np.delete(output, [3, 5], 0)).all()


@pytest.mark.parametrize("batch", [3, 16, 40])
def test_long_sums_keep_their_bound(batch, rng):
    x, weight, bias, grad_output = arrays(rng, (batch, 3001), 37, np.float32)
    exact = [a.astype(np.float64) for a in (x, weight, bias, grad_output)]
    results = (fc.linear(x, weight, bias), *fc.linear_backward(grad_output, x, weight))
    expected = (exact[0] @ exact[1].T + exact[2], exact[3] @ exact[1], exact[3].T @ exact[0], exact[3].sum(0))
    for result, reference_, products in zip(results, expected, (3001, 37, batch, batch), strict=True):
        bound = np.finfo(np.float32).eps * (4 * np.sqrt(products) + 4)
        assert np.abs(result - reference_).max() <= bound * np.abs(reference_).max()


@pytest.mark.parametrize("batch", [1, 16, 70])
def test_same_bits_on_any_number_of_threads(batch, dtype, rng):
    x, weight, bias, grad_output = arrays(rng, (batch, 610), 530, dtype)
    results = []
    for threads in (1, 2, 3, 5):
        with fc.num_threads(threads):
            output = fc.linear(x, weight, bias)
            gradients = fc.linear_backward(grad_output, x, weight)
        results.append([array.tobytes() for array in (output, *gradients)])
    assert all(result == results[0] for result in results)


@pytest.mark.skipif(not HAS_FORBIDDEN_PAGES, reason="needs mprotect")
@pytest.mark.parametrize("at_end", [False, True], ids=["start", "end"])
@pytest.mark.parametrize("sizes", [(1, 5, 3), (3, 33, 17), (16, 17, 33), (18, 31, 35), (2, 131, 5)], ids=str)
def test_nothing_is_read_beyond_an_array(sizes, at_end, dtype, rng):
    batch, channels, outputs = sizes
    given = arrays(rng, (batch, channels), outputs, dtype)
    x, weight, bias, grad_output = (between_forbidden_pages(array, at_end) for array in given)
    np.testing.assert_array_equal(fc.linear(x, weight, bias), fc.linear(*given[:3]))
    gradients = zip(
        fc.linear_backward(grad_output, x, weight), fc.linear_backward(given[3], *given[:2]), strict=True
    )
    for gradient, expected in gradients:
        np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("batch", [1, 2, 16, 17])
def test_nan_and_infinity_stay_in_their_rows(batch, dtype, rng):
    x, weight, bias, _ = arrays(rng, (batch, 35), 34, dtype)
    x[0, -1] = np.nan
    output = fc.linear(x, weight, bias)
    assert np.isnan(output[0]).all()
    assert np.isfinite(output[1:]).all()
    weight[-1, 0] = np.inf
    output = fc.linear(x, weight, bias)
    assert np.isinf(output[1:, -1]).all()
    assert np.isfinite(output[1:, :-1]).all()


def test_against_torch(dtype, rng):
    torch = pytest.importorskip("torch")
    x, weight, bias, grad_output = arrays(rng, (19, 47), 35, dtype)
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
    expected = torch.nn.functional.linear(*tensors)
    expected.backward(torch.from_numpy(grad_output))
    tolerance = 32 * np.finfo(dtype).eps
    np.testing.assert_allclose(fc.linear(x, weight, bias), expected.detach(), rtol=tolerance, atol=tolerance)
    for gradient, tensor in zip(fc.linear_backward(grad_output, x, weight), tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad, rtol=tolerance, atol=tolerance)
