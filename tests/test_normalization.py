"""Batch and local response normalization against loops, numerical gradients and PyTorch."""

import numpy as np
import pytest
import reference_layers as reference

import fastconv as fc

SHAPES = [(4, 3), (5, 1), (4, 3, 7), (2, 3, 4, 5), (1, 2, 1, 2), (3, 5, 1, 1)]


def parameters(rng, channels, dtype=np.float64):
    mean, weight, bias = rng.standard_normal((3, channels)).astype(dtype)
    return mean, (rng.random(channels) + 0.5).astype(dtype), weight, bias


def to_nhwc(x):
    return np.moveaxis(x, 1, -1)


# ---- batch normalization ----


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_in_training(shape, dtype, layout, rng):
    x = (rng.standard_normal(shape) * 3 + 2).astype(dtype)
    running_mean, running_var, weight, bias = parameters(rng, shape[1], dtype)
    mean, variance, count = reference.batch_statistics(x)
    expected = reference.batch_norm(x, mean, variance, weight, bias, 1e-3)
    expected_mean = 0.7 * running_mean + 0.3 * mean
    expected_var = 0.7 * running_var + 0.3 * variance * count / (count - 1)

    given = x if layout == "NCHW" else to_nhwc(x)
    output, statistics = fc.batch_norm(
        given, running_mean, running_var, weight, bias, True, 0.3, 1e-3, layout=layout, return_statistics=True
    )
    assert output.dtype == dtype
    tolerance = 32 * np.finfo(dtype).eps
    np.testing.assert_allclose(
        output, expected if layout == "NCHW" else to_nhwc(expected), rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(running_mean, expected_mean, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(running_var, expected_var, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(statistics[0], mean, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(statistics[1], (variance + 1e-3) ** -0.5, rtol=tolerance)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [*SHAPES, (1, 3)], ids=str)
def test_batch_norm_in_evaluation(shape, dtype, layout, rng):
    x = rng.standard_normal(shape).astype(dtype)
    mean, var, weight, bias = parameters(rng, shape[1], dtype)
    expected = reference.batch_norm(x, mean, var, weight, bias, 1e-5)
    before = mean.copy(), var.copy()
    given = x if layout == "NCHW" else to_nhwc(x)
    output = fc.batch_norm(given, mean, var, weight, bias, layout=layout)
    tolerance = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(
        output, expected if layout == "NCHW" else to_nhwc(expected), rtol=tolerance, atol=tolerance
    )
    np.testing.assert_array_equal((mean, var), before)
    plain = fc.batch_norm(x, mean, var)
    ones = np.ones(shape[1])
    np.testing.assert_allclose(
        plain, reference.batch_norm(x, mean, var, ones, 0 * ones, 1e-5), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 7), (2, 3, 2, 3)], ids=str)
def test_batch_norm_gradients_are_the_numerical_ones(shape, training, layout, rng):
    x, grad_output = rng.standard_normal((2, *shape))
    mean, var, weight, bias = parameters(rng, shape[1])
    if layout == "NHWC":
        x, grad_output = to_nhwc(x), to_nhwc(grad_output)

    def forward(x=x, weight=weight, bias=bias, **more):
        running = mean.copy(), var.copy()
        return fc.batch_norm(x, *running, weight, bias, training, eps=1e-3, layout=layout, **more)

    def loss(**array):
        return float((forward(**array) * grad_output).sum())

    _, statistics = forward(return_statistics=True)
    for given in (None, statistics):
        gradients = fc.batch_norm_backward(
            grad_output, x, mean, var, weight, training, 1e-3, layout=layout, statistics=given
        )
        for gradient, array, name in zip(gradients, (x, weight, bias), ("x", "weight", "bias"), strict=True):
            expected = reference.numerical_gradient(lambda a, name=name: loss(**{name: a}), array)
            np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)
    single = fc.batch_norm_backward(
        *(array.astype(np.float32) for array in (grad_output, x, mean, var, weight)),
        training,
        1e-3,
        layout=layout,
    )
    for gradient, exact in zip(single, gradients, strict=True):
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-5)


