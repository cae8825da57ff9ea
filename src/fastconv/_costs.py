"""Cycles that each kind of kernels takes with AVX2 and lesser instruction sets, from sizes alone.

The constants were fitted to measurements on an AMD Zen 3, for layers of AlexNet, VGG, ResNet and LeNet; only
their ratios matter.
"""

from collections.abc import Callable

from fastconv._kernels import conv_im2col
from fastconv._work import Work, ceil_div, ceil_to


def fused_a_cycle(w: Work) -> int:
    """Multiply-adds of two units."""
    return 2 * w.lanes


def in_place(w: Work) -> bool:
    """Whether im2col reads the weight where it lies."""
    return w.forward and not w.packed and w.pixels <= conv_im2col.few_pixels


def take_weight(w: Work, pack: float, read: float) -> float:
    """Packing the weight, of so many cycles a number; or reading what is packed from memory, which decides
    for images of few pixels: sums of parts of it are 7/4 as many numbers."""
    return (read if w.packed else pack) * w.length * w.out_channels


def phased_store(w: Work, each: float) -> float:
    """Of a result of a strided gradient, where those in phases with taps take `each`; others are zeros."""
    tapped = min(1, w.length / max(w.in_channels, 1))
    return each * tapped + 0.4 * (1 - tapped)


def cost_direct(w: Work) -> float:
    """Channels in vectors, filled up to whole ones; results are transposed on their way to NCHW.

    1x1 kernels take a line of every channel for a few pixels of a tile, fewer with a stride; others with a
    stride have more of the image turned, for every result, so that a pixel's channels are neighbours.
    """
    product = (1.12 if w.pointwise else 1.1) * w.pixels * w.length / fused_a_cycle(w)
    load: float = 0 if w.stride == 1 else w.stride**2
    if w.pointwise:
        load = 2.4 if w.stride == 2 else 1.2
    store = 2.6 if w.step == 1 else phased_store(w, 4)
    product *= ceil_to(w.out_channels, w.lanes)
    moved = load * w.pixels * w.in_channels + store * w.results
    return w.groups * (product + moved + take_weight(w, 1, 0.35))


def cost_rows(w: Work) -> float:
    """Pixels in vectors, rows filled up to whole ones; a tile takes a while to begin, and many planes come
    slowly. A stride along rows has the columns of the image sorted first: in vectors, if it is 2 or 4. Tiles
    of one vector have a third too few sums under way, those of few rows, and the more columns, have not the
    registers that they need, and strips of few channels take the taps of a strided gradient one by one, from
    every line of the weight once a phase."""
    filled: float = ceil_to(w.row, w.lanes)
    if 0 < w.row % w.columns <= w.lanes:
        filled += w.lanes // 3
    filled *= w.lines
    each = 1.2 if w.pointwise else 1.08
    if 1 < w.out_channels <= w.rows // 2:
        each *= 1.9
    product = each * filled * w.length * w.out_channels / fused_a_cycle(w)
    tiles = filled / w.columns * ceil_div(w.out_channels, w.rows)
    many = max(0, w.in_channels - 32) * 1.2 if w.pointwise else 0.35 * w.in_channels
    phased = w.step > 1
    results = 30 * tiles + (0.7 if phased else 0.4) * w.results
    sort = {1: 0, 2: 1.75, 4: 1}.get(w.stride, 3) * w.stride**2 * w.in_channels
    weight = take_weight(w, 6 if phased else 1, 0.35)
    return w.groups * (product + results + w.pixels * (many + sort) + weight)


def cost_depthwise(w: Work) -> float:
    """Pixels (NHWC: channels) in vectors, each loaded once for several results; memory bounds it."""
    return w.groups * w.pixels * (1.2 * w.length / fused_a_cycle(w) + 0.3)


