"""The book's common/util.py: windows of images as rows of a matrix, and back."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastconv import functional
from fastconv._checks import FLOAT64, FloatArray, axes, float_array

__all__ = ["col2im", "im2col"]


def im2col(input_data: ArrayLike, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0) -> FloatArray:
    """The windows of images as rows of a matrix.

    Parameters
    ----------
    input_data : array_like, shape (N, C, H, W)
    filter_h, filter_w, stride, pad : int

    Returns
    -------
    ndarray of float64, shape (N * out_h * out_w, C * filter_h * filter_w)

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.compat import dlfs
    >>> dlfs.im2col(np.arange(9).reshape(1, 1, 3, 3), 2, 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    images = float_array("input_data", input_data, FLOAT64)
    axes("input_data", images, "N, C, H, W")
    cols = functional.im2col(images, (filter_h, filter_w), stride, pad)
    return cols.transpose(0, 2, 1).reshape(cols.shape[0] * cols.shape[2], cols.shape[1])


def col2im(
    col: ArrayLike, input_shape: tuple[int, ...], filter_h: int, filter_w: int, stride: int = 1, pad: int = 0
) -> FloatArray:
    """Images of `input_shape` (N, C, H, W), float64, that rows in the order of `im2col` add up to.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.compat import dlfs
    >>> dlfs.col2im(np.ones((4, 4)), (1, 1, 3, 3), 2, 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    rows = float_array("col", col, FLOAT64)
    axes("col", rows, "N * out_h * out_w, C * filter_h * filter_w")
    batch = input_shape[0]
    cols = rows.reshape(batch, rows.shape[0] // max(batch, 1), rows.shape[1]).transpose(0, 2, 1)
    return functional.col2im(cols, input_shape, (filter_h, filter_w), stride, pad)
