import numpy as np
from numpy.typing import NDArray

from fastconv._checks import FloatArray

def channel_sums(
    x: FloatArray, y: FloatArray | None, center: FloatArray | None, num_threads: int
) -> NDArray[np.float64]: ...
def affine(
    x: FloatArray,
    offset: FloatArray,
    scale: FloatArray,
    shift: FloatArray,
    num_threads: int,
    into: FloatArray | None = None,
) -> FloatArray: ...
def affine_sum(
    x: FloatArray,
    offset: FloatArray,
    scale: FloatArray,
    shift: FloatArray,
    y: FloatArray,
    center: FloatArray,
    slope: FloatArray,
    num_threads: int,
) -> FloatArray: ...
