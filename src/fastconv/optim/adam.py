"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from fastconv import _checks
from fastconv._kernels import optimizer
from fastconv._threads import threads_for
from fastconv.nn.parameter import Parameter
from fastconv.optim.optimizer import WORK_AN_ELEMENT, Job, Optimizer

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): steps scaled by running means of the gradient and of its square.

    With the gradient g, plus weight_decay * parameter, step t is::

        exp_avg = beta1 * exp_avg + (1 - beta1) * g
        exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g^2
        parameter -= lr * exp_avg / (1 - beta1^t) / (sqrt(exp_avg_sq / (1 - beta2^t)) + eps)

    Parameters
    ----------
    params : iterable of Parameter, or iterable of mappings
        What to optimize. A mapping is a group: "params", and options that differ from the others'.
    lr : float
        The learning rate.
    betas : (float, float)
        beta1 and beta2, each at least 0 and below 1.
    eps : float
    weight_decay : float
        The factor of the L2 penalty.
    amsgrad : bool
        Use the largest exp_avg_sq so far (Reddi et al., 2018).
    maximize : bool
        Let the loss rise.

    Examples
    --------
    >>> from fastconv import nn
    >>> weight = nn.Parameter([1.0, 2.0])
    >>> optimizer = Adam([weight], lr=0.1)
    >>> weight.grad = [1.0, -100.0]
    >>> optimizer.step()
    >>> weight.data.round(6)
    array([0.9, 2.1])
    """

    _arrays = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _decay_is_apart: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _checked_options(self, options: dict[str, Any]) -> dict[str, Any]:
        betas = options["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise _checks.argument_error("betas", repr(betas), "a pair of numbers", TypeError)
        return {
            "lr": _checks.number("lr", options["lr"], 0),
            "betas": tuple(_checks.number("betas", beta, 0, below=1) for beta in betas),
            "eps": _checks.number("eps", options["eps"], 0),
            "weight_decay": _checks.number("weight_decay", options["weight_decay"], 0),
            "amsgrad": _checks.boolean("amsgrad", options["amsgrad"]),
            "maximize": _checks.boolean("maximize", options["maximize"]),
        }

    def _job(self, parameter: Parameter, options: dict[str, Any], state: dict[str, Any]) -> Job:
        names = self._arrays if options["amsgrad"] else self._arrays[:2]
        data, gradient, mean, square, *largest = self._operands(parameter, state, names)
        state["step"] = step = state.get("step", 0) + 1
        lr, weight_decay = options["lr"], options["weight_decay"]
        beta1, beta2 = options["betas"]
        apart = self._decay_is_apart
        return optimizer.adam, {
            "data": data,
            "grad": gradient,
            "mean": mean,
            "square": square,
            "largest": largest[0] if largest else None,
            "maximize": options["maximize"],
            "decay": 0 if apart else weight_decay,
            "shrink": 1 - lr * weight_decay if apart else 1,
            "beta1": beta1,
            "beta2": beta2,
            "step_size": lr / (1 - beta1**step),
            "root_of_correction": math.sqrt(1 - beta2**step),
            "eps": options["eps"],
            "num_threads": threads_for(WORK_AN_ELEMENT * data.size),
        }


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient (Loshchilov and Hutter, 2019).

    Each step begins with ``parameter *= 1 - lr * weight_decay``, and the gradient stays as it is.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize
        As for `Adam`.
    weight_decay : float

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn, optim
    >>> weight = nn.Parameter(np.ones(2))
    >>> optimizer = optim.AdamW([weight], lr=0.1, weight_decay=0.5)
    >>> weight.grad = np.array([1.0, -1.0])
    >>> optimizer.step()
    >>> weight.data.round(3)
    array([0.85, 1.05])
    """

    _decay_is_apart = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
