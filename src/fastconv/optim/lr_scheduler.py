"""Learning rates that change while training, as in ``torch.optim.lr_scheduler``.

Every schedule is a formula of the number of steps alone, so that training resumed at any step goes on with
the same bits. Construct it, which sets the first learning rate, and call `step` after that of the optimizer,
once an epoch or once a batch, as the schedule is meant.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from fastconv import _checks
from fastconv.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "LRScheduler", "LinearLR", "OneCycleLR", "SequentialLR", "StepLR"]


class LRScheduler:
    """Sets the learning rates of an optimizer's groups, as a formula of the number of steps.

    Schedules of your own derive from it and define `rate`.

    Parameters
    ----------
    optimizer : Optimizer

    Attributes
    ----------
    last_epoch : int
        The number of steps so far.
    base_lrs : list of float
        The learning rate of each group before any schedule changed it.

    Examples
    --------
    >>> from fastconv import nn, optim
    >>> class Halving(optim.lr_scheduler.LRScheduler):
    ...     def rate(self, base_lr, step):
    ...         return base_lr / 2**step
    >>> optimizer = optim.SGD([nn.Parameter(0.0)], lr=1.0)
    >>> schedule = Halving(optimizer)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise _checks.argument_error("optimizer", type(optimizer).__name__, "an Optimizer", TypeError)
        self.optimizer = optimizer
        self.base_lrs = [
            float(group.setdefault("initial_lr", group["lr"])) for group in optimizer.param_groups
        ]
        self.last_epoch = 0
        self._apply(0)

    def rate(self, base_lr: float, step: int) -> float:
        """The learning rate after `step` steps of a group that began with `base_lr`."""
        raise NotImplementedError(f"{type(self).__name__}.rate")

    def _apply(self, step: int) -> None:
        """Set what holds after `step` steps."""
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self.rate(base_lr, step)

    def step(self) -> None:
        """One step further."""
        self._apply(self.last_epoch + 1)
        self.last_epoch += 1

    def get_last_lr(self) -> list[float]:
        """The present learning rate of each group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on with later: the number of steps, the first learning rates and the arguments."""
        return _copied({name: value for name, value in vars(self).items() if name != "optimizer"})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called, at its learning rates; if it does not fit, nothing changes.

        Raises
        ------
        ValueError
            These are not the values of such a schedule, or not for so many groups.
        TypeError
            A value has the wrong type.
        """
        own = self.state_dict()
        if set(state_dict) != set(own):
            raise _checks.argument_error("state_dict", f"{sorted(state_dict)}", f"{sorted(own)}")
        step = _checks.integer("state_dict: last_epoch", state_dict["last_epoch"], 0)
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            got = f"base_lrs of {len(state_dict['base_lrs'])} groups"
            raise _checks.argument_error("state_dict", got, f"{len(self.base_lrs)} groups")
        with self._all_or_nothing():
            vars(self).update(_copied(state_dict))
            self.base_lrs = [_checks.number("state_dict: base_lrs", rate) for rate in state_dict["base_lrs"]]
            self._apply(step)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """A block that leaves the schedule and the optimizer's groups as they were, if it raises."""
        before, groups = dict(vars(self)), self._groups()
        try:
            yield
        except Exception:
            vars(self).update(before)
            self._set_groups(groups)
            raise

    def _groups(self) -> list[dict[str, Any]]:
        return [dict(group) for group in self.optimizer.param_groups]

    def _set_groups(self, groups: list[dict[str, Any]]) -> None:
        for group, options in zip(self.optimizer.param_groups, groups, strict=True):
            group.update(options)


class StepLR(LRScheduler):
    """Multiplies the learning rate by `gamma` every `step_size` steps.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
    gamma : float

    Examples
    --------
    >>> from fastconv import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter(0.0)], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     optimizer.step()
    ...     schedule.step()
    ...     print(schedule.get_last_lr())
    [1.0]
    [0.5]
    [0.5]
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = _checks.integer("step_size", step_size, 1)
        self.gamma = _checks.number("gamma", gamma, 0)
        super().__init__(optimizer)

    def rate(self, base_lr: float, step: int) -> float:
        return base_lr * self.gamma ** (step // self.step_size)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the first learning rate to `eta_min` in `T_max` steps (Loshchilov, Hutter 2017).

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        After so many steps it would rise again.
    eta_min : float

    Examples
    --------
    >>> from fastconv import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter(0.0)], lr=1.0)
    >>> schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 2)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803
        self.T_max = _checks.integer("T_max", T_max, 1)
        self.eta_min = _checks.number("eta_min", eta_min, 0)
        super().__init__(optimizer)

    def rate(self, base_lr: float, step: int) -> float:
        return _cosine(base_lr, self.eta_min, step / self.T_max)


class LinearLR(LRScheduler):
    """Warm-up: the first learning rate times a factor that moves evenly for `total_iters` steps, then stays.

    Parameters
    ----------
    optimizer : Optimizer
    start_factor, end_factor : float
    total_iters : int

    Examples
    --------
    Five steps of warm-up, then half a cosine in twenty:

    >>> from fastconv import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter(0.0)], lr=1.0)
    >>> warm_up = LinearLR(optimizer, start_factor=0.2, total_iters=5)
    >>> schedule = SequentialLR(optimizer, [warm_up, CosineAnnealingLR(optimizer, 20)], milestones=[5])
    >>> schedule.get_last_lr()
    [0.2]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        self.start_factor = _checks.number("start_factor", start_factor, 0)
        self.end_factor = _checks.number("end_factor", end_factor, 0)
        self.total_iters = _checks.integer("total_iters", total_iters, 1)
        super().__init__(optimizer)

    def rate(self, base_lr: float, step: int) -> float:
        return base_lr * _line(self.start_factor, self.end_factor, min(step / self.total_iters, 1))


