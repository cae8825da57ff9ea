"""Networks by name: shapes, and PyTorch's network beside each."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, optim
from fastconv.models import LeNet

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


def lenet_of_pytorch(torch, classes):
    t = torch.nn
    model = t.Sequential()
    model.add_module(
        "features",
        t.Sequential(
            t.Conv2d(1, 6, 5, padding=2),
            t.ReLU(),
            t.MaxPool2d(2),
            t.Conv2d(6, 16, 5),
            t.ReLU(),
            t.MaxPool2d(2),
        ),
    )
    model.add_module("flatten", t.Flatten())
    model.add_module(
        "classifier",
        t.Sequential(t.Linear(400, 120), t.ReLU(), t.Linear(120, 84), t.ReLU(), t.Linear(84, classes)),
    )
    return model.double()


@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (1, 28, 28)])
def test_the_summary_of_lenet(shape, capsys):
    fc.models.LeNet().summary(shape)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(LENET_ROWS) + 3
    rows = [line for line in lines[1:] if not line.startswith("-")]
    for line, (name, output_shape, parameters, multiply_adds) in zip(rows, LENET_ROWS, strict=True):
        wanted = f"{name} {output_shape} {parameters:,} {multiply_adds:,}"
        assert line.split() == wanted.split()


def test_lenet_trains_as_in_pytorch(rng):
    torch = pytest.importorskip("torch")
    model = LeNet(num_classes=7, dtype=np.float64, rng=rng)
    theirs = lenet_of_pytorch(torch, 7)
    assert list(model.state_dict()) == list(theirs.state_dict())
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
    model, loss = LeNet(rng=rng), nn.CrossEntropyLoss()
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


def test_the_seed_decides():
    first, second, third = (LeNet(rng=np.random.default_rng(seed)).state_dict() for seed in (1, 1, 2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        assert (array != third[name]).any()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"^num_classes: got 0, needs an integer of at least 1"):
        LeNet(0)
    with pytest.raises(TypeError, match=r"^rng: got int, needs a numpy"):
        LeNet(rng=1)
    with pytest.raises(TypeError, match=r"^dtype: got 'i4', needs float16"):
        LeNet(dtype="i4")
    with pytest.raises(ValueError, match=r"^x: got shape"):
        LeNet()(np.zeros((1, 1, 32, 32), np.float32))
