"""Optimizers and clipping: against their formulas, against PyTorch, and resumed."""

import copy
import math

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, optim

OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "sgd-momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "sgd-dampening": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    "sgd-nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    "sgd-maximize": (optim.SGD, {"lr": 0.01, "weight_decay": 0.5, "maximize": True}),
    "adam": (optim.Adam, {"lr": 0.1}),
    "adam-decay": (optim.Adam, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "adam-amsgrad": (optim.Adam, {"lr": 0.1, "amsgrad": True, "betas": (0.5, 0.6)}),
    "adam-maximize": (optim.Adam, {"lr": 0.1, "maximize": True}),
    "adamw": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.2}),
    "adamw-amsgrad": (optim.AdamW, {"lr": 0.1, "amsgrad": True}),
}
SHAPES = [(3, 4), (5,), (), (0, 2), (17,), (251, 250)]  # the last is shared out over threads


def parameters(dtype=np.float64):
    rng = np.random.default_rng(11)
    return [nn.Parameter(rng.standard_normal(shape), dtype) for shape in SHAPES]


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return [rng.standard_normal(shape) for shape in SHAPES]


def train(optimizer, members, steps):
    for step in steps:
        for parameter, gradient in zip(members, gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_way_is_that_of_pytorch(name):
    torch = pytest.importorskip("torch")
    kind, arguments = OPTIMIZERS[name]
    ours = parameters()
    theirs = [torch.tensor(parameter.data, requires_grad=True) for parameter in ours]
    optimizer, other = kind(ours, **arguments), getattr(torch.optim, kind.__name__)(theirs, **arguments)
    for step in range(10):
        train(optimizer, ours, [step])
        for tensor, gradient in zip(theirs, gradients(step), strict=True):
            tensor.grad = torch.tensor(gradient)
        other.step()
        for parameter, tensor in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(parameter.data, tensor.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_left_alone(name):
    kind, arguments = OPTIMIZERS[name]
    members = parameters()
    train(kind(members, **arguments), members, [0])
    for parameter, gradient in zip(members, gradients(0), strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_momentum_by_hand():
    weight = nn.Parameter([1.0])
    optimizer = optim.SGD([weight], lr=0.5, momentum=0.5)
    for expected in (0.0, -1.5, -3.25):  # velocities 2, 3, 3.5
        weight.grad = [2.0]
        optimizer.step()
        assert weight.data[0] == expected


def test_adam_by_hand():
    weight = nn.Parameter([1.0])
    optimizer = optim.Adam([weight], lr=0.5, betas=(0.5, 0.75), eps=0.0)
    weight.grad = [2.0]
    optimizer.step()
    assert weight.data[0] == 0.5
    weight.grad = [0.0]
    optimizer.step()
    mean, square = 0.5 / (1 - 0.5**2), 0.75 / (1 - 0.75**2)
    assert weight.data[0] == pytest.approx(0.5 - 0.5 * mean / math.sqrt(square), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_training_goes_on_bit_for_bit(name, dtype):
    kind, arguments = OPTIMIZERS[name]
    straight = parameters(dtype)
    train(kind(straight, **arguments), straight, range(8))

    first = parameters(dtype)
    optimizer = kind(first, **arguments)
    train(optimizer, first, range(4))
    saved = copy.deepcopy(optimizer.state_dict())
    values = [parameter.data.copy() for parameter in first]
    train(optimizer, first, range(4, 6))  # what was saved must not follow

    second = parameters(dtype)
    resumed = kind(second, lr=7.0)
    resumed.load_state_dict(saved)
    for parameter, value in zip(second, values, strict=True):
        parameter.data = value
    train(resumed, second, range(4, 8))
    for parameter, expected in zip(second, straight, strict=True):
        assert parameter.dtype == dtype
        np.testing.assert_array_equal(parameter.data, expected.data)


def test_single_precision_follows_double_precision():
    for kind, arguments in OPTIMIZERS.values():
        single, double = parameters(np.float32), parameters()
        for members in (single, double):
            train(kind(members, **arguments), members, range(5))
        for parameter, expected in zip(single, double, strict=True):
            np.testing.assert_allclose(parameter.data, expected.data, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_threads_do_not_change_a_step(name, dtype):
    """adam and sgd; nor does the place of an element in the array."""
    kind, arguments = OPTIMIZERS[name]
    alone, shared, cut = (parameters(dtype) for _ in range(3))
    with fc.num_threads(1):
        train(kind(alone, **arguments), alone, range(3))
    with fc.num_threads(3):
        train(kind(shared, **arguments), shared, range(3))
    for parameter, expected in zip(shared, alone, strict=True):
        np.testing.assert_array_equal(parameter.data, expected.data)
    part = nn.Parameter(cut[-1].data.ravel()[3:20], dtype)
    optimizer = kind([part], **arguments)
    for step in range(3):
        part.grad = gradients(step)[-1].ravel()[3:20]
        optimizer.step()
    np.testing.assert_array_equal(part.data, alone[-1].data.ravel()[3:20])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_half_precision_is_updated_in_single_precision(name):
    kind, arguments = OPTIMIZERS[name]
    halves, singles = parameters(np.float16), parameters(np.float16)
    singles = [parameter.astype(np.float32) for parameter in singles]
    for members in (halves, singles):
        optimizer = kind(members, **arguments)
        for parameter, gradient in zip(members, gradients(0), strict=True):
            parameter.grad = gradient.astype(np.float16)
        optimizer.step()
    for parameter, expected in zip(halves, singles, strict=True):
        assert parameter.dtype == np.float16
        np.testing.assert_array_equal(parameter.data, expected.data.astype(np.float16))


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_a_read_only_parameter_is_refused(kind):
    weight = nn.Parameter([1.0, 2.0])
    optimizer = kind([weight], lr=0.1)
    weight.grad = [1.0, 1.0]
    weight.make_read_only()
    weight.grad = [1.0, 1.0]
    with pytest.raises(ValueError, match=r"^params: got a read-only parameter, needs one that can be"):
        optimizer.step()
    np.testing.assert_array_equal(weight.data, [1, 2])


def test_groups_have_their_own_options():
    members = parameters()
    optimizer = optim.SGD([{"params": members[:1]}, {"params": members[1:], "lr": 0.0}], lr=1.0)
    before = [parameter.data.copy() for parameter in members]
    train(optimizer, members, [0])
    np.testing.assert_array_equal(members[0].data, before[0] - gradients(0)[0])
    np.testing.assert_array_equal(members[1].data, before[1])
    optimizer.param_groups[1]["lr"] = np.float64(2.0)
    train(optimizer, members, [0])
    np.testing.assert_array_equal(members[1].data, before[1] - 2 * gradients(0)[1])
    assert [group["params"] for group in optimizer.state_dict()["param_groups"]] == [[0], [1, 2, 3, 4, 5]]


def test_zero_grad():
    members = parameters()
    optimizer = optim.SGD(members)
    train(optimizer, members, [0])
    optimizer.zero_grad()
    assert not any(parameter.grad.any() for parameter in members)


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, r"^params: got an empty list, needs at least one parameter"),
        (lambda p: optim.SGD(p), TypeError, r"^params: got Parameter, needs an iterable"),
        (lambda p: optim.SGD([p.data]), TypeError, r"^params: got ndarray, needs a Parameter"),
        (
            lambda p: optim.SGD([p, p]),
            ValueError,
            r"^params: got Parameter.* twice, needs each parameter once",
        ),
        (
            lambda p: optim.SGD([{"lr": 1}]),
            ValueError,
            r"^params: got a group of \['lr'\], needs a group with",
        ),
        (
            lambda p: optim.SGD([{"params": p, "x": 1}]),
            ValueError,
            r"^params: got a group with \['x'\], needs",
        ),
        (lambda p: optim.SGD([p], lr=-1), ValueError, r"^lr: got -1, needs a finite number of at least 0"),
        (lambda p: optim.SGD([p], lr=None), TypeError, r"^lr: got None, needs a finite number"),
        (lambda p: optim.SGD([p], momentum=-1), ValueError, r"^momentum: got -1"),
        (lambda p: optim.SGD([p], weight_decay=math.nan), ValueError, r"^weight_decay: got nan"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, r"^nesterov: got True with momentum=0\.0"),
        (lambda p: optim.SGD([p], maximize=1), TypeError, r"^maximize: got 1, needs True or False"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, r"^betas: got 1\.0, needs .* below 1"),
        (lambda p: optim.Adam([p], betas=0.9), TypeError, r"^betas: got 0\.9, needs a pair of numbers"),
        (lambda p: optim.AdamW([p], eps=-1), ValueError, r"^eps: got -1"),
    ],
)
def test_bad_arguments_are_refused(build, kind, message):
    with pytest.raises(kind, match=message):
        build(nn.Parameter([1.0]))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda s: s.pop("state"), ValueError, r"^state_dict: got no \['state'\]"),
        (lambda s: s["param_groups"].pop(), ValueError, r"^state_dict: got groups of \[\] parameters, needs"),
        (lambda s: s["param_groups"][0].pop("lr"), ValueError, r"^state_dict: got a group with the options"),
        (lambda s: s["param_groups"][0].update(lr=-1), ValueError, r"^lr: got -1"),
        (lambda s: s["state"].update({9: {}}), ValueError, r"^state_dict: got parameter 9, needs only 6"),
        (lambda s: s["state"][1].update(x=1), ValueError, r"^state_dict: got 'x' for parameter 1, needs"),
        (
            lambda s: s["state"][1].update(exp_avg=np.zeros(4)),
            ValueError,
            r"^state_dict: exp_avg of parameter 1: got shape \(4,\), needs shape \(5,\)",
        ),
    ],
)
def test_a_bad_state_is_refused_and_nothing_is_loaded(change, kind, message):
    members = parameters()
    optimizer = optim.Adam(members)
    train(optimizer, members, [0])
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["eps"] = 0.5
    change(state)
    with pytest.raises(kind, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["eps"] == 1e-8
    assert optimizer.state[members[1]]["step"] == 1
    assert optimizer.state[members[1]]["exp_avg"].any()


# ---- clipping ----


def test_clipping():
    members = parameters()
    for parameter, gradient in zip(members, gradients(0), strict=True):
        parameter.grad = gradient
    norm = math.sqrt(math.fsum((gradient**2).sum() for gradient in gradients(0)))
    assert optim.clip_grad_norm(members, 2 * norm) == pytest.approx(norm, rel=1e-12)
    for parameter, gradient in zip(members, gradients(0), strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)
    assert optim.clip_grad_norm(iter(members), 3.0) == pytest.approx(norm, rel=1e-12)
    for parameter, gradient in zip(members, gradients(0), strict=True):
        np.testing.assert_allclose(parameter.grad, gradient * (3 / (norm + 1e-6)), rtol=1e-12)


def test_clipping_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    members = parameters()
    tensors = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    for parameter, tensor, gradient in zip(members, tensors, gradients(0), strict=True):
        parameter.grad = gradient
        tensor.grad = torch.tensor(gradient)
    expected = torch.nn.utils.clip_grad_norm_(tensors, 1.5).item()
    assert optim.clip_grad_norm(members, 1.5) == pytest.approx(expected, rel=1e-13)
    for parameter, tensor in zip(members, tensors, strict=True):
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-12)


