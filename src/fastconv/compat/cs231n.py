"""The fast layers of Stanford's CS231n, for its assignments as they stand.

In place of ``from cs231n.fast_layers import *`` write ``from fastconv.compat.cs231n import *``. All names
take the course's arguments; caches are for the matching backward only. float32 stays float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastconv import functional
from fastconv._checks import FloatArray, axes, float_array, integer, shape
from fastconv._kernels import pool
from fastconv._kernels.memory import new_array
from fastconv._threads import threads_for
from fastconv.functional._input import WORK_AN_ELEMENT, promote
from fastconv.functional._output import deliver

__all__ = [
    "col2im_cython",
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_strides",
    "im2col_cython",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]


class _ConvCache(NamedTuple):
    x: FloatArray
    w: FloatArray
    stride: int
    pad: int


class _TieCache(NamedTuple):
    """Of a pool whose gradient is shared among equal pixels."""

    x: FloatArray
    out: FloatArray
    size: int


class _FirstCache(NamedTuple):
    """Of a pool whose gradient goes to the first of equal pixels."""

    indices: Any
    x_shape: tuple[int, ...]


# ---- convolution ----


def conv_forward_fast(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: Mapping[str, int]
) -> tuple[FloatArray, _ConvCache]:
    """Convolve images; where the stride leaves pixels over, they are left out.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    w : array_like, shape (F, C, HH, WW)
    b : array_like, shape (F,)
    conv_param : mapping
        'stride' and 'pad', ints.

    Returns
    -------
    out : ndarray, shape (N, F, 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride)
    cache
        For `conv_backward_fast`.

    Raises
    ------
    ValueError, TypeError
        An argument that doesn't fit.

    Examples
    --------
    >>> x, w, b = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3)), np.zeros(3)
    >>> out, cache = conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    >>> out.shape
    (1, 3, 4, 4)
    >>> [grad.shape for grad in conv_backward_fast(out, cache)]
    [(1, 2, 4, 4), (3, 2, 3, 3), (3,)]
    """
    images, filters = _images(x), float_array("w", w)
    stride = integer("conv_param['stride']", conv_param["stride"], 1)
    pad = integer("conv_param['pad']", conv_param["pad"], 0)
    return functional.conv2d(images, filters, b, stride, pad), _ConvCache(images, filters, stride, pad)


def conv_backward_fast(dout: ArrayLike, cache: _ConvCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The gradients (dx, dw, db) of `conv_forward_fast`, whose `cache` is given.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x, w, b = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3)), np.zeros(3)
    >>> out, cache = cs231n.conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    >>> dx, dw, db = cs231n.conv_backward_fast(out, cache)
    >>> dx.shape, dw.shape, db.shape
    ((1, 2, 4, 4), (3, 2, 3, 3), (3,))
    """
    gradients = functional.conv2d_backward(dout, cache.x, cache.w, cache.stride, cache.pad)
    return gradients  # type: ignore[return-value]


def conv_forward_strides(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: Mapping[str, int]
) -> tuple[FloatArray, _ConvCache]:
    """The same as `conv_forward_fast`, as in the course.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x, w, b = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3)), np.zeros(3)
    >>> out, cache = cs231n.conv_forward_strides(x, w, b, {"stride": 1, "pad": 1})
    >>> out.shape
    (1, 3, 4, 4)
    """
    return conv_forward_fast(x, w, b, conv_param)


