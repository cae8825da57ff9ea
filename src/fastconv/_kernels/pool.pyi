from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from fastconv._checks import FloatArray
from fastconv._pool_spec import Windows

@disjoint_base
class PoolGeometry:
    def __init__(
        self,
        x_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        rows: Windows,
        columns: Windows,
        channels_last: bool,
        dtype: np.dtype[Any],
    ) -> None: ...

def max_pool(
    geometry: PoolGeometry, x: FloatArray, out: FloatArray | None, num_threads: int
) -> FloatArray: ...
def max_pool_with_indices(
    geometry: PoolGeometry, x: FloatArray, out: FloatArray | None, num_threads: int
) -> tuple[FloatArray, NDArray[np.int64]]: ...
def avg_pool(
    geometry: PoolGeometry, x: FloatArray, out: FloatArray | None, num_threads: int
) -> FloatArray: ...
def avg_pool_backward(geometry: PoolGeometry, grad_output: FloatArray, num_threads: int) -> FloatArray: ...
def max_pool_backward(
    input_size: tuple[int, ...],
    channels_last: bool,
    grad_output: FloatArray,
    indices: NDArray[np.int64],
    num_threads: int,
) -> FloatArray | None: ...
def share_maxima(
    grad_output: FloatArray, x: FloatArray, maxima: FloatArray, size: int, num_threads: int
) -> FloatArray: ...
