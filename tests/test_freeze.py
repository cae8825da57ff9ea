"""Frozen networks against the network they were made from, a reference, and PyTorch."""

import numpy as np
import pytest
import reference
import reference_layers
from cases import error_bound
from networks import IMAGE, settled, small_network

from fastconv import models, nn


def random_chain(rng, channels, layout, dtype, depth):
    """Convolutions, batch norms, activations and residuals in any order, which keep the size of an image."""

    def conv(kernel=3, to=None):
        groups = int(rng.choice([1, 1, 2, channels]))
        return nn.Conv2d(
            channels, to or channels, kernel, padding="same", groups=groups, bias=bool(rng.integers(2)),
            padding_mode=str(rng.choice(["zeros", "zeros", "reflect"])), layout=layout, dtype=dtype, rng=rng,
        )  # fmt: skip

    def residual():
        body = random_chain(rng, channels, layout, dtype, depth - 1)
        return nn.Residual(body, conv(1) if rng.integers(2) else None)

    kinds = [
        conv,
        lambda: conv(1),
        lambda: conv(5),
        lambda: nn.BatchNorm2d(channels, layout=layout, dtype=dtype),
        lambda: nn.BatchNorm2d(channels, layout=layout, dtype=dtype),
        nn.ReLU,
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.Dropout,
        lambda: nn.MaxPool2d(3, 1, padding=1, layout=layout),
    ]
    if depth:
        kinds += [residual, residual, lambda: random_chain(rng, channels, layout, dtype, depth - 1)]
    count = int(rng.integers(1, 6))
    return nn.Sequential(*(kinds[int(i)]() for i in rng.integers(len(kinds), size=count)))


