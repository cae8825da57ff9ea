"""Losses. Each returns the loss and its gradient by the prediction, since the two share their work."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv.functional._input import promote
from fastconv.functional._output import converted
from fastconv.functional.activation import log_softmax

__all__ = ["cross_entropy", "mse_loss"]

_REDUCTIONS = ("mean", "sum")


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
        NaN for the mean over no sample at all.
    grad_logits : ndarray of the shape of `logits`

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

    moved = np.moveaxis(np.asarray(log_softmax(scores, axis)), axis, -1)
    log_probability = moved.reshape(-1, classes)
    given = _checks.as_array("target", target)
    if given.dtype.kind in "iu":
        _checks.shape("target", given, moved.shape[:-1], "that of logits without the classes")
        loss, grad, divisor = _by_class(log_probability, given.ravel(), class_weight, ignored, smoothing)
    else:
        _check_probabilities(given, scores.shape)
        probability = np.moveaxis(given, axis, -1).reshape(-1, classes)
        loss, grad, divisor = _by_probability(log_probability, probability, class_weight, smoothing)
    if reduction == "mean":
        loss = loss / divisor if divisor else math.nan
        grad /= divisor or 1
    return loss, converted(np.ascontiguousarray(np.moveaxis(grad.reshape(moved.shape), -1, axis)), dtype)


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


def _by_class(
    log_probability: FloatArray,
    target: NDArray[np.integer[Any]],
    weight: FloatArray,
    ignored: int,
    smoothing: float,
) -> tuple[float, FloatArray, float]:
    """The summed loss of samples (M, C) with targets (M,), its gradient, and what a mean is divided by."""
    classes = len(weight)
    counts = target != ignored
    wrong = counts & ((target < 0) | (target >= classes))
    if wrong.any():
        needs = f"classes from 0 to {classes - 1}, or ignore_index = {ignored}"
        raise _checks.argument_error("target", f"class {target[wrong][0]}", needs)
    own = np.arange(len(target)), np.where(counts, target, 0).astype(np.intp)
    own_weight = weight[own[1]] * counts
    share = own_weight * (1 - smoothing)
    loss = -float(share @ log_probability[own])
    grad = np.exp(log_probability)
    if smoothing:
        even = counts[:, None] * (weight * (smoothing / classes))
        loss -= float(np.vdot(even, log_probability))
        grad *= (share + even.sum(axis=1))[:, None]
        grad -= even
    else:
        grad *= share[:, None]
    grad[own] -= share
    return loss, grad, float(own_weight.sum(dtype=np.float64))


def _by_probability(
    log_probability: FloatArray, target: NDArray[Any], weight: FloatArray, smoothing: float
) -> tuple[float, FloatArray, float]:
    """The summed loss of samples (M, C) with targets (M, C), its gradient, and what a mean is divided by."""
    wanted = target.astype(weight.dtype)
    if smoothing:
        wanted *= 1 - smoothing
        wanted += smoothing / len(weight)
    wanted *= weight
    grad = np.exp(log_probability)
    grad *= wanted.sum(axis=1, keepdims=True)
    grad -= wanted
    return -float(np.vdot(wanted, log_probability)), grad, len(wanted)


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
    (given, wanted), dtype = promote(prediction=prediction, target=target)
    _checks.shape("target", wanted, given.shape, "that of prediction")
    difference = np.asarray(given - wanted)
    loss = float(np.vdot(difference, difference))
    if reduction == "sum":
        return loss, converted(2 * difference, dtype)
    count = difference.size
    difference *= 2 / max(count, 1)
    return loss / count if count else math.nan, converted(difference, dtype)