def test_batch_norm_gives_the_gradients_needed(rng):
    x, grad_output = rng.standard_normal((2, 4, 3))
    everything = fc.batch_norm_backward(grad_output, x, training=True)
    for i, name in enumerate(("x", "weight", "bias")):
        gradients = fc.batch_norm_backward(grad_output, x, training=True, need=(name,))
        assert [gradient is None for gradient in gradients] == [j != i for j in range(3)]
        np.testing.assert_array_equal(gradients[i], everything[i])


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (1000, 3)])
def test_a_large_mean_does_not_spoil_the_variance(shape, rng):
    x = (rng.standard_normal(shape) + 1000).astype(np.float32)
    mean, variance, _ = reference.batch_statistics(x)
    _, (got_mean, got_inv_std) = fc.batch_norm(x, None, None, training=True, eps=0.0, return_statistics=True)
    np.testing.assert_allclose(got_mean, mean, rtol=2e-7)
    np.testing.assert_allclose(got_inv_std, variance**-0.5, rtol=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 3, 4, 5, 8, 17, 35])
def test_sizes_and_threads(channels, layout, dtype, rng):
    """sum_row, sum_pixels, affine_rows and affine_pixels: tails, several blocks and threads."""
    shape = (3, channels, 29, 37) if layout == "NCHW" else (3, 29, 37, channels)
    axes = (0, 2, 3) if layout == "NCHW" else (0, 1, 2)
    x, grad_output = rng.standard_normal((2, *shape)).astype(dtype)
    x += 3
    weight, bias = rng.standard_normal((2, channels)).astype(dtype)
    spread = (slice(None), None, None) if layout == "NCHW" else slice(None)
    wide, grad = x.astype(np.longdouble), grad_output.astype(np.longdouble)
    centered = wide - wide.mean(axes, keepdims=True)
    scale = 1 / np.sqrt((centered**2).mean(axes, keepdims=True) + 1e-5)
    normal = centered * scale
    slope = weight.astype(np.longdouble)[spread] * scale
    expected = (
        normal * weight[spread] + bias[spread],
        slope * (grad - grad.mean(axes, keepdims=True) - normal * (grad * normal).mean(axes, keepdims=True)),
        (grad * normal).sum(axes),
        grad.sum(axes),
    )
    sizes = (1, 1, np.abs(grad * normal).sum(axes), np.abs(grad).sum(axes))  # of the terms of each sum
    results = []
    for threads in (1, 3):
        with fc.num_threads(threads):
            output = fc.batch_norm(x, None, None, weight, bias, training=True, layout=layout)
            results.append(
                [output, *fc.batch_norm_backward(grad_output, x, weight=weight, training=True, layout=layout)]
            )
    eps = np.finfo(dtype).eps
    for result, other, wanted, size in zip(*results, expected, sizes, strict=True):
        np.testing.assert_array_equal(result, other)
        assert np.all(np.abs(result - wanted) <= 16 * eps * (np.abs(wanted) + size))


def test_a_long_sum_keeps_its_precision(rng):
    """A million values of one channel, summed one by one in float32, would be wrong in the fifth digit."""
    for shape, layout in (((1, 1, 1000, 1000), "NCHW"), ((1, 1000, 1000, 1), "NHWC")):
        x = (rng.random(shape) + 7).astype(np.float32)
        wide = x.astype(np.float64)
        _, (mean, inv_std) = fc.batch_norm(
            x, None, None, training=True, eps=0, layout=layout, return_statistics=True
        )
        np.testing.assert_allclose(mean, wide.mean(), rtol=1.2e-7)
        np.testing.assert_allclose(inv_std, 1 / wide.std(), rtol=1e-6)
        grad_bias = fc.batch_norm_backward(x, x, training=True, layout=layout)[2]
        np.testing.assert_allclose(grad_bias, wide.sum(), rtol=1.2e-7)