def cost_im2col(w: Work) -> float:
    """Pixels in vectors, packed first: runs of them, which short rows cut, and with a stride of 2 or 4 every
    second or fourth in vectors, too; others one by one. Where windows overlap, a stride has the columns of
    the image sorted first, and then there are runs again.

    Where few results are made of each, little time is left to fetch what a stride leaves out, too. Long
    sums are cut into blocks, which read and write the results again. Tiles of few terms are not worth their
    beginning, strips of few channels are slowly packed, and panels for the phases of a strided gradient.
    """
    terms = (1.04 if w.pointwise else 1.08) * (w.length + 6)
    store = 0.8 if w.step == 1 else phased_store(w, 7)  # phases of a strided gradient come one by one
    store += 0.3 * (w.length // 2048)
    product = w.pixels * terms * w.out_channels / fused_a_cycle(w) + store * w.results
    weight = take_weight(w, 0.35 if in_place(w) else 2, 0.35)
    return w.groups * (product + w.pixels * cost_panels(w) + weight)


def cost_panels(w: Work) -> float:
    """Packing a pixel's column."""
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
    return (11 if w.block >= 16 else 8) * w.positions


def cost_parts(w: Work) -> float:
    """Moving pixels between an image and its parts, where a kernel has several, and making room for them.
    It takes longer to take them apart than to add them up, the more so beyond stride 2, the less so along one
    axis."""
    if w.parted == 0:
        return 0
    each: float = 1
    if w.tiled_in > w.in_channels:
        each = 2 if w.positions == 6 else 3.5 if w.stride <= 2 else 6
    return 20000 + each * w.parted


def cost_winograd(w: Work) -> float:
    """36 products a block, not 144 (3x3, 4x4) or 100 (2x2, 5x5); transforms of input, weight and results. Of
    many channels the transformed blocks are more than the L2 cache holds."""
    each = 1.3 if w.tiled_in < 384 else 1.5
    product = each * w.positions * w.tiles * w.tiled_in * w.tiled_out / fused_a_cycle(w)
    channels = ceil_to(w.tiled_in, w.lanes) + ceil_to(w.tiled_out, w.lanes)
    blocks = cost_transform(w) * w.tiles * channels / w.lanes
    weights = 0 if w.packed and not w.few_tiles else 5 * w.positions * w.tiled_in * w.tiled_out / w.lanes
    return w.groups * (product + blocks + weights + cost_parts(w))


def cost_direct_weight(w: Work) -> float:
    """As cost_direct: grad_output is transposed, as results are otherwise."""
    product = 1.1 * w.pixels * w.length * ceil_to(w.out_channels, w.lanes) / fused_a_cycle(w)
    return w.groups * (product + 1.2 * w.results)


def cost_rows_weight(w: Work) -> float:
    """As cost_rows; each tile of sums begins every row anew. 1x1: no two windows share what they read."""
    planes, terms = 3, 4  # of a tile
    each = 1.4 if w.pointwise else 1.1
    product = each * w.lines * ceil_to(w.row, w.lanes) * w.length * w.out_channels / fused_a_cycle(w)
    tiles = ceil_div(w.out_channels, planes) * -(-w.length // terms)
    return w.groups * (product + 8 * w.lines * tiles + 0.35 * w.pixels * w.in_channels + 0.4 * w.results)


def cost_winograd_weight(w: Work) -> float:
    """As cost_winograd; each 64 channels of one side transform the other side's blocks again."""
    in_channels, out_channels = ceil_to(w.tiled_in, w.lanes), ceil_to(w.tiled_out, w.lanes)
    product = 1.3 * w.positions * w.tiles * in_channels * w.tiled_out / fused_a_cycle(w)
    repeats = in_channels * ceil_div(w.tiled_out, 64) + out_channels * ceil_div(w.tiled_in, 64)
    transform = cost_transform(w) if w.positions == 6 else 6 * w.positions
    transforms = transform * w.tiles * repeats / w.lanes
    sums = 2.2 * w.positions * w.tiled_in * w.tiled_out
    return w.groups * (product + transforms + sums + cost_parts(w))


def cost_strassen(w: Work) -> float:
    """As cost_direct, with an eighth of the products less, but none left out: sums of inputs, of which padded
    ones are copied first (and with a stride more of them, from farther apart), of weights, and of results."""
    half = ceil_to(w.out_channels // 2, w.lanes)
    each = 1.4 if w.pointwise else 1.3
    product = 7 / 8 * each * w.halved * w.pixels * w.length / fused_a_cycle(w) * 2 * half
    load: float = (0.8 if w.pointwise else 1.4 if w.stride == 1 else 3) * w.stride**2
    if w.pointwise:
        load += 1.2
    return w.groups * (product + load * w.pixels * w.in_channels + 4 * w.results + take_weight(w, 2, 0.6))


def cost_strassen_columns(w: Work) -> float:
    """As cost_im2col, with an eighth of the products less, in sums of half the length, and sums of the packed
    columns and of results. Long sums gain nothing: their blocks are many."""
    each = 1.04 if w.pointwise else 1.08 if w.length <= 2048 else 1.2
    product = 7 / 8 * each * w.pixels * (w.length + 40) * w.out_channels / fused_a_cycle(w)
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