def conv_backward_strides(dout: ArrayLike, cache: _ConvCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The gradients (dx, dw, db) of `conv_forward_strides`.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x, w, b = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3)), np.zeros(3)
    >>> out, cache = cs231n.conv_forward_strides(x, w, b, {"stride": 1, "pad": 1})
    >>> dx, dw, db = cs231n.conv_backward_strides(np.ones_like(out), cache)
    >>> db
    array([16., 16., 16.])
    """
    return conv_backward_fast(dout, cache)


def conv_forward_im2col(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: Mapping[str, int]
) -> tuple[FloatArray, _ConvCache]:
    """`conv_forward_fast`, but AssertionError where the stride leaves pixels over.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x, w, b = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3)), np.zeros(3)
    >>> out, cache = cs231n.conv_forward_im2col(x, w, b, {"stride": 1, "pad": 1})
    >>> out.shape
    (1, 3, 4, 4)
    """
    images, filters = _images(x), float_array("w", w)
    stride, pad = conv_param["stride"], conv_param["pad"]
    assert (images.shape[3] + 2 * pad - filters.shape[3]) % stride == 0, "width does not work"
    assert (images.shape[2] + 2 * pad - filters.shape[2]) % stride == 0, "height does not work"
    return conv_forward_fast(images, filters, b, conv_param)


def conv_backward_im2col(dout: ArrayLike, cache: _ConvCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The gradients (dx, dw, db) of `conv_forward_im2col`.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x, w, b = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3)), np.zeros(3)
    >>> out, cache = cs231n.conv_forward_im2col(x, w, b, {"stride": 1, "pad": 1})
    >>> dx, dw, db = cs231n.conv_backward_im2col(np.ones_like(out), cache)
    >>> db
    array([16., 16., 16.])
    """
    return conv_backward_fast(dout, cache)


# ---- max pooling ----


def max_pool_forward_fast(
    x: ArrayLike, pool_param: Mapping[str, int]
) -> tuple[FloatArray, _TieCache | _FirstCache]:
    """The largest pixel of each window.

    Square windows that tile the images go to `max_pool_forward_reshape`, all others to
    `max_pool_forward_im2col`, as in the course.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    pool_param : mapping
        'pool_height', 'pool_width' and 'stride', ints.

    Returns
    -------
    out : ndarray, shape (N, C, 1 + (H - pool_height) / stride, 1 + (W - pool_width) / stride)
    cache
        For `max_pool_backward_fast`.

    Raises
    ------
    AssertionError
        Windows leave pixels over.
    ValueError, TypeError
        An argument that doesn't fit.

    Examples
    --------
    >>> x = np.array([[[[1.0, 2.0], [2.0, 0.0]]]])
    >>> out, cache = max_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    >>> out, max_pool_backward_fast(out, cache)
    (array([[[[2.]]]]), array([[[[0., 1.],
             [1., 0.]]]]))
    """
    images = _images(x)
    height, width, stride = _pool(pool_param)
    if height == width == stride and images.shape[2] % height == 0 and images.shape[3] % width == 0:
        return max_pool_forward_reshape(images, pool_param)
    return max_pool_forward_im2col(images, pool_param)


def max_pool_backward_fast(dout: ArrayLike, cache: _TieCache | _FirstCache) -> FloatArray:
    """The gradient dx of `max_pool_forward_fast`, whose `cache` is given.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x = np.array([[[[1.0, 2.0], [2.0, 0.0]]]])
    >>> param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = cs231n.max_pool_forward_fast(x, param)
    >>> cs231n.max_pool_backward_fast(out, cache)
    array([[[[0., 1.],
             [1., 0.]]]])
    """
    if isinstance(cache, _TieCache):
        return max_pool_backward_reshape(dout, cache)
    return max_pool_backward_im2col(dout, cache)


def max_pool_forward_reshape(x: ArrayLike, pool_param: Mapping[str, int]) -> tuple[FloatArray, _TieCache]:
    """`max_pool_forward_fast` for square windows that tile the images; AssertionError for others.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x = np.array([[[[1.0, 2.0], [2.0, 0.0]]]])
    >>> param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = cs231n.max_pool_forward_reshape(x, param)
    >>> out
    array([[[[2.]]]])
    """
    images = _images(x)
    height, width, stride = _pool(pool_param)
    assert height == width == stride, "Invalid pool params"
    assert images.shape[2] % height == 0, "Invalid pool params"
    assert images.shape[3] % width == 0, "Invalid pool params"
    out = functional.max_pool2d(images, height, stride)
    assert isinstance(out, np.ndarray)
    return out, _TieCache(images, out, height)


