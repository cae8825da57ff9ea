"""The layers that have no images: each against its function, numerical gradients and PyTorch."""

import numpy as np
import pytest
import reference_layers as reference

import fastconv as fc
from fastconv import nn

LAYERS = {
    "ReLU": (nn.ReLU, {}, (3, 4)),
    "ReLU6": (nn.ReLU6, {}, (3, 4)),
    "LeakyReLU": (nn.LeakyReLU, {"negative_slope": 0.2}, (3, 4)),
    "Sigmoid": (nn.Sigmoid, {}, (3, 4)),
    "Tanh": (nn.Tanh, {}, (3, 4)),
    "Softmax": (nn.Softmax, {"dim": 1}, (3, 4, 2)),
    "Flatten": (nn.Flatten, {}, (3, 4, 2)),
    "Flatten-middle": (nn.Flatten, {"start_dim": 1, "end_dim": 2}, (3, 4, 2, 5)),
    "Linear": (nn.Linear, {"in_features": 4, "out_features": 5}, (3, 4)),
    "Linear-no-bias": (nn.Linear, {"in_features": 4, "out_features": 5, "bias": False}, (2, 3, 4)),
    "BatchNorm2d": (nn.BatchNorm2d, {"num_features": 3}, (4, 3, 2, 2)),
    "BatchNorm2d-average": (nn.BatchNorm2d, {"num_features": 3, "momentum": None, "eps": 1e-3}, (4, 3, 2, 2)),
    "BatchNorm2d-bare": (nn.BatchNorm2d, {"num_features": 3, "affine": False}, (4, 3, 2, 2)),
    "BatchNorm2d-batch": (nn.BatchNorm2d, {"num_features": 3, "track_running_stats": False}, (4, 3, 2, 2)),
    "LocalResponseNorm": (nn.LocalResponseNorm, {"size": 3, "alpha": 0.5}, (2, 5, 2, 3)),
}
WITH_DTYPE = ("Linear", "BatchNorm2d")
WITH_RNG = ("Linear",)


