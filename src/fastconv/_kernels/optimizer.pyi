from collections.abc import Callable
from typing import Any

from fastconv._checks import FloatArray

def run(jobs: list[tuple[Callable[..., None], dict[str, Any]]]) -> None: ...
def adam(
    data: FloatArray,
    grad: FloatArray,
    mean: FloatArray,
    square: FloatArray,
    largest: FloatArray | None,
    maximize: bool,
    decay: float,
    shrink: float,
    beta1: float,
    beta2: float,
    step_size: float,
    root_of_correction: float,
    eps: float,
    num_threads: int,
) -> None: ...
def sgd(
    data: FloatArray,
    grad: FloatArray,
    velocity: FloatArray | None,
    maximize: bool,
    first: bool,
    nesterov: bool,
    decay: float,
    lr: float,
    momentum: float,
    damped: float,
    num_threads: int,
) -> None: ...
