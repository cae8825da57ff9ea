"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastconv import _checks
from fastconv._kernels import optimizer
from fastconv._threads import threads_for
from fastconv.nn.parameter import Parameter
from fastconv.optim.optimizer import WORK_AN_ELEMENT, Job, Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Sutskever et al., 2013) if wanted.

    With the gradient g, plus weight_decay * parameter, one step is::

        buffer = momentum * buffer + (1 - dampening) * g       (at first, buffer = g)
        parameter -= lr * (g + momentum * buffer if nesterov else buffer)

    Parameters
    ----------
    params : iterable of Parameter, or iterable of mappings
        What to optimize. A mapping is a group: "params", and options that differ from the others'.
    lr : float
        The learning rate.
    momentum, dampening : float
    weight_decay : float
        The factor of the L2 penalty.
    nesterov : bool
        Needs a momentum and no dampening.
    maximize : bool
        Let the loss rise.

    Examples
    --------
    >>> from fastconv import nn
    >>> weight = nn.Parameter([1.0, 2.0])
    >>> optimizer = SGD([weight], lr=0.1)
    >>> weight.grad = [1.0, 1.0]
    >>> optimizer.step()
    >>> weight.data
    array([0.9, 1.9])
    """

    _arrays = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _checked_options(self, options: dict[str, Any]) -> dict[str, Any]:
        checked = {
            "lr": _checks.number("lr", options["lr"], 0),
            "momentum": _checks.number("momentum", options["momentum"], 0),
            "dampening": _checks.number("dampening", options["dampening"]),
            "weight_decay": _checks.number("weight_decay", options["weight_decay"], 0),
            "nesterov": _checks.boolean("nesterov", options["nesterov"]),
            "maximize": _checks.boolean("maximize", options["maximize"]),
        }
        if checked["nesterov"] and not (checked["momentum"] > 0 and checked["dampening"] == 0):
            got = f"True with momentum={checked['momentum']} and dampening={checked['dampening']}"
            raise _checks.argument_error("nesterov", got, "a momentum above 0 and no dampening")
        return checked

    def _job(self, parameter: Parameter, options: dict[str, Any], state: dict[str, Any]) -> Job:
        momentum = options["momentum"]
        is_first = momentum != 0 and "momentum_buffer" not in state
        names = self._arrays if momentum else ()
        data, gradient, *velocity = self._operands(parameter, state, names)
        return optimizer.sgd, {
            "data": data,
            "grad": gradient,
            "velocity": velocity[0] if velocity else None,
            "maximize": options["maximize"],
            "first": is_first,
            "nesterov": options["nesterov"],
            "decay": options["weight_decay"],
            "lr": options["lr"],
            "momentum": momentum,
            "damped": 1 - options["dampening"],
            "num_threads": threads_for(WORK_AN_ELEMENT * data.size),
        }
