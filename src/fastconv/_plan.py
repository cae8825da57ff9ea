"""Which kernels compute a convolution: the cheapest by a model of cost, from sizes alone.

It is loaded with the first convolution: these kernels would be a third of what `import fastconv` takes.

Costs are processor cycles of one thread, see _costs.py and _costs_wide.py.
"""

from types import ModuleType

from fastconv import _costs, _costs_wide
from fastconv._kernels import (
    conv_depthwise,
    conv_direct,
    conv_im2col,
    conv_rows,
    conv_strassen,
    conv_strassen_columns,
    conv_winograd,
)
from fastconv._kernels.geometry import ConvGeometry
from fastconv._work import Tile, Work, work

ALGORITHMS = ("auto", "direct", "im2col", "winograd", "strassen")
TASKS = ("forward", "grad_input", "grad_weight")

# The kernels that an algorithm may run on. "rows" is "direct" with pixels, not channels, in vectors, as
# "strassen_columns" is "strassen"; "depthwise" is for one filter a channel.
KERNELS = {
    "direct": ("direct", "rows", "depthwise"),
    "im2col": ("im2col",),
    "winograd": ("winograd",),
    "strassen": ("strassen", "strassen_columns"),
}

# Where they are.
MODULES: dict[str, ModuleType] = {
    "direct": conv_direct,
    "rows": conv_rows,
    "depthwise": conv_depthwise,
    "im2col": conv_im2col,
    "winograd": conv_winograd,
    "strassen": conv_strassen,
    "strassen_columns": conv_strassen_columns,
}


def cost(kernels: str, task: str, w: Work) -> float:
    """Cycles that these kernels take for the task."""
    if w.wide:
        costs = _costs_wide.WEIGHT_COSTS if task == "grad_weight" else _costs_wide.COSTS
    else:
        costs = _costs.WEIGHT_COSTS if task == "grad_weight" else _costs.COSTS
    return costs[kernels](w)


def able(kernels: str, task: str, g: ConvGeometry) -> bool:
    """Whether these kernels can do the task."""
    if kernels == "winograd":
        return bool(conv_winograd.supports(g))
    if kernels in KERNELS["strassen"]:
        module = conv_strassen if kernels == "strassen" else conv_strassen_columns
        return task != "grad_weight" and bool(module.supports(g, task == "grad_input"))
    if kernels == "depthwise":
        return bool(conv_depthwise.supports(g))
    if kernels == "rows":
        return not g.channels_last and (g.stride_w == 1 or task != "grad_weight")
    return True


def can(algorithm: str, g: ConvGeometry) -> bool:
    """Whether `algorithm` is able to compute a convolution of this geometry."""
    return algorithm == "auto" or any(able(kernels, "forward", g) for kernels in KERNELS[algorithm])


def needs(algorithm: str) -> str:
    """What `algorithm` asks of a convolution, for an error message."""
    return {
        "winograd": "a square kernel, or one of a single row or column and stride 1 along the other axis, "
        "larger than its stride and at most ten times as large; "
        "if it is larger than 5 or has a stride, one group and no dilation",
        "strassen": "one group, even numbers of channels and, of NHWC, two rows of results",
    }.get(algorithm, "any")


def kernels(task: str, algorithm: str, g: ConvGeometry, tile: Tile, packed: bool = False) -> str:
    """The cheapest kernels for a task by an algorithm, "auto" included, with this register tile.

    `packed` tells that the weight is packed beforehand, by the kernels' ``pack_weight``.
    """
    candidates = [
        name
        for family, names in KERNELS.items()
        if algorithm in ("auto", family)
        for name in names
        if able(name, task, g)
    ]
    # im2col transposes panels for the gradient of the weight and gathers NHWC pixels one by one.
    if algorithm == "auto" and (task == "grad_weight" or g.channels_last):
        candidates.remove("im2col")
    w = work(task, g, tile, packed)
    # What an algorithm leaves to others is direct.
    return min(candidates or ["direct"], key=lambda name: cost(name, task, w))


def packs(kernels: str, g: ConvGeometry, tile: Tile) -> bool:
    """Whether these kernels are to have a weight that stays packed beforehand, for images of this geometry.

    Winograd's transformed weights are four times as large (of 5x5, half as large again) and come from memory,
    layer after layer. Where blocks are few, that takes longer than to transform them.
    """
    if kernels == "winograd":
        return not work("forward", g, tile).few_tiles
    return kernels != "depthwise"


def choose(task: str, g: ConvGeometry, tile: Tile) -> str:
    """The algorithm that "auto" stands for."""
    chosen = kernels(task, "auto", g, tile)
    return next(family for family, names in KERNELS.items() if chosen in names)