def test_clipping_of_what_is_not_finite():
    weight = nn.Parameter([1.0, 2.0])
    weight.grad = [math.nan, 1.0]
    with pytest.raises(ValueError, match=r"^parameters: got gradients of norm nan, needs a finite norm"):
        optim.clip_grad_norm(weight, 1.0, error_if_nonfinite=True)
    assert weight.grad[1] == 1
    assert math.isnan(optim.clip_grad_norm(weight, 1.0))
    assert np.isnan(weight.grad).all()
    with pytest.raises(ValueError, match=r"^max_norm: got -1"):
        optim.clip_grad_norm(weight, -1)
    with pytest.raises(TypeError, match=r"^parameters: got ndarray, needs a Parameter"):
        optim.clip_grad_norm([weight.grad], 1.0)
    with pytest.raises(TypeError, match=r"^error_if_nonfinite: got 'no', needs True or False"):
        optim.clip_grad_norm(weight, 1.0, error_if_nonfinite="no")


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.float16, np.full(4, 200.0)),
        (np.float16, np.full(70_000, 6e4)),  # its factor is a number that float16 has not
        (np.float16, np.full(20_000, 6e-5)),
        (np.float32, np.full(30_000, 1e20)),
        (np.float32, np.full(30_000, 1e-30)),
        (np.float32, np.resize([1e-30, 0.0, 1e25], 30_000)),
        (np.float64, np.full(30_000, 1e200)),
        (np.float64, np.full(30_000, 1e-200)),
        (np.float64, np.array([5e-324, 0.0])),
        (np.float64, np.zeros(3)),
    ],
)
def test_the_norm_of_gradients_whose_squares_are_too_large_or_too_small(dtype, values):
    members = [nn.Parameter(np.zeros(part.shape), dtype) for part in (values, values[:1])]
    members[0].grad, members[1].grad = values, values[:1]
    given = [parameter.grad.astype(np.float64) for parameter in members]
    largest = max(np.abs(values).max(), 5e-324)
    norm = largest * math.sqrt(math.fsum(((gradient / largest) ** 2).sum() for gradient in given))
    with np.errstate(all="raise", under="ignore"):
        assert optim.clip_grad_norm(members, math.inf) == pytest.approx(norm, rel=1e-6, abs=0)
        for parameter, gradient in zip(members, given, strict=True):
            np.testing.assert_array_equal(parameter.grad, gradient)
        limit = norm / 4
        found = optim.clip_grad_norm(members, limit, error_if_nonfinite=True)
    assert found == pytest.approx(norm, rel=1e-6, abs=0)
    tolerance = {"rtol": 2 * np.finfo(dtype).eps, "atol": 2 * float(np.finfo(dtype).smallest_subnormal)}
    tolerance["rtol"] = max(tolerance["rtol"], 1e-6)
    for parameter, gradient in zip(members, given, strict=True):
        factor = min(limit / (norm + 1e-6), 1)
        np.testing.assert_allclose(parameter.grad, gradient * factor, **tolerance)


