"""Cycles that each kind of kernels takes with AVX-512, whose tiles have more rows, from sizes alone.

The constants were fitted to 840 random layers, each by all kernels that are able, on an AMD Zen 4; only their
ratios matter. Many processors join both their units for AVX-512: a vector of multiply-adds takes a cycle.
"""

from collections.abc import Callable

from fastconv._kernels import direct_panel
from fastconv._work import Work, ceil_div, ceil_to

LATENCY = 4  # cycles of a term, at least: each multiply-add waits for the one of the term before


def far(w: Work) -> float:
    """The part of results that is written to memory, rather than to a cache."""
    return min(1, w.results / 2**20)


def strips(w: Work, vectors: int) -> int:
    """Cycles of a term for all output channels, which are broadcast, and so many vectors of pixels."""
    whole, rest = divmod(w.out_channels, w.rows)
    return whole * w.rows * vectors + (max(LATENCY, rest * vectors) if rest else 0)


def take_weight(w: Work, each: float) -> float:
    """Packing the weight, all phases of it; one that is packed already comes fast enough."""
    return 0 if w.packed else each * w.phases * w.length * w.out_channels


def cost_direct(w: Work) -> float:
    """Channels in vectors, filled up to whole ones; results are transposed on their way to NCHW. Where
    channels are many, padding is left out of their sums. A strided gradient has short tiles, and scatters
    results."""
    product = 1.1 * w.pixels * w.length * ceil_to(w.out_channels, w.lanes) / w.lanes
    if w.in_channels >= direct_panel.tap_channels:
        product *= w.seen
    tiles = w.lines * ceil_div(w.row, w.rows) * ceil_div(w.out_channels, w.columns)
    if w.pointwise:
        load = (0.8 if w.stride > 1 else 0.2) * w.pixels * w.in_channels
    else:
        load = (0.6 * w.pixels + 8 * w.lines) * w.in_channels
    scatter = {1: 0, 2: 8}.get(w.step, 30) * w.lines * w.out_channels
    store = 1.1 * w.results + scatter + (10 if w.step == 1 else 130) * tiles
    return w.groups * (product + load + store + take_weight(w, 1.3))


def cost_rows(w: Work) -> float:
    """Pixels in vectors, rows filled up to whole ones: two vectors, four of few output channels. A stride
    along rows has the columns of the image sorted first. Rows of less than a vector are copied to where they
    belong, and many planes of results are slowly written."""
    vectors, most = ceil_div(w.row, w.lanes), 4 if w.out_channels <= w.rows // 2 else 2
    terms = vectors // most * strips(w, most) + (strips(w, vectors % most) if vectors % most else 0)
    product = 1.1 * w.lines * w.length * terms
    load = 0.3 * w.pixels * max(0, w.in_channels - 32)
    if not w.pointwise:
        load = (w.pixels + 12 * w.lines) * w.in_channels
    if w.stride > 1:
        each = 0.15 if w.stride in (2, 4) else 0.6
        load += (22 * w.lines + each * w.pixels) * w.stride**2 * w.in_channels
    store = (0.36 + 0.05 * far(w)) * w.results
    if w.step > 1:
        load /= 2
        store += 6 * w.step * w.lines * w.out_channels + (0 if w.step == 2 else 1.5 * w.results)
        store += far(w) * w.results if w.pointwise else 0
    elif w.row < w.lanes:
        store += 34 * w.lines * w.out_channels
    elif w.pointwise:
        store += 2.4 * far(w) * w.results
    return w.groups * (product + load + store + take_weight(w, 0.45))


def cost_depthwise(w: Work) -> float:
    """Pixels (NHWC: channels) in vectors, each loaded once for several results; memory bounds it."""
    return w.groups * w.pixels * (1.2 * w.length / w.lanes + 0.3)


