"""Networks by name: shapes and sizes, numerical gradients, and PyTorch's network beside each."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import models, nn, optim

VGG_PLANS = {
    11: "6P7P88P99P99P",
    13: "66P77P88P99P99P",
    16: "66P77P888P999P999P",
    19: "66P77P8888P9999P9999P",
}


def torch_network(name, *arguments, **keywords):
    from torch_networks import alexnet, lenet, mobilenet_v2, resnet, vgg

    if name == "VGG":
        depth, batch_norm = arguments
        return vgg(VGG_PLANS[depth], batch_norm, **keywords)
    if name == "ResNet":
        (depth,) = arguments
        return resnet([2, 2, 2, 2] if depth == 18 else [3, 4, 6, 3], depth == 50, **keywords)
    return {"LeNet": lenet, "AlexNet": alexnet, "MobileNetV2": mobilenet_v2}[name](**keywords)


def network_id(network):
    return "-".join(map(str, network))


# The numbers of parameters are those of torchvision's documentation, but for LeNet and AlexNet: sums by hand.
SIZES = {
    ("LeNet",): 61_706,
    ("AlexNet",): 62_378_344,
    ("VGG", 11, False): 132_863_336,
    ("VGG", 11, True): 132_868_840,
    ("VGG", 13, False): 133_047_848,
    ("VGG", 13, True): 133_053_736,
    ("VGG", 16, False): 138_357_544,
    ("VGG", 16, True): 138_365_992,
    ("VGG", 19, False): 143_667_240,
    ("VGG", 19, True): 143_678_248,
    ("ResNet", 18): 11_689_512,
    ("ResNet", 34): 21_797_672,
    ("ResNet", 50): 25_557_032,
    ("MobileNetV2",): 3_504_872,
}

# Some of torchvision's names, by which its files are known.
LANDMARKS = {
    ("VGG", 16, False): {"features.28.weight": (512, 512, 3, 3), "classifier.6.weight": (1000, 4096)},
    ("VGG", 16, True): {"features.40.bias": (512,), "features.41.running_mean": (512,)},
    ("ResNet", 18): {"layer2.0.downsample.0.weight": (128, 64, 1, 1), "layer4.1.bn2.num_batches_tracked": ()},
    ("ResNet", 50): {"layer3.5.conv3.weight": (1024, 256, 1, 1), "layer1.0.downsample.1.bias": (256,)},
    ("MobileNetV2",): {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.17.conv.0.0.weight": (960, 160, 1, 1),
        "features.18.1.running_var": (1280,),
        "classifier.1.weight": (1000, 1280),
    },
}

BUILDERS = {
    "LeNet": models.LeNet,
    "AlexNet": lambda *args, **kwargs: models.AlexNet(*args, hidden_features=4, **kwargs),
    "VGG": lambda *args, **kwargs: models.VGG(11, True, *args, hidden_features=4, **kwargs),
    "ResNet": lambda *args, **kwargs: models.ResNet(18, *args, **kwargs),
    "MobileNetV2": models.MobileNetV2,
}

LENET_ROWS = [
    ("features.0 Conv2d", (1, 6, 28, 28), 156, 117_600),
    ("features.1 ReLU", (1, 6, 28, 28), 0, 0),
    ("features.2 MaxPool2d", (1, 6, 14, 14), 0, 0),
    ("features.3 Conv2d", (1, 16, 10, 10), 2_416, 240_000),
    ("features.4 ReLU", (1, 16, 10, 10), 0, 0),
    ("features.5 MaxPool2d", (1, 16, 5, 5), 0, 0),
    ("flatten Flatten", (1, 400), 0, 0),
    ("classifier.0 Linear", (1, 120), 48_120, 48_000),
    ("classifier.1 ReLU", (1, 120), 0, 0),
    ("classifier.2 Linear", (1, 84), 10_164, 10_080),
    ("classifier.3 ReLU", (1, 84), 0, 0),
    ("classifier.4 Linear", (1, 10), 850, 840),
    ("Total", "", 61_706, 416_520),
]
# The lecture's table: 224x224x3, 55x55x96, 27x27, 256, 13x13, 384, 384, 256, 6x6x256, 4096, 4096, 1000.
ALEXNET_ROWS = [
    ("features.0 Conv2d", (1, 96, 55, 55), 34_944, 105_415_200),
    ("features.1 ReLU", (1, 96, 55, 55), 0, 0),
    ("features.2 MaxPool2d", (1, 96, 27, 27), 0, 0),
    ("features.3 LocalResponseNorm", (1, 96, 27, 27), 0, 0),
    ("features.4 Conv2d", (1, 256, 27, 27), 614_656, 447_897_600),
    ("features.5 ReLU", (1, 256, 27, 27), 0, 0),
    ("features.6 MaxPool2d", (1, 256, 13, 13), 0, 0),
    ("features.7 LocalResponseNorm", (1, 256, 13, 13), 0, 0),
    ("features.8 Conv2d", (1, 384, 13, 13), 885_120, 149_520_384),
    ("features.9 ReLU", (1, 384, 13, 13), 0, 0),
    ("features.10 Conv2d", (1, 384, 13, 13), 1_327_488, 224_280_576),
    ("features.11 ReLU", (1, 384, 13, 13), 0, 0),
    ("features.12 Conv2d", (1, 256, 13, 13), 884_992, 149_520_384),
    ("features.13 ReLU", (1, 256, 13, 13), 0, 0),
    ("features.14 MaxPool2d", (1, 256, 6, 6), 0, 0),
    ("flatten Flatten", (1, 9216), 0, 0),
    ("classifier.0 Dropout", (1, 9216), 0, 0),
    ("classifier.1 Linear", (1, 4096), 37_752_832, 37_748_736),
    ("classifier.2 ReLU", (1, 4096), 0, 0),
    ("classifier.3 Dropout", (1, 4096), 0, 0),
    ("classifier.4 Linear", (1, 4096), 16_781_312, 16_777_216),
    ("classifier.5 ReLU", (1, 4096), 0, 0),
    ("classifier.6 Linear", (1, 1000), 4_097_000, 4_096_000),
    ("Total", "", 62_378_344, 1_135_256_096),
]


@pytest.fixture
def undrawn(monkeypatch):
    """Networks are built without drawing their first values: hundreds of millions in this file."""
    monkeypatch.setattr(nn.init, "_fill", lambda tensor, draw: None)


@pytest.mark.parametrize(
    ("build", "rows"), [(models.LeNet, LENET_ROWS), (models.AlexNet, ALEXNET_ROWS)], ids=["LeNet", "AlexNet"]
)
def test_the_summary_shows_every_shape(build, rows, undrawn, capsys):
    model = build()
    shape = (1, 28, 28) if build is models.LeNet else (3, 224, 224)
    for input_shape in (shape, (1, *shape)):
        model.summary(input_shape)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(rows) + 3
        printed = [line for line in lines[1:] if not line.startswith("-")]
        for line, (name, output_shape, parameters, multiply_adds) in zip(printed, rows, strict=True):
            wanted = f"{name} {output_shape} {parameters:,} {multiply_adds:,}"
            assert line.split() == wanted.split()


# Billions of multiply-adds for one image of 224x224, as torchvision's documentation gives them.
@pytest.mark.parametrize(
    ("network", "billions"),
    [
        (("VGG", 11, True), "7.61"),
        (("ResNet", 18), "1.81"),
        (("ResNet", 50), "4.09"),
        (("MobileNetV2",), "0.30"),
    ],
    ids=lambda value: network_id(value) if isinstance(value, tuple) else None,
)
def test_the_summary_ends_with_the_published_totals(network, billions, undrawn, capsys):
    name, *arguments = network
    getattr(models, name)(*arguments).summary((3, 224, 224))
    _, parameters, multiply_adds = capsys.readouterr().out.splitlines()[-1].split()
    assert parameters == f"{SIZES[network]:,}"
    assert f"{int(multiply_adds.replace(',', '')) / 1e9:.2f}" == billions


@pytest.mark.parametrize("network", SIZES, ids=network_id)
def test_the_state_is_that_of_torchvision(network, undrawn):
    name, *arguments = network
    model = getattr(models, name)(*arguments, dtype=np.float16)
    assert sum(parameter.size for parameter in model.parameters()) == SIZES[network]
    ours = [(name, array.shape) for name, array in model._state().items()]
    assert LANDMARKS.get(network, {}).items() <= dict(ours).items()
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        theirs = torch_network(*network)
    assert ours == [(name, tuple(tensor.shape)) for name, tensor in theirs.state_dict().items()]


# ---- values and gradients ----

SMALL = {
    ("LeNet",): (2, 1, 28, 28),
    ("AlexNet",): (1, 3, 224, 224),
    ("VGG", 11, False): (1, 3, 32, 32),
    ("VGG", 16, True): (2, 3, 32, 32),
    ("ResNet", 18): (2, 3, 33, 33),
    ("ResNet", 50): (2, 3, 33, 33),
    ("MobileNetV2",): (2, 3, 33, 33),
}


def small(network, rng, **keywords):
    """The network for 7 classes, with few hidden features, random norms and no dropout."""
    name, *arguments = network
    if name in ("AlexNet", "VGG"):
        keywords["hidden_features"] = 16
    model = getattr(models, name)(*arguments, num_classes=7, rng=rng, **keywords)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data = rng.uniform(0.5, 1.5, layer.weight.shape)
            layer.bias.data = rng.normal(0, 0.1, layer.bias.shape)
    return model


@pytest.mark.parametrize("network", SMALL, ids=network_id)
def test_gradients_are_the_numerical_ones(network, rng):
    """Along random directions: of all parameters together, and of the image."""
    model = small(network, rng, dtype=np.float64)
    x = rng.standard_normal(SMALL[network])
    grad_output = rng.standard_normal(model(x).shape)
    gradient = model.backward(grad_output)
    parameters = list(model.parameters())
    gradients = [gradient, *(parameter.grad.copy() for parameter in parameters)]
    points = [x, *(parameter.data.copy() for parameter in parameters)]
    spread = [float(point.std()) or 1.0 for point in points]

    def loss(step, directions):
        for parameter, point, direction in zip(parameters, points[1:], directions[1:], strict=True):
            parameter.data = point + step * direction
        return float((model(x + step * directions[0]) * grad_output).sum())

    step = 1e-8  # no larger: of the many ReLUs and pools some would change sides
    for chosen in (range(1, len(points)), [0]):
        directions = [
            rng.standard_normal(point.shape) * scale if i in chosen else np.zeros_like(point)
            for i, (point, scale) in enumerate(zip(points, spread, strict=True))
        ]
        expected = (loss(step, directions) - loss(-step, directions)) / (2 * step)
        found = sum(float((a * b).sum()) for a, b in zip(gradients, directions, strict=True))
        assert found == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("network", SMALL, ids=network_id)
def test_agrees_with_pytorch(network, training, rng):
    torch = pytest.importorskip("torch")
    model = small(network, rng, dtype=np.float64)
    keywords = {"hidden": 16} if network[0] in ("AlexNet", "VGG") else {}
    theirs = torch_network(*network, classes=7, **keywords).double().train(training)
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    for name, array in model._state().items():
        if "running" in name:  # as after some training, so that evaluation uses it
            array[...] = rng.uniform(0.5, 1.5, array.shape)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    model.train(training)

    x = rng.standard_normal(SMALL[network])
    their_x = torch.tensor(x, requires_grad=True)
    output, expected = model(x), theirs(their_x)
    _assert_near(output, expected)
    grad_output = rng.standard_normal(output.shape)
    gradient = model.backward(grad_output)
    expected.backward(torch.tensor(grad_output))
    _assert_near(gradient, their_x.grad)
    largest = max(float(parameter.grad.abs().max()) for parameter in theirs.parameters())
    for (name, parameter), (_, other) in zip(
        model.named_parameters(), theirs.named_parameters(), strict=True
    ):
        _assert_near(parameter.grad, other.grad, name, largest)
    for name, tensor in theirs.state_dict().items():
        _assert_near(model._state()[name], tensor, name)


def _assert_near(actual, tensor, name="", scale=None):
    """Within 1e-10 of the largest element, or of `scale`."""
    expected = tensor.detach().numpy()
    largest = float(np.abs(expected).max()) if scale is None else scale
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * largest, err_msg=name)


# ---- training ----


def test_lenet_trains_as_in_pytorch(rng):
    torch = pytest.importorskip("torch")
    model = models.LeNet(num_classes=7, dtype=np.float64, rng=rng)
    theirs = torch_network("LeNet", classes=7).double()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    loss, optimizer = nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    their_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        x, target = rng.standard_normal((4, 1, 28, 28)), rng.integers(0, 7, 4)
        optimizer.zero_grad()
        value = loss(model(x), target)
        gradient = model.backward(loss.backward())
        optimizer.step()

        their_optimizer.zero_grad()
        their_x = torch.tensor(x, requires_grad=True)
        their_value = torch.nn.functional.cross_entropy(theirs(their_x), torch.tensor(target))
        their_value.backward()
        their_optimizer.step()
        assert value == pytest.approx(their_value.item(), rel=1e-10)
        np.testing.assert_allclose(gradient, their_x.grad.numpy(), rtol=1e-8, atol=1e-12)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, theirs.state_dict()[name].numpy(), rtol=1e-9, atol=1e-11)


def test_lenet_learns(rng):
    model, loss = models.LeNet(rng=rng), nn.CrossEntropyLoss()
    x = rng.standard_normal((20, 1, 28, 28)).astype(np.float32)
    target = rng.integers(0, 10, 20)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        last = loss(model(x), target)
        gradient = model.backward(loss.backward())
        optimizer.step()
    assert gradient.dtype == np.float32
    assert last < 0.1
    assert (model.eval()(x).argmax(axis=1) == target).all()


@pytest.mark.parametrize("name", ["VGG", "ResNet", "MobileNetV2"])
def test_convolutions_start_by_the_rule_of_he(name):
    model = BUILDERS[name](rng=np.random.default_rng(1))
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        outputs, _, height, width = layer.weight.shape
        spread = float(layer.weight.data.std()) * np.sqrt(outputs * height * width / 2)
        assert spread == pytest.approx(1, abs=4 / np.sqrt(layer.weight.size))
        if layer.bias is not None:
            np.testing.assert_array_equal(layer.bias.data, 0)


# ---- construction ----


@pytest.mark.parametrize("build", BUILDERS.values(), ids=list(BUILDERS))
def test_the_seed_decides(build):
    first, second, third = (dict(build(2, rng=np.random.default_rng(seed))._state()) for seed in (1, 1, 2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        if array.ndim > 1:
            assert (array != third[name]).any()


@pytest.mark.parametrize("build", BUILDERS.values(), ids=list(BUILDERS))
def test_bad_arguments_are_refused(build, undrawn):
    with pytest.raises(ValueError, match=r"^num_classes: got 0, needs an integer of at least 1"):
        build(0)
    with pytest.raises(TypeError, match=r"^rng: got int, needs a numpy"):
        build(rng=1)
    with pytest.raises(TypeError, match=r"^dtype: got 'i4', needs float16"):
        build(dtype="i4")
    with pytest.raises(ValueError, match=r"x has 2"):
        build()(np.zeros((1, 2, 32, 32), np.float32))


def test_there_is_no_such_network():
    with pytest.raises(ValueError, match=r"^depth: got 12, needs 11, 13, 16 or 19"):
        models.VGG(12)
    with pytest.raises(TypeError, match=r"^depth: got '16', needs an integer"):
        models.VGG("16")
    with pytest.raises(TypeError, match=r"^batch_norm: got 1, needs True or False"):
        models.VGG(11, 1)
    with pytest.raises(ValueError, match=r"^depth: got 101, needs 18, 34 or 50"):
        models.ResNet(101)
    for build in (models.AlexNet, models.VGG):
        with pytest.raises(ValueError, match=r"^hidden_features: got 0, needs an integer of at least 1"):
            build(hidden_features=0)
    assert fc.models.__all__ == ["VGG", "AlexNet", "LeNet", "MobileNetV2", "ResNet"]
