"""Which kernels compute a convolution: a model of cost, in one place, from sizes alone.

It is loaded with the first convolution: these kernels would be a third of what `import fastconv` takes.

Costs are processor cycles of one thread. The constants were fitted to measurements on machines with AVX2 and
with AVX-512, for layers of AlexNet, VGG, ResNet and LeNet; only their ratios matter.
"""

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple, TypeAlias

from fastconv._kernels import (
    conv_depthwise,
    conv_direct,
    conv_im2col,
    conv_rows,
    conv_strassen,
    conv_strassen_columns,
    conv_winograd,
    direct_panel,
    winograd_product,
)
from fastconv._kernels.geometry import ConvGeometry

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


Tile: TypeAlias = tuple[int, int, int]  # rows, columns, lanes, as fastconv._kernels.isa.tile_shape gives them


class Work(NamedTuple):
    """A task as a product: for each group, `pixels` results of `out_channels`, of `length` products each.

    The gradient of the input of a strided convolution counts as one product of the mean length of its phases;
    the gradient of the weight counts as the forward product, whose operands it shares.
    """

    groups: int
    pixels: int  # of all images
    row: int  # pixels of a row of results that are neighbours in memory of the input
    in_channels: int  # of a group, as all below
    out_channels: int
    length: float
    stride: int  # pixels from one window to the next along a row
    step: int  # elements from one result to the next along a row of an NCHW image, phases apart; else 1
    tiles: int  # Winograd's blocks of results
    block: int  # results of such a block
    positions: int  # and its numbers where it is transformed: 36, or 6 of kernels of one row or column
    tiled_in: int  # channels of these blocks' inputs, those of all parts of a large or strided kernel
    tiled_out: int  # of their results
    rows: int  # of a register tile
    columns: int
    lanes: int
    seen: float  # of the products, the part that is not with padding
    halved: float  # pixels of two equal halves of an image, by its pixels: rows are cut, or all pixels of 1x1
    overlap: bool  # whether there is a stride, and windows of neighbouring results share columns all the same
    packed: bool  # whether the weight is packed beforehand
    forward: bool

    @property
    def wide(self) -> bool:
        """Whether tiles are AVX-512's, of more rows than others."""
        return self.rows > 6

    @property
    def vector(self) -> int:
        """Elements that one of two units computes in a cycle: many processors join both for AVX-512."""
        return self.lanes // 2 if self.wide else self.lanes

    @property
    def fused_a_cycle(self) -> int:
        return 2 * self.vector

    @property
    def pointwise(self) -> bool:
        """Whether kernels are 1x1."""
        return self.length <= self.in_channels

    @property
    def few_tiles(self) -> bool:
        """Whether Winograd's blocks are so few that it keeps no transformed weights."""
        return bool(winograd_product.are_few(self.tiles, self.tiled_in, self.tiled_out))

    @property
    def in_place(self) -> bool:
        """Whether im2col reads the weight where it lies."""
        return self.forward and not self.packed and not self.wide and self.pixels <= conv_im2col.few_pixels

    @property
    def results(self) -> int:
        return self.pixels * self.out_channels


def work(task: str, g: ConvGeometry, tile: Tile, packed: bool = False) -> Work:
    """The product behind one task of TASKS."""
    in_channels, out_channels = g.in_channels // g.groups, g.out_channels // g.groups
    height, width, stride, phases_h, phases_w = g.out_h, g.out_w, g.stride_w, 1, 1
    taps = float(g.kernel_h * g.kernel_w)
    if task == "grad_input":
        in_channels, out_channels = out_channels, in_channels
        height, width, stride, phases_h, phases_w = g.height, g.width, 1, g.stride_h, g.stride_w
    pixels = g.batch * height * width
    flat = taps == stride == g.stride_h == 1 and g.height * g.width == height * width
    tiles, block, positions, parts = conv_winograd.tiling(g, task == "grad_input")
    tiled_in, tiled_out = in_channels, out_channels
    if task == "grad_input":
        tiled_out *= parts
    else:
        tiled_in *= parts
    lines = height * width if flat else height
    return Work(
        g.groups,
        pixels,
        height * width if flat else ceil_div(width, phases_w),
        in_channels,
        out_channels,
        in_channels * taps / (phases_h * phases_w),
        stride,
        1 if g.channels_last else phases_w,
        tiles,
        block,
        positions,
        tiled_in,
        tiled_out,
        *tile,
        seen(g.height, g.out_h, g.kernel_h, g.stride_h, g.dilation_h, g.top)
        * seen(g.width, g.out_w, g.kernel_w, g.stride_w, g.dilation_w, g.left),
        2 * ceil_div(lines, 2) / max(1, lines),
        g.kernel_w > stride > 1,
        packed,
        task == "forward",
    )


