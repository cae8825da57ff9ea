from typing import Any

from numpy.typing import NDArray

from fastconv._kernels.conv_depthwise_weight import grad_weight as grad_weight
from fastconv._kernels.conv_depthwise_weight import grad_weight_and_bias as grad_weight_and_bias
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
