from typing import Any

from numpy.typing import NDArray

def forward(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    out: NDArray[Any],
    relu: bool,
    num_threads: int,
) -> None: ...
def grad_input(
    grad_output: NDArray[Any], weight: NDArray[Any], grad_x: NDArray[Any], num_threads: int
) -> None: ...
def affine(
    x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], out: NDArray[Any], num_threads: int
) -> None: ...
def grad_weight(grad_output: NDArray[Any], x: NDArray[Any], grad: NDArray[Any], num_threads: int) -> None: ...
