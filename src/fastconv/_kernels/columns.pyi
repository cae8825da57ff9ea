from typing import Any

from numpy.typing import NDArray

from fastconv._kernels.geometry import ConvGeometry

def im2col(g: ConvGeometry, x: NDArray[Any], cols: NDArray[Any], num_threads: int) -> None: ...
def col2im(g: ConvGeometry, cols: NDArray[Any], x: NDArray[Any], num_threads: int) -> None: ...
