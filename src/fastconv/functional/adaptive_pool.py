"""Two-dimensional pooling into a number of bins, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from numpy.typing import ArrayLike

from fastconv._checks import FloatArray, choice
from fastconv._pool_spec import adaptive_spec, image_size
from fastconv._spec import LAYOUTS
from fastconv.functional._input import promote_one
from fastconv.functional._pooling import (
    AnyArray,
    MaxWithIndices,
    checked_size,
    maximum,
    mean,
    mean_backward,
)
from fastconv.functional.pool import max_pool2d_backward

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
]


@overload
def adaptive_max_pool2d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: Literal[False] = False,
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> FloatArray: ...
@overload
def adaptive_max_pool2d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: Literal[True],
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> MaxWithIndices: ...
@overload
def adaptive_max_pool2d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> FloatArray | MaxWithIndices: ...
def adaptive_max_pool2d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> FloatArray | MaxWithIndices:
    """Take the largest number of each of a given number of bins, whatever the size of the image.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W); (N, H, W, C) or (H, W, C) with ``layout="NHWC"``
        Images.
    output_size : int or (int, int)
        Bins along the height and the width, (P, Q); None stands for the size of the image.
    return_indices, layout, out
        As in `max_pool2d`.

    Returns
    -------
    maxima : ndarray, shape (N, C, P, Q) or (C, P, Q); (N, P, Q, C) or (P, Q, C) with ``layout="NHWC"``
        Of the dtype of `x`; of float32 or float64 for integers.
    indices : ndarray of int64, of the same shape
        With `return_indices` only: the flat position h * W + w of each maximum in its plane.

    Raises
    ------
    ValueError, TypeError
        An argument that doesn't fit; the message names it, what it got and what it needs.
    MemoryError
        No memory for the result.

    Notes
    -----
    Bin p holds the rows from floor(p H / P) up to, without it, ceil((p + 1) H / P); columns alike, as in
    PyTorch.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.adaptive_max_pool2d([[[1.0, 2.0, 3.0, 4.0, 5.0]]], (1, 2))
    array([[[3., 5.]]])
    """
    images, dtype = promote_one("x", x, halves=True)
    return maximum(adaptive_spec(images.shape, output_size, layout), x, images, dtype, return_indices, out)


def adaptive_max_pool2d_backward(
    grad_output: ArrayLike, indices: ArrayLike, input_size: Sequence[int], *, layout: str = "NCHW"
) -> FloatArray:
    """Gradient of the input of `adaptive_max_pool2d`; all as in `max_pool2d_backward`.

    Examples
    --------
    >>> import fastconv as fc
    >>> maxima, indices = fc.adaptive_max_pool2d([[[1.0, 2.0, 3.0, 4.0, 5.0]]], (1, 2), return_indices=True)
    >>> fc.adaptive_max_pool2d_backward([[[7.0, 8.0]]], indices, (1, 1, 5))
    array([[[0., 0., 7., 0., 8.]]])
    """
    return max_pool2d_backward(grad_output, indices, input_size, layout=layout)


def adaptive_avg_pool2d(
    x: ArrayLike,
    output_size: int | tuple[int | None, int | None] | None,
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> FloatArray:
    """Take the mean of each of a given number of bins, whatever the size of the image.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W); (N, H, W, C) or (H, W, C) with ``layout="NHWC"``
        Images.
    output_size : int or (int, int)
        Bins along the height and the width, (P, Q); None stands for the size of the image.
    layout, out
        As in `avg_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, P, Q) or (C, P, Q); (N, P, Q, C) or (P, Q, C) with ``layout="NHWC"``
        Of the dtype of `x`; of float32 or float64 for integers.

    Raises
    ------
    ValueError, TypeError
        An argument that doesn't fit; the message names it, what it got and what it needs.
    MemoryError
        No memory for the result.

    Notes
    -----
    The bins are those of `adaptive_max_pool2d`; a mean is that of the pixels in its bin.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool2d([[[1.0, 2.0, 3.0, 4.0, 5.0]]], (1, 2))
    array([[[2., 4.]]])
    """
    images, dtype = promote_one("x", x, halves=True)
    return mean(adaptive_spec(images.shape, output_size, layout), x, images, dtype, out)


def adaptive_avg_pool2d_backward(
    grad_output: ArrayLike, input_size: Sequence[int], *, layout: str = "NCHW"
) -> FloatArray:
    """Gradient of the input of `adaptive_avg_pool2d`: each bin shares its gradient out evenly.

    Parameters
    ----------
    grad_output : array_like, shape (N, C, P, Q), (C, P, Q); (N, P, Q, C), (P, Q, C) with ``layout="NHWC"``
        Gradient of the means.
    input_size : sequence of int
        The shape of the pool's input.
    layout : {"NCHW", "NHWC"}
        As `adaptive_avg_pool2d` had it.

    Returns
    -------
    ndarray, shape `input_size`
        Of the dtype of `grad_output`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `adaptive_avg_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool2d_backward([[[6.0, 12.0]]], (1, 1, 5))
    array([[[2., 2., 6., 4., 4.]]])
    """
    grad, dtype = promote_one("grad_output", grad_output, halves=True)
    bins = image_size("grad_output", grad.shape, choice("layout", layout, LAYOUTS))
    return mean_backward(adaptive_spec(checked_size(input_size), bins, layout, "input_size"), grad, dtype)
