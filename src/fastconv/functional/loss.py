"""Losses. Each returns the loss and its gradient by the prediction, since the two share their work."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv._kernels import loss as kernels
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT, computable, promote
from fastconv.functional._output import converted

__all__ = ["cross_entropy", "mse_loss"]

_REDUCTIONS = ("mean", "sum")

# So many multiply-adds a score counts as where threads are handed out: an exponential is computed of it.
_WORK_A_SCORE = 16


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[float, FloatArray]:
    """The cross entropy of softmax(logits) against the true classes, and its gradient by the logits.

    Parameters
    ----------
    logits : array_like, shape (N, C) or (C,) or (N, C, d1, ...)
        Scores, not normalized, of each of the C classes.
    target : array_like
        Integers, of the shape of `logits` without C: the true class of each sample, from 0 to C - 1. Or
        floating-point numbers of the shape of `logits`: the probability of each class.
    weight : array_like, shape (C,), optional
        The weight of each class.
    ignore_index : int
        A sample with this target counts for nothing.
    reduction : {"mean", "sum"}
        "mean" divides the sum over the samples by the sum of the weights of their classes, or, with
        probabilities as target, by the number of samples.
    label_smoothing : float
        Between 0 and 1: the share of the target that is spread evenly over all classes.

    Returns
    -------
    loss : float
        NaN for the mean over no sample at all, or over weights that sum to 0.
    grad_logits : ndarray of the shape of `logits`
        0 for ignored samples; NaN for others where the loss is it.

    Raises
    ------
    ValueError
        The shapes do not fit, or a target is no class.
    TypeError
        `target` is neither integers nor probabilities.

    Examples
    --------
    >>> loss, grad_logits = cross_entropy([[0.0, 0.0]], [1])
    >>> round(loss, 4)
    0.6931
    >>> grad_logits
    array([[ 0.5, -0.5]])
    """
    reduction = _checks.choice("reduction", reduction, _REDUCTIONS)
    smoothing = _checks.number("label_smoothing", label_smoothing, 0, 1)
    ignored = _checks.integer("ignore_index", ignore_index)
    (scores, class_weight), dtype = promote(logits=logits, weight=weight, optional=["weight"])
    _check_has_classes(scores)
    axis = 0 if scores.ndim == 1 else 1
    classes = scores.shape[axis]
    if class_weight is None:
        class_weight = np.ones(classes, scores.dtype)
    _checks.shape("weight", class_weight, (classes,), "one for each class")

    given = _checks.as_array("target", target)
    samples = (*scores.shape[:axis], *scores.shape[axis + 1 :])
    own = probability = None
    if given.dtype.kind in "iu":
        _checks.shape("target", given, samples, "that of logits without the classes")
        own, divisor = _classes(given, class_weight, ignored)
    else:
        _check_probabilities(given, scores.shape)
        probability, divisor = computable(given, scores.dtype), float(math.prod(samples))
    by = divisor if reduction == "mean" else 1
    with np.errstate(all="ignore"):
        total_weight = float(class_weight.sum(dtype=np.float64))
    total, gradient = kernels.cross_entropy(
        scores,
        axis,
        own,
        probability,
        class_weight,
        total_weight,
        smoothing,
        1 / by if by else math.nan,
        threads_for(_WORK_A_SCORE * scores.size),
    )
    return total / by if by else math.nan, converted(gradient, dtype)


def _check_has_classes(logits: FloatArray) -> None:
    needs = "(N, C), (C,) or (N, C, d1, ...) with at least one class"
    if logits.ndim == 0 or logits.shape[0 if logits.ndim == 1 else 1] == 0:
        raise _checks.argument_error("logits", f"shape {logits.shape}", needs)


def _check_probabilities(target: NDArray[Any], logits_shape: tuple[int, ...]) -> None:
    if target.dtype.kind != "f":
        needs = "integers (classes) or floating-point numbers (probabilities)"
        raise _checks.argument_error("target", f"dtype {target.dtype}", needs, TypeError)
    if target.shape != logits_shape:
        needs = f"the shape of logits {logits_shape} for probabilities, or integers for classes"
        raise _checks.argument_error("target", f"{target.dtype} of shape {target.shape}", needs)


def _classes(
    target: NDArray[np.integer[Any]], weight: FloatArray, ignored: int
) -> tuple[NDArray[np.int64], float]:
    """The targets in a row, -1 for those that count for nothing, and the sum of the others' weights."""
    limits = np.iinfo(np.int64)
    numbers = np.minimum(target, limits.max) if target.dtype.kind == "u" and target.itemsize == 8 else target
    numbers = np.require(numbers, np.int64, ["C", "A"])
    possible = ignored if limits.min <= ignored <= limits.max else None
    result, total, wrong = kernels.classes_of(numbers, len(weight), possible, weight.astype(np.float64))
    if wrong >= 0:
        needs = f"classes from 0 to {len(weight) - 1}, or ignore_index = {ignored}"
        raise _checks.argument_error("target", f"class {target.flat[wrong]}", needs)
    return result, total


def mse_loss(
    prediction: ArrayLike, target: ArrayLike, *, reduction: str = "mean"
) -> tuple[float, FloatArray]:
    """The mean, or the sum, of the squared differences, and its gradient by the prediction.

    Parameters
    ----------
    prediction, target : array_like of the same shape
    reduction : {"mean", "sum"}

    Returns
    -------
    loss : float
        NaN for the mean over no element at all.
    grad_prediction : ndarray of the shape of `prediction`

    Raises
    ------
    ValueError
        The shapes differ: nothing is broadcast.

    Examples
    --------
    >>> loss, grad_prediction = mse_loss([1.0, 2.0], [1.0, 0.0])
    >>> loss
    2.0
    >>> grad_prediction
    array([0., 2.])
    """
    reduction = _checks.choice("reduction", reduction, _REDUCTIONS)
    (given, wanted), dtype = promote(prediction=prediction, target=target, halves=True)
    _checks.shape("target", wanted, given.shape, "that of prediction")
    by = given.size if reduction == "mean" else 1
    threads = threads_for(WORK_AN_ELEMENT * given.size)
    total, gradient = kernels.squared_error(given, wanted, 2 / max(by, 1), threads)
    return total / by if by else math.nan, converted(gradient, dtype)