def seen(size: int, out: int, taps: int, stride: int, dilation: int, before: int) -> float:
    """Of the inputs that the windows of an axis take, the part that is in the image."""
    inside = 0
    for offset in range(-before, taps * dilation - before, dilation):  # result i takes i * stride + offset
        first = min(out, max(0, ceil_div(-offset, stride)))
        inside += max(0, min(out, ceil_div(size - offset, stride)) - first)
    return inside / max(1, out * taps)


def take_weight(w: Work, pack: float, read: float) -> float:
    """Packing the weight, of so many cycles a number; or reading what is packed from memory, which with AVX2
    decides for images of few pixels: sums of parts of it are 7/4 as many numbers."""
    each = pack
    if w.packed:
        each = 0 if w.wide else read
    return each * w.length * w.out_channels


def phased_store(w: Work, each: float) -> float:
    """Of a result of a strided gradient, where those in phases with taps take `each`; others are zeros."""
    tapped = 1 if w.wide else min(1, w.length / max(w.in_channels, 1))
    return each * tapped + 0.4 * (1 - tapped)


def cost_direct(w: Work) -> float:
    """Channels in vectors, filled up to whole ones; results are transposed on their way to NCHW.

    1x1 kernels take a line of every channel for a few pixels of a tile, fewer with a stride; others with a
    stride have more of the image turned, for every result, so that a pixel's channels are neighbours. Where
    channels are many, padding is left out of their sums.
    """
    product = (1.12 if w.pointwise and not w.wide else 1.1) * w.pixels * w.length / w.fused_a_cycle
    if w.wide and w.in_channels >= direct_panel.tap_channels:
        product *= w.seen
    if w.pointwise:
        load = 0.9 if w.wide else 2.4 if w.stride == 2 else 1.2
    else:
        load = 0 if w.wide or w.stride == 1 else w.stride**2
    store = 1.2 if w.wide else 2.6 if w.step == 1 else phased_store(w, 4)
    product *= ceil_to(w.out_channels, w.lanes)
    moved = load * w.pixels * w.in_channels + store * w.results
    return w.groups * (product + moved + take_weight(w, 1, 0.35))


def cost_rows(w: Work) -> float:
    """Pixels in vectors, rows filled up to whole ones; a tile takes a while to begin, and many planes come
    slowly. A stride along rows has the columns of the image sorted first: in vectors, if it is 2 or 4. AVX2's
    tiles of one vector have a third too few sums under way, those of few rows, and the more columns, have not
    the registers that they need, and its strips of few channels take the taps of a strided gradient one by
    one, from every line of the weight once a phase."""
    filled: float = ceil_to(w.row, w.lanes)
    if not w.wide and 0 < w.row % w.columns <= w.lanes:
        filled += w.lanes // 3
    filled *= w.pixels / max(w.row, 1)
    each = 1.2 if w.pointwise else 1.08
    if not w.wide and 1 < w.out_channels <= w.rows // 2:
        each *= 1.9
    product = each * filled * w.length * w.out_channels / w.fused_a_cycle
    tiles = filled / w.columns * ceil_div(w.out_channels, w.rows)
    many = max(0, w.in_channels - 32) * (5 if w.wide else 1.2) if w.pointwise else 0.35 * w.in_channels
    phased = w.step > 1 and not w.wide
    results = (80 if w.wide else 30) * tiles + (0.7 if phased else 0.4) * w.results
    sort = {1: 0, 2: 1.5 if w.wide else 1.75, 4: 1}.get(w.stride, 3) * w.stride**2 * w.in_channels
    weight = take_weight(w, 6 if phased else 1, 0.35)
    return w.groups * (product + results + w.pixels * (many + sort) + weight)


