"""Which algorithm computes a convolution: a model of cost, in one place, from sizes alone."""

from __future__ import annotations

from fastconv._kernels import conv_winograd
from fastconv._kernels.geometry import ConvGeometry
from fastconv._kernels.isa import tile_shape

ALGORITHMS = ("auto", "direct", "im2col", "winograd")
TASKS = ("forward", "grad_input", "grad_weight")


def can(algorithm: str, g: ConvGeometry) -> bool:
    """Whether `algorithm` is able to compute a convolution of this geometry."""
    return algorithm != "winograd" or conv_winograd.supports(g)


def choose(task: str, g: ConvGeometry, dtype_char: str) -> str:
    """The algorithm that "auto" stands for. `task` is one of TASKS; `dtype_char` is "f" or "d"."""
    columns = tile_shape(dtype_char)[1]
    out_channels = (g.in_channels if task == "grad_input" else g.out_channels) // g.groups
    if task == "grad_weight":
        return "direct"
    if g.channels_last:
        return "direct"
    # Few output channels leave the lanes of "direct" empty; a 1x1 kernel's tiles are too short for its
    # transposed stores. "im2col" has pixels in its lanes and stores them as they are.
    if out_channels < columns or g.kernel_h * g.kernel_w == 1:
        return "im2col"
    return "direct"


def needs(algorithm: str) -> str:
    """What `algorithm` asks of a convolution, for an error message."""
    return {"winograd": "a 3x3 kernel with stride 1 and dilation 1"}.get(algorithm, "any")