def cost_im2col(w: Work) -> float:
    """Pixels in vectors, packed first. Long sums are cut into blocks, which read and write the results again;
    the phases of a strided gradient go over all of them, one after the other."""
    product = 1.1 * ceil_to(w.pixels, w.lanes) / w.columns * w.length * strips(w, 2)
    each = {1: 0.34, 2: 0.46 + 2 * far(w)}.get(w.step, 4) + 2 * (w.length // 1024)
    store = each * w.results + 6 * w.lines * w.out_channels
    return w.groups * (product + cost_panels(w) + store + take_weight(w, 1.25))


def cost_panels(w: Work) -> float:
    """Packing all columns: runs of pixels, where the windows of a stride overlap those of sorted columns."""
    if w.step > 1:
        each = {2: 0.5, 3: 0.7}.get(w.step, 1.8)
    elif w.pointwise:
        each = 0.55 if w.stride == 1 else 1 + 3 * min(1, w.stride**2 * w.pixels * w.in_channels / 2**23)
    else:
        each = {1: 0.26, 2: 0.52, 3: 0.96}.get(w.stride, 1.3)
    sort = 0.65 * w.stride**2 * w.pixels * w.in_channels if w.overlap else 0
    return (each * w.pixels + 5.6 * w.lines) * w.length + sort


def cost_transform(w: Work) -> float:
    """Of a block, for a vector of channels. Lines in short rows are many beginnings."""
    if w.positions == 6:
        return (20 if w.block == 5 else 12) * w.positions + 120 * w.block / max(w.row, 1)
    return (10 if w.block == 4 else 14) * w.positions


def cost_parts(w: Work) -> float:
    """Moving pixels between an image and its parts, where a kernel has several, and making room for them."""
    return 20000 + (1 + 30 / max(w.row, 1)) * w.parted if w.parted else 0


def cost_winograd(w: Work) -> float:
    """36 products a block, not 144 (3x3, 4x4) or 100 (2x2, 5x5); transforms of input, weight and results. Of
    many channels the transformed blocks are more than the L2 cache holds."""
    out_channels = ceil_to(w.tiled_out, w.lanes)
    numbers = w.positions * w.tiles * w.tiled_in
    each = 1.42 if w.positions == 36 else 1.2
    product = (each * out_channels / w.lanes + (1 if w.tiled_in >= 512 else 0)) * numbers
    blocks = cost_transform(w) * w.tiles * (ceil_to(w.tiled_in, w.lanes) + out_channels) / w.lanes
    kept = w.packed and not w.few_tiles
    weights = 0 if kept else 0.6 * w.positions * w.tiled_in * ceil_to(w.tiled_out, w.columns)
    return w.groups * (product + blocks + weights + far(w) * w.results + cost_parts(w))


def cost_direct_weight(w: Work) -> float:
    """As cost_direct: grad_output is transposed, as results are otherwise."""
    product = (1.1 * w.pixels + 0.5 * w.lines) * w.length * ceil_to(w.out_channels, w.lanes) / w.lanes
    moved = 0.18 * w.pixels * w.length + 0.24 * w.pixels * w.in_channels + 0.6 * w.results
    return w.groups * (product + moved + 0.9 * w.length * w.out_channels)


def cost_rows_weight(w: Work) -> float:
    """As cost_rows; tiles of five by five sums begin every row anew, windows of many planes come slowly."""
    planes = ceil_div(w.out_channels, 5)
    each = (1.53 if w.pointwise else 1.13) + (1.8 if w.out_channels <= 2 else 0)
    product = each * w.lines * ceil_div(w.row, w.lanes) * w.length * w.out_channels
    load = 0.4 * w.pixels * w.length * planes if w.in_channels > 64 else 0.1 * w.pixels * w.in_channels
    load += 0.1 * w.results
    tiles = 12 * w.lines * planes * -(-w.length // 5) + 16 * w.length * w.out_channels
    return w.groups * (product + load + tiles)


def cost_winograd_weight(w: Work) -> float:
    """As cost_winograd; each 64 channels of one side transform the other side's blocks again."""
    in_channels, out_channels = ceil_to(w.tiled_in, w.lanes), ceil_to(w.tiled_out, w.lanes)
    each = 1.39 if w.positions == 36 else 1.2
    product = each * w.positions * w.tiles * in_channels * w.tiled_out / w.lanes
    repeats = in_channels * ceil_div(w.tiled_out, 64) + out_channels * ceil_div(w.tiled_in, 64)
    transform = cost_transform(w) if w.positions == 6 else 14 * w.positions
    sums = 1.2 * w.positions * w.tiled_in * w.tiled_out
    return w.groups * (product + transform * w.tiles * repeats / w.lanes + sums + cost_parts(w))


def cost_strassen(w: Work) -> float:
    """As cost_direct, with an eighth of the products less, but none left out, and tiles as short as rows are:
    sums of inputs, of which padded ones are copied first, of weights, and of results."""
    half = ceil_to(w.out_channels // 2, w.lanes)
    product = 7 / 8 * 1.08 * w.halved * w.pixels * w.length * 2 * half / w.lanes
    product *= max(1, LATENCY / max(w.row, 1))
    load = (0.95 if w.pointwise else 1.4) * w.stride**2 * w.pixels * w.in_channels
    return w.groups * (60000 + product + load + 2.2 * w.results + take_weight(w, 1.5))


def cost_strassen_columns(w: Work) -> float:
    """As cost_im2col, with an eighth of the products less, and sums of the packed columns and of results."""
    product = 7 / 8 * 1.18 * w.pixels * w.length * w.out_channels / w.lanes
    sums = 0.6 * w.pixels * w.length + 1.1 * w.results
    return w.groups * (60000 + product + cost_panels(w) + sums + take_weight(w, 2.7))


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
