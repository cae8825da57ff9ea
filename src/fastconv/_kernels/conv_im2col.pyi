from fastconv._checks import FloatArray
from fastconv._kernels.geometry import ConvGeometry

few_pixels: int

def pack_weight(g: ConvGeometry, weight: FloatArray, num_threads: int) -> FloatArray: ...
def forward(
    g: ConvGeometry,
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None,
    out: FloatArray,
    relu: bool,
    num_threads: int,
) -> None: ...
def forward_packed(
    g: ConvGeometry,
    x: FloatArray,
    packed: FloatArray,
    bias: FloatArray | None,
    out: FloatArray,
    relu: bool,
    num_threads: int,
) -> None: ...
def grad_input(
    g: ConvGeometry, grad_output: FloatArray, weight: FloatArray, grad_x: FloatArray, num_threads: int
) -> None: ...
def grad_weight(
    g: ConvGeometry, grad_output: FloatArray, x: FloatArray, grad: FloatArray, num_threads: int
) -> None: ...
