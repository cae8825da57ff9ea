from fastconv._checks import FloatArray
from fastconv._kernels.geometry import ConvGeometry

def grad_weight(
    g: ConvGeometry, grad_output: FloatArray, x: FloatArray, grad: FloatArray, num_threads: int
) -> None: ...
def grad_weight_and_bias(
    g: ConvGeometry,
    grad_output: FloatArray,
    x: FloatArray,
    grad: FloatArray,
    grad_bias: FloatArray | None,
    num_threads: int,
) -> None: ...
