"""Two-dimensional pooling by windows of one size, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from fastconv._checks import FloatArray, argument_error, as_array, choice
from fastconv._kernels import pool
from fastconv._kernels.memory import new_array
from fastconv._pool_spec import image_size, pool_spec, scatter_work
from fastconv._spec import LAYOUTS, Padding, Pair
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT, promote_one
from fastconv.functional._output import deliver
from fastconv.functional._pooling import (
    AnyArray,
    MaxWithIndices,
    checked_size,
    maximum,
    mean,
    mean_backward,
)

__all__ = ["avg_pool2d", "avg_pool2d_backward", "max_pool2d", "max_pool2d_backward"]


@overload
def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> FloatArray: ...
@overload
def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> MaxWithIndices: ...
@overload
def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> FloatArray | MaxWithIndices: ...
def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> FloatArray | MaxWithIndices:
    r"""Take the largest number of each window.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W); (N, H, W, C) or (H, W, C) with ``layout="NHWC"``
        Images.
    kernel_size : int or (int, int)
        Height and width of a window.
    stride : int or (int, int), optional
        Pixels between windows; by default the kernel's size.
    padding : int, (h, w) or ((top, bottom), (left, right)), default 0
        Pixels around the image that windows may begin and end in; they never win. At most half the kernel.
    dilation : int or (int, int), default 1
        Pixels between the taps of a window.
    ceil_mode : bool, default False
        Round the number of windows up: a last one may hang over the end, if it starts inside the image or the
        padding before it.
    return_indices : bool, default False
        Return where each maximum was found, too; `max_pool2d_backward` needs it.
    layout : {"NCHW", "NHWC"}
        The meaning of the axes of `x` and of the results.
    out : ndarray, optional
        Where to put the maxima: of their shape and dtype, overlapping no input.

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
    The conventions are PyTorch's [1]_: of equal numbers the first wins, row by row; NaN wins over every
    number, and a later NaN over an earlier one. Every window sees at least one pixel: what would give a
    window of padding alone is refused.

    References
    ----------
    .. [1] https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html

    Examples
    --------
    >>> import fastconv as fc
    >>> image = [[[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]]]
    >>> fc.max_pool2d(image, 2)
    array([[[15., 13.],
            [15., 12.]]])
    >>> fc.max_pool2d(image, 2, return_indices=True)[1]
    array([[[ 4,  3],
            [12, 14]]])
    """
    images, dtype = promote_one("x", x, halves=True)
    spec = pool_spec(images.shape, kernel_size, stride, padding, dilation, ceil_mode, True, None, layout)
    return maximum(spec, x, images, dtype, return_indices, out)


def max_pool2d_backward(
    grad_output: ArrayLike, indices: ArrayLike, input_size: Sequence[int], *, layout: str = "NCHW"
) -> FloatArray:
    """Gradient of the input of `max_pool2d`: each number of `grad_output` goes where its maximum was found.

    Parameters
    ----------
    grad_output : array_like, shape (N, C, P, Q), (C, P, Q); (N, P, Q, C), (P, Q, C) with ``layout="NHWC"``
        Gradient of the maxima.
    indices : array_like of integers, of the same shape
        As `max_pool2d` returned them.
    input_size : sequence of int
        The shape of the pool's input.
    layout : {"NCHW", "NHWC"}
        As `max_pool2d` had it.

    Returns
    -------
    ndarray, shape `input_size`
        Of the dtype of `grad_output`; where windows overlap, gradients add up, in the order of the outputs.

    Raises
    ------
    ValueError
        Shapes that don't fit, or an index outside its plane.
    TypeError
        `indices` are no integers, or another argument is of the wrong type.
    MemoryError
        No memory for the result.

    Examples
    --------
    >>> import fastconv as fc
    >>> image = [[[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]]]
    >>> maxima, indices = fc.max_pool2d(image, 2, return_indices=True)
    >>> fc.max_pool2d_backward([[[1.0, 2.0], [3.0, 4.0]]], indices, (1, 4, 4))
    array([[[0., 0., 0., 2.],
            [1., 0., 0., 0.],
            [0., 0., 0., 0.],
            [3., 0., 4., 0.]]])
    """
    grad, dtype = promote_one("grad_output", grad_output)
    size = checked_size(input_size)
    last = choice("layout", layout, LAYOUTS) == "NHWC"
    positions = as_array("indices", indices)
    if positions.dtype.kind not in "iu":
        raise argument_error("indices", f"dtype {positions.dtype}", "integers", TypeError)
    work = scatter_work(size, grad.shape, positions.shape, layout)
    if not grad.size:
        grad_x = new_array(size, grad.dtype.num)
        grad_x.fill(0)
        return deliver(grad_x, dtype, None)
    flags = positions.flags
    if not (positions.dtype == np.int64 and flags.c_contiguous and flags.aligned):
        positions = np.require(positions, np.int64, ["C", "A"])
    result = pool.max_pool_backward(size, last, grad, positions, threads_for(WORK_AN_ELEMENT * work))
    if result is None:
        height, width = image_size("input_size", size, layout)
        got = f"values from {positions.min()} to {positions.max()}"
        raise argument_error(
            "indices", got, f"positions from 0 to {height * width - 1}, of {height} x {width} pixels"
        )
    return deliver(result, dtype, None)


def avg_pool2d(
    x: ArrayLike,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "NCHW",
    out: AnyArray | None = None,
) -> FloatArray:
    r"""Take the mean of each window.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W); (N, H, W, C) or (H, W, C) with ``layout="NHWC"``
        Images.
    kernel_size : int or (int, int)
        Height and width of a window.
    stride : int or (int, int), optional
        Pixels between windows; by default the kernel's size.
    padding : int, (h, w) or ((top, bottom), (left, right)), default 0
        Zeros around the image. At most half the kernel.
    ceil_mode : bool, default False
        Round the number of windows up: a last one may hang over the end, if it starts inside the image or the
        padding before it.
    count_include_pad : bool, default True
        Divide by the pixels of a window inside the padded image; otherwise by those inside the image.
    divisor_override : int, optional
        Divide by this number instead; not 0.
    layout : {"NCHW", "NHWC"}
        The meaning of the axes of `x` and of the result.
    out : ndarray, optional
        Where to put the result: of its shape and dtype, overlapping no input.

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
    The conventions are PyTorch's [1]_. What hangs over the padding's end in `ceil_mode` is never counted.

    References
    ----------
    .. [1] https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html

    Examples
    --------
    >>> import fastconv as fc
    >>> image = [[[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]]]
    >>> fc.avg_pool2d(image, 2)
    array([[[6.5, 8.5],
            [8.5, 6.5]]])
    """
    images, dtype = promote_one("x", x, halves=True)
    spec = pool_spec(
        images.shape, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, layout
    )
    return mean(spec, x, images, dtype, out)


def avg_pool2d_backward(
    grad_output: ArrayLike,
    input_size: Sequence[int],
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "NCHW",
) -> FloatArray:
    """Gradient of the input of `avg_pool2d`: each window shares its gradient out evenly.

    Parameters
    ----------
    grad_output : array_like, shape (N, C, P, Q), (C, P, Q); (N, P, Q, C), (P, Q, C) with ``layout="NHWC"``
        Gradient of the means.
    input_size : sequence of int
        The shape of the pool's input.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout
        As `avg_pool2d` had them.

    Returns
    -------
    ndarray, shape `input_size`
        Of the dtype of `grad_output`.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `avg_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.avg_pool2d_backward([[[4.0, 8.0]]], (1, 2, 4), 2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]])
    """
    grad, dtype = promote_one("grad_output", grad_output, halves=True)
    spec = pool_spec(
        checked_size(input_size),
        kernel_size,
        stride,
        padding,
        1,
        ceil_mode,
        count_include_pad,
        divisor_override,
        layout,
        "input_size",
    )
    return mean_backward(spec, grad, dtype)