def max_pool_backward_reshape(dout: ArrayLike, cache: _TieCache) -> FloatArray:
    """The gradient dx of `max_pool_forward_reshape`: equal largest pixels of a window share it evenly.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x = np.array([[[[1.0, 2.0], [2.0, 0.0]]]])
    >>> param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = cs231n.max_pool_forward_reshape(x, param)
    >>> cs231n.max_pool_backward_reshape(out, cache)
    array([[[[0., 1.],
             [1., 0.]]]])
    """
    (grad, x, out), dtype = promote(dout=dout, x=cache.x, out=cache.out)
    shape("dout", grad, out.shape, "that of the pool's result")
    if not x.size:
        return new_array(x.shape, dtype.num)
    return deliver(pool.share_maxima(grad, x, out, cache.size, threads_for(WORK_AN_ELEMENT * x.size)), dtype)


def max_pool_forward_im2col(x: ArrayLike, pool_param: Mapping[str, int]) -> tuple[FloatArray, _FirstCache]:
    """`max_pool_forward_fast` for any windows; AssertionError where they leave pixels over.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x = np.array([[[[1.0, 2.0], [2.0, 0.0]]]])
    >>> param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = cs231n.max_pool_forward_im2col(x, param)
    >>> out
    array([[[[2.]]]])
    """
    images = _images(x)
    height, width, stride = _pool(pool_param)
    assert (images.shape[2] - height) % stride == 0, "Invalid height"
    assert (images.shape[3] - width) % stride == 0, "Invalid width"
    out, indices = functional.max_pool2d(images, (height, width), stride, return_indices=True)
    return out, _FirstCache(indices, images.shape)


def max_pool_backward_im2col(dout: ArrayLike, cache: _FirstCache) -> FloatArray:
    """The gradient dx of `max_pool_forward_im2col`: the first of equal largest pixels gets it.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> x = np.array([[[[1.0, 2.0], [2.0, 0.0]]]])
    >>> param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = cs231n.max_pool_forward_im2col(x, param)
    >>> cs231n.max_pool_backward_im2col(out, cache)
    array([[[[0., 2.],
             [0., 0.]]]])
    """
    return functional.max_pool2d_backward(dout, cache.indices, cache.x_shape)


# ---- columns ----


def im2col_cython(x: ArrayLike, field_height: int, field_width: int, padding: int, stride: int) -> FloatArray:
    """The windows of images as columns, in the course's order.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W)
    field_height, field_width, padding, stride : int

    Returns
    -------
    ndarray, shape (C * field_height * field_width, P * Q * N)
        Columns are ordered by the window's row, its column, and the image.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> cs231n.im2col_cython(np.arange(9.0).reshape(1, 1, 3, 3), 2, 2, padding=0, stride=1)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    images = _images(x)
    cols = functional.im2col(images, (field_height, field_width), stride, padding)
    return cols.transpose(1, 2, 0).reshape(cols.shape[1], cols.shape[2] * cols.shape[0])


def col2im_cython(
    cols: ArrayLike,
    N: int,  # noqa: N803
    C: int,  # noqa: N803
    H: int,  # noqa: N803
    W: int,  # noqa: N803
    field_height: int,
    field_width: int,
    padding: int,
    stride: int,
) -> FloatArray:
    """Images, shape (N, C, H, W), that columns in the order of `im2col_cython` add up to.

    Examples
    --------
    >>> from fastconv.compat import cs231n
    >>> cs231n.col2im_cython(np.ones((4, 4)), 1, 1, 3, 3, 2, 2, padding=0, stride=1)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    columns = float_array("cols", cols)
    axes("cols", columns, "C * field_height * field_width, P * Q * N")
    windows = columns.shape[1] // max(N, 1)
    images = columns.reshape(columns.shape[0], windows, N).transpose(2, 0, 1)
    return functional.col2im(images, (N, C, H, W), (field_height, field_width), stride, padding)


def _images(x: ArrayLike) -> FloatArray:
    images = float_array("x", x)
    axes("x", images, "N, C, H, W")
    return images


def _pool(pool_param: Mapping[str, int]) -> tuple[int, int, int]:
    height, width, stride = (
        integer(f"pool_param[{name!r}]", pool_param[name], 1)
        for name in ("pool_height", "pool_width", "stride")
    )
    return height, width, stride
