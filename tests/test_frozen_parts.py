"""A network with a frozen part: the part stays as it is, and the rest trains."""

import copy

import numpy as np
import pytest

from fastconv import nn, optim, train


class Own(nn.Module):
    """A module with another inside, which a frozen copy must not train either."""

    def __init__(self):
        self.inner = nn.Dropout(0.9)

    def forward(self, x):
        return self.inner(x)


def backbone(rng):
    return nn.freeze(nn.Sequential(nn.Flatten(), nn.Linear(4, 3, rng=rng), nn.ReLU(), Own()))


def transferred(rng):
    """A frozen part and a head to be trained."""
    return nn.Sequential(backbone(rng), nn.Sequential(nn.Dropout(0.1, rng=rng), nn.Linear(3, 2, rng=rng)))


def trainable(network):
    return [parameter for parameter in network.parameters() if parameter.data.flags.writeable]


def modes(network):
    return [module.training for module in network.modules()]


def test_train_and_eval_reach_all_but_the_frozen_part(rng):
    network = transferred(rng)
    frozen, head = network
    assert network.eval() is network
    assert not any(modes(network))
    assert network.train() is network
    assert network.training
    assert not any(modes(frozen))
    assert all(modes(head))
    assert nn.Sequential(backbone(rng)).train().training


@pytest.mark.parametrize("wrapped", [lambda x: x, copy.deepcopy])
def test_a_wholly_frozen_network_does_not_train(wrapped, rng):
    frozen = wrapped(nn.freeze(transferred(rng)))
    with pytest.raises(RuntimeError, match=r"^train: got a frozen network, needs the network"):
        frozen.train()
    assert not any(modes(frozen))


@pytest.mark.parametrize("validation", [False, True])
def test_fit_trains_the_rest(validation, rng):
    network = transferred(rng)
    before = network.state_dict()
    x, y = rng.standard_normal((60, 4)).astype(np.float32), rng.integers(0, 2, 60)
    optimizer = optim.SGD(trainable(network), lr=0.5)
    held_out = (x, y) if validation else None
    history = train.fit(
        network, nn.CrossEntropyLoss(), optimizer, (x, y), held_out, 3, batch_size=20, rng=rng
    )
    assert len(history.loss) == 3
    after = network.state_dict()
    for name, value in before.items():
        assert np.array_equal(after[name], value) == name.startswith("0."), name


@pytest.mark.parametrize(
    "build",
    [
        lambda frozen, linear: nn.Sequential(frozen, linear),
        lambda frozen, linear: nn.Sequential(nn.Sequential(frozen), linear),
        lambda frozen, linear: nn.Sequential(frozen, nn.Residual(linear, nn.freeze(nn.Linear(3, 2)))),
        lambda frozen, linear: nn.Sequential(frozen, nn.Residual(nn.freeze(nn.Linear(3, 2)), linear)),
    ],
)
def test_gradients_of_the_rest(build, rng):
    frozen, linear = backbone(rng), nn.Linear(3, 2, rng=rng)
    x, grad_output = (rng.standard_normal((5, n)).astype(np.float32) for n in (4, 2))
    network = build(frozen, linear)
    network(x)
    assert network.backward(grad_output, need_x=False) is None
    np.testing.assert_allclose(linear.weight.grad, grad_output.T @ frozen(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(linear.bias.grad, grad_output.sum(0), rtol=1e-5, atol=1e-6)
    network(x)
    with pytest.raises(RuntimeError, match=r"^backward: got a frozen network, needs the network"):
        network.backward(grad_output)


@pytest.mark.parametrize("index", [1, 2])
def test_the_way_back_does_not_lead_through_a_frozen_part(index, rng):
    layers = [nn.Linear(4, 4, rng=rng), nn.ReLU(), nn.Linear(3, 2, rng=rng)]
    network = nn.Sequential(*layers[:index], backbone(rng), layers[-1])
    output = network(np.ones((2, 4)))
    with pytest.raises(RuntimeError, match=r"^backward: got a frozen network, needs the network"):
        network.backward(output)
    with pytest.raises(RuntimeError, match=r"^backward: got a frozen network, needs the network"):
        network.backward(output, need_x=False)


def test_another_dtype_is_refused_and_nothing_changes(rng):
    network = nn.Sequential(nn.Linear(4, 4, rng=rng), nn.Residual(backbone(rng), nn.Linear(4, 3, rng=rng)))
    before = network.state_dict()
    message = (
        r"^astype: got a network whose part 1\.body is frozen, needs one that is not; freeze afterwards$"
    )
    with pytest.raises(RuntimeError, match=message):
        network.astype(np.float64)
    with pytest.raises(TypeError, match=r"^dtype: got 'i4', needs float16"):
        network.astype("i4")
    assert network.training
    for name, value in network.state_dict().items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, before[name])


def test_a_state_is_loaded_where_the_frozen_part_has_its_values(rng):
    network = transferred(rng)
    state = {name: value + (not name.startswith("0.")) for name, value in network.state_dict().items()}
    assert network.load_state_dict(state) == ([], [])
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    other = {name: value + 1 for name, value in state.items()}
    with pytest.raises(
        ValueError, match=r"^state_dict: got 0\.1\.weight, which is read-only here; 0\.1\.bias"
    ):
        network.load_state_dict(other)
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
