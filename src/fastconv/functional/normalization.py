"""Batch normalization (Ioffe, Szegedy 2015) and local response normalization (Krizhevsky et al. 2012)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv._kernels import normalization as kernels
from fastconv._kernels.response_norm import response_norm
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT, promote
from fastconv.functional._output import converted

__all__ = [
    "BatchStatistics",
    "batch_norm",
    "batch_norm_backward",
    "local_response_norm",
    "local_response_norm_backward",
]

# So many multiply-adds an element counts as where threads are handed out: roots and quotients are computed.
_WORK_A_RESPONSE = 16

_OPTIONAL = ("running_mean", "running_var", "weight", "bias")

BatchStatistics: TypeAlias = tuple[FloatArray, FloatArray]
"""Mean and 1 / sqrt(variance + eps) of each channel, which normalized a batch."""


# ---- Batch normalization. All of it works on a view of x as (N, C, L): for NHWC that is (N H W, C, 1). ----


def _as_ncl(array: FloatArray, layout: str) -> FloatArray:
    """(N, C, ...) or (N, ..., C) as (N, C, L), without a copy; zero-size arrays included."""
    if layout == "NHWC":
        return array.reshape(math.prod(array.shape[:-1]), array.shape[-1], 1)
    return array.reshape(array.shape[0], array.shape[1], math.prod(array.shape[2:]))


def _per_channel(values: FloatArray, like: FloatArray) -> FloatArray:
    """A value for each channel, in the dtype of `like`, as kernels take it."""
    return np.ascontiguousarray(values, like.dtype)


def _mean_of(ncl: FloatArray, threads: int) -> FloatArray:
    return np.asarray(kernels.channel_sums(ncl, None, None, threads) / (ncl.shape[0] * ncl.shape[2]))


def _variance_of(ncl: FloatArray, mean: FloatArray, threads: int) -> FloatArray:
    """The mean square distance from the mean, which is in the dtype of `ncl`."""
    return np.asarray(kernels.channel_sums(ncl, None, mean, threads) / (ncl.shape[0] * ncl.shape[2]))


def _check_batch_norm(
    x: FloatArray, layout: str, running: dict[str, Any], training: bool, **per_channel: FloatArray | None
) -> None:
    _checks.choice("layout", layout, ("NCHW", "NHWC"))
    if x.ndim < 2:
        raise _checks.argument_error(
            "x", f"shape {x.shape}", "at least 2 axes: (N, C), (N, C, L) or (N, C, H, W)"
        )
    channels = x.shape[-1] if layout == "NHWC" else x.shape[1]
    for name, value in (*running.items(), *per_channel.items()):
        if value is not None:
            _checks.shape(name, np.asarray(value), (channels,), "one for each channel of x")
    present = [value is not None for value in running.values()]
    if any(present) != all(present):
        missing = next(name for name, value in running.items() if value is None)
        raise _checks.argument_error(missing, None, "an array, as the other running statistic is one")
    if not training and not any(present):
        raise _checks.argument_error("running_mean", None, "an array unless training=True")


def _check_updatable(running: dict[str, Any]) -> None:
    for name, value in running.items():
        if value is None:
            continue
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            got = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
            raise _checks.argument_error(
                name, got, "a floating-point ndarray, to be updated in place", TypeError
            )
        if not value.flags.writeable:
            raise _checks.argument_error(name, "a read-only array", "a writable one, to be updated in place")


@overload
def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
    return_statistics: Literal[False] = False,
) -> FloatArray: ...


@overload
def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
    return_statistics: Literal[True],
) -> tuple[FloatArray, BatchStatistics]: ...


@np.errstate(all="ignore")
def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
    return_statistics: bool = False,
) -> FloatArray | tuple[FloatArray, BatchStatistics]:
    """Normalize each channel: (x - mean) / sqrt(variance + eps) * weight + bias.

    Parameters
    ----------
    x : array_like, shape (N, C), (N, C, L) or (N, C, H, W)
        With ``layout="NHWC"`` the channels are the last axis.
    running_mean, running_var : array_like, shape (C,), or both None
        The statistics to normalize by when not training. When training they are arrays that are updated in
        place: running = (1 - momentum) * running + momentum * that of the batch, with the unbiased variance
        (division by n - 1). They can be None when training.
    weight, bias : array_like, shape (C,), optional
        1 and 0 by default.
    training : bool
        Normalize by the mean and the biased variance (division by n) of this batch.
    momentum : float
        The share of this batch in the running statistics, between 0 and 1.
    eps : float
        Added to the variance.
    layout : {"NCHW", "NHWC"}
    return_statistics : bool
        Also return what the batch was normalized by, which spares `batch_norm_backward` computing it again.

    Returns
    -------
    output : ndarray of the shape of `x`
    statistics : tuple of two ndarrays, shape (C,)
        The mean and 1 / sqrt(variance + eps) of each channel; only with `return_statistics`.

    Raises
    ------
    ValueError
        The shapes do not fit; a running statistic to be updated is read-only, or missing when not training;
        in training, a channel has a single value, whose variance says nothing.
    TypeError
        A running statistic to be updated is no floating-point array.

    Notes
    -----
    The variance is the mean square distance from the mean, in a second pass over `x`, and the sums are taken
    in small blocks and these in float64: a large mean does not spoil it. An empty batch leaves the running
    statistics as they are. A variance of zero with an `eps` of zero, and numbers that are not finite, give
    what is not finite; NumPy's error state does not matter.

    Examples
    --------
    >>> mean, var = np.zeros(1), np.ones(1)
    >>> batch_norm([[1.0], [3.0]], mean, var, training=True, eps=0.0)
    array([[-1.],
           [ 1.]])
    >>> mean, var
    (array([0.2]), array([1.1]))
    """
    training = _checks.boolean("training", training)
    return_statistics = _checks.boolean("return_statistics", return_statistics)
    momentum = _checks.number("momentum", momentum, 0, 1)
    eps = _checks.number("eps", eps, 0)
    (data, mean, var, gamma, beta), dtype = promote(
        x=x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias, optional=_OPTIONAL
    )
    running = {"running_mean": running_mean, "running_var": running_var}
    _check_batch_norm(data, layout, running, training, weight=gamma, bias=beta)
    if training:
        _check_updatable(running)
    ncl = _as_ncl(data, layout)
    count = ncl.shape[0] * ncl.shape[2]
    if training and count == 1:
        raise _checks.argument_error(
            "x", f"shape {data.shape}", "more than one value a channel when training"
        )

    threads = threads_for(WORK_AN_ELEMENT * ncl.size)
    channels = ncl.shape[1]
    if training and count:
        exact_mean = _mean_of(ncl, threads)
        mean = _per_channel(exact_mean, ncl)
        var = _variance_of(ncl, mean, threads)
    elif mean is None:
        mean = var = np.zeros(channels, ncl.dtype)
    inv_std = 1 / np.sqrt(var.astype(np.float64) + eps) if count else np.ones(channels)
    scale = _per_channel(inv_std if gamma is None else inv_std * gamma, ncl)
    shift = np.zeros_like(scale) if beta is None else beta
    # A float16 array was converted into one of our own.
    output = kernels.affine(ncl, mean, scale, shift, threads, ncl if dtype == np.float16 else None)
    result = converted(output.reshape(data.shape), dtype)
    statistics = (np.array(mean, ncl.dtype), np.array(inv_std, ncl.dtype)) if return_statistics else None
    if training and running_mean is not None and count:
        updates: list[tuple[Any, FloatArray]] = [
            (running_mean, _blend(running_mean, exact_mean, momentum)),
            (running_var, _blend(running_var, var * (count / (count - 1)), momentum)),
        ]
        for running_statistic, value in updates:  # all that may fail is behind us
            running_statistic[...] = value
    return result if statistics is None else (result, statistics)


def _blend(running: Any, batch: FloatArray, momentum: float) -> FloatArray:
    return np.asarray(running * (1 - momentum) + momentum * batch)


def _checked_statistics(statistics: Any, channels: int) -> BatchStatistics:
    try:
        mean, inv_std = statistics
    except (TypeError, ValueError):
        needs = "a pair of arrays, as batch_norm returns it"
        raise _checks.argument_error("statistics", type(statistics).__name__, needs, TypeError) from None
    parts = _checks.as_array("statistics", mean), _checks.as_array("statistics", inv_std)
    for part in parts:
        _checks.shape("statistics", part, (channels,), "one for each channel of x")
    return parts


@np.errstate(all="ignore")
def batch_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    training: bool = False,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
    statistics: BatchStatistics | None = None,
    need: Iterable[str] = ("x", "weight", "bias"),
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """The gradients of `batch_norm` by its input, weight and bias.

    Parameters
    ----------
    grad_output, x : array_like, shape (N, C), (N, C, L) or (N, C, H, W)
    running_mean, running_var, weight, training, eps, layout
        As given to `batch_norm`. The running statistics matter only when not training, where the gradient
        takes them for constants.
    statistics : tuple of two ndarrays, shape (C,), optional
        As returned by ``batch_norm(..., return_statistics=True)``; computed again by default.
    need : iterable of str
        Which gradients to compute: any of "x", "weight" and "bias".

    Returns
    -------
    grad_x : ndarray of the shape of `x`, or None where not needed
    grad_weight, grad_bias : ndarray, shape (C,), or None where not needed

    Raises
    ------
    ValueError, TypeError
        As `batch_norm`.

    Examples
    --------
    >>> grad_x, grad_weight, grad_bias = batch_norm_backward(
    ...     [[1.0], [0.0], [0.0]], [[-1.0], [0.0], [1.0]], training=True, eps=0.0
    ... )
    >>> grad_bias
    array([1.])
    """
    wanted = _checks.subset("need", need, ("x", "weight", "bias"))
    training = _checks.boolean("training", training)
    eps = _checks.number("eps", eps, 0)
    (grad, data, mean, var, gamma), dtype = promote(
        grad_output=grad_output,
        x=x,
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        optional=_OPTIONAL,
    )
    running = {"running_mean": mean, "running_var": var}
    _check_batch_norm(data, layout, running, training or statistics is not None, weight=gamma)
    _checks.shape("grad_output", grad, data.shape, "that of x")
    ncl, gradient = _as_ncl(data, layout), _as_ncl(grad, layout)
    count = ncl.shape[0] * ncl.shape[2]
    channels = ncl.shape[1]

    threads = threads_for(WORK_AN_ELEMENT * ncl.size)
    if statistics is not None:
        mean, inv_std = _checked_statistics(statistics, channels)
    elif count == 0:
        mean, inv_std = np.zeros(channels), np.ones(channels)
    else:
        if training:
            mean = _per_channel(_mean_of(ncl, threads), ncl)
            var = _variance_of(ncl, mean, threads)
        inv_std = 1 / np.sqrt(var.astype(np.float64) + eps)
    center = _per_channel(mean, ncl)
    grad_bias = kernels.channel_sums(gradient, None, None, threads)
    grad_weight = kernels.channel_sums(gradient, ncl, center, threads) * inv_std

    grad_x = None
    if "x" in wanted:
        scale = _per_channel(inv_std if gamma is None else inv_std * gamma, ncl)
        nothing = np.zeros_like(scale)
        if training and count:
            # The batch's mean and variance depend on x as well: of the gradient remains what is orthogonal
            # to the constant and to the normalized values.
            slope = _per_channel(grad_weight * inv_std / -count, ncl)
            offset = _per_channel(grad_bias / count, ncl)
            grad_ncl = kernels.affine_sum(gradient, offset, scale, nothing, ncl, center, slope, threads)
        else:
            grad_ncl = kernels.affine(gradient, nothing, scale, nothing, threads)
        grad_x = converted(grad_ncl.reshape(data.shape), dtype)
    return (
        grad_x,
        np.asarray(grad_weight, dtype) if "weight" in wanted else None,
        np.asarray(grad_bias, dtype) if "bias" in wanted else None,
    )


# ---- Local response normalization ----


def _check_response_norm(
    x: FloatArray, size: int, alpha: float, beta: float, k: float, layout: str
) -> tuple[int, float, float, float]:
    _checks.choice("layout", layout, ("NCHW", "NHWC"))
    if x.ndim < 3:
        raise _checks.argument_error("x", f"shape {x.shape}", "at least 3 axes: (N, C, L) or (N, C, H, W)")
    return (
        _checks.integer("size", size, 1, _checks.MOST_INTEGER),
        _checks.number("alpha", alpha),
        _checks.number("beta", beta),
        _checks.number("k", k),
    )


def _response(
    x: FloatArray,
    grad_output: FloatArray | None,
    layout: str,
    size: int,
    alpha: float,
    beta: float,
    k: float,
) -> FloatArray:
    """What `local_response_norm` makes of `x`, or, with `grad_output`, its gradient by `x`."""
    ncl, threads = _as_ncl(x, layout), threads_for(_WORK_A_RESPONSE * x.size)
    grad = None if grad_output is None else _as_ncl(grad_output, layout)
    # A window may be wider than any array.
    before, after = (min(n, ncl.shape[1]) for n in (size // 2, (size - 1) // 2))
    return response_norm(ncl, grad, before, after, alpha / size, beta, k, threads).reshape(x.shape)


def local_response_norm(
    x: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, layout: str = "NCHW"
) -> FloatArray:
    """x / (k + alpha / size * s)^beta, where s sums the squares over `size` neighbouring channels.

    Parameters
    ----------
    x : array_like, shape (N, C, L) or (N, C, H, W)
        With ``layout="NHWC"`` the channels are the last axis.
    size : int
        Channels c - size // 2 to c + (size - 1) // 2 take part, as far as they exist.
    alpha, beta, k : float
    layout : {"NCHW", "NHWC"}

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    ValueError
        `x` has fewer than 3 axes, or `size` is less than 1.

    Examples
    --------
    >>> local_response_norm(np.ones((1, 3, 1)), size=3, alpha=3.0, beta=1.0).ravel()
    array([0.33333333, 0.25      , 0.33333333])
    """
    (data,), dtype = promote(x=x)
    size, alpha, beta, k = _check_response_norm(data, size, alpha, beta, k, layout)
    return converted(_response(data, None, layout, size, alpha, beta, k), dtype)


def local_response_norm_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    layout: str = "NCHW",
) -> FloatArray:
    """The gradient of `local_response_norm` by its input.

    Parameters
    ----------
    grad_output, x : array_like, shape (N, C, L) or (N, C, H, W)
    size, alpha, beta, k, layout
        As given to `local_response_norm`.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    ValueError
        The shapes do not fit.

    Examples
    --------
    >>> ones = np.ones((1, 3, 1))
    >>> local_response_norm_backward(ones, ones, size=1, alpha=1.0, beta=1.0).ravel()
    array([0., 0., 0.])
    """
    (grad, data), dtype = promote(grad_output=grad_output, x=x)
    size, alpha, beta, k = _check_response_norm(data, size, alpha, beta, k, layout)
    _checks.shape("grad_output", grad, data.shape, "that of x")
    return converted(_response(data, grad, layout, size, alpha, beta, k), dtype)
