"""NumPy as textbooks have it: im2col, one matrix product, and col2im for the way back."""

from __future__ import annotations

import numpy as np
from race import Contender
from rows import ConvRow, PoolRow, Row
from threadpoolctl import threadpool_limits

VERSION = np.__version__


def _im2col(row: Row, x: np.ndarray) -> np.ndarray:
    """Windows of `x` as an array (N, C, kh, kw, oh, ow)."""
    (height, width), (stride_h, stride_w) = row.output_image, row.stride
    cols = np.empty((*x.shape[:2], *row.kernel, height, width), x.dtype)
    for i in range(row.kernel[0]):
        for j in range(row.kernel[1]):
            top, left = i * row.dilation[0], j * row.dilation[1]
            cols[:, :, i, j] = x[
                :, :, top : top + stride_h * height : stride_h, left : left + stride_w * width : stride_w
            ]
    return cols


def _col2im(row: Row, cols: np.ndarray) -> np.ndarray:
    """The sum of all windows (N, C, kh, kw, oh, ow) where they lie in the image."""
    (height, width), (stride_h, stride_w) = row.output_image, row.stride
    (padding_h, padding_w), (image_h, image_w) = row.padding, row.image
    # Room for a last window that begins in the image and strides past its end.
    padded = (image_h + 2 * padding_h + stride_h - 1, image_w + 2 * padding_w + stride_w - 1)
    x = np.zeros((*cols.shape[:2], *padded), cols.dtype)
    for i in range(row.kernel[0]):
        for j in range(row.kernel[1]):
            top, left = i * row.dilation[0], j * row.dilation[1]
            x[:, :, top : top + stride_h * height : stride_h, left : left + stride_w * width : stride_w] += (
                cols[:, :, i, j]
            )
    return x[:, :, padding_h : padding_h + image_h, padding_w : padding_w + image_w]


def _pad(row: Row, x: np.ndarray, value: float = 0.0) -> np.ndarray:
    if row.padding == (0, 0):
        return x
    return np.pad(x, ((0, 0), (0, 0), *((pad, pad) for pad in row.padding)), constant_values=value)


def _conv_cols(row: ConvRow) -> np.ndarray:
    """Windows as an array (N, groups, C / groups * kh * kw, oh * ow): one matrix an image and group."""
    cols = _im2col(row, _pad(row, row.x))
    return cols.reshape(row.n, row.groups, row.c // row.groups * row.kernel[0] * row.kernel[1], -1)


def conv_forward(row: ConvRow, threads: int) -> dict[str, Contender]:
    threadpool_limits(threads)
    weight = row.weight.reshape(row.groups, row.k // row.groups, -1)

    def run() -> np.ndarray:
        output = np.matmul(weight, _conv_cols(row)).reshape(row.output_shape)
        output += row.bias[:, None, None]
        return output

    return {"numpy im2col": Contender(run, lambda output: {"output": output})}


def conv_backward(row: ConvRow, threads: int) -> dict[str, Contender]:
    threadpool_limits(threads)
    weight = row.weight.reshape(row.groups, row.k // row.groups, -1)

    def run() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        grad = row.grad_output.reshape(row.n, row.groups, row.k // row.groups, -1)
        grad_weight = np.matmul(grad, _conv_cols(row).swapaxes(-1, -2)).sum(axis=0)
        grad_cols = np.matmul(weight.swapaxes(-1, -2), grad)
        grad_x = _col2im(row, grad_cols.reshape(row.n, row.c, *row.kernel, *row.output_image))
        return grad_x, grad_weight.reshape(row.weight_shape), row.grad_output.sum(axis=(0, 2, 3))

    names = ("grad_x", "grad_weight", "grad_bias")
    return {"numpy im2col": Contender(run, lambda grads: dict(zip(names, grads, strict=True)))}


def pool_forward(row: PoolRow, threads: int) -> dict[str, Contender]:
    maximum = row.kind == "max"

    def run() -> np.ndarray:
        cols = _im2col(row, _pad(row, row.x, -np.inf if maximum else 0.0))
        return cols.max(axis=(2, 3)) if maximum else cols.mean(axis=(2, 3))

    return {"numpy im2col": Contender(run, lambda output: {"output": output})}


def pool_backward(row: PoolRow, threads: int) -> dict[str, Contender]:
    """The maxima's positions come from the forward pass, which is not timed."""
    window = row.kernel[0] * row.kernel[1]
    shape = (row.n, row.c, window, *row.output_image)
    if row.kind == "max":
        cols = _im2col(row, _pad(row, row.x, -np.inf)).reshape(shape)
        positions = cols.argmax(axis=2)[:, :, None]

    def run() -> np.ndarray:
        if row.kind == "max":
            grad_cols = np.zeros(shape, row.dtype)
            np.put_along_axis(grad_cols, positions, row.grad_output[:, :, None], axis=2)
        else:
            grad_cols = np.broadcast_to((row.grad_output / window)[:, :, None], shape)
        return _col2im(row, grad_cols.reshape(row.n, row.c, *row.kernel, *row.output_image))

    return {"numpy im2col": Contender(run, lambda grad_x: {"grad_x": grad_x})}