def test_a_factor_that_the_gradients_have_no_number_for():
    weight = nn.Parameter(np.zeros(2), np.float32)
    weight.grad = np.full(2, 1e20)
    optim.clip_grad_norm(weight, 1e-20)
    np.testing.assert_allclose(weight.grad, math.sqrt(0.5) * 1e-20, rtol=1e-6)


def test_the_norm_of_many_elements_is_exact():
    weight = nn.Parameter(np.zeros(3_000_000, np.float32))
    weight.grad = np.random.default_rng(0).standard_normal(weight.shape)
    expected = math.sqrt(np.square(weight.grad, dtype=np.float64).sum())
    assert optim.clip_grad_norm(weight, math.inf) == pytest.approx(expected, rel=1e-7)


def test_infinity_as_the_limit_changes_nothing():
    weight = nn.Parameter([1.0, 2.0, 3.0])
    for gradient in ([3.0, 4.0, 0.0], [math.inf, 1.0, 2.0], [math.nan, 1.0, math.inf]):
        weight.grad = gradient
        np.testing.assert_equal(optim.clip_grad_norm(weight, np.inf), np.linalg.norm(gradient))
        np.testing.assert_array_equal(weight.grad, gradient)
    with pytest.raises(ValueError, match=r"^max_norm: got nan, needs a number of at least 0$"):
        optim.clip_grad_norm(weight, math.nan)
    with pytest.raises(ValueError, match=r"^max_norm: got -inf, needs a number of at least 0$"):
        optim.clip_grad_norm(weight, -math.inf)
