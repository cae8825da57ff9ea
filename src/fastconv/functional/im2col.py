"""The column matrix of a convolution, and the images that columns add up to: PyTorch's unfold and fold."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from fastconv._checks import FloatArray, shape
from fastconv._columns_spec import columns_spec, image_shape
from fastconv._kernels import columns
from fastconv._kernels.memory import new_array
from fastconv._spec import Padding
from fastconv._threads import threads_for
from fastconv.functional._input import promote
from fastconv.functional._output import deliver

__all__ = ["col2im", "col2im_backward", "im2col", "im2col_backward"]

# A column's element costs a move and no more; threads_for counts eight multiply-adds for that.
_MULTIPLY_ADDS_A_MOVE = 8


def im2col(
    x: ArrayLike,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
) -> FloatArray:
    """The windows of images as the columns of a matrix; PyTorch's unfold.

    The product of a convolution's weight, as a matrix (K, C * R * S), with this is the convolution. The
    matrix is R * S times as large as the images; `conv2d` never makes it.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        Images.
    kernel_size : int or (int, int)
        R and S, the pixels of a window.
    stride, dilation : int or (int, int), default 1
        Pixels between windows, and between the pixels of a window.
    padding : int, (h, w), ((top, bottom), (left, right)), "same" or "valid", default 0
        Zeros around the image, as in `conv2d`.

    Returns
    -------
    ndarray, shape (N, C * R * S, P * Q) or (C * R * S, P * Q)
        P and Q are `conv_output_size`. Rows are ordered by channel, then by the window's row and column.

    Raises
    ------
    ValueError, TypeError
        An argument that doesn't fit; the message names it, what it got and what it needs.
    MemoryError
        No memory for the matrix.

    See Also
    --------
    col2im : Its gradient.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.im2col([[[1, 2, 3], [4, 5, 6]]], kernel_size=2)
    array([[1., 2.],
           [2., 3.],
           [4., 5.],
           [5., 6.]])
    """
    return _gather("x", x, None, kernel_size, stride, padding, dilation)


def im2col_backward(
    grad_output: ArrayLike,
    input_size: Sequence[int],
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
) -> FloatArray:
    """The gradient of `im2col`, which is `col2im`.

    Parameters
    ----------
    grad_output : array_like, shape (N, C * R * S, P * Q) or (C * R * S, P * Q)
        Gradient of the matrix.
    input_size : sequence of int
        The shape of `im2col`'s images.
    kernel_size, stride, padding, dilation
        As `im2col` had them.

    Returns
    -------
    ndarray of shape `input_size`

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `im2col`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.im2col_backward(np.ones((4, 2)), (1, 2, 3), kernel_size=2)
    array([[[1., 2., 1.],
            [1., 2., 1.]]])
    """
    return _add("grad_output", grad_output, input_size, kernel_size, stride, padding, dilation)


def col2im(
    cols: ArrayLike,
    input_size: Sequence[int],
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
) -> FloatArray:
    """Images whose pixels are the sums of what columns hold for them; PyTorch's fold.

    Parameters
    ----------
    cols : array_like, shape (N, C * R * S, P * Q) or (C * R * S, P * Q)
        Columns, as `im2col` makes them.
    input_size : sequence of int
        The shape of the images, (N, C, H, W) or (C, H, W).
    kernel_size, stride, padding, dilation
        As `im2col` has them.

    Returns
    -------
    ndarray of shape `input_size`

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `im2col`.

    See Also
    --------
    im2col : Takes windows out of images.

    Examples
    --------
    >>> import fastconv as fc
    >>> columns = fc.im2col([[[1, 2, 3], [4, 5, 6]]], kernel_size=2)
    >>> fc.col2im(columns, (1, 2, 3), kernel_size=2)
    array([[[ 1.,  4.,  3.],
            [ 4., 10.,  6.]]])
    """
    return _add("cols", cols, input_size, kernel_size, stride, padding, dilation)


def col2im_backward(
    grad_output: ArrayLike,
    input_size: Sequence[int],
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
) -> FloatArray:
    """The gradient of `col2im`, which is `im2col`.

    Parameters
    ----------
    grad_output : array_like, shape (N, C, H, W) or (C, H, W)
        Gradient of the images.
    input_size : sequence of int
        The shape of the images.
    kernel_size, stride, padding, dilation
        As `col2im` had them.

    Returns
    -------
    ndarray, shape (N, C * R * S, P * Q) or (C * R * S, P * Q)

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `im2col`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.col2im_backward([[[1, 2, 3], [4, 5, 6]]], (1, 2, 3), kernel_size=2)
    array([[1., 2.],
           [2., 3.],
           [4., 5.],
           [5., 6.]])
    """
    return _gather("grad_output", grad_output, input_size, kernel_size, stride, padding, dilation)


def _gather(
    name: str,
    images: ArrayLike,
    input_size: Sequence[int] | None,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: Padding,
    dilation: int | tuple[int, int],
) -> FloatArray:
    (x,), dtype = promote(**{name: images})
    if input_size is not None:
        shape(name, x, image_shape("input_size", input_size), "input_size")
    spec = columns_spec(name, x.shape, kernel_size, stride, padding, dilation)
    cols = new_array(spec.cols_shape, x.dtype.num)
    if cols.size:
        columns.im2col(spec.geometry, x, cols, threads_for(cols.size * _MULTIPLY_ADDS_A_MOVE))
    return deliver(cols, dtype, None)


def _add(
    name: str,
    columns_: ArrayLike,
    input_size: Sequence[int],
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: Padding,
    dilation: int | tuple[int, int],
) -> FloatArray:
    (cols,), dtype = promote(**{name: columns_})
    x_shape = image_shape("input_size", input_size)
    spec = columns_spec("input_size", x_shape, kernel_size, stride, padding, dilation)
    shape(name, cols, spec.cols_shape, "that of im2col's result")
    x = new_array(x_shape, cols.dtype.num)
    if x.size:
        columns.col2im(spec.geometry, cols, x, threads_for(cols.size * _MULTIPLY_ADDS_A_MOVE))
    return deliver(x, dtype, None)
