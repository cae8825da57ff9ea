"""fastconv: a plain call on NumPy arrays, and a frozen layer with its weights packed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from race import Contender
from rows import ConvRow, PoolRow, Row

import fastconv as fc

VERSION = fc.__version__
PLAIN, FROZEN = "fastconv", "fastconv frozen"


def _put(row: Row, array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if row.layout == "NHWC" else array


def _get(row: Row, array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2) if row.layout == "NHWC" else array


def _contender(row: Row, name: str, run: Callable[[], Any]) -> Contender:
    return Contender(run, lambda array: {name: _get(row, array)})


def conv_forward(row: ConvRow, threads: int) -> dict[str, Contender]:
    fc.set_num_threads(threads)
    x, weight, bias = _put(row, row.x), row.weight, row.bias
    geometry = (row.stride, row.padding, row.dilation, row.groups)
    contenders = {
        PLAIN: _contender(row, "output", lambda: fc.conv2d(x, weight, bias, *geometry, layout=row.layout))
    }
    if row.layout == "NCHW" and _can_freeze():
        layer = fc.nn.Conv2d(row.c, row.k, row.kernel, *geometry, dtype=row.dtype)
        layer.load_state_dict({"weight": weight, "bias": bias})
        frozen = fc.nn.freeze(layer)
        contenders[FROZEN] = _contender(row, "output", lambda: frozen(x))
    return contenders


def _can_freeze() -> bool:
    nn = getattr(fc, "nn", None)
    return hasattr(nn, "freeze") and hasattr(nn, "Conv2d")


def conv_backward(row: ConvRow, threads: int) -> dict[str, Contender]:
    fc.set_num_threads(threads)
    x, weight, grad_output = _put(row, row.x), row.weight, _put(row, row.grad_output)
    geometry = (row.stride, row.padding, row.dilation, row.groups)

    def run() -> tuple[np.ndarray, ...]:
        return fc.conv2d_backward(grad_output, x, weight, *geometry, layout=row.layout)

    def results(grads: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
        return {"grad_x": _get(row, grads[0]), "grad_weight": grads[1], "grad_bias": grads[2]}

    return {PLAIN: Contender(run, results)}


def pool_forward(row: PoolRow, threads: int) -> dict[str, Contender]:
    fc.set_num_threads(threads)
    x, geometry = _put(row, row.x), (row.kernel, row.stride, row.padding)
    operation = fc.max_pool2d if row.kind == "max" else fc.avg_pool2d
    return {PLAIN: _contender(row, "output", lambda: operation(x, *geometry, layout=row.layout))}


def pool_backward(row: PoolRow, threads: int) -> dict[str, Contender]:
    fc.set_num_threads(threads)
    x, grad_output = _put(row, row.x), _put(row, row.grad_output)
    geometry = (row.kernel, row.stride, row.padding)
    if row.kind == "max":
        _, indices = fc.max_pool2d(x, *geometry, return_indices=True, layout=row.layout)

        def run() -> np.ndarray:
            return fc.max_pool2d_backward(grad_output, indices, x.shape, layout=row.layout)
    else:

        def run() -> np.ndarray:
            return fc.avg_pool2d_backward(grad_output, x.shape, *geometry, layout=row.layout)

    return {PLAIN: _contender(row, "grad_x", run)}
