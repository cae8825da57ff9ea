from fastconv._checks import FloatArray
from fastconv._kernels.geometry import ConvGeometry

def grad_bias(g: ConvGeometry, grad_output: FloatArray, grad: FloatArray, num_threads: int) -> None: ...