def test_batch_norm_takes_any_memory(memory_order, rng):
    x, grad_output = (memory_order(a) for a in rng.standard_normal((2, 4, 3, 5, 2)).astype(np.float32))
    mean, var, weight, bias = (memory_order(a) for a in parameters(rng, 3, np.float32))
    plain = reference.plain
    for training in (True, False):
        expected_mean, expected_var = plain(mean), plain(var)
        running = (expected_mean.copy(), expected_var.copy()) if training else (mean, var)
        expected = fc.batch_norm(plain(x), expected_mean, expected_var, plain(weight), plain(bias), training)
        np.testing.assert_array_equal(fc.batch_norm(x, *running, weight, bias, training), expected)
        expected = fc.batch_norm_backward(
            plain(grad_output), plain(x), plain(mean), plain(var), plain(weight), training
        )
        gradients = fc.batch_norm_backward(grad_output, x, mean, var, weight, training)
        for gradient, wanted in zip(gradients, expected, strict=True):
            np.testing.assert_array_equal(gradient, wanted)


def test_running_statistics_with_gaps_are_updated(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    mean, var = np.zeros((3, 2), np.float32)[:, 0], np.zeros(3, ">f8")
    fc.batch_norm(x, mean, var, training=True, momentum=1.0)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, x.var(axis=0, ddof=1), rtol=1e-5)


def test_batch_norm_promotes(rng):
    x = rng.standard_normal((4, 3)).astype(np.float16)
    output = fc.batch_norm(x, None, None, training=True)
    assert output.dtype == np.float16
    expected = fc.batch_norm(x.astype(float), None, None, training=True)
    np.testing.assert_allclose(output, expected, rtol=2e-3, atol=1e-3)
    assert fc.batch_norm(x, None, None, np.ones(3), training=True).dtype == np.float64


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2, 2), (2, 3, 0, 2), (2, 0, 2, 2)], ids=str)
def test_batch_norm_of_nothing(shape):
    x = np.zeros(shape, np.float32)
    mean, var = np.full(shape[1], 7.0), np.full(shape[1], 8.0)
    for training in (True, False):
        assert fc.batch_norm(x, mean, var, training=training).shape == shape
        grad_x, grad_weight, grad_bias = fc.batch_norm_backward(x, x, mean, var, training=training)
        assert grad_x.shape == shape
        np.testing.assert_array_equal(grad_weight, np.zeros(shape[1]))
        np.testing.assert_array_equal(grad_bias, np.zeros(shape[1]))
    assert (mean == 7).all()
    assert (var == 8).all()


def frozen(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"x": np.zeros(3)}, ValueError, r"^x: got shape \(3,\), needs at least 2 axes"),
        ({"x": np.zeros((1, 3))}, ValueError, r"^x: got shape \(1, 3\), needs more than one value a channel"),
        ({"x": np.zeros((2, 3), complex)}, TypeError, "^x: got dtype complex128"),
        ({"weight": np.zeros(2)}, ValueError, r"^weight: got shape \(2,\), needs shape \(3,\), one for each"),
        ({"bias": np.zeros((1, 3))}, ValueError, r"^bias: got shape \(1, 3\), needs shape \(3,\)"),
        ({"running_mean": np.zeros(4)}, ValueError, r"^running_mean: got shape \(4,\), needs shape \(3,\)"),
        ({"running_var": None}, ValueError, "^running_var: got None, needs an array, as the other"),
        ({"running_var": [1.0, 1.0, 1.0]}, TypeError, "^running_var: got list, needs a floating"),
        ({"running_mean": np.zeros(3, int)}, TypeError, "^running_mean: got dtype int64, needs a floating"),
        ({"running_var": frozen(np.ones(3))}, ValueError, "^running_var: got a read-only array, needs"),
        ({"momentum": 1.5}, ValueError, "^momentum: got 1.5, needs a finite number of at least 0"),
        ({"eps": -1}, ValueError, "^eps: got -1, needs a finite number of at least 0"),
        ({"layout": "CHWN"}, ValueError, "^layout: got 'CHWN', needs 'NCHW' or 'NHWC'"),
        ({"training": None}, TypeError, "^training: got None, needs True or False"),
        ({"return_statistics": "no"}, TypeError, "^return_statistics: got 'no', needs True or False"),
        (
            {"return_statistics": np.array([1, 0])},
            TypeError,
            r"^return_statistics: got array\(\[1, 0\]\), needs True or False",
        ),
    ],
)
def test_bad_batch_norm_arguments_are_refused_and_nothing_is_written(change, kind, message):
    arguments = {"x": np.ones((2, 3)), "running_mean": np.full(3, 7.0), "running_var": np.full(3, 8.0)}
    arguments |= {"training": True} | change
    with pytest.raises(kind, match=message):
        fc.batch_norm(**arguments)
    for name, value in (("running_mean", 7), ("running_var", 8)):
        if name not in change:
            assert (arguments[name] == value).all()