def cost_depthwise(w: Work) -> float:
    """Pixels (NHWC: channels) in vectors, each loaded once for several results; memory bounds it."""
    return w.groups * w.pixels * (1.2 * w.length / w.fused_a_cycle + 0.3)


def cost_im2col(w: Work) -> float:
    """Pixels in vectors, packed first: runs of them, which short rows cut, and with a stride of 2 or 4 every
    second or fourth in vectors, too; others one by one. Where windows overlap, a stride has the columns of
    the image sorted first, and then there are runs again.

    Where few results are made of each, little time is left to fetch what a stride leaves out, too. Long
    sums are cut into blocks, which read and write the results again. AVX2's tiles of few terms are not worth
    their beginning, its strips of few channels are slowly packed, and its panels for the phases of a strided
    gradient.
    """
    terms = 1.17 * w.length if w.wide else (1.04 if w.pointwise else 1.08) * (w.length + 6)
    blocks = w.length // (1024 if w.wide else 2048)
    store = 0.8 if w.step == 1 else phased_store(w, 7)  # phases of a strided gradient come one by one
    store += 0.3 * blocks
    product = w.pixels * terms * w.out_channels / w.fused_a_cycle + store * w.results
    weight = take_weight(w, 0.35 if w.in_place else 1 if w.wide else 2, 0.35)
    return w.groups * (product + w.pixels * cost_panels(w) + weight)


def cost_panels(w: Work) -> float:
    """Packing a pixel's column."""
    if w.wide:
        return (0.8 if w.stride == 1 else 3.5) * w.length
    each = 3.5
    if w.step > 1:
        each = 2.4
    elif w.stride == 1 or w.overlap:
        each = 0.4
    elif w.stride in (2, 4):
        each = (2.4 if w.pointwise else 1) + 12 / max(w.out_channels, 1)
    pack = each * max(1, 12 / max(w.row, 1)) * w.length
    return pack + (0.8 * w.stride**2 * w.in_channels if w.overlap else 0)


def cost_transform(w: Work) -> float:
    """Of a block, for a vector of channels: the larger ones (4x4, 5x5, lines of 5) have more results to
    transpose. Lines in short rows are many beginnings."""
    if w.positions == 6:
        return (10 if w.block == 5 else 6) * w.positions + 60 * w.block / max(w.row, 1)
    if w.wide:
        return (13 if w.block == 16 else 8) * w.positions
    return (11 if w.block >= 16 else 8) * w.positions


def cost_parts(w: Work) -> float:
    """Moving pixels between an image and its parts, where a kernel has several, and making room for them.
    AVX2 takes them apart more slowly than it adds them up, the more so beyond stride 2, the less so along one
    axis."""
    if w.tiled_in == w.in_channels and w.tiled_out == w.out_channels:
        return 0
    apart = w.tiled_in > w.in_channels
    each: float = 1
    if apart and not w.wide:
        each = 2 if w.positions == 6 else 3.5 if w.stride <= 2 else 6
    return 20000 + each * w.tiles * w.block * (w.tiled_in if apart else w.tiled_out)


def cost_winograd(w: Work) -> float:
    """36 products a block, not 144 (3x3, 4x4) or 100 (2x2, 5x5); transforms of input, weight and results. Of
    many channels the transformed blocks are more than the L2 cache of processors with AVX2 holds."""
    each = 1.3 if w.wide or w.tiled_in < 384 else 1.5
    product = each * w.positions * w.tiles * w.tiled_in * w.tiled_out / w.fused_a_cycle
    channels = ceil_to(w.tiled_in, w.lanes) + ceil_to(w.tiled_out, w.lanes)
    blocks = cost_transform(w) * w.tiles * channels / w.vector
    weights = 0 if w.packed and not w.few_tiles else 5 * w.positions * w.tiled_in * w.tiled_out / w.vector
    return w.groups * (product + blocks + weights + cost_parts(w))


