"""What every contender must compute, in float64, from NumPy alone, one position of the window at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rows import ConvRow, PoolRow, Row

Slices = tuple[slice, slice]


def _positions(row: Row) -> Iterator[tuple[int, int, Slices]]:
    """Each position (i, j) of the window with the slices of the padded image that it meets."""
    for i in range(row.kernel[0]):
        for j in range(row.kernel[1]):
            rows, columns = (
                slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride)
                for at, dilation, size, stride in zip(
                    (i, j), row.dilation, row.output_image, row.stride, strict=True
                )
            )
            yield i, j, (rows, columns)


def _padded(row: Row, value: float = 0.0) -> np.ndarray:
    pads = ((0, 0), (0, 0), *((padding, padding) for padding in row.padding))
    return np.pad(row.x.astype(np.float64), pads, constant_values=value)


def _inside(row: Row, padded: np.ndarray) -> np.ndarray:
    (top, left), (height, width) = row.padding, row.image
    return padded[:, :, top : top + height, left : left + width]


def conv_forward(row: ConvRow) -> dict[str, np.ndarray]:
    n, groups, pixels = row.n, row.groups, row.output_image
    x = _padded(row).reshape(n, groups, row.c // groups, *_padded(row).shape[2:])
    weight = row.weight.astype(np.float64).reshape(groups, row.k // groups, row.c // groups, *row.kernel)
    output = np.zeros((n, groups, row.k // groups, pixels[0] * pixels[1]))
    for i, j, (rows, columns) in _positions(row):
        output += weight[..., i, j] @ x[..., rows, columns].reshape(n, groups, row.c // groups, -1)
    return {"output": output.reshape(row.output_shape) + row.bias.astype(np.float64)[:, None, None]}


def conv_backward(row: ConvRow) -> dict[str, np.ndarray]:
    n, groups = row.n, row.groups
    padded = _padded(row)
    x = padded.reshape(n, groups, row.c // groups, *padded.shape[2:])
    weight = row.weight.astype(np.float64).reshape(groups, row.k // groups, row.c // groups, *row.kernel)
    grad_output = row.grad_output.astype(np.float64)
    grad = grad_output.reshape(n, groups, row.k // groups, -1)
    grad_x, grad_weight = np.zeros_like(x), np.zeros_like(weight)
    for i, j, (rows, columns) in _positions(row):
        here = x[..., rows, columns]
        pixels = here.reshape(n, groups, row.c // groups, -1)
        grad_weight[..., i, j] = (grad @ pixels.swapaxes(-1, -2)).sum(axis=0)
        grad_x[..., rows, columns] += (weight[..., i, j].swapaxes(-1, -2) @ grad).reshape(here.shape)
    return {
        "grad_x": _inside(row, grad_x.reshape(padded.shape)),
        "grad_weight": grad_weight.reshape(row.weight_shape),
        "grad_bias": grad_output.sum(axis=(0, 2, 3)),
    }


def pool_forward(row: PoolRow) -> dict[str, np.ndarray]:
    maximum = row.kind == "max"
    x = _padded(row, -np.inf if maximum else 0.0)
    windows = (x[:, :, rows, columns] for _, _, (rows, columns) in _positions(row))
    if maximum:
        output = next(windows).copy()
        for window in windows:
            np.maximum(output, window, out=output)
        return {"output": output}
    return {"output": sum(windows) / (row.kernel[0] * row.kernel[1])}


def pool_backward(row: PoolRow) -> dict[str, np.ndarray]:
    """Gradients of a maximum go to the first of equals, in row order, as PyTorch has it."""
    maximum = row.kind == "max"
    x = _padded(row, -np.inf if maximum else 0.0)
    grad_output = row.grad_output.astype(np.float64)
    grad_x = np.zeros_like(x)
    if maximum:
        largest = pool_forward(row)["output"]
        untaken = np.ones(row.output_shape, bool)
        for _, _, (rows, columns) in _positions(row):
            taken = untaken & (x[:, :, rows, columns] == largest)
            grad_x[:, :, rows, columns] += np.where(taken, grad_output, 0.0)
            untaken &= ~taken
    else:
        for _, _, (rows, columns) in _positions(row):
            grad_x[:, :, rows, columns] += grad_output / (row.kernel[0] * row.kernel[1])
    return {"grad_x": _inside(row, grad_x)}
