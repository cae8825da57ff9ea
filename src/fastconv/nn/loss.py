"""Losses as objects that remember the gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv import _checks, functional
from fastconv._checks import FloatArray

__all__ = ["CrossEntropyLoss", "MSELoss"]


class Loss:
    """``loss(prediction, target)`` is the loss, then ``loss.backward()`` its gradient by the prediction."""

    _gradient: FloatArray | None = None

    def _loss(self, prediction: ArrayLike, target: ArrayLike) -> tuple[float, FloatArray]:
        raise NotImplementedError(f"{type(self).__name__}._loss")

    def forward(self, prediction: ArrayLike, target: ArrayLike) -> float:
        """The loss of this prediction."""
        self._gradient = None
        loss, gradient = self._loss(prediction, target)
        # A target of another precision must not change that of the whole backward.
        dtype = _checks.result_dtype(_checks.as_array("prediction", prediction))
        self._gradient = np.asarray(gradient, dtype)
        return loss

    def __call__(self, prediction: ArrayLike, target: ArrayLike) -> float:
        """The same as `forward`."""
        return self.forward(prediction, target)

    def backward(self) -> FloatArray:
        """The gradient of the latest loss by its prediction.

        It is the same array each time: scale or clip a copy of it.

        Raises
        ------
        RuntimeError
            There was no forward before, or it failed.
        """
        if self._gradient is None:
            raise RuntimeError(f"{type(self).__name__}.backward: got no forward before it, needs one")
        return self._gradient


class CrossEntropyLoss(Loss):
    """The cross entropy of logits against classes; see `fastconv.cross_entropy`.

    Parameters
    ----------
    weight : array_like, shape (C,), optional
        The weight of each class.
    ignore_index : int
        A sample with this target counts for nothing.
    reduction : {"mean", "sum"}
    label_smoothing : float
        Between 0 and 1.

    Examples
    --------
    >>> from fastconv import nn
    >>> loss = nn.CrossEntropyLoss()
    >>> round(loss([[0.0, 0.0]], [1]), 4)
    0.6931
    >>> loss.backward()
    array([[ 0.5, -0.5]])
    """

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self.weight = None if weight is None else _checks.float_array("weight", weight)
        self.options: dict[str, Any] = {
            "ignore_index": _checks.integer("ignore_index", ignore_index),
            "reduction": _checks.choice("reduction", reduction, ("mean", "sum")),
            "label_smoothing": _checks.number("label_smoothing", label_smoothing, 0, 1),
        }

    def _loss(self, prediction: ArrayLike, target: ArrayLike) -> tuple[float, FloatArray]:
        return functional.cross_entropy(prediction, target, self.weight, **self.options)


class MSELoss(Loss):
    """The mean, or the sum, of the squared differences; see `fastconv.mse_loss`.

    Parameters
    ----------
    reduction : {"mean", "sum"}

    Examples
    --------
    >>> from fastconv import nn
    >>> loss = nn.MSELoss()
    >>> loss([1.0, 2.0], [1.0, 4.0])
    2.0
    >>> loss.backward()
    array([ 0., -2.])
    """

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = _checks.choice("reduction", reduction, ("mean", "sum"))

    def _loss(self, prediction: ArrayLike, target: ArrayLike) -> tuple[float, FloatArray]:
        return functional.mse_loss(prediction, target, reduction=self.reduction)
