"""The state of modules: what state_dict gives, load_state_dict takes and refuses, copies and pickles."""

import copy
import math
import pickle

import numpy as np
import pytest
from networks import linear_network

from fastconv import nn


def test_state_dict_is_a_copy(rng):
    model = linear_network(rng)
    state = model.state_dict()
    state["0.weight"][...] = 9
    assert not (model[0].weight.data == 9).any()


def test_a_state_round_trip_through_a_file(rng, tmp_path):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2, rng=rng))
    x = rng.standard_normal((5, 3, 2, 2)).astype(np.float32)
    model(x)
    np.savez(tmp_path / "model.npz", **model.state_dict())
    other = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    with np.load(tmp_path / "model.npz") as state:
        assert other.load_state_dict(state) == ([], [])
    np.testing.assert_array_equal(other.eval()(x), model.eval()(x))
    assert other[0].num_batches_tracked == 1
    assert other[0].num_batches_tracked.dtype == np.int64


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(rng):
    model = linear_network(rng)
    before = model.state_dict()
    good = {name: array + 1 for name, array in before.items()}
    bad = {name: array for name, array in good.items() if name != "0.bias"}
    bad |= {"0.weight": np.zeros((4, 5)), "extra": np.zeros(1), "more": np.zeros(1)}
    with pytest.raises(ValueError, match=r"^state_dict: got ") as caught:
        model.load_state_dict(bad)
    for part in (
        "missing 0.bias;",
        "unexpected extra, more;",
        "0.weight of shape (4, 5) instead of (5, 4),",
        "needs the parameters and buffers of this Sequential",
    ):
        assert part in str(caught.value)
    with pytest.raises(TypeError, match=r"^2\.body\.bias: got dtype complex128"):
        model.load_state_dict(good | {"2.body.bias": np.zeros(5, complex)})
    with pytest.raises(TypeError, match=r"^strict: got 'no', needs True or False"):
        model.load_state_dict(good, strict="no")
    model[0].weight.data.flags.writeable = False
    with pytest.raises(ValueError, match=r"0\.weight, which is read-only here"):
        model.load_state_dict(good)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1], r"^state_dict: got list, needs a mapping from names to arrays$"),
        (None, r"^state_dict: got NoneType, needs a mapping from names to arrays$"),
        ({1: np.zeros(2)}, r"^state_dict: got the name 1, needs names that are strings$"),
    ],
)
def test_what_is_no_state_is_refused(state, message, rng):
    for strict in (False, True):
        with pytest.raises(TypeError, match=message):
            linear_network(rng).load_state_dict(state, strict)


def test_loading_what_is_there(rng):
    model = linear_network(rng)
    bias = np.arange(5)
    result = model.load_state_dict({"0.bias": bias, "9.bias": bias}, strict=False)
    assert result.unexpected_keys == ["9.bias"]
    assert result.missing_keys == ["0.weight", "2.body.weight", "2.body.bias"]
    np.testing.assert_array_equal(model[0].bias.data, bias)
    with pytest.raises(ValueError, match=r"0\.bias of shape \(4,\) instead of \(5,\)"):
        model.load_state_dict({"0.bias": np.zeros(4)}, strict=False)


@pytest.mark.parametrize("count", [math.nan, math.inf, 2.7, -1, np.uint64(2**63)])
def test_a_number_of_batches_is_a_count(count):
    norm = nn.BatchNorm2d(3, momentum=None)
    norm(np.ones((2, 3, 1, 1)))
    before = norm.state_dict()
    state = before | {"running_mean": np.full(3, 7.0), "num_batches_tracked": count}
    with pytest.raises(
        ValueError, match=r"^state_dict: got num_batches_tracked = .*, which is no count, needs"
    ):
        norm.load_state_dict(state)
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    norm.load_state_dict(before | {"num_batches_tracked": np.float16(5)})
    assert norm.num_batches_tracked == 5


@pytest.mark.parametrize("name", ["num_batches_tracked", "running_mean"])
@pytest.mark.parametrize("value", [0, [0.0, 0.0], np.int64(0)])
def test_a_buffer_is_an_array(name, value):
    norm = nn.BatchNorm2d(2)
    with pytest.raises(
        TypeError, match=rf"^{name}: got .*, needs an ndarray; assign numbers to {name}\[\.\.\.\]$"
    ):
        setattr(norm, name, value)
    assert norm.state_dict()[name].sum() == 0
    setattr(norm, name, None)
    assert name not in norm.state_dict()


def test_old_checkpoints_lack_the_number_of_batches():
    norm = nn.BatchNorm2d(3)
    state = norm.state_dict()
    del state["num_batches_tracked"]
    assert norm.load_state_dict(state) == ([], [])


def test_copies_and_pickles(rng):
    model = linear_network(rng)
    x = rng.standard_normal((3, 4))
    output = model(x)
    model.backward(output)
    pickles = [pickle.dumps(model, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in (copy.deepcopy(model), *map(pickle.loads, pickles)):
        with pytest.raises(RuntimeError, match=r"got no forward before it"):
            other.backward(output)
        np.testing.assert_array_equal(other(x), output)
        np.testing.assert_array_equal(other[0].weight.grad, model[0].weight.grad)
        other[0].weight.data[...] = 0
    np.testing.assert_array_equal(model(x), output)