@pytest.mark.parametrize("raising", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "values",
    [[2.0, 2.0, 2.0], [np.inf, 1.0, 0.0], [np.nan, 1.0, 2.0], [3e38, -3e38, 3e38], [1e-38, 2e-38, 0.0]],
)
def test_batch_norm_of_what_has_no_finite_result_says_nothing(values, training, raising):
    """As PyTorch; the running statistics are what arithmetic makes of the batch, however NumPy is set."""
    x = np.array(values, np.float32)[:, np.newaxis]
    mean, var, one = (np.full(1, value, np.float32) for value in (0, 0, 1))
    with np.errstate(all="raise" if raising else "warn"):
        output = fc.batch_norm(x, mean, var, 2 * one, one, training, 1.0, eps=0)
        gradients = fc.batch_norm_backward(x, x, mean, var, one, training, eps=0)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        expected_mean, expected_var = (wide.mean(), wide.var(ddof=1)) if training else (0, 0)
        expected_mean, expected_var = np.float32(expected_mean), np.float32(expected_var)
    np.testing.assert_allclose(mean, [expected_mean], rtol=1e-6)
    np.testing.assert_allclose(var, [expected_var], rtol=1e-6)
    assert not np.isfinite(output).all()
    assert not np.isfinite(gradients[0]).all()


def test_bad_batch_norm_gradients_are_refused():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"^running_mean: got None, needs an array unless training=True"):
        fc.batch_norm(x, None, None)
    with pytest.raises(ValueError, match=r"^running_mean: got None, needs an array unless training=True"):
        fc.batch_norm_backward(x, x)
    with pytest.raises(
        ValueError, match=r"^grad_output: got shape \(3, 2\), needs shape \(2, 3\), that of x"
    ):
        fc.batch_norm_backward(x.T, x, training=True)
    three, pair = np.zeros(3), "a pair of arrays, as batch_norm returns it"
    for statistics, kind, message in (
        ((np.zeros(2), np.zeros(2)), ValueError, r"shape \(2,\), needs shape \(3,\), one for each channel"),
        ((three, three * 1j), TypeError, "dtype complex128, needs real numbers"),
        (("a", "b"), TypeError, "dtype <U1, needs real numbers"),
        ((three, None), TypeError, "dtype object, needs real numbers"),
        ((three, three, three), TypeError, f"tuple, needs {pair}"),
        ([three], TypeError, f"list, needs {pair}"),
        (np.zeros(()), TypeError, f"ndarray, needs {pair}"),
        (5, TypeError, f"int, needs {pair}"),
    ):
        with pytest.raises(kind, match=f"^statistics: got {message}"):
            fc.batch_norm_backward(x, x, training=True, statistics=statistics)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_agrees_with_pytorch(training, rng):
    torch = pytest.importorskip("torch")
    x, grad_output = rng.standard_normal((2, 3, 4, 5, 2))
    arrays = (x, *parameters(rng, 4))
    tensors = [torch.tensor(array) for array in arrays]
    for i in (0, 3, 4):
        tensors[i].requires_grad_()
    expected = torch.nn.functional.batch_norm(*tensors, training, 0.2, 1e-3)
    expected.backward(torch.tensor(grad_output))
    _, mean, var, weight, bias = arrays
    output = fc.batch_norm(x, mean, var, weight, bias, training, 0.2, 1e-3)
    gradients = fc.batch_norm_backward(grad_output, x, mean, var, weight, training, 1e-3)
    pairs = [(output, expected.detach()), (mean, tensors[1]), (var, tensors[2])]
    pairs += [(gradient, tensors[i].grad) for gradient, i in zip(gradients, (0, 3, 4), strict=True)]
    for actual, wanted in pairs:
        np.testing.assert_allclose(actual, wanted.numpy(), rtol=1e-11, atol=1e-12)


