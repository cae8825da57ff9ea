"""A textbook's layers and optimizer in plain NumPy; convolution and pooling by a matrix of all windows.

`simple_convnet.py` races fastconv against them, and the tests of `fastconv.compat.dlfs` compare with them.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def im2col(x: Array, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0) -> Array:
    """(N, C, H, W) to a row of C * filter_h * filter_w numbers for each of N * out_h * out_w windows."""
    batch, channels, height, width = x.shape
    out_h = (height + 2 * pad - filter_h) // stride + 1
    out_w = (width + 2 * pad - filter_w) // stride + 1
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    cols = np.zeros((batch, channels, filter_h, filter_w, out_h, out_w))
    for i in range(filter_h):
        for j in range(filter_w):
            cols[:, :, i, j] = padded[:, :, i : i + stride * out_h : stride, j : j + stride * out_w : stride]
    return cols.transpose(0, 4, 5, 1, 2, 3).reshape(batch * out_h * out_w, -1)


def col2im(rows: Array, x_shape: Any, filter_h: int, filter_w: int, stride: int = 1, pad: int = 0) -> Array:
    """The images whose pixels are the sums of what the windows hold for them."""
    batch, channels, height, width = x_shape
    out_h = (height + 2 * pad - filter_h) // stride + 1
    out_w = (width + 2 * pad - filter_w) // stride + 1
    cols = rows.reshape(batch, out_h, out_w, channels, filter_h, filter_w).transpose(0, 3, 4, 5, 1, 2)
    # stride - 1 more, so that the slices below are never cut short
    padded = np.zeros((batch, channels, height + 2 * pad + stride - 1, width + 2 * pad + stride - 1))
    for i in range(filter_h):
        for j in range(filter_w):
            padded[:, :, i : i + stride * out_h : stride, j : j + stride * out_w : stride] += cols[:, :, i, j]
    return padded[:, :, pad : pad + height, pad : pad + width]


class Convolution:
    """Images times filters W (FN, C, FH, FW), plus b (FN,)."""

    def __init__(self, W: Array, b: Array, stride: int = 1, pad: int = 0) -> None:  # noqa: N803
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x: Array) -> Array:
        filters, _, filter_h, filter_w = self.W.shape
        self.x = x
        self.out_h = (x.shape[2] + 2 * self.pad - filter_h) // self.stride + 1
        self.out_w = (x.shape[3] + 2 * self.pad - filter_w) // self.stride + 1
        self.col = im2col(x, filter_h, filter_w, self.stride, self.pad)
        out = self.col @ self.W.reshape(filters, -1).T + self.b
        return out.reshape(len(x), self.out_h, self.out_w, filters).transpose(0, 3, 1, 2)

    def backward(self, dout: Array) -> Array:
        filters, _, filter_h, filter_w = self.W.shape
        rows = dout.transpose(0, 2, 3, 1).reshape(-1, filters)
        self.db = rows.sum(axis=0)
        self.dW = (self.col.T @ rows).T.reshape(self.W.shape)
        return col2im(
            rows @ self.W.reshape(filters, -1), self.x.shape, filter_h, filter_w, self.stride, self.pad
        )


class Pooling:
    """The largest pixel of each window of images with a border of zeros."""

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0) -> None:
        self.pool_h, self.pool_w, self.stride, self.pad = pool_h, pool_w, stride, pad

    def forward(self, x: Array) -> Array:
        batch, channels, height, width = x.shape
        out_h = (height + 2 * self.pad - self.pool_h) // self.stride + 1
        out_w = (width + 2 * self.pad - self.pool_w) // self.stride + 1
        self.x_shape = x.shape
        rows = im2col(x, self.pool_h, self.pool_w, self.stride, self.pad).reshape(
            -1, self.pool_h * self.pool_w
        )
        self.arg_max = rows.argmax(axis=1)
        largest: Array = rows.max(axis=1)
        return largest.reshape(batch, out_h, out_w, channels).transpose(0, 3, 1, 2)

    def backward(self, dout: Array) -> Array:
        batch, _, out_h, out_w = dout.shape
        rows = np.zeros((dout.size, self.pool_h * self.pool_w))
        rows[np.arange(dout.size), self.arg_max] = dout.transpose(0, 2, 3, 1).ravel()
        rows = rows.reshape(batch * out_h * out_w, -1)
        return col2im(rows, self.x_shape, self.pool_h, self.pool_w, self.stride, self.pad)


class Relu:
    """max(x, 0)."""

    def forward(self, x: Array) -> Array:
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Array) -> Array:
        dout[self.mask] = 0  # the caller's array, as in the book
        return dout


class Affine:
    """x W + b; images are flattened, and their gradient gets their shape."""

    def __init__(self, W: Array, b: Array) -> None:  # noqa: N803
        self.W, self.b = W, b

    def forward(self, x: Array) -> Array:
        self.x_shape = x.shape
        self.x = x.reshape(len(x), -1)
        y: Array = np.dot(self.x, self.W) + self.b
        return y

    def backward(self, dout: Array) -> Array:
        self.dW = np.dot(self.x.T, dout)
        self.db = dout.sum(axis=0)
        dx: Array = np.dot(dout, self.W.T).reshape(self.x_shape)
        return dx


class SoftmaxWithLoss:
    """The mean of -log(y + 1e-7) at the labels t, y the softmax of x."""

    def forward(self, x: Array, t: Array) -> float:
        self.t = t
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = powers / powers.sum(axis=1, keepdims=True)
        return float(-np.log(self.y[np.arange(len(t)), t] + 1e-7).sum() / len(t))

    def backward(self) -> Array:
        dx: Array = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        dx /= len(self.t)
        return dx


class Adam:
    """Adam, with 1e-7 added to the root of the uncorrected v."""

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr, self.beta1, self.beta2, self.iter = lr, beta1, beta2, 0
        self.m: dict[str, Array] = {}
        self.v: dict[str, Array] = {}

    def update(self, params: dict[str, Array], grads: dict[str, Array]) -> None:
        if not self.m:
            for key, value in params.items():
                self.m[key], self.v[key] = np.zeros_like(value), np.zeros_like(value)
        self.iter += 1
        rate = self.lr * np.sqrt(1.0 - self.beta2**self.iter) / (1.0 - self.beta1**self.iter)
        for key in params:
            self.m[key] += (1 - self.beta1) * (grads[key] - self.m[key])
            self.v[key] += (1 - self.beta2) * (grads[key] ** 2 - self.v[key])
            params[key] -= rate * self.m[key] / (np.sqrt(self.v[key]) + 1e-7)
