"""`fastconv.compat.dlfs` against plain NumPy layers with the contracts of the book's."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

import fastconv as fc
from fastconv.compat import dlfs

EXAMPLES = Path(__file__).parents[1] / "examples"
SHAPES = [
    ((3, 2, 7, 8), 3, 3, 1, 0),
    ((2, 3, 8, 6), 3, 2, 2, 1),
    ((1, 1, 4, 5), 4, 5, 1, 0),
    ((2, 2, 7, 7), 2, 2, 3, 2),
]
shapes = pytest.mark.parametrize(("x_shape", "height", "width", "stride", "pad"), SHAPES, ids=str)


def load(name):
    """A module of the examples."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plain = load("plain_layers")


@pytest.mark.parametrize(
    ("option", "value", "needs"),
    [
        ("--batch-size", "0", "at least 1"),
        ("--batch-size", "1.5", "a whole number"),
        ("--batch-size", "-5", "a whole number"),
        ("--seed", "-1", "a whole number"),
    ],
)
def test_a_bad_option_of_the_example_is_named(option, value, needs):
    script = EXAMPLES / "simple_convnet.py"
    result = subprocess.run(
        [sys.executable, script, f"{option}={value}"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert f"argument {option}: got '{value}', needs {needs}" in result.stderr


@shapes
def test_columns(x_shape, height, width, stride, pad, rng):
    x = rng.integers(-9, 10, x_shape)
    for array in (x, x.astype(np.float32)):
        rows = dlfs.im2col(array, height, width, stride, pad)
        assert rows.dtype == np.float64
        np.testing.assert_array_equal(rows, plain.im2col(x, height, width, stride, pad))
    images = dlfs.col2im(rows.astype(np.float32), x_shape, height, width, stride, pad)
    assert images.dtype == np.float64
    np.testing.assert_array_equal(images, plain.col2im(rows, x_shape, height, width, stride, pad))


@shapes
def test_convolution(x_shape, height, width, stride, pad, rng):
    x, W, b = rng.integers(-5, 6, x_shape), rng.integers(-5, 6, (4, x_shape[1], height, width)), np.arange(4)  # noqa: N806
    ours, theirs = dlfs.Convolution(W * 1.0, b, stride, pad), plain.Convolution(W, b, stride, pad)
    assert (ours.x, ours.col, ours.col_W, ours.dW, ours.db) == (None,) * 5
    out = ours.forward(x)
    np.testing.assert_array_equal(out, theirs.forward(x))
    np.testing.assert_array_equal(out, reference.conv2d(x, W, b, stride, pad))
    np.testing.assert_array_equal(ours.col, theirs.col)
    np.testing.assert_array_equal(ours.col_W, W.reshape(4, -1).T)
    dout = rng.integers(-5, 6, out.shape)
    np.testing.assert_array_equal(ours.backward(dout), theirs.backward(dout))
    np.testing.assert_array_equal(ours.dW, theirs.dW)
    np.testing.assert_array_equal(ours.db, theirs.db)


@shapes
def test_pooling(x_shape, height, width, stride, pad, rng):
    """Half of the pixels are negative, so that the zeros of the padding win some windows; with ties."""
    x = rng.integers(-9, 4, x_shape)
    ours, theirs = (module.Pooling(height, width, stride, pad) for module in (dlfs, plain))
    assert ours.arg_max is None
    out = ours.forward(x)
    np.testing.assert_array_equal(out, theirs.forward(x))
    np.testing.assert_array_equal(ours.arg_max, theirs.arg_max)
    dout = rng.integers(-5, 6, out.shape)
    np.testing.assert_array_equal(ours.backward(dout), theirs.backward(dout))
    assert dlfs.Pooling(2, 2).stride == 2


def test_relu_and_sigmoid(rng):
    x, dout = rng.standard_normal((5, 7)), rng.standard_normal((5, 7))
    x[0, 0] = 0
    relu = dlfs.Relu()
    np.testing.assert_array_equal(relu.forward(x), np.where(x <= 0, 0, x))
    np.testing.assert_array_equal(relu.backward(dout.copy()), np.where(x <= 0, 0, dout))
    np.testing.assert_array_equal(relu.mask, x <= 0)
    sigmoid = dlfs.Sigmoid()
    y = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(sigmoid.forward(x), y, rtol=1e-14)
    np.testing.assert_allclose(sigmoid.backward(dout), dout * y * (1 - y), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F", "every other", "unaligned", "foreign"])
def test_relu_changes_the_gradient_that_it_is_given(rng, dtype, order):
    x, gradient = rng.standard_normal((2, 61, 47)).astype(dtype)
    if order == "every other":
        dout = np.zeros((61, 94), dtype)[:, ::2]
    elif order == "unaligned":
        dout = np.frombuffer(bytearray(1 + gradient.nbytes), np.uint8)[1:].view(dtype).reshape(61, 47)
    else:
        dout = np.empty(
            (61, 47),
            np.dtype(dtype).newbyteorder("S" if order == "foreign" else "="),
            "F" if order == "F" else "C",
        )
    dout[...] = gradient
    relu = dlfs.Relu()
    relu.forward(x)
    assert (relu.backward(dout) is dout) == (order != "foreign")
    np.testing.assert_array_equal(dout, gradient if order == "foreign" else np.where(x <= 0, 0, gradient))


def test_relu_makes_a_new_gradient_where_it_must(rng):
    x = rng.standard_normal((5, 7))
    relu = dlfs.Relu()
    relu.forward(x)
    read_only = rng.standard_normal((5, 7))
    read_only.flags.writeable = False
    for dout in (read_only, read_only.tolist(), np.arange(35).reshape(5, 7)):
        kept = np.array(dout)
        np.testing.assert_array_equal(relu.backward(dout), np.where(x <= 0, 0, kept))
        np.testing.assert_array_equal(dout, kept)


def test_affine_restores_the_shape_of_images(rng):
    x, W, b = rng.standard_normal((4, 2, 3, 5)), rng.standard_normal((30, 6)), rng.standard_normal(6)  # noqa: N806
    layer = dlfs.Affine(W, b)
    dout = rng.standard_normal((4, 6))
    np.testing.assert_allclose(layer.forward(x), x.reshape(4, 30) @ W + b, rtol=1e-12)
    np.testing.assert_allclose(layer.backward(dout), (dout @ W.T).reshape(x.shape), rtol=1e-12)
    np.testing.assert_allclose(layer.dW, x.reshape(4, 30).T @ dout, rtol=1e-12)
    np.testing.assert_allclose(layer.db, dout.sum(0), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("batch", "inputs", "outputs"),
    [
        *[(1, 1, 1), (3, 17, 2), (37, 19, 23), (130, 7, 9), (17, 1031, 40)],
        *[
            (1, 7, 8193),
            (2, 600, 1000),
            (3, 5, 4095),
            (3, 5, 4096),
            (4, 5, 4097),
        ],  # too few rows to be copied
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_affine_of_any_size(batch, inputs, outputs, threads, dtype, rng):
    """Small whole numbers, so that every sum is exact."""
    shapes = ((batch, inputs), (inputs, outputs), (1, outputs), (batch, outputs))
    x, W, b, dout = (rng.integers(-2, 3, shape).astype(dtype) for shape in shapes)  # noqa: N806
    for bias in (b, b[0]):
        layer = dlfs.Affine(W, bias)
        with fc.num_threads(threads):
            results = [layer.forward(x), layer.backward(dout), layer.dW, layer.db]
        for result, expected in zip(results, (x @ W + b, dout @ W.T, x.T @ dout, dout.sum(0)), strict=True):
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, expected)


def test_affine_in_any_memory(memory_order, rng):
    shapes = ((6, 5), (5, 7), (6, 7))
    x, W, dout = (memory_order(rng.integers(-5, 6, shape) * 1.0) for shape in shapes)  # noqa: N806
    layer = dlfs.Affine(W, np.arange(7))
    np.testing.assert_array_equal(layer.forward(x), np.array(x) @ np.array(W) + np.arange(7))
    np.testing.assert_array_equal(layer.backward(dout), np.array(dout) @ np.array(W).T)
    np.testing.assert_array_equal(layer.dW, np.array(x).T @ np.array(dout))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)], ids=str)
def test_affine_of_nothing(shape):
    layer = dlfs.Affine(np.ones((shape[1], 4)), np.arange(4.0))
    np.testing.assert_array_equal(layer.forward(np.ones(shape)), np.tile(np.arange(4.0), (shape[0], 1)))
    assert layer.backward(np.ones((shape[0], 4))).shape == shape
    assert layer.dW.shape == (shape[1], 4)
    np.testing.assert_array_equal(layer.db, np.full(4, shape[0]))


def test_affine_refuses_what_does_not_fit():
    for x, W, b, message in (  # noqa: N806
        (1.0, np.ones((2, 3)), np.ones(3), r"^x: got shape \(\), needs at least 1 axis"),
        (np.ones((4, 5)), np.ones((2, 3)), np.ones(3), r"^x: got shape \(4, 5\), flattened, needs"),
        (np.ones((4, 2)), np.ones(2), np.ones(3), r"^W: got shape \(2,\), needs 2 axes"),
        (np.ones((4, 2)), np.ones((2, 3)), np.ones(2), r"^b: got shape \(2,\), needs shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            dlfs.Affine(W, b).forward(x)
    layer = dlfs.Affine(np.ones((2, 3)), np.ones(3))
    layer.forward(np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"^dout: got shape \(4, 2\), needs shape \(4, 3\)"):
        layer.backward(np.ones((4, 2)))


@pytest.mark.parametrize("one_hot", [False, True])
def test_softmax_with_loss(one_hot, rng):
    x, labels = rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    t = np.eye(4)[labels] if one_hot else labels
    layer = dlfs.SoftmaxWithLoss()
    y = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    expected = -np.mean(np.log(y[np.arange(5), labels] + 1e-7))
    assert layer.forward(x, t) == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(layer.y, y, rtol=1e-13)
    np.testing.assert_allclose(layer.backward(), (y - np.eye(4)[labels]) / 5, rtol=1e-12, atol=1e-15)


def test_dropout_is_not_inverted(rng):
    x = rng.random((40, 50)) + 1
    layer = dlfs.Dropout(0.3)
    np.random.seed(5)  # noqa: NPY002 - the book's generator
    output = layer.forward(x)
    np.random.seed(5)  # noqa: NPY002
    mask = np.random.rand(40, 50) > 0.3  # noqa: NPY002
    np.testing.assert_array_equal(output, x * mask)
    np.testing.assert_array_equal(layer.backward(x), x * mask)
    np.testing.assert_array_equal(layer.forward(x, train_flg=False), x * 0.7)
    for dtype in (np.float16, np.float32):
        given = x.astype(dtype).T
        output = layer.forward(given, train_flg=False)
        assert output.dtype == dtype
        np.testing.assert_allclose(output, given.astype(np.float64) * 0.7, rtol=np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(6, 5), (6, 2, 3, 4)], ids=str)
def test_batch_normalization(shape, rng):
    features = int(np.prod(shape[1:]))
    gamma, beta = rng.random(features) + 1, rng.random(features)
    layer = dlfs.BatchNormalization(gamma, beta)
    mean_, variance_ = np.zeros(features), np.zeros(features)
    for _ in range(2):
        x, dout = rng.standard_normal(shape), rng.standard_normal(shape)
        rows = x.reshape(6, -1)
        mean, variance = rows.mean(0), rows.var(0)
        mean_, variance_ = 0.9 * mean_ + 0.1 * mean, 0.9 * variance_ + 0.1 * variance
        normalized = (rows - mean) / np.sqrt(variance + 1e-6)
        np.testing.assert_allclose(layer.forward(x), (gamma * normalized + beta).reshape(shape), rtol=1e-10)

    def loss(array):
        return layer.forward(array)

    layer.forward(x)
    dx = layer.backward(dout)
    np.testing.assert_allclose(layer.dgamma, (normalized * dout.reshape(6, -1)).sum(0), rtol=1e-10)
    np.testing.assert_allclose(layer.dbeta, dout.reshape(6, -1).sum(0), rtol=1e-10)
    layer_mean, layer_variance = layer.running_mean.copy(), layer.running_var.copy()
    np.testing.assert_allclose(dx, reference.numerical_gradient(loss, x, dout), rtol=1e-5, atol=1e-6)
    expected = 0.9 * mean_ + 0.1 * mean
    np.testing.assert_allclose(layer_mean, expected, rtol=1e-10)
    np.testing.assert_allclose(layer_variance, 0.9 * variance_ + 0.1 * variance, rtol=1e-10)
    layer.running_mean, layer.running_var = layer_mean, layer_variance
    used = gamma * (rows - layer_mean) / np.sqrt(layer_variance + 1e-6) + beta
    np.testing.assert_allclose(layer.forward(x, train_flg=False), used.reshape(shape), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("batch", "features"), [(1, 3), (2, 1), (37, 17)])
def test_batch_normalization_by_the_books_formula(batch, features, dtype, rng):
    x, dout = (rng.standard_normal((batch, features)) for _ in range(2))
    given = [a.astype(dtype) for a in (x + 3, dout, rng.random(features) + 1, rng.random(features))]
    layer = dlfs.BatchNormalization(*given[2:], momentum=0.5)
    out, dx = layer.forward(given[0]), layer.backward(given[1])
    x, dout, gamma, beta = (a.astype(np.float64) for a in given)
    xc = x - x.mean(0)
    variance = np.mean(xc**2, 0)
    std = np.sqrt(variance + 1e-6)
    dxn = gamma * dout
    expected_dx = (dxn - dxn.mean(0) - xc / std * np.mean(dxn * xc / std, 0)) / std
    tolerance = 1e-3 if dtype == np.float32 else 1e-11
    for got, expected in (
        (out, gamma * xc / std + beta),
        (layer.xc, xc),
        (layer.xn, xc / std),
        (layer.std, std),
        (layer.dgamma, np.sum(xc / std * dout, 0)),
        (layer.dbeta, dout.sum(0)),
        (dx, expected_dx),
        (layer.running_mean, 0.5 * x.mean(0)),
        (layer.running_var, 0.5 * variance),
    ):
        np.testing.assert_allclose(
            got, expected, rtol=tolerance, atol=tolerance * max(1, np.abs(expected).max())
        )
    assert out.dtype == dx.dtype == layer.forward(given[0], train_flg=False).dtype == dtype
    assert layer.batch_size == batch


def test_batch_normalization_with_one_gamma_for_all(rng):
    x = rng.standard_normal((6, 5))
    one, many = (dlfs.BatchNormalization(*parts) for parts in ((2.0, 1.0), (np.full(5, 2.0), np.ones(5))))
    np.testing.assert_array_equal(one.forward(x), many.forward(x))
    np.testing.assert_array_equal(one.backward(x), many.backward(x))


def test_a_convolution_may_do_without_dx(rng):
    x, W = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2))  # noqa: N806
    both = [dlfs.Convolution(W, np.zeros(4)) for _ in range(2)]
    both[1].needs_dx = False
    dout = rng.standard_normal(both[0].forward(x).shape)
    both[1].forward(x)
    assert both[0].backward(dout).shape == x.shape
    assert both[1].backward(dout) is None
    np.testing.assert_array_equal(both[0].dW, both[1].dW)
    np.testing.assert_array_equal(both[0].db, both[1].db)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam(dtype, rng):
    """As the book's, in place, for strided parameters as well; several sizes."""
    base = rng.standard_normal((6, 70)).astype(dtype)
    params = [{"W": base.copy(), "b": base.copy()[:, ::2], "s": base.copy()[0, :3]} for _ in range(2)]
    kept = dict(params[0])
    ours, theirs = dlfs.Adam(0.01, 0.8, 0.9), plain.Adam(0.01, 0.8, 0.9)
    for _ in range(4):
        grads = {name: rng.standard_normal(value.shape).astype(dtype) for name, value in params[0].items()}
        ours.update(params[0], grads)
        theirs.update(params[1], grads)
    for name, expected in params[1].items():
        assert params[0][name] is kept[name]
        np.testing.assert_allclose(
            params[0][name], expected, rtol=16 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps
        )
    assert ours.iter == 4
    assert ours.m["W"].dtype == dtype
    base.setflags(write=False)
    with pytest.raises(ValueError, match=r"^W: got a read-only array, needs a writable one"):
        dlfs.Adam().update({"W": base}, {"W": base})
    with pytest.raises(ValueError, match=r"^the gradient of W: got shape \(2,\), needs shape \(6, 70\)"):
        dlfs.Adam().update({"W": base.copy()}, {"W": base[0, :2]})


def test_plain_affine_and_softmax_are_the_drop_ins(rng):
    x, W, b = rng.standard_normal((5, 2, 3, 2)), rng.standard_normal((12, 4)), rng.standard_normal(4)  # noqa: N806
    t = rng.integers(0, 4, 5)
    results = []
    for layers in (dlfs, plain):
        affine, last = layers.Affine(W, b), layers.SoftmaxWithLoss()
        loss = last.forward(affine.forward(x), t)
        results.append((loss, affine.backward(last.backward()), affine.dW, affine.db))
    for result, expected in zip(*results, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)