def cost_direct_weight(w: Work) -> float:
    """As cost_direct: grad_output is transposed, as results are otherwise."""
    product = 1.1 * w.pixels * w.length * ceil_to(w.out_channels, w.lanes) / w.fused_a_cycle
    return w.groups * (product + 1.2 * w.results)


def cost_rows_weight(w: Work) -> float:
    """As cost_rows; each tile of sums begins every row anew. 1x1: no two windows share what they read."""
    planes, terms = (5, 5) if w.wide else (3, 4)
    rows = w.pixels / max(w.row, 1)
    each = (1.25 if w.wide else 1.4) if w.pointwise else 1.1
    product = each * rows * ceil_to(w.row, w.lanes) * w.length * w.out_channels / w.fused_a_cycle
    tiles = ceil_div(w.out_channels, planes) * -(-w.length // terms)
    return w.groups * (product + 8 * rows * tiles + 0.35 * w.pixels * w.in_channels + 0.4 * w.results)


def cost_winograd_weight(w: Work) -> float:
    """As cost_winograd; each 64 channels of one side transform the other side's blocks again."""
    in_channels, out_channels = ceil_to(w.tiled_in, w.lanes), ceil_to(w.tiled_out, w.lanes)
    product = 1.3 * w.positions * w.tiles * in_channels * w.tiled_out / w.fused_a_cycle
    repeats = in_channels * ceil_div(w.tiled_out, 64) + out_channels * ceil_div(w.tiled_in, 64)
    transform = cost_transform(w) if w.positions == 6 else 6 * w.positions
    transforms = transform * w.tiles * repeats / w.vector
    sums = 2.2 * w.positions * w.tiled_in * w.tiled_out
    return w.groups * (product + transforms + sums + cost_parts(w))


def cost_strassen(w: Work) -> float:
    """As cost_direct, with an eighth of the products less, but none left out: sums of inputs, of which padded
    ones are copied first (and with a stride more of them, from farther apart), of weights, and of results."""
    half = ceil_to(w.out_channels // 2, w.lanes)
    each = (1.1 if w.wide else 1.4) if w.pointwise else 1.05 if w.wide else 1.3
    product = 7 / 8 * each * w.halved * w.pixels * w.length / w.fused_a_cycle * 2 * half
    load = (0.9 if w.wide else 1.2) if w.pointwise else 0
    sums: float = 1.4 if w.wide or w.stride == 1 else 3
    if w.pointwise:
        sums = 0.55 if w.wide else 0.8
    store = (2.6 if w.wide else 4) * w.results
    load += sums * w.stride**2
    return w.groups * (product + load * w.pixels * w.in_channels + store + take_weight(w, 2, 0.6))


def cost_strassen_columns(w: Work) -> float:
    """As cost_im2col, with an eighth of the products less, in sums of half the length, and sums of the packed
    columns and of results. With AVX2 long sums gain nothing: their blocks are many."""
    each = 1.17 if w.wide else 1.04 if w.pointwise else 1.08 if w.length <= 2048 else 1.2
    product = 7 / 8 * each * w.pixels * (w.length + 40) * w.out_channels / w.fused_a_cycle
    sums = 0.4 * w.length + 3 * w.out_channels
    return w.groups * (product + w.pixels * (cost_panels(w) + sums) + take_weight(w, 6, 1.3))


COSTS: dict[str, Callable[[Work], float]] = {
    "direct": cost_direct,
    "rows": cost_rows,
    "depthwise": cost_depthwise,
    "im2col": cost_im2col,
    "winograd": cost_winograd,
    "strassen": cost_strassen,
    "strassen_columns": cost_strassen_columns,
}
WEIGHT_COSTS = COSTS | {
    "direct": cost_direct_weight,
    "rows": cost_rows_weight,
    "winograd": cost_winograd_weight,
}


def cost(kernels: str, task: str, w: Work) -> float:
    """Cycles that these kernels take for the task."""
    return (WEIGHT_COSTS if task == "grad_weight" else COSTS)[kernels](w)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def ceil_to(a: int, b: int) -> int:
    return ceil_div(a, b) * b


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
