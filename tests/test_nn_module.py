"""Parameters, modules, containers and summary."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
from networks import linear_network

from fastconv import nn
from fastconv.nn.module import evaluating

# ---- Parameter ----


def test_a_parameter_copies_what_it_is_given():
    first = np.ones(3)
    parameter = nn.Parameter(first)
    first[0] = 9
    assert parameter.data[0] == 1
    data = parameter.data
    second = np.full(3, 2, np.float32)
    parameter.data = second
    second[0] = 9
    assert parameter.data is data
    np.testing.assert_array_equal(data, 2)
    assert data.dtype == np.float64
    parameter.data -= 1
    np.testing.assert_array_equal(data, 1)
    parameter.data = parameter.data[::-1]


@pytest.mark.parametrize("name", ["data", "grad"])
def test_a_parameter_keeps_its_shape(name):
    parameter = nn.Parameter(np.ones((2, 3), np.float32))
    with pytest.raises(
        ValueError, match=rf"^{name}: got shape \(3,\), needs shape \(2, 3\), that of the param"
    ):
        setattr(parameter, name, np.ones(3))
    with pytest.raises(TypeError, match=rf"^{name}: got dtype complex128"):
        setattr(parameter, name, np.ones((2, 3), complex))
    parameter.zero_grad()
    for _ in range(2):  # before and after there is a gradient
        with pytest.raises(TypeError, match=rf"^{name}: got dtype object"):
            setattr(parameter, name, None)
        np.testing.assert_array_equal(parameter.grad, 0)
    np.testing.assert_array_equal(parameter.data, 1)
    np.testing.assert_array_equal(parameter.grad, 0)
    assert (parameter.shape, parameter.size, parameter.dtype) == ((2, 3), 6, np.float32)


def test_gradients_add_up():
    parameter = nn.Parameter(np.zeros(2, np.float32))
    parameter.accumulate(np.array([1.0, 2.0]))
    parameter.accumulate(np.array([1.0, 2.0]))
    parameter.grad += 1
    parameter.grad *= 2
    np.testing.assert_array_equal(parameter.grad, [6, 10])
    assert parameter.grad.dtype == np.float32
    parameter.zero_grad()
    np.testing.assert_array_equal(parameter.grad, 0)
    with pytest.raises(ValueError, match=r"^gradient: got shape \(1,\), needs shape \(2,\)"):
        parameter.accumulate(np.zeros(1))


@pytest.mark.parametrize("raising", [False, True])
def test_gradients_that_are_not_finite_add_up_in_silence(raising):
    linear = nn.Linear(1, 1, bias=False)
    with np.errstate(all="raise" if raising else "warn"):
        for gradient in (np.inf, -np.inf):
            linear(np.ones((1, 1), np.float32))
            linear.backward(np.full((1, 1), gradient, np.float32))
    assert np.isnan(linear.weight.grad).all()


def test_parameter_dtypes():
    assert nn.Parameter([1, 2], dtype="f4").dtype == np.float32
    assert nn.Parameter(np.ones(2, ">f8")).data.dtype.isnative
    with pytest.raises(TypeError, match=r"^dtype: got 'i4', needs float16, float32 or float64"):
        nn.Parameter([1, 2], dtype="i4")


# ---- what a module consists of ----


def test_names_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(
        {"a": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm2d(4)), "b": nn.Linear(4, 2, bias=False)}
    )
    inner = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm2d(4))
    theirs = torch.nn.Sequential()
    theirs.add_module("a", inner)
    theirs.add_module("b", torch.nn.Linear(4, 2, bias=False))
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    for name, array in ours.state_dict().items():
        assert array.shape == tuple(state[name].shape)
    ours.load_state_dict(state)
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, state[name].numpy())
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})


def test_names_leave_out_children_that_are_inlined(rng):
    class Block(nn.Residual):
        _inlined = ("body",)

    model = nn.Sequential(nn.ReLU(), Block(nn.Sequential({"fc": nn.Linear(3, 3, rng=rng)}), nn.ReLU()))
    assert [name for name, _ in model.named_parameters()] == ["1.fc.weight", "1.fc.bias"]
    assert [name for name, _ in model.named_modules()] == ["", "0", "1", "1", "1.fc", "1.shortcut"]
    state = model.state_dict()
    assert list(state) == ["1.fc.weight", "1.fc.bias"]
    state["1.fc.bias"][...] = 2
    model.load_state_dict(state)
    np.testing.assert_array_equal(model[1].body[0].bias.data, 2)


def test_train_and_eval_reach_everything():
    model = nn.Sequential(nn.Dropout(), nn.Residual(nn.Sequential(nn.Dropout())))
    assert all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert model.train() is model
    assert all(module.training for module in model.modules())
    with pytest.raises(TypeError, match=r"^mode: got 'yes', needs True or False"):
        model.train("yes")


def test_a_block_of_eval_gives_every_module_its_mode_back():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.freeze(nn.ReLU())))
    model[0].eval()
    modes = [module.training for module in model.modules()]
    assert modes == [True, False, True, True, False]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ZeroDivisionError), evaluating(model):
        _ = 1 / 0
    assert [module.training for module in model.modules()] == modes


def test_layers_are_looked_at_a_few_times_however_many_there_are():
    class Counting(nn.ReLU):
        times = 0

        def named_modules(self, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
            Counting.times += 1
            return super().named_modules(prefix)

    count = 200
    nn.freeze(nn.Sequential(*(Counting() for _ in range(count))))
    assert 0 < Counting.times <= 10 * count


def test_the_same_layer_twice_is_refused():
    layer = nn.ReLU()
    with pytest.raises(
        ValueError, match=r"^1: got a ReLU that is in this Sequential already, needs a layer object"
    ):
        nn.Sequential(layer, layer)
    with pytest.raises(ValueError, match=r"got a ReLU that is in this Sequential already"):
        nn.Sequential(layer, nn.Sequential(nn.Sequential(layer)))
    with pytest.raises(ValueError, match=r"^shortcut: got a ReLU that is in this Residual already"):
        nn.Residual(layer, layer)

    class Own(nn.Module):
        def __init__(self):
            self.first = nn.Sequential(layer)
            self.second = layer

    with pytest.raises(ValueError, match=r"^second: got a ReLU that is in this Own already"):
        Own()
    model = nn.Sequential(nn.ReLU())
    with pytest.raises(ValueError, match=r"^loop: got a Sequential that is in this Sequential already"):
        model.loop = model
    model.other = nn.Tanh()
    model.other = model.other


def test_a_shared_parameter_is_one():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert len(list(model.parameters())) == 1
    assert list(model.state_dict()) == ["0.weight", "1.weight"]
    x = np.ones((2, 3))
    model.backward(np.ones_like(model(x)))
    weight = model[0].weight.data.astype(np.float64)
    expected = np.outer(np.ones(3), 2 * x[0] @ weight.T) + np.outer(weight.T @ np.ones(3), 2 * x[0])
    np.testing.assert_allclose(model[0].weight.grad, expected, rtol=1e-5)


def test_a_parameter_is_not_overwritten_by_an_array():
    layer = nn.Linear(2, 2)
    with pytest.raises(
        TypeError, match=r"^weight: got ndarray, needs a Parameter; assign arrays to weight\.data"
    ):
        layer.weight = np.zeros((2, 2))
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]


def test_zero_grad_reaches_everything(rng):
    model = linear_network(rng)
    model.backward(model(rng.standard_normal((3, 4))))
    assert all(parameter.grad.any() for parameter in model.parameters())
    model.zero_grad()
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_a_copy_in_another_dtype(rng):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 12), nn.Linear(12, 12))
    model[3].weight = model[2].weight
    x = rng.standard_normal((5, 3, 2, 2)).astype(np.float32)
    model.backward(model(x))
    other = model.astype(np.float64)
    for name, array in other.state_dict().items():
        assert array.dtype == (np.int64 if name.endswith("tracked") else np.float64)
        np.testing.assert_array_equal(array, model.state_dict()[name])
    assert other[3].weight is other[2].weight
    np.testing.assert_array_equal(other[2].weight.grad, model[2].weight.grad)
    assert other.eval()(x).dtype == np.float64
    np.testing.assert_allclose(other(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    assert model[2].weight.dtype == np.float32
    with pytest.raises(TypeError, match=r"^dtype: got 'int', needs float16"):
        model.astype("int")


# ---- containers ----


def test_sequential_is_a_sequence():
    layers = [nn.ReLU(), nn.Tanh(), nn.Sigmoid()]
    model = nn.Sequential(*layers)
    assert len(model) == 3
    assert list(model) == layers
    assert model[0] is layers[0]
    assert model[-1] is layers[2]
    with pytest.raises(IndexError):
        model[3]
    empty = nn.Sequential()
    np.testing.assert_array_equal(empty.backward(empty([1.0, 2.0])), [1, 2])


def test_containers_take_modules_only():
    with pytest.raises(TypeError, match=r"^layer 1: got function, needs a Module"):
        nn.Sequential(nn.ReLU(), lambda x: x)
    with pytest.raises(TypeError, match=r"^body: got int, needs a Module"):
        nn.Residual(3)
    for name in ("", "a.b", "forward", 3):
        with pytest.raises(ValueError, match=r"^the name of a layer: got "):
            nn.Sequential({name: nn.ReLU()})


def test_residual(rng):
    x, grad_output = rng.standard_normal((2, 3, 5))
    body, shortcut = nn.Linear(5, 5, dtype=np.float64, rng=rng), nn.Linear(5, 5, dtype=np.float64, rng=rng)
    block = nn.Residual(body, shortcut)
    np.testing.assert_array_equal(block(x), body(x) + shortcut(x))
    np.testing.assert_allclose(
        block.backward(grad_output), grad_output @ (body.weight.data + shortcut.weight.data), rtol=1e-12
    )
    plain = nn.Residual(nn.Tanh())
    np.testing.assert_allclose(plain(x), np.tanh(x) + x, rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(plain.backward(grad_output), grad_output * (2 - np.tanh(x) ** 2), rtol=1e-12)
    with pytest.raises(
        ValueError, match=r"^body: got shape \(3, 4\), needs shape \(3, 5\), that of the shortcut"
    ):
        nn.Residual(nn.Linear(5, 4))(x)


class Listed(nn.Module):
    def forward(self, x):
        return np.asarray(x).tolist()


def test_residual_of_lists():
    for body, shortcut in ((nn.Sequential(), None), (Listed(), None), (nn.Sequential(), Listed())):
        block = nn.Residual(body, shortcut)
        for network in (block, nn.freeze(block)):
            np.testing.assert_array_equal(network([-1.0, 2.0]), np.array([-2.0, 4.0]), strict=True)
    with pytest.raises(TypeError, match=r"^x: got list \(.*, needs an array$"):
        nn.Residual(nn.Sequential())([[1.0], [2.0, 3.0]])
    block = nn.Residual(Listed())
    block.body.forward = lambda x: x[:1]
    with pytest.raises(
        ValueError, match=r"^body: got shape \(1,\), needs shape \(2,\), that of the shortcut$"
    ):
        block([-1.0, 2.0])


# ---- forward and backward belong together ----


def test_backward_belongs_to_the_latest_forward(rng):
    model = linear_network(rng)
    first, second = rng.standard_normal((2, 3, 4))
    model(first)
    alone = linear_network()
    alone.load_state_dict(model.state_dict())
    grad_output = rng.standard_normal((3, 5))
    model.eval()
    model(second)
    gradient = model.backward(grad_output)
    alone(second)
    np.testing.assert_array_equal(gradient, alone.backward(grad_output))
    once = [parameter.grad.copy() for parameter in model.parameters()]
    model.backward(grad_output)
    for parameter, grad in zip(model.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, 2 * grad)


def networks(rng):
    """Networks that begin with a layer that has parameters, one that has none, and a network."""
    return {
        "conv": nn.Sequential(
            nn.Conv2d(2, 3, 3, rng=rng), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2, rng=rng)
        ),
        "flat": nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(32, 3, rng=rng), nn.ReLU()),
        "nested": nn.Sequential(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2)), nn.Conv2d(2, 1, 3, rng=rng)),
        "residual": nn.Sequential(nn.Residual(nn.Conv2d(2, 2, 3, padding=1, rng=rng)), nn.ReLU()),
        "shortcut": nn.Residual(
            nn.Conv2d(2, 3, 1, rng=rng), nn.Sequential(nn.ReLU(), nn.Conv2d(2, 3, 1, rng=rng))
        ),
        "empty": nn.Sequential(nn.ReLU(), nn.Flatten()),
    }


@pytest.mark.parametrize("name", ["conv", "flat", "nested", "residual", "shortcut", "empty"])
def test_without_the_gradient_by_the_input(name, rng, monkeypatch):
    network = networks(rng)[name]
    x = rng.standard_normal((3, 2, 4, 4)).astype(np.float32)
    grad_output = rng.standard_normal(network(x).shape).astype(np.float32)
    network.backward(grad_output)
    expected = [parameter.grad.copy() for parameter in network.parameters()]
    network.zero_grad()
    seen = []
    accumulate = nn.Conv2d._accumulate
    monkeypatch.setattr(nn.Conv2d, "_accumulate", lambda self, *g: seen.append(g[0]) or accumulate(self, *g))
    network(x)
    assert network.backward(grad_output, need_x=False) is None
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)
    if name in ("conv", "residual", "shortcut"):
        assert seen == [None] * (2 if name == "shortcut" else 1)  # it was not computed
    network(x)
    assert network.backward(grad_output).shape == x.shape
    with pytest.raises(TypeError, match=r"^need_x: got 1, needs True or False"):
        network.backward(grad_output, need_x=1)


def test_backward_needs_a_forward():
    for module in (nn.ReLU(), linear_network(), nn.Residual(nn.ReLU()), nn.BatchNorm2d(3)):
        with pytest.raises(
            RuntimeError, match=rf"^{type(module).__name__}\.backward: got no forward before it"
        ):
            module.backward(np.zeros((1, 3)))
    with pytest.raises(RuntimeError, match=r"^MSELoss\.backward: got no forward before it"):
        nn.MSELoss().backward()
    with pytest.raises(NotImplementedError, match=r"Module\.forward"):
        nn.Module()(1.0)


def test_a_failure_changes_no_parameter(rng):
    model = linear_network(rng)
    model.backward(model(rng.standard_normal((3, 4))))
    before = copy.deepcopy(list(model.parameters()))
    with pytest.raises(ValueError, match=r"^grad_output: got shape \(3, 4\), needs shape \(3, 5\)"):
        model[0].backward(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"^x: got shape \(3, 5\)"):
        model(np.zeros((3, 5)))
    with pytest.raises(RuntimeError, match=r"^Sequential\.backward: got no forward before it"):
        model.backward(np.zeros((3, 5)))
    for parameter, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.data, old.data)
        np.testing.assert_array_equal(parameter.grad, old.grad)


# ---- descriptions ----


def test_summary(capsys):
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 5), nn.Residual(nn.Sequential(nn.Linear(5, 5, bias=False), nn.ReLU()))
    )
    assert model.summary((2, 3, 4)) is None
    lines = capsys.readouterr().out.splitlines()
    table = [line.split("  ") for line in lines]
    table = [[cell.strip() for cell in row if cell.strip()] for row in table]
    assert table[0] == ["Layer", "Output shape", "Parameters", "Multiply-adds"]
    assert table[2:-2] == [
        ["0 Flatten", "(2, 12)", "0", "0"],
        ["1 Linear", "(2, 5)", "65", "120"],
        ["2.body.0 Linear", "(2, 5)", "25", "50"],
        ["2.body.1 ReLU", "(2, 5)", "0", "0"],
    ]
    assert table[-1] == ["Total", "90", "170"]
    assert len({len(line) for line in lines}) == 1


def test_summary_takes_the_shape_of_one_sample(capsys):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    model.summary((3, 4))
    assert "(1, 5)" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"^x: got shape \(3, 5\)"):
        model.summary((3, 5))
    for shape in ((3, "a"), 3, (2.0, 3), (True, 12)):
        with pytest.raises(
            TypeError, match=r"^input_shape: got .*, needs (a tuple of integers|an integer of at least 0)$"
        ):
            model.summary(shape)
    with pytest.raises(ValueError, match=r"^input_shape: got -1, needs an integer of at least 0"):
        model.summary((-1, 12))


def test_summary_leaves_the_network_as_it_was(rng, capsys):
    model = (
        nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(rng=np.random.default_rng(1)), nn.ReLU()).eval().train()
    )
    model[2].eval()
    x = rng.standard_normal((4, 3, 2, 2))
    output = model(x)
    state = model.state_dict()
    model.summary((1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"^x: got shape"):
        model.summary((1, 4, 2, 2))
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert not any("forward" in vars(module) for module in model.modules())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert model.backward(output).shape == x.shape
    assert "BatchNorm2d" in capsys.readouterr().out


def test_repr():
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Residual(nn.ReLU()))
    assert repr(model) == (
        "Sequential(\n  (0): Linear(3, 2, bias=False)\n  (1): Residual(\n    (body): ReLU()\n  )\n)"
    )
