"""The book's common/layers.py. Names of attributes, W and dW among them, are the book's."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import functional
from fastconv._checks import FloatArray, argument_error, as_array, axes, float_array
from fastconv._kernels.memory import new_array
from fastconv.compat.dlfs.util import im2col
from fastconv.functional._affine import affine, affine_backward
from fastconv.functional._input import promote_one
from fastconv.functional._output import deliver
from fastconv.functional._rectifier import rectified, rectified_backward

__all__ = [
    "Affine",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "Pooling",
    "Relu",
    "Sigmoid",
    "SoftmaxWithLoss",
]

AnyArray: TypeAlias = NDArray[Any]


def _flattened(name: str, array: AnyArray) -> AnyArray:
    """(N, ...) as (N, features), zero-size arrays included."""
    if not array.ndim:
        raise argument_error(name, "shape ()", "at least 1 axis, (N, ...)")
    return array.reshape(len(array), math.prod(array.shape[1:]))


class Relu:
    """max(x, 0). `mask`, made when asked for, tells where x <= 0.

    `backward` sets elements of `dout` itself to 0 and returns it, as the book's does. Where it can't, since
    `dout` is read-only or no array of native floating-point numbers, the result is a new array.

    Examples
    --------
    >>> from fastconv.compat import dlfs
    >>> relu = dlfs.Relu()
    >>> relu.forward(np.array([-1.0, 2.0]))
    array([0., 2.])
    >>> relu.backward(np.ones(2)), relu.mask
    (array([0., 1.]), array([ True, False]))
    """

    def __init__(self) -> None:
        self._signs: Any = None

    @property
    def mask(self) -> Any:
        return None if self._signs is None else ~self._signs.mask()

    def forward(self, x: ArrayLike) -> FloatArray:
        out, self._signs = rectified(x)
        return out

    def backward(self, dout: ArrayLike) -> FloatArray:
        return rectified_backward(dout, self._signs, in_place=True)


class Sigmoid:
    """1 / (1 + exp(-x)), kept as `out`.

    Examples
    --------
    >>> from fastconv.compat import dlfs
    >>> sigmoid = dlfs.Sigmoid()
    >>> sigmoid.forward(np.zeros(2))
    array([0.5, 0.5])
    >>> sigmoid.backward(np.ones(2))
    array([0.25, 0.25])
    """

    def __init__(self) -> None:
        self.out: Any = None

    def forward(self, x: ArrayLike) -> FloatArray:
        self.out = functional.sigmoid(x)
        return self.out  # type: ignore[no-any-return]

    def backward(self, dout: ArrayLike) -> FloatArray:
        return functional.sigmoid_backward(dout, self.out)


class Affine:
    """x W + b, with W of shape (inputs, outputs); images are flattened, and their gradient gets their shape.

    Attributes
    ----------
    W, b, x, dW, db : ndarray
    original_x_shape : tuple of int

    Examples
    --------
    >>> from fastconv.compat import dlfs
    >>> affine = dlfs.Affine(np.ones((3, 2)), np.zeros(2))
    >>> affine.forward(np.ones((1, 3)))
    array([[3., 3.]])
    >>> affine.backward(np.ones((1, 2)))
    array([[2., 2., 2.]])
    >>> affine.dW.shape, affine.db
    ((3, 2), array([1., 1.]))
    """

    def __init__(self, W: Any, b: Any) -> None:  # noqa: N803
        self.W, self.b = W, b
        self.x: Any = None
        self.original_x_shape: Any = None
        self.dW: Any = None
        self.db: Any = None

    def forward(self, x: ArrayLike) -> FloatArray:
        array = as_array("x", x)
        self.original_x_shape = array.shape
        self.x = _flattened("x", array)
        return affine(self.x, self.W, self.b)

    def backward(self, dout: ArrayLike) -> FloatArray:
        dx, self.dW, self.db = affine_backward(dout, self.x, self.W)
        return dx.reshape(self.original_x_shape)


class SoftmaxWithLoss:
    """The mean of -log(y + 1e-7) at the labels `t`, y the softmax of x.

    Attributes
    ----------
    loss : float
    y : ndarray, shape (N, classes)
    t : ndarray
        Labels (N,) or one-hot rows (N, classes).

    Examples
    --------
    >>> from fastconv.compat import dlfs
    >>> layer = dlfs.SoftmaxWithLoss()
    >>> round(float(layer.forward(np.zeros((1, 2)), np.array([1]))), 4)
    0.6931
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    def __init__(self) -> None:
        self.loss: Any = None
        self.y: Any = None
        self.t: Any = None

    def forward(self, x: ArrayLike, t: ArrayLike) -> float:
        self.t, self.y = np.asarray(t), functional.softmax(x)
        y = np.atleast_2d(self.y)
        labels = self.t.argmax(axis=-1) if self.t.size == self.y.size else self.t
        self.loss = -np.log(y[np.arange(len(y)), labels] + 1e-7).sum() / len(y)
        return self.loss  # type: ignore[no-any-return]

    def backward(self, dout: float = 1) -> FloatArray:
        """The gradient of the loss by x; `dout` is not looked at, as in the book."""
        batch = self.t.shape[0]
        if self.t.size == self.y.size:
            return (self.y - self.t) / batch  # type: ignore[no-any-return]
        dx = self.y.copy()
        dx[np.arange(batch), self.t] -= 1
        return dx / batch  # type: ignore[no-any-return]


