"""NumPy in a few lines: sliding_window_view and einsum, forward only."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from race import Contender
from rows import ConvRow, PoolRow, Row
from threadpoolctl import threadpool_limits

VERSION = np.__version__


def _windows(row: Row, value: float = 0.0) -> np.ndarray:
    """A view (N, C, oh, ow, kh, kw) of the padded image."""
    x = np.pad(row.x, ((0, 0), (0, 0), *((pad, pad) for pad in row.padding)), constant_values=value)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(row.dilation, row.kernel, strict=True))
    (stride_h, stride_w), (dilation_h, dilation_w) = row.stride, row.dilation
    windows = sliding_window_view(x, reach, axis=(2, 3))
    return windows[:, :, ::stride_h, ::stride_w, ::dilation_h, ::dilation_w]


def conv_forward(row: ConvRow, threads: int) -> dict[str, Contender]:
    threadpool_limits(threads)
    weight = row.weight.reshape(row.groups, row.k // row.groups, *row.weight_shape[1:])

    def run() -> np.ndarray:
        windows = _windows(row)
        grouped = windows.reshape(row.n, row.groups, row.c // row.groups, *windows.shape[2:])
        output = np.einsum("ngchwij,gkcij->ngkhw", grouped, weight, optimize=True)
        return output.reshape(row.output_shape) + row.bias[:, None, None]

    return {"numpy windows": Contender(run, lambda output: {"output": output})}


def pool_forward(row: PoolRow, threads: int) -> dict[str, Contender]:
    maximum = row.kind == "max"

    def run() -> np.ndarray:
        windows = _windows(row, -np.inf if maximum else 0.0)
        return windows.max(axis=(4, 5)) if maximum else windows.mean(axis=(4, 5))

    return {"numpy windows": Contender(run, lambda output: {"output": output})}