def build(name, dtype=np.float64, rng=None):
    """The layer, with random values in all its parameters, and the shape of an input."""
    layer_type, arguments, shape = LAYERS[name]
    arguments = dict(arguments)
    if layer_type.__name__ in WITH_DTYPE:
        arguments["dtype"] = dtype
    layer = layer_type(**arguments)
    if rng is not None:
        for parameter in layer.parameters():
            parameter.data = rng.standard_normal(parameter.shape)
    return layer, shape


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_the_numerical_ones(name, training, rng):
    layer, shape = build(name, rng=rng)
    layer.train(training)
    x = rng.standard_normal(shape)
    output = layer(x)
    grad_output = rng.standard_normal(output.shape)
    for parameter in layer.parameters():
        parameter.grad = np.full(parameter.shape, 2.0)

    gradient = layer.backward(grad_output)
    np.testing.assert_allclose(
        gradient,
        reference.numerical_gradient(lambda x: float((layer(x) * grad_output).sum()), x),
        rtol=1e-6,
        atol=1e-8,
    )
    for parameter in layer.parameters():
        value = parameter.data.copy()

        def loss(data, parameter=parameter):
            parameter.data = data
            return float((layer(x) * grad_output).sum())

        expected = reference.numerical_gradient(loss, value) + 2
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-6, atol=1e-8)
        parameter.data = value


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_agrees_with_pytorch(name, training, rng):
    torch = pytest.importorskip("torch")
    layer, shape = build(name, rng=rng)
    layer_type, arguments, _ = LAYERS[name]
    theirs = getattr(torch.nn, layer_type.__name__)(**arguments).double().train(training)
    state = layer.state_dict()
    assert list(state) == list(theirs.state_dict())
    theirs.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    layer.train(training)
    for _ in range(3):
        x = rng.standard_normal(shape)
        x_torch = torch.tensor(x, requires_grad=True)
        expected = theirs(x_torch)
        output = layer(x)
        np.testing.assert_allclose(output, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
        grad_output = rng.standard_normal(output.shape)
        expected.backward(torch.tensor(grad_output))
        np.testing.assert_allclose(layer.backward(grad_output), x_torch.grad.numpy(), rtol=1e-10, atol=1e-12)
    for key, array in layer.state_dict().items():
        np.testing.assert_allclose(array, theirs.state_dict()[key].numpy(), rtol=1e-12, atol=1e-13)
    for (key, parameter), (_, other) in zip(layer.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad, other.grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", LAYERS)
def test_single_precision_stays(name, rng):
    layer, shape = build(name, np.float32, rng)
    output = layer(rng.standard_normal(shape).astype(np.float32))
    assert output.dtype == np.float32
    assert layer.backward(output).dtype == np.float32
    assert all(parameter.dtype == parameter.grad.dtype == np.float32 for parameter in layer.parameters())


def test_half_precision_images_through_single_precision_layers(rng):
    layer, shape = build("Linear", np.float32, rng)
    assert layer(np.ones(shape, np.float16)).dtype == np.float32
    half, _ = build("Linear", np.float16, rng)
    assert half(np.ones(shape, np.float16)).dtype == np.float16
    half.backward(np.ones((3, 5), np.float16))
    assert half.weight.grad.dtype == np.float16


# ---- dropout ----


def test_dropout(rng):
    layer = nn.Dropout(0.25, rng=np.random.default_rng(3))
    x = rng.standard_normal((40, 50))
    expected, mask = fc.dropout(x, 0.25, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(layer.backward(x), fc.dropout_backward(x, mask, 0.25))
    layer.eval()
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)


# ---- batch normalization ----


def test_batch_norm_tracks_nothing_in_eval_and_keeps_its_backward(rng):
    layer = nn.BatchNorm2d(3, dtype=np.float64)
    x = rng.standard_normal((4, 3, 2, 2))
    layer(x)
    state = layer.state_dict()
    layer.eval()
    layer(x)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    expected = layer.backward(x)
    layer(x)
    layer.running_var[...] = 9
    layer.running_mean[...] = 9
    np.testing.assert_array_equal(layer.backward(x), expected)


def test_batch_norm_in_nhwc(rng):
    x, grad_output = rng.standard_normal((2, 4, 3, 2, 5))
    last, first = nn.BatchNorm2d(3, layout="NHWC", dtype=np.float64), nn.BatchNorm2d(3, dtype=np.float64)
    np.testing.assert_allclose(last(np.moveaxis(x, 1, 3)), np.moveaxis(first(x), 1, 3), rtol=1e-12)
    np.testing.assert_allclose(
        last.backward(np.moveaxis(grad_output, 1, 3)),
        np.moveaxis(first.backward(grad_output), 1, 3),
        rtol=1e-9,
    )
    np.testing.assert_allclose(last.running_var, first.running_var)


def test_a_failed_batch_changes_no_statistics():
    layer = nn.BatchNorm2d(3)
    for shape in ((2, 4, 2, 2), (1, 3, 1, 1), (3, 2), (2, 3, 2)):
        with pytest.raises(ValueError, match=r"^x: got shape "):
            layer(np.ones(shape, np.float32))
    assert layer.num_batches_tracked == 0
    np.testing.assert_array_equal(layer.running_mean, 0)


# ---- losses ----


def test_losses(rng):
    prediction = rng.standard_normal((4, 3)).astype(np.float32)
    classes = np.array([0, 2, 1, 1])
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    value, gradient = fc.cross_entropy(prediction, classes, label_smoothing=0.1)
    assert loss(prediction, classes) == value
    np.testing.assert_array_equal(loss.backward(), gradient)
    weighted = nn.CrossEntropyLoss([1.0, 2.0, 3.0], reduction="sum")
    value, gradient = fc.cross_entropy(prediction, classes, [1.0, 2.0, 3.0], reduction="sum")
    assert weighted(prediction, classes) == value
    assert weighted.backward().dtype == np.float32
    np.testing.assert_allclose(weighted.backward(), gradient, rtol=1e-6)
    squares = nn.MSELoss()
    value, gradient = fc.mse_loss(prediction, np.ones((4, 3)))
    assert squares(prediction, np.ones((4, 3))) == value
    assert squares.backward().dtype == np.float32
    np.testing.assert_allclose(squares.backward(), gradient, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^target: got class 3"):
        loss(prediction, [3, 0, 0, 0])
    with pytest.raises(RuntimeError, match=r"got no forward before it"):
        loss.backward()


@pytest.mark.parametrize("shape", [(2, 3, 4), (12, 2), (24,), (2, 13)], ids=str)
def test_flatten_takes_the_gradient_of_its_output_alone(shape):
    layer = nn.Flatten()
    assert layer(np.zeros((2, 3, 4))).shape == (2, 12)
    with pytest.raises(
        ValueError, match=r"^grad_output: got shape .*, needs shape \(2, 12\), that of the output"
    ):
        layer.backward(np.zeros(shape))
    np.testing.assert_array_equal(layer.backward(np.arange(24).reshape(2, 12)).ravel(), np.arange(24))


# ---- constructors ----


@pytest.mark.parametrize(
    ("build_layer", "kind", "message"),
    [
        (lambda: nn.Linear(0, 2), ValueError, r"^in_features: got 0, needs an integer of at least 1"),
        (lambda: nn.Linear(2, True), TypeError, r"^out_features: got True, needs an integer"),
        (lambda: nn.Linear(2, 2, bias=1), TypeError, r"^bias: got 1, needs True or False"),
        (lambda: nn.Linear(2, 2, dtype=int), TypeError, r"^dtype: got .*int.*, needs float16"),
        (lambda: nn.Linear(2, 2, rng=1), TypeError, r"^rng: got int, needs a numpy\.random\.Generator"),
        (lambda: nn.Flatten(1.0), TypeError, r"^start_dim: got 1.0, needs an integer"),
        (lambda: nn.Flatten(3)(np.zeros((2, 2))), ValueError, r"^x: got shape \(2, 2\), needs the axes"),
        (lambda: nn.Flatten(1, 0)(np.zeros((2, 2))), ValueError, r"^x: got shape \(2, 2\), needs axis 1 not"),
        (lambda: nn.Dropout(2), ValueError, r"^p: got 2, needs a finite number of at least 0 and at most 1"),
        (lambda: nn.ReLU(inplace=None), TypeError, r"^inplace: got None, needs True or False"),
        (lambda: nn.Softmax(None), TypeError, r"^dim: got None, needs an integer"),
        (lambda: nn.LeakyReLU("a"), TypeError, r"^negative_slope: got 'a'"),
        (lambda: nn.BatchNorm2d(-1), ValueError, r"^num_features: got -1, needs an integer of at least 1"),
        (lambda: nn.BatchNorm2d(3, momentum=2), ValueError, r"^momentum: got 2, needs"),
        (lambda: nn.BatchNorm2d(3, layout="CHW"), ValueError, r"^layout: got 'CHW', needs 'NCHW' or 'NHWC'"),
        (lambda: nn.LocalResponseNorm(0), ValueError, r"^size: got 0"),
        (lambda: nn.CrossEntropyLoss(reduction="none"), ValueError, r"^reduction: got 'none'"),
        (lambda: nn.CrossEntropyLoss(["a"]), TypeError, r"^weight: got dtype <U1"),
        (lambda: nn.MSELoss("none"), ValueError, r"^reduction: got 'none'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(build_layer, kind, message):
    with pytest.raises(kind, match=message):
        build_layer()


@pytest.mark.parametrize(
    "build_layer",
    [
        lambda: nn.Linear(2**63, 2),
        lambda: nn.Linear(2**32, 2**32),
        lambda: nn.BatchNorm2d(2**63),
        lambda: nn.BatchNorm2d(2**60, affine=False),
        lambda: nn.Conv1d(1, 2**63, 3),
        lambda: nn.Conv2d(1, 1, 2**31 - 1),
        lambda: nn.ConvTranspose2d(2**63, 1, 1),
    ],
)
def test_layers_for_which_there_is_no_memory(build_layer):
    with pytest.raises(MemoryError, match=r"^(weight|num_features): an array of shape \(.*\) does not fit"):
        build_layer()
