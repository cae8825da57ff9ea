"""The book's common/optimizer.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastconv._checks import argument_error, compute_dtype, float_array, prepared, shape
from fastconv._kernels import optimizer
from fastconv._kernels.arrays import native
from fastconv._kernels.memory import new_array
from fastconv._threads import threads_for

__all__ = ["Adam"]


class Adam:
    """Adam (Kingma and Ba, 2015) as the book has it, with 1e-7 added to the root of the uncorrected `v`.

    Parameters
    ----------
    lr, beta1, beta2 : float

    Attributes
    ----------
    iter : int
        Steps so far.
    m, v : dict of ndarray, or None
        The running means of each gradient and of its square.

    Examples
    --------
    >>> import numpy as np
    >>> params = {"W": np.array([1.0, 2.0])}
    >>> Adam(lr=0.5).update(params, {"W": np.array([3.0, -3.0])})
    >>> params["W"].round(4)
    array([0.5, 2.5])
    """

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr, self.beta1, self.beta2 = lr, beta1, beta2
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: Mapping[str, Any], grads: Mapping[str, Any]) -> None:
        """Change the arrays of `params`, in place, by the gradients of the same names."""
        if self.m is None:
            self.m, self.v = (
                {name: new_array(param.shape, compute_dtype(param).num) for name, param in params.items()}
                for _ in range(2)
            )
            for mean in (*self.m.values(), *self.v.values()):
                mean.fill(0)
        self.iter += 1
        rate = self.lr * math.sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        for name, param in params.items():
            if not param.flags.writeable:
                raise argument_error(name, "a read-only array", "a writable one")
            data, grad = param, grads[name]
            if not native(data, grad):
                data = prepared(param, compute_dtype(param))
                grad = float_array(name, grad, data.dtype)
            shape(f"the gradient of {name}", grad, param.shape, "that of the parameter")
            optimizer.adam(
                *(data, grad, self.m[name], self.v[name], None),
                maximize=False,
                decay=0,
                shrink=1,
                beta1=self.beta1,
                beta2=self.beta2,
                step_size=rate,
                root_of_correction=1,
                eps=1e-7,
                num_threads=threads_for(16 * data.size),
            )
            if data is not param:
                param[...] = data
