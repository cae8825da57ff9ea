"""The rules for first values: their distributions, against the formulas and against PyTorch."""

import math

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import init

SHAPE = (64, 32, 5, 5)
FAN_IN, FAN_OUT = 32 * 25, 64 * 25
# (rule, arguments, standard deviation, whether evenly distributed)
RULES = [
    (init.kaiming_uniform_, {}, math.sqrt(2 / FAN_IN), True),
    (init.kaiming_normal_, {}, math.sqrt(2 / FAN_IN), False),
    (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(2 / FAN_OUT), False),
    (init.kaiming_uniform_, {"a": math.sqrt(5)}, math.sqrt(1 / 3 / FAN_IN), True),
    (init.xavier_uniform_, {}, math.sqrt(2 / (FAN_IN + FAN_OUT)), True),
    (init.xavier_normal_, {"gain": 5 / 3}, 5 / 3 * math.sqrt(2 / (FAN_IN + FAN_OUT)), False),
    (init.uniform_, {"a": -2.0, "b": 2.0}, 4 / math.sqrt(12), True),
    (init.normal_, {"std": 3.0}, 3.0, False),
]


@pytest.mark.parametrize(("rule", "arguments", "std", "uniform"), RULES)
def test_distributions(rule, arguments, std, uniform):
    parameter = nn.Parameter(np.zeros(SHAPE, np.float32))
    assert rule(parameter, **arguments, rng=np.random.default_rng(2)) is None
    values = parameter.data.astype(np.float64)
    count = values.size
    assert abs(values.mean()) < 5 * std / math.sqrt(count)
    assert values.std() == pytest.approx(std, rel=5 / math.sqrt(2 * count))
    if uniform:
        assert np.abs(values).max() == pytest.approx(math.sqrt(3) * std, rel=1e-3)
        assert np.abs(values).max() <= math.sqrt(3) * std * (1 + 1e-6)
    else:
        assert np.abs(values).max() > 3.5 * std


@pytest.mark.parametrize(("rule", "arguments", "std", "uniform"), RULES)
def test_agrees_with_pytorch(rule, arguments, std, uniform):
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(SHAPE, dtype=torch.float64)
    getattr(torch.nn.init, rule.__name__)(tensor, **arguments, generator=torch.Generator().manual_seed(1))
    assert tensor.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * tensor.numel()))
    assert (tensor.abs().max().item() <= math.sqrt(3) * std * (1 + 1e-9)) == uniform


def test_the_generator_and_not_the_dtype_decides():
    arrays = [np.zeros(SHAPE), np.zeros(SHAPE, np.float32), np.asfortranarray(np.zeros(SHAPE))]
    for array in arrays:
        init.normal_(array, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(arrays[1], arrays[0].astype(np.float32))
    np.testing.assert_array_equal(arrays[2], arrays[0])
    init.normal_(arrays[2], rng=np.random.default_rng(4))
    assert (arrays[2] != arrays[0]).all()
    init.constant_(arrays[0], 2.5)
    assert (arrays[0] == 2.5).all()


def test_layers_start_as_in_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    ours, theirs = nn.Linear(50, 400, rng=np.random.default_rng(1)), torch.nn.Linear(50, 400)
    for name, parameter in ours.named_parameters():
        other = getattr(theirs, name).detach().numpy()
        bound = 1 / math.sqrt(50)
        for values in (parameter.data, other):
            assert np.abs(values).max() <= bound * (1 + 1e-6)
            assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    again = nn.Linear(50, 400, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again.weight.data, ours.weight.data)
    assert (nn.Linear(50, 400).weight.data != ours.weight.data).any()


@pytest.mark.parametrize(
    "nonlinearity", ["linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu"]
)
def test_gains_are_those_of_pytorch(nonlinearity):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(nonlinearity) == torch.nn.init.calculate_gain(nonlinearity)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_bad_arguments_are_refused(rng):
    array = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"^tensor: got shape \(3,\), needs at least 2 axes"):
        init.kaiming_normal_(np.zeros(3), rng=rng)
    with pytest.raises(TypeError, match=r"^tensor: got list, needs a Parameter or a floating-point ndarray"):
        init.normal_([1.0], rng=rng)
    with pytest.raises(TypeError, match=r"^tensor: got dtype int64, needs a Parameter"):
        init.constant_(np.zeros(2, np.int64), 1.0)
    with pytest.raises(ValueError, match=r"^mode: got 'fan', needs 'fan_in' or 'fan_out'"):
        init.kaiming_uniform_(array, mode="fan", rng=rng)
    with pytest.raises(ValueError, match=r"^nonlinearity: got 'gelu', needs 'linear' or "):
        init.kaiming_uniform_(array, nonlinearity="gelu", rng=rng)
    with pytest.raises(ValueError, match=r"^std: got -1, needs a finite number of at least 0"):
        init.normal_(array, std=-1, rng=rng)
    with pytest.raises(ValueError, match=r"^b: got 0, needs a finite number of at least 1"):
        init.uniform_(array, 1, 0, rng=rng)
    with pytest.raises(TypeError, match=r"^rng: got RandomState"):
        init.uniform_(array, rng=np.random.RandomState(1))
    array.flags.writeable = False
    with pytest.raises(ValueError, match=r"^tensor: got a read-only array, needs a writable one"):
        init.uniform_(array, rng=rng)
