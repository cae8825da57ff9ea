from typing import Any

from numpy.typing import NDArray

from fastconv._kernels.geometry import ConvGeometry

def supports(g: ConvGeometry) -> bool: ...
def forward(
    g: ConvGeometry,
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    out: NDArray[Any],
    relu: bool,
    num_threads: int,
) -> None: ...
def grad_input(
    g: ConvGeometry, grad_output: NDArray[Any], weight: NDArray[Any], grad_x: NDArray[Any], num_threads: int
) -> None: ...
def grad_weight(
    g: ConvGeometry, grad_output: NDArray[Any], x: NDArray[Any], grad: NDArray[Any], num_threads: int
) -> None: ...
def grad_weight_and_bias(
    g: ConvGeometry,
    grad_output: NDArray[Any],
    x: NDArray[Any],
    grad: NDArray[Any],
    grad_bias: NDArray[Any] | None,
    num_threads: int,
) -> None: ...
