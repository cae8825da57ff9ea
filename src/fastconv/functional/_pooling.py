"""What all pools do once their geometry is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv._checks import FloatArray, argument_error, boolean, integer, shape
from fastconv._kernels import pool
from fastconv._pool_spec import PoolSpec
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT
from fastconv.functional._output import checked_out, deliver
from fastconv.functional._ways import Way

__all__ = [
    "AnyArray",
    "MaxWithIndices",
    "checked_size",
    "maximum",
    "maximum_way",
    "mean",
    "mean_backward",
    "mean_way",
]

MaxWithIndices: TypeAlias = tuple[FloatArray, NDArray[np.int64]]
AnyArray: TypeAlias = np.ndarray[Any, Any]


def checked_size(input_size: Sequence[int]) -> tuple[int, ...]:
    """The argument `input_size` of a gradient, as a tuple of int."""
    if type(input_size) is not tuple and (
        isinstance(input_size, (str, bytes)) or not isinstance(input_size, Sequence)
    ):
        raise argument_error(
            "input_size", repr(input_size), "a sequence of integers, the shape of x", TypeError
        )
    # As keys of a cache True, 1 and 1.0 are one, so everything else becomes an int first.
    return tuple(n if type(n) is int and n >= 0 else integer("input_size", n, 0) for n in input_size)


def maximum(
    spec: PoolSpec,
    x: ArrayLike,
    images: FloatArray,
    dtype: np.dtype[Any],
    return_indices: bool,
    out: AnyArray | None,
) -> FloatArray | MaxWithIndices:
    """The maxima of `images`, which are `x` made computable; `dtype` is the result's."""
    if return_indices is not False and return_indices is not True:
        return_indices = boolean("return_indices", return_indices)
    target = None if out is None else checked_out(out, spec.out_shape, dtype, x)
    geometry, threads = spec.geometry(images.dtype), threads_for(WORK_AN_ELEMENT * spec.work)
    if return_indices:
        maxima, indices = pool.max_pool_with_indices(geometry, images, target, threads)
        return deliver(maxima, dtype, out), indices
    return deliver(pool.max_pool(geometry, images, target, threads), dtype, out)


def mean(
    spec: PoolSpec, x: ArrayLike, images: FloatArray, dtype: np.dtype[Any], out: AnyArray | None
) -> FloatArray:
    """The means of `images`; see `maximum`."""
    target = None if out is None else checked_out(out, spec.out_shape, dtype, x)
    threads = threads_for(WORK_AN_ELEMENT * spec.work)
    return deliver(pool.avg_pool(spec.geometry(images.dtype), images, target, threads), dtype, out)


def mean_backward(spec: PoolSpec, grad: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    """The gradient of means by the images."""
    shape("grad_output", grad, spec.out_shape, "the shape of the pool's result")
    threads = threads_for(WORK_AN_ELEMENT * spec.work)
    return deliver(pool.avg_pool_backward(spec.geometry(grad.dtype), grad, threads), dtype, None)


def maximum_way(spec: PoolSpec, char: str) -> Way:
    """How to take the maxima alone."""
    geometry, work = spec.geometry(np.dtype(char)), WORK_AN_ELEMENT * spec.work
    return Way(lambda images: pool.max_pool(geometry, images, None, threads_for(work)), spec.out_shape)


def mean_way(spec: PoolSpec, char: str) -> Way:
    """How to take the means."""
    geometry, work = spec.geometry(np.dtype(char)), WORK_AN_ELEMENT * spec.work
    return Way(lambda images: pool.avg_pool(geometry, images, None, threads_for(work)), spec.out_shape)
