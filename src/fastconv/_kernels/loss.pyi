from typing import Any

from numpy.typing import NDArray

from fastconv._checks import FloatArray

def squared_error(
    x: FloatArray, y: FloatArray, factor: float, num_threads: int
) -> tuple[float, FloatArray]: ...
def classes_of(
    target: NDArray[Any], classes: int, ignored: int | None, weight: FloatArray
) -> tuple[NDArray[Any], float, int]: ...
def cross_entropy(
    logits: FloatArray,
    axis: int,
    target: NDArray[Any] | None,
    probability: FloatArray | None,
    weight: FloatArray,
    total_weight: float,
    smoothing: float,
    scale: float,
    num_threads: int,
) -> tuple[float, FloatArray]: ...
