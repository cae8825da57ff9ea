from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._kernels.geometry import ConvGeometry

_Array = NDArray[np.floating[Any]]

def supports(g: ConvGeometry) -> bool: ...
def pack_weight(g: ConvGeometry, weight: _Array, num_threads: int) -> _Array: ...
def forward(
    g: ConvGeometry,
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    out: _Array,
    relu: bool,
    num_threads: int,
) -> None: ...
def forward_packed(
    g: ConvGeometry,
    x: _Array,
    packed: _Array,
    bias: _Array | None,
    out: _Array,
    relu: bool,
    num_threads: int,
) -> None: ...
def grad_input(
    g: ConvGeometry, grad_output: _Array, weight: _Array, grad_x: _Array, num_threads: int
) -> None: ...
def grad_weight(
    g: ConvGeometry, grad_output: _Array, x: _Array, grad_weight: _Array, num_threads: int
) -> None: ...
