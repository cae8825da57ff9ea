"""Dropout (Srivastava et al., 2014), in its inverted form: what is kept is scaled up while training."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv._kernels import elementwise
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT, promote_one
from fastconv.functional._output import converted

__all__ = ["dropout", "dropout_backward"]


def _apply(array: FloatArray, mask: NDArray[np.bool_], p: float) -> FloatArray:
    """`array` where the mask is set, scaled, and 0 elsewhere; float16 is converted on the way."""
    scale = 1 / (1 - p) if p < 1 else 1
    return elementwise.keep(array, mask, scale, threads_for(WORK_AN_ELEMENT * array.size))


def dropout(
    x: ArrayLike, p: float = 0.5, training: bool = True, *, rng: np.random.Generator | None = None
) -> tuple[FloatArray, NDArray[np.bool_] | None]:
    """Set each element to zero with probability `p`, and scale the others by 1 / (1 - p).

    Parameters
    ----------
    x : array_like of any shape
    p : float
        Between 0 and 1.
    training : bool
        False returns `x` as it is.
    rng : numpy.random.Generator, optional
        Where the random numbers come from; by default a freshly seeded generator. Which elements are dropped
        does not depend on the dtype of `x`.

    Returns
    -------
    output : ndarray of the shape of `x`
    mask : ndarray of bool, or None
        True where an element was kept, which `dropout_backward` needs; None where nothing could be dropped,
        that is with ``training=False`` or ``p=0``.

    Raises
    ------
    ValueError
        `p` is not between 0 and 1.

    Examples
    --------
    >>> output, mask = dropout([1.0, 1.0, 1.0, 1.0], 0.5, rng=np.random.default_rng(1))
    >>> output
    array([0., 2., 2., 2.])
    >>> mask
    array([False,  True,  True,  True])
    """
    p = _checks.number("p", p, 0, 1)
    training = _checks.boolean("training", training)
    generator = _checks.generator("rng", rng)
    data, dtype = promote_one("x", x, halves=True)
    if not training or p == 0:
        return np.array(data, dtype), None
    mask = np.asarray(generator.random(data.shape, dtype=np.float32) >= p)
    return converted(_apply(data, mask, p), dtype), mask


def dropout_backward(grad_output: ArrayLike, mask: NDArray[np.bool_] | None, p: float = 0.5) -> FloatArray:
    """The gradient of `dropout` by its input: 0 where dropped, else scaled by 1 / (1 - p).

    Parameters
    ----------
    grad_output : array_like
    mask : ndarray of bool of the same shape, or None
        As `dropout` gave it.
    p : float
        As given to `dropout`.

    Returns
    -------
    ndarray of the shape of `grad_output`

    Raises
    ------
    ValueError
        `p` is not between 0 and 1, or the shapes differ.
    TypeError
        `mask` is no array of bool.

    Examples
    --------
    >>> dropout_backward([1.0, 1.0], mask=[True, False], p=0.5)
    array([2., 0.])
    """
    p = _checks.number("p", p, 0, 1)
    grad, dtype = promote_one("grad_output", grad_output, halves=True)
    if mask is None:
        return np.array(grad, dtype)
    kept = _checks.as_array("mask", mask)
    if kept.dtype != np.bool_:
        raise _checks.argument_error("mask", f"dtype {kept.dtype}", "an array of bool or None", TypeError)
    _checks.shape("grad_output", grad, kept.shape, "that of mask")
    return converted(_apply(grad, np.require(kept, requirements="C"), p), dtype)