def tolerance(network, dtype):
    """The bounds of all convolutions, as if no error was ever diminished."""
    lengths = [np.prod(layer.weight.shape[1:]) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return sum(error_bound(dtype, length, "auto") for length in lengths) + 64 * np.finfo(dtype).eps


def largest_activation(network, x):
    """What errors are relative to: the largest number anywhere in the network."""
    seen = [np.abs(x).max()]
    for layer in network.modules():
        if not any(layer.named_children()):
            forward = layer.forward
            vars(layer)["forward"] = lambda x, f=forward: seen.append(np.abs(y := f(x)).max()) or y
    network(x)
    for layer in network.modules():
        vars(layer).pop("forward", None)
    return max(seen)


def make_network(seed, dtype, layout):
    rng = np.random.default_rng(seed)
    return settled(random_chain(rng, 4, layout, dtype, depth=2), rng).eval(), rng


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("seed", range(20))
def test_random_networks(seed, dtype, layout):
    network, rng = make_network(seed, dtype, layout)
    frozen = nn.freeze(network)
    exact = network.astype(np.float64)
    for batch, height, width in [(2, 6, 7), (1, 13, 5), (3, 6, 7)]:
        shape = (batch, 4, height, width) if layout == "NCHW" else (batch, height, width, 4)
        x = rng.standard_normal(shape).astype(dtype)
        before = x.copy()
        output, wanted = frozen(x), exact(x.astype(np.float64))
        assert output.dtype == dtype
        scale = largest_activation(exact, x.astype(np.float64))
        assert np.abs(output - wanted).max() <= tolerance(network, dtype) * scale
        assert np.abs(output - network(x)).max() <= 2 * tolerance(network, dtype) * scale
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("seed", range(10))
def test_against_torch(seed):
    torch = pytest.importorskip("torch")

    def translated(module):
        if isinstance(module, nn.Sequential):
            return torch.nn.Sequential(*map(translated, module))
        if isinstance(module, nn.Residual):
            return TorchResidual(module)
        if isinstance(module, nn.Conv2d):
            return torch.nn.Conv2d(
                module.in_channels, module.out_channels, module.kernel_size, padding="same",
                groups=module.groups, bias=module.bias is not None, padding_mode=module.padding_mode,
            )  # fmt: skip
        if isinstance(module, nn.BatchNorm2d):
            return torch.nn.BatchNorm2d(module.num_features)
        if isinstance(module, nn.MaxPool2d):
            return torch.nn.MaxPool2d(3, 1, padding=1)
        return getattr(torch.nn, type(module).__name__)()

    class TorchResidual(torch.nn.Module):
        def __init__(self, residual):
            super().__init__()
            self.body = translated(residual.body)
            self.shortcut = None if residual.shortcut is None else translated(residual.shortcut)

        def forward(self, x):
            return self.body(x) + (x if self.shortcut is None else self.shortcut(x))

    network, rng = make_network(seed, np.float64, "NCHW")
    theirs = translated(network).double().eval()
    theirs.load_state_dict({name: torch.tensor(array) for name, array in network.state_dict().items()})
    x = rng.standard_normal((2, 4, 6, 7))
    wanted = theirs(torch.tensor(x)).detach().numpy()
    assert (
        np.abs(nn.freeze(network)(x) - wanted).max() <= tolerance(network, np.float64) * np.abs(wanted).max()
    )


@pytest.mark.parametrize("bias", [False, True])
def test_a_fused_layer_keeps_the_bound_of_a_convolution(bias, dtype, rng):
    conv = nn.Conv2d(24, 37, 3, padding=1, bias=bias, dtype=dtype, rng=rng)
    norm = nn.BatchNorm2d(37, dtype=dtype)
    network = settled(nn.Sequential(conv, norm, nn.ReLU()), rng)
    frozen = nn.freeze(network)
    x = rng.standard_normal((3, 24, 14, 15)).astype(dtype)
    convolved = reference.conv2d(x, conv.weight.data, conv.bias.data if bias else None, padding=1)
    statistics = [a.astype(np.float64) for a in (norm.running_mean, norm.running_var)]
    wanted = reference_layers.batch_norm(convolved, *statistics, norm.weight.data, norm.bias.data, norm.eps)
    assert len(list(frozen.named_children())) == 1
    error = np.abs(frozen(x) - np.maximum(wanted, 0)).max()
    assert error <= error_bound(dtype, 24 * 9, "auto") * np.abs(wanted).max()


def test_what_is_fused():
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1),
        nn.ReLU(),
        nn.Residual(nn.Conv2d(4, 4, 1), nn.Sequential(nn.Dropout(), nn.Conv2d(4, 4, 1))),
        nn.ReLU(),
        nn.Conv2d(4, 5, 1),
        nn.BatchNorm2d(5, track_running_stats=False),
        nn.Flatten(),
        nn.Linear(5, 3),
        nn.ReLU6(),
    )
    frozen = nn.freeze(network)
    names = {name: layer._get_name() for name, layer in frozen.named_modules() if name}
    assert names == {
        "0.0": "Conv2d+BatchNorm2d+ReLU",
        "2": "BatchNorm2d",
        "3": "Conv2d+ReLU",
        "5": "Residual+ReLU",
        "5.body": "Conv2d",
        "5.shortcut.1": "Conv2d",
        "7": "Conv2d",
        "8": "BatchNorm2d",
        "9": "Flatten",
        "10": "Linear+ReLU6",
    }
    left_out = ("0.1.", "0.1.num")
    wanted = [name for name in network.state_dict() if not name.startswith(left_out)]
    assert list(frozen.state_dict()) == wanted


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.BatchNorm2d(4, layout="NHWC"),
        nn.BatchNorm2d(4, eps=0.0),
    ],
    ids=["by-batch", "other-layout", "infinite"],
)
def test_a_norm_that_cannot_be_folded_stays(norm, rng):
    if norm.eps == 0:
        norm.running_var[1] = 0
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, rng=rng), norm).eval()
    x = rng.standard_normal((2, 3, 6, 4)).astype(np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(nn.freeze(network)(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("parameters", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("norm", [np.float16, np.float32, np.float64])
def test_dtypes_promote_as_in_the_network(dtype, parameters, norm, rng):
    network = settled(
        nn.Sequential(nn.Conv2d(3, 4, 3, dtype=parameters, rng=rng), nn.BatchNorm2d(4, dtype=norm)), rng
    ).eval()
    x = rng.standard_normal((2, 3, 6, 5)).astype(dtype)
    output, wanted = nn.freeze(network)(x), network.astype(np.float64)(x.astype(np.float64))
    assert output.dtype == network(x).dtype
    folded = np.float64 if np.float64 in (parameters, norm) else np.float32
    bound = error_bound(folded, 27, "auto") + np.finfo(output.dtype).eps
    assert np.abs(output - wanted).max() <= bound * np.abs(wanted).max()


def test_integers_and_nested_lists(rng):
    network = nn.Sequential(nn.Conv2d(1, 2, 2, rng=rng), nn.ReLU()).eval()
    image = rng.integers(0, 9, (1, 1, 4, 4))
    np.testing.assert_allclose(nn.freeze(network)(image.tolist()), network(image), rtol=1e-6)
    assert nn.freeze(network)(image.astype(np.uint8)).dtype == np.float32
    assert nn.freeze(network)(image).dtype == np.float64


def test_memory_orders(memory_order, rng):
    network = settled(nn.Sequential(nn.Conv2d(3, 4, 3, rng=rng), nn.BatchNorm2d(4)), rng)
    frozen = nn.freeze(network)
    x = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    ordered = memory_order(x)
    np.testing.assert_array_equal(frozen(ordered), frozen(np.ascontiguousarray(ordered)))


def test_unbatched_and_empty_images(rng):
    frozen = nn.freeze(nn.Conv2d(3, 4, 3, rng=rng))
    x = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    np.testing.assert_allclose(frozen(x[0]), frozen(x)[0], rtol=1e-5, atol=1e-6)
    assert frozen(x[:0]).shape == (0, 4, 4, 3)


def test_nan_passes_a_fused_relu(rng):
    frozen = nn.freeze(nn.Sequential(nn.Conv2d(2, 3, 1, rng=rng), nn.ReLU()))
    x = rng.standard_normal((1, 2, 4, 4))
    x[0, 1, 2, 3] = np.nan
    assert np.argwhere(np.isnan(frozen(x)[0])).tolist() == [[k, 2, 3] for k in range(3)]


class Doubled(nn.Module):
    """A module of a user's own, with children, a parameter, a buffer, and a look at `training`."""

    _buffers = ("offset",)

    def __init__(self, rng):
        self.conv = nn.Conv2d(3, 3, 1, rng=rng)
        self.dropout = nn.Dropout(rng=rng)
        self.factor = nn.Parameter(np.float32(2))
        self.offset = np.ones(1, np.float32)

    def forward(self, x):
        return self.dropout(self.conv(x)) * self.factor.data + self.offset


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: nn.Sequential(module, nn.ReLU())])
def test_modules_of_ones_own(wrap, rng):
    network = wrap(Doubled(rng))
    frozen = nn.freeze(network)
    wanted = network.eval()(IMAGE)
    np.testing.assert_array_equal(frozen(IMAGE), wanted)
    assert list(frozen.state_dict()) == list(network.state_dict())
    for parameter in network.parameters():
        parameter.data = np.zeros(parameter.shape)
    np.testing.assert_array_equal(frozen(IMAGE), wanted)
    assert not any(array.flags.writeable for array in frozen._state().values())


NETWORKS = {
    "LeNet": (models.LeNet, (2, 1, 28, 28)),
    "VGG": (lambda: models.VGG(11, True, num_classes=5, hidden_features=4), (1, 3, 32, 32)),
    "ResNet18": (lambda: models.ResNet(18, num_classes=5), (1, 3, 32, 32)),
    "ResNet50": (lambda: models.ResNet(50, num_classes=5), (1, 3, 32, 32)),
    "MobileNetV2": (lambda: models.MobileNetV2(num_classes=5), (1, 3, 32, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_models(name, rng):
    build, shape = NETWORKS[name]
    network = settled(build(), rng).eval()
    frozen = nn.freeze(network)
    x = rng.standard_normal(shape).astype(np.float32)
    exact = network.astype(np.float64)
    scale = largest_activation(exact, x.astype(np.float64))
    assert np.abs(frozen(x) - exact(x.astype(np.float64))).max() <= tolerance(network, np.float32) * scale
    kinds = [layer._get_name() for layer in frozen.modules()]
    assert not any(kind in ("BatchNorm2d", "ReLU", "ReLU6", "Dropout") for kind in kinds)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert not any(key.endswith(statistics) for key in frozen.state_dict())
    assert {key for key in frozen.state_dict() if key.endswith("weight")} == {
        key for key, value in network.state_dict().items() if key.endswith("weight") and value.ndim > 1
    }


def test_networks_of_nothing(rng):
    x = rng.standard_normal((2, 3))
    for network in (nn.Sequential(), nn.Sequential(nn.Dropout()), nn.Residual(nn.Sequential()), nn.Dropout()):
        np.testing.assert_array_equal(nn.freeze(network)(x), network.eval()(x))


class View(nn.Module):
    """A module of a user's own, which hands on what it got."""

    def forward(self, x):
        return x


class InPlace(nn.Module):
    """A module of a user's own, which overwrites what it got."""

    def forward(self, x):
        x *= 2
        return x


CHAINS = {
    "first": (lambda half: [nn.Dropout(), nn.Flatten()], 1),
    "last": (lambda half: [nn.Flatten(), nn.Dropout()], 1),
    "alone": (lambda half: [nn.Dropout(), nn.Dropout()], 1),
    "before a user's": (lambda half: [nn.Dropout(), InPlace(), nn.ReLU()], 1),
    "after a user's": (lambda half: [View(), nn.Dropout()], 1),
    "before a residual": (lambda half: [nn.Dropout(), nn.Residual(InPlace())], 1),
    "in a residual": (lambda half: [nn.Residual(nn.Sequential(nn.Dropout(), InPlace()))], 1),
    "before weights": (lambda half: [nn.Dropout(), nn.Linear(3, 2, dtype=half)], 1),
    "before others": (lambda half: [nn.Flatten(), nn.Dropout(), nn.Linear(3, 2)], 0),
    "before an activation": (lambda half: [nn.Dropout(), nn.Tanh()], 0),
    "between": (lambda half: [nn.Linear(3, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2), nn.Dropout()], 0),
    "after a view": (lambda half: [nn.Residual(View()), nn.Flatten(), nn.Dropout(), View()], 0),
    "after a frozen one": (lambda half: [nn.freeze(nn.Linear(3, 3)), nn.Dropout(), InPlace()], 0),
}


@pytest.mark.parametrize("kind", ["?", "u1", "i4", "f2", ">f2", "f4", "f8"])
@pytest.mark.parametrize("name", CHAINS)
def test_dropout_goes_where_it_only_copies(name, kind):
    """The dtype is that of the network, and the caller's array is neither returned nor overwritten."""
    build, kept = CHAINS[name]
    network = nn.Sequential(*build(np.float16)).eval()
    frozen = nn.freeze(network)
    assert [layer._get_name() for layer in frozen.modules()].count("Dropout") == kept
    x = np.array([[0, 1, 1], [1, 0, 1]], kind)
    before = x.copy()
    output, wanted = frozen(x), network(x)
    assert output.dtype == wanted.dtype
    np.testing.assert_allclose(output, wanted, rtol=1e-6)
    assert not np.shares_memory(output, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    "layer",
    [
        *(nn.Conv2d(3, 3, 1), nn.ConvTranspose2d(3, 3, 1), nn.Linear(1, 2), nn.BatchNorm2d(3)),
        *(nn.LocalResponseNorm(1), nn.LeakyReLU(1.0), nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.Softmax(1)),
        *(nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(None), nn.AvgPool2d(1), nn.MaxPool2d(1)),
        *(nn.Conv1d(3, 3, 1), nn.Residual(nn.Sequential())),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_which_layers_make_a_new_array(layer, dtype):
    """After these `freeze` leaves Dropout out."""
    assert len(nn.freeze(nn.Sequential(layer, nn.Dropout()))._chain.layers) == 1
    shape = (1, 3, 1) if isinstance(layer, nn.Conv1d) else (1, 3, 1, 1)
    for x in (np.ones(shape, dtype), np.ones(shape, np.uint8)):
        output = layer.eval()(x)
        assert output.dtype.kind == "f"
        assert not np.shares_memory(output, x)


def test_summary(rng, capsys):
    frozen = nn.freeze(small_network(rng))
    frozen.summary((3, 6, 6))
    printed = capsys.readouterr().out
    for text in ("0 Conv2d+BatchNorm2d", "2.body Conv2d", "3 BatchNorm2d", "5 Linear", "(1, 4, 4, 4)"):
        assert text in printed
    total = sum(parameter.size for parameter in frozen.parameters())
    assert f"{total:,}" in printed.splitlines()[-1]
    np.testing.assert_array_equal(frozen(IMAGE), frozen(IMAGE))