class OneCycleLR(LRScheduler):
    """One cycle (Smith and Topin, 2018): up to `max_lr`, then down to almost nothing.

    From max_lr / div_factor to max_lr in the first `pct_start` of the steps, from there to
    max_lr / div_factor / final_div_factor in the others. The momentum (of Adam, beta1) moves the other way.

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float
    total_steps : int
        There must be no more steps than these.
    pct_start : float
        Between 0 and 1.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum : bool
        Whether the momentum is changed.
    base_momentum, max_momentum : float
    div_factor, final_div_factor : float

    Raises
    ------
    ValueError
        From `step` as well: there are more steps than `total_steps`.

    Examples
    --------
    >>> from fastconv import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter(0.0)], lr=1.0)
    >>> schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=11)
    >>> rates = schedule.get_last_lr()
    >>> for _ in range(10):
    ...     schedule.step()
    ...     rates += schedule.get_last_lr()
    >>> [round(rate, 2) for rate in rates]
    [0.04, 0.42, 0.96, 0.98, 0.88, 0.73, 0.53, 0.33, 0.16, 0.04, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.max_lr = _checks.number("max_lr", max_lr, 0)
        self.total_steps = _checks.integer("total_steps", total_steps, 1)
        self.pct_start = _checks.number("pct_start", pct_start, 0, 1)
        self.anneal_strategy = _checks.choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.cycle_momentum = _checks.boolean("cycle_momentum", cycle_momentum)
        self.base_momentum = _checks.number("base_momentum", base_momentum, 0, below=1)
        self.max_momentum = _checks.number("max_momentum", max_momentum, 0, below=1)
        self.div_factor = _checks.number("div_factor", div_factor, 1)
        self.final_div_factor = _checks.number("final_div_factor", final_div_factor, 1)
        super().__init__(optimizer)

    def _anneal(self, low: float, high: float, lowest: float, step: int) -> float:
        """From `low` up to `high` in the first phase, down to `lowest` in the second."""
        if step > self.total_steps:
            raise _checks.argument_error(
                "step", f"step {step}", f"no more than total_steps = {self.total_steps}"
            )
        between = _cosine if self.anneal_strategy == "cos" else _line
        turn, end = self.pct_start * self.total_steps - 1, self.total_steps - 1
        if step <= turn:
            return between(low, high, step / turn if turn > 0 else 1.0)
        return between(high, lowest, min((step - turn) / (end - turn), 1.0) if end > turn else 1.0)

    def rate(self, base_lr: float, step: int) -> float:
        first = self.max_lr / self.div_factor
        return self._anneal(first, self.max_lr, first / self.final_div_factor, step)

    def _apply(self, step: int) -> None:
        super()._apply(step)
        if not self.cycle_momentum:
            return
        momentum = self._anneal(self.max_momentum, self.base_momentum, self.max_momentum, step)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class SequentialLR(LRScheduler):
    """One schedule after another, each beginning at its own step 0.

    Parameters
    ----------
    optimizer : Optimizer
        That of all `schedulers`.
    schedulers : sequence of LRScheduler
    milestones : sequence of int
        The steps at which the second and all further ones begin, rising.

    Examples
    --------
    >>> from fastconv import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter(0.0)], lr=1.0)
    >>> warm_up = optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2)
    >>> then = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    >>> schedule = optim.lr_scheduler.SequentialLR(optimizer, [warm_up, then], milestones=[2])
    >>> for _ in range(3):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.1]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        self.schedulers = list(schedulers)
        self.milestones = [_checks.integer("milestones", milestone, 1) for milestone in milestones]
        if not self.schedulers or any(
            not isinstance(schedule, LRScheduler) or schedule.optimizer is not optimizer
            for schedule in self.schedulers
        ):
            raise _checks.argument_error("schedulers", repr(schedulers), "schedules of the same optimizer")
        if len(self.milestones) != len(self.schedulers) - 1 or self.milestones != sorted(
            set(self.milestones)
        ):
            needs = f"{len(self.schedulers) - 1} rising integers, one for each schedule but the first"
            raise _checks.argument_error("milestones", repr(milestones), needs)
        super().__init__(optimizer)

    def _apply(self, step: int) -> None:
        which = bisect_right(self.milestones, step)
        self.schedulers[which]._apply(step - (self.milestones[which - 1] if which else 0))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": [schedule.state_dict() for schedule in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        own = self.schedulers
        parts = list(state_dict.get("schedulers", ()))
        if len(parts) != len(own):
            raise _checks.argument_error("state_dict", f"{len(parts)} schedulers", f"{len(own)} of them")
        with self._all_or_nothing():
            groups = self._groups()
            for schedule, part in zip(own, parts, strict=True):
                schedule.load_state_dict(part)
            self._set_groups(groups)  # the momentum is that of the schedule whose turn it is
            super().load_state_dict({**state_dict, "schedulers": own})

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        with ExitStack() as stack:
            for schedule in self.schedulers:
                stack.enter_context(schedule._all_or_nothing())
            stack.enter_context(super()._all_or_nothing())
            yield


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list) else value for name, value in state.items()}


def _line(start: float, end: float, part: float) -> float:
    return start + (end - start) * part


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
