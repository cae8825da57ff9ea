"""Learning-rate schedules: against their formulas, against PyTorch, and resumed."""

import math
import pickle

import numpy as np
import pytest

from fastconv import nn, optim
from fastconv.optim import lr_scheduler

STEPS = 12


def warm_up_then_cosine(module, optimizer):
    parts = [module.LinearLR(optimizer, 0.1, total_iters=4), module.CosineAnnealingLR(optimizer, 10, 0.01)]
    return module.SequentialLR(optimizer, parts, [4])


SCHEDULES = {
    "step": lambda module, optimizer: module.StepLR(optimizer, 3, 0.5),
    "cosine": lambda module, optimizer: module.CosineAnnealingLR(optimizer, 8, 0.01),
    "warm-up": lambda module, optimizer: module.LinearLR(optimizer, 0.2, 0.9, 5),
    "one-cycle": lambda module, optimizer: module.OneCycleLR(optimizer, 2.0, 15),
    "one-cycle-linear": lambda module, optimizer: module.OneCycleLR(
        optimizer, 2.0, 15, pct_start=0.5, anneal_strategy="linear", cycle_momentum=False
    ),
    "sequence": warm_up_then_cosine,
}


def sgd():
    """Two groups with learning rates of their own."""
    groups = [{"params": [nn.Parameter([1.0])]}, {"params": [nn.Parameter([1.0])], "lr": 0.3}]
    return optim.SGD(groups, lr=0.8, momentum=0.9)


def advance(optimizer, schedule, steps):
    """The learning rates and momenta before each step."""
    seen = []
    for _ in range(steps):
        seen.append(
            [(group["lr"], group.get("momentum", group.get("betas"))) for group in optimizer.param_groups]
        )
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rates_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    ours = sgd()
    tensors = [torch.tensor([1.0], requires_grad=True) for _ in range(2)]
    theirs = torch.optim.SGD(
        [{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.3}], lr=0.8, momentum=0.9
    )
    seen = advance(ours, SCHEDULES[name](lr_scheduler, ours), STEPS)
    expected = advance(theirs, SCHEDULES[name](torch.optim.lr_scheduler, theirs), STEPS)
    np.testing.assert_allclose(seen, expected, rtol=1e-12, atol=1e-15)


def test_one_cycle_moves_the_first_beta_of_adam():
    torch = pytest.importorskip("torch")
    ours = optim.Adam([nn.Parameter([1.0])])
    theirs = torch.optim.Adam([torch.tensor([1.0], requires_grad=True)])
    seen = advance(ours, lr_scheduler.OneCycleLR(ours, 0.5, 15), STEPS)
    expected = advance(theirs, torch.optim.lr_scheduler.OneCycleLR(theirs, 0.5, 15), STEPS)
    for (ours_now,), (theirs_now,) in zip(seen, expected, strict=True):
        np.testing.assert_allclose(ours_now[0], theirs_now[0], rtol=1e-12)
        np.testing.assert_allclose(ours_now[1], theirs_now[1], rtol=1e-12)


def test_rates_by_hand():
    optimizer = sgd()
    schedule = lr_scheduler.StepLR(optimizer, 2, 0.5)
    assert [rates[0][0] for rates in advance(optimizer, schedule, 5)] == [0.8, 0.8, 0.4, 0.4, 0.2]
    optimizer = sgd()
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, 4)
    rates = [rates[0][0] for rates in advance(optimizer, schedule, 5)]
    np.testing.assert_allclose(rates, [0.4 * (1 + math.cos(math.pi * t / 4)) for t in range(5)], atol=1e-15)
    optimizer = sgd()
    schedule = lr_scheduler.LinearLR(optimizer, 0.5, 1.0, 2)
    np.testing.assert_allclose(
        [rates[1][0] for rates in advance(optimizer, schedule, 4)], [0.15, 0.225, 0.3, 0.3]
    )


# Not for PyTorch, whose schedules in a sequence compute a rate from the one before.
OWN_SCHEDULES = {
    "cycle-then-step": lambda module, optimizer: module.SequentialLR(
        optimizer, [module.OneCycleLR(optimizer, 2.0, 6), module.StepLR(optimizer, 2, 0.5)], [5]
    ),
    "sequence-of-sequences": lambda module, optimizer: module.SequentialLR(
        optimizer, [warm_up_then_cosine(module, optimizer), warm_up_then_cosine(module, optimizer)], [6]
    ),
}


@pytest.mark.parametrize("name", [*SCHEDULES, *OWN_SCHEDULES])
def test_resumed_at_any_step_with_the_same_bits(name):
    build = (SCHEDULES | OWN_SCHEDULES)[name]
    optimizer = sgd()
    straight = advance(optimizer, build(lr_scheduler, optimizer), STEPS)
    for stop in range(STEPS):
        first = sgd()
        schedule = build(lr_scheduler, first)
        advance(first, schedule, stop)
        saved = pickle.dumps((first.state_dict(), schedule.state_dict()))
        second = sgd()
        resumed = build(lr_scheduler, second)
        optimizer_state, schedule_state = pickle.loads(saved)
        second.load_state_dict(optimizer_state)
        resumed.load_state_dict(schedule_state)
        assert resumed.get_last_lr() == schedule.get_last_lr()
        assert advance(second, resumed, STEPS - stop) == straight[stop:]