# ---- local response normalization ----

RESPONSE = [
    (1, 1.0, 0.75, 1.0),
    (2, 0.5, 0.5, 2.0),
    (3, 1e-4, 0.75, 1.0),
    (5, 2.0, 1.0, 0.5),
    (9, 1.0, 0.75, 1.0),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("arguments", RESPONSE, ids=str)
@pytest.mark.parametrize("shape", [(2, 7, 3, 2), (1, 1, 1, 1), (2, 4, 3)], ids=str)
def test_local_response_norm(shape, arguments, layout, rng):
    x, grad_output = rng.standard_normal((2, *shape))
    expected = reference.local_response_norm(x, *arguments)
    expected_gradient = reference.numerical_gradient(
        lambda x: float((reference.local_response_norm(x, *arguments) * grad_output).sum()), x
    )
    if layout == "NHWC":
        x, grad_output, expected, expected_gradient = map(
            to_nhwc, (x, grad_output, expected, expected_gradient)
        )
    output = fc.local_response_norm(x, *arguments, layout=layout)
    np.testing.assert_allclose(output, expected, rtol=1e-14)
    gradient = fc.local_response_norm_backward(grad_output, x, *arguments, layout=layout)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-8)
    for dtype, tolerance in ((np.float32, 4e-6), (np.float16, 2e-3)):
        output = fc.local_response_norm(x.astype(dtype), *arguments, layout=layout)
        assert output.dtype == dtype
        np.testing.assert_allclose(output, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_local_response_norm_of_sizes_around_those_of_vectors(layout, dtype, threads, monkeypatch, rng):
    """And of blocks of pixels, with windows that are wider than the channels, and every kind of exponent."""
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    betas = [0.25, 0.5, 0.75, 1.0, 0.3, 0, -0.75, 1.25]
    for i, n in enumerate((*range(1, 19), 31, 32, 33, 64, 67)):
        for shape in ((2, n, 5), (1, 3, n), (2, 7, 1, n), (n, 2, 1)):
            arguments = (1 + i % 6 if i % 5 else n + 3, 0.7, betas[i % len(betas)], 1.5)
            x, grad_output = rng.standard_normal((2, *shape)).astype(dtype)
            expected, expected_gradient = response(x, grad_output, *arguments)
            if layout == "NHWC":
                x, grad_output, expected, expected_gradient = map(
                    to_nhwc, (x, grad_output, expected, expected_gradient)
                )
            output = fc.local_response_norm(x, *arguments, layout=layout)
            gradient = fc.local_response_norm_backward(grad_output, x, *arguments, layout=layout)
            assert output.dtype == gradient.dtype == dtype
            bound = 32 * np.finfo(dtype).eps
            np.testing.assert_allclose(output, expected, rtol=bound)
            np.testing.assert_allclose(
                gradient, expected_gradient, rtol=bound, atol=bound * np.abs(expected_gradient).max()
            )


def response(x, grad_output, size, alpha, beta, k):
    """The norm and its gradient by matrices of which channels are neighbours, in float64."""
    x, grad_output = x.astype(np.float64), grad_output.astype(np.float64)
    channels = np.arange(x.shape[1])
    offset = channels[np.newaxis] - channels[:, np.newaxis]
    near = ((-(size // 2) <= offset) & (offset <= (size - 1) // 2)).astype(float)  # [of][neighbour]
    r = k + alpha / size * np.einsum("on,in...->io...", near, x**2)
    through = np.einsum("on,io...->in...", near, grad_output * x * r ** (-beta - 1))
    return x * r**-beta, grad_output * r**-beta - 2 * alpha * beta / size * x * through


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_not_a_number_spreads_to_neighbouring_channels_alone(layout, dtype):
    x = np.ones((1, 40, 35), dtype)
    x[0, 20, 17] = np.nan
    expected = np.zeros(x.shape, bool)
    expected[0, 18:23, 17] = True
    if layout == "NHWC":
        x, expected = (np.ascontiguousarray(to_nhwc(array)) for array in (x, expected))
    np.testing.assert_array_equal(np.isnan(fc.local_response_norm(x, 5, layout=layout)), expected)
    gradient = fc.local_response_norm_backward(np.ones_like(x), x, 5, layout=layout)
    assert np.isnan(gradient[expected]).all()


def test_local_response_norm_takes_any_memory(memory_order, rng):
    x, grad_output = (memory_order(a) for a in rng.standard_normal((2, 2, 5, 3, 4)).astype(np.float32))
    plain_x, plain_grad = reference.plain(x), reference.plain(grad_output)
    expected = fc.local_response_norm(plain_x, 3, 1.0)
    np.testing.assert_array_equal(fc.local_response_norm(x, 3, 1.0), expected)
    expected = fc.local_response_norm_backward(plain_grad, plain_x, 3, 1.0)
    np.testing.assert_array_equal(fc.local_response_norm_backward(grad_output, x, 3, 1.0), expected)


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 0, 2), (2, 3, 0, 2)], ids=str)
def test_local_response_norm_of_nothing(shape):
    x = np.zeros(shape, np.float32)
    assert fc.local_response_norm(x, 3).shape == shape
    assert fc.local_response_norm_backward(x, x, 3).shape == shape


def test_bad_local_response_norm_arguments_are_refused():
    x = np.zeros((1, 2, 3))
    with pytest.raises(ValueError, match=r"^x: got shape \(2, 3\), needs at least 3 axes"):
        fc.local_response_norm(x[0], 3)
    with pytest.raises(ValueError, match=r"^size: got 0, needs an integer of at least 1"):
        fc.local_response_norm(x, 0)
    with pytest.raises(TypeError, match=r"^size: got 2.0, needs an integer"):
        fc.local_response_norm(x, 2.0)
    for refused in (fc.local_response_norm, lambda x, size: fc.nn.LocalResponseNorm(size)):
        with pytest.raises(ValueError, match=r"^size: got 10+, needs .* at most 9223372036854775807$"):
            refused(x, 10**400)
    np.testing.assert_array_equal(fc.local_response_norm(x + 1, 2**63 - 1), x + 1)
    with pytest.raises(ValueError, match=r"^alpha: got nan"):
        fc.local_response_norm(x, 3, float("nan"))
    with pytest.raises(ValueError, match=r"^grad_output: got shape \(2, 3\), needs shape \(1, 2, 3\)"):
        fc.local_response_norm_backward(x[0], x, 3)


@pytest.mark.parametrize("arguments", RESPONSE, ids=str)
def test_local_response_norm_agrees_with_pytorch(arguments, rng):
    torch = pytest.importorskip("torch")
    x, grad_output = rng.standard_normal((2, 2, 7, 3, 2))
    x_torch = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.local_response_norm(x_torch, *arguments)
    expected.backward(torch.tensor(grad_output))
    np.testing.assert_allclose(fc.local_response_norm(x, *arguments), expected.detach().numpy(), rtol=1e-13)
    gradient = fc.local_response_norm_backward(grad_output, x, *arguments)
    np.testing.assert_allclose(gradient, x_torch.grad.numpy(), rtol=1e-11, atol=1e-13)


def test_response_norm_of_nothing_with_billions_of_channels():
    x = np.zeros((0, 2**31, 2), np.float32)
    assert fc.local_response_norm(x, 2**40).shape == x.shape
    assert fc.local_response_norm_backward(x, x, 2**40).shape == x.shape