class Dropout:
    """Drops elements when training; otherwise multiplies by what is kept of them (not "inverted").

    Examples
    --------
    >>> from fastconv.compat import dlfs
    >>> dlfs.Dropout(0.5).forward(np.ones(3), train_flg=False)
    array([0.5, 0.5, 0.5])
    """

    def __init__(self, dropout_ratio: float = 0.5) -> None:
        self.dropout_ratio = dropout_ratio
        self.mask: Any = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> FloatArray:
        array = as_array("x", x)
        if not train_flg:
            data, dtype = promote_one("x", array)
            kept = 1.0 - self.dropout_ratio
            return deliver(np.multiply(data, kept, out=new_array(data.shape, data.dtype.num)), dtype)
        # The book's draws, so that np.random.seed gives the book's networks.
        self.mask = np.random.rand(*array.shape) > self.dropout_ratio  # noqa: NPY002
        return functional.dropout_backward(array, self.mask, p=0)

    def backward(self, dout: ArrayLike) -> FloatArray:
        return functional.dropout_backward(dout, self.mask, p=0)


class BatchNormalization:
    """Normalizes each feature over the batch; images are flattened, so each pixel is a feature.

    Attributes
    ----------
    gamma, beta, dgamma, dbeta : ndarray
    momentum : float
        How much of the running statistics stays at each step.
    running_mean, running_var : ndarray
        The variance is the biased one.
    xc, xn : ndarray or None
        The batch less its mean, and normalized, made when asked for.

    Examples
    --------
    >>> from fastconv.compat import dlfs
    >>> norm = dlfs.BatchNormalization(np.ones(2), np.zeros(2))
    >>> norm.forward(np.array([[1.0, 0.0], [3.0, 4.0]])).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    """

    EPSILON = 1e-6

    def __init__(
        self, gamma: Any, beta: Any, momentum: float = 0.9, running_mean: Any = None, running_var: Any = None
    ) -> None:
        self.gamma, self.beta, self.momentum = gamma, beta, momentum
        self.input_shape: Any = None
        self.running_mean, self.running_var = running_mean, running_var
        self.batch_size: Any = None
        self.std: Any = None
        self.dgamma: Any = None
        self.dbeta: Any = None
        self._rows: Any = None
        self._statistics: Any = None

    @property
    def xc(self) -> Any:
        return None if self._rows is None else self._rows - self._statistics[0]

    @property
    def xn(self) -> Any:
        return None if self._rows is None else self.xc / self.std

    def forward(self, x: ArrayLike, train_flg: bool = True) -> FloatArray:
        array = float_array("x", x)
        self.input_shape = array.shape
        rows = _flattened("x", array)
        batch, features = rows.shape
        if self.running_mean is None:
            self.running_mean, self.running_var = np.zeros(features), np.zeros(features)
        mean, variance = np.array([self.running_mean, self.running_var], rows.dtype)
        if train_flg:
            mean = rows[0].copy() if batch == 1 else np.zeros_like(mean)
            variance = np.zeros_like(variance)
        gamma, beta = (np.broadcast_to(part, features) for part in (self.gamma, self.beta))
        out, statistics = functional.batch_norm(
            rows,
            mean,
            variance,
            gamma,
            beta,
            training=train_flg and batch > 1,  # one image is refused; the book makes beta of it
            momentum=1.0,
            eps=self.EPSILON,
            return_statistics=True,
        )
        if train_flg:
            variance *= max(batch - 1, 0) / max(batch, 1)  # the biased one
            kept = self.momentum
            self.running_mean = kept * self.running_mean + (1 - kept) * mean
            self.running_var = kept * self.running_var + (1 - kept) * variance
            self._rows, self._statistics, self.batch_size = rows, statistics, batch
            self.std = 1 / statistics[1]
        return out.reshape(self.input_shape)

    def backward(self, dout: ArrayLike) -> FloatArray:
        gradient = _flattened("dout", as_array("dout", dout))
        gamma = np.broadcast_to(self.gamma, gradient.shape[1:])
        gradients = functional.batch_norm_backward(
            gradient,
            self._rows,
            weight=gamma,
            training=True,
            eps=self.EPSILON,
            statistics=self._statistics,
        )
        dx, self.dgamma, self.dbeta = gradients
        return dx.reshape(self.input_shape)  # type: ignore[union-attr]