def test_one_cycle_ends():
    optimizer = sgd()
    schedule = lr_scheduler.OneCycleLR(optimizer, 1.0, 3)
    advance(optimizer, schedule, 3)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1 / 25 / 1e4)
    rates = schedule.get_last_lr()
    with pytest.raises(ValueError, match=r"^step: got step 4, needs no more than total_steps = 3"):
        schedule.step()
    assert schedule.last_epoch == 3
    assert schedule.get_last_lr() == rates


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda o: lr_scheduler.StepLR(None, 3), TypeError, r"^optimizer: got NoneType, needs an Optimizer"),
        (
            lambda o: lr_scheduler.StepLR(o, 0),
            ValueError,
            r"^step_size: got 0, needs an integer of at least 1",
        ),
        (lambda o: lr_scheduler.StepLR(o, 1, -1), ValueError, r"^gamma: got -1"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 1.5), TypeError, r"^T_max: got 1\.5"),
        (lambda o: lr_scheduler.LinearLR(o, "a"), TypeError, r"^start_factor: got 'a'"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1, 0), ValueError, r"^total_steps: got 0"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1, 9, 2), ValueError, r"^pct_start: got 2"),
        (
            lambda o: lr_scheduler.OneCycleLR(o, 1, 9, anneal_strategy="x"),
            ValueError,
            r"^anneal_strategy: got 'x'",
        ),
        (
            lambda o: lr_scheduler.SequentialLR(o, [], []),
            ValueError,
            r"^schedulers: got \[\], needs schedules",
        ),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(sgd(), 1)], []),
            ValueError,
            r"^schedulers: got .*, needs schedules of the same optimizer",
        ),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)] * 3, [5, 4]),
            ValueError,
            r"^milestones: got \[5, 4\], needs 2 rising integers",
        ),
    ],
)
def test_bad_arguments_are_refused(build, kind, message):
    with pytest.raises(kind, match=message):
        build(sgd())


def test_a_bad_state_is_refused_and_nothing_is_loaded():
    optimizer = sgd()
    schedule = lr_scheduler.OneCycleLR(optimizer, 1.0, 9)
    schedule.step()
    state = schedule.state_dict()
    rates = schedule.get_last_lr()
    for change, message in (
        ({"gamma": 1}, r"^state_dict: got \["),
        ({"last_epoch": -1}, r"^state_dict: last_epoch: got -1"),
        ({"last_epoch": 10}, r"^step: got step 10"),
        ({"base_lrs": [1.0]}, r"^state_dict: got base_lrs of 1 groups, needs 2 groups"),
        ({"base_lrs": [1.0, math.nan]}, r"^state_dict: base_lrs: got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            schedule.load_state_dict(state | change)
        assert schedule.state_dict() == state
        assert schedule.get_last_lr() == rates


def rise(optimizer):
    return lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2)


@pytest.mark.parametrize("nested", [False, True])
def test_a_sequence_that_does_not_load_changes_nothing(nested):
    def build(optimizer):
        parts = [rise(optimizer), lr_scheduler.OneCycleLR(optimizer, 1.0, 9)]
        schedule = lr_scheduler.SequentialLR(optimizer, parts, [3])
        if nested:
            schedule = lr_scheduler.SequentialLR(optimizer, [schedule, rise(optimizer)], [20])
        return schedule

    optimizer = sgd()
    schedule = build(optimizer)
    schedule.step()
    state = schedule.state_dict()
    groups = [dict(group) for group in optimizer.param_groups]
    other = sgd()
    advanced = build(other)
    advance(other, advanced, 5)
    good = advanced.state_dict()
    first, *others = good["schedulers"]
    for change in (
        {"base_lrs": [1.0, math.nan]},
        {"last_epoch": 100},
        {"schedulers": [{**first, "last_epoch": 1}, *[{**part, "last_epoch": -1} for part in others]]},
        {"schedulers": [{**first, "last_epoch": 1}]},
        {"milestones": ["x"]},
    ):
        if nested and "last_epoch" in change:
            continue  # the last schedule has no end
        with pytest.raises((ValueError, TypeError)):
            schedule.load_state_dict(good | change)
        assert schedule.state_dict() == state
        assert optimizer.param_groups == groups


def test_a_rate_that_fails_for_the_second_group_leaves_the_first():
    class Failing(lr_scheduler.LRScheduler):
        def rate(self, base_lr, step):
            if base_lr == 2.0:
                raise ZeroDivisionError
            return base_lr / 2**step

    optimizer = sgd()
    schedule = Failing(optimizer)
    with pytest.raises(ZeroDivisionError):
        schedule.load_state_dict({"last_epoch": 3, "base_lrs": [1.0, 2.0]})
    assert schedule.get_last_lr() == [0.8, 0.3]
    assert schedule.state_dict() == {"last_epoch": 0, "base_lrs": [0.8, 0.3]}


def test_a_state_that_was_loaded_is_a_copy():
    optimizer = sgd()
    schedule = warm_up_then_cosine(lr_scheduler, optimizer)
    state = schedule.state_dict()
    schedule.load_state_dict(state)
    state["milestones"][0] = 7
    state["base_lrs"][0] = 9.0
    assert schedule.milestones == [4]
    assert schedule.base_lrs == [0.8, 0.3]