class Convolution:
    """Convolves images with filters.

    Parameters
    ----------
    W : ndarray, shape (FN, C, FH, FW)
    b : ndarray, shape (FN,)
    stride, pad : int

    Attributes
    ----------
    W, b, x, dW, db : ndarray
    col, col_W : ndarray or None
        What the book multiplies, made when asked for.
    needs_dx : bool
        Whether `backward` computes the gradient of x. The first layer of a network may do without, which is a
        good part of a step's work: set it to False, and `backward` returns None.

    Examples
    --------
    >>> layer = Convolution(np.ones((2, 1, 3, 3)), np.zeros(2), pad=1)
    >>> layer.forward(np.ones((5, 1, 4, 4))).shape
    (5, 2, 4, 4)
    >>> layer.backward(np.ones((5, 2, 4, 4))).shape, layer.dW.shape, layer.db
    ((5, 1, 4, 4), (2, 1, 3, 3), array([80., 80.]))
    """

    def __init__(self, W: Any, b: Any, stride: int = 1, pad: int = 0) -> None:  # noqa: N803
        self.W, self.b, self.stride, self.pad = W, b, stride, pad
        self.needs_dx = True
        self.x: Any = None
        self.dW: Any = None
        self.db: Any = None

    @property
    def col(self) -> Any:
        if self.x is None:
            return None
        return im2col(self.x, self.W.shape[2], self.W.shape[3], self.stride, self.pad)

    @property
    def col_W(self) -> Any:  # noqa: N802
        return None if self.x is None else self.W.reshape(self.W.shape[0], -1).T

    def forward(self, x: ArrayLike) -> FloatArray:
        self.x = as_array("x", x)
        return functional.conv2d(self.x, self.W, self.b, self.stride, self.pad)

    def backward(self, dout: ArrayLike) -> Any:
        need = ("x", "weight", "bias") if self.needs_dx else ("weight", "bias")
        dx, self.dW, self.db = functional.conv2d_backward(
            dout, self.x, self.W, self.stride, self.pad, need=need
        )
        return dx


class Pooling:
    """The largest pixel of each window; padding is made of zeros, which count.

    The size of the result takes `pad` into account; the book's formula leaves it out, so that its layer
    fails with any `pad` but 0. The images aren't kept, of which the book's backward needs the shape alone.

    Parameters
    ----------
    pool_h, pool_w : int
    stride : int, default 2
    pad : int

    Attributes
    ----------
    arg_max : ndarray of int or None
        Which pixel of its window is the largest, for the windows in the order of N, rows, columns, C; made
        when asked for.

    Examples
    --------
    >>> layer = Pooling(2, 2)
    >>> layer.forward(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0) -> None:
        self.pool_h, self.pool_w, self.stride, self.pad = pool_h, pool_w, stride, pad
        self._indices: Any = None
        self._padded_shape: Any = None

    @property
    def arg_max(self) -> Any:
        if self._indices is None:
            return None
        row, column = np.divmod(self._indices, self._padded_shape[3])
        row -= self.stride * np.arange(row.shape[2])[:, None]
        column -= self.stride * np.arange(row.shape[3])
        return (row * self.pool_w + column).transpose(0, 2, 3, 1).ravel()

    def forward(self, x: ArrayLike) -> FloatArray:
        images = as_array("x", x)
        axes("x", images, "N, C, H, W")
        border = (self.pad, self.pad)
        padded = np.pad(images, ((0, 0), (0, 0), border, border)) if self.pad else images
        self._padded_shape = padded.shape
        out, self._indices = functional.max_pool2d(
            padded, (self.pool_h, self.pool_w), self.stride, return_indices=True
        )
        return out

    def backward(self, dout: ArrayLike) -> FloatArray:
        dx = functional.max_pool2d_backward(dout, self._indices, self._padded_shape)
        height, width = self._padded_shape[2:]
        return dx[:, :, self.pad : height - self.pad, self.pad : width - self.pad]
