"""What a convolution, or its gradient, is as a product: the sizes that the models of cost look at."""

from typing import NamedTuple, TypeAlias

from fastconv._kernels import conv_winograd, winograd_product
from fastconv._kernels.geometry import ConvGeometry

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
    phases: int  # of a strided gradient of the input, else 1
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
    def pointwise(self) -> bool:
        """Whether kernels are 1x1."""
        return self.length <= self.in_channels

    @property
    def few_tiles(self) -> bool:
        """Whether Winograd's blocks are so few that it keeps no transformed weights."""
        return bool(winograd_product.are_few(self.tiles, self.tiled_in, self.tiled_out))

    @property
    def results(self) -> int:
        return self.pixels * self.out_channels

    @property
    def lines(self) -> float:
        """Rows of results, of all images; phases of a row count as one each."""
        return self.pixels / max(self.row, 1)

    @property
    def parted(self) -> int:
        """Pixels of the parts that Winograd's blocks have of inputs or results; 0 where images are whole."""
        if self.tiled_in > self.in_channels:
            return self.tiles * self.block * self.tiled_in
        return self.tiles * self.block * self.tiled_out if self.tiled_out > self.out_channels else 0


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
        phases_h * phases_w,
        products(g.height, g.out_h, g.kernel_h, g.stride_h, g.dilation_h, g.top)
        * products(g.width, g.out_w, g.kernel_w, g.stride_w, g.dilation_w, g.left)
        / max(1, height * width * taps / (phases_h * phases_w)),
        2 * ceil_div(lines, 2) / max(1, lines),
        g.kernel_w > stride > 1,
        packed,
        task == "forward",
    )


def products(size: int, out: int, taps: int, stride: int, dilation: int, before: int) -> int:
    """Of the inputs that the windows of an axis take, those in the image."""
    inside = 0
    for offset in range(-before, taps * dilation - before, dilation):  # result i takes i * stride + offset
        first = min(out, max(0, ceil_div(-offset, stride)))
        inside += max(0, min(out, ceil_div(size - offset, stride)) - first)
    return inside


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def ceil_to(a: int, b: int) -> int:
    return ceil_div(a, b) * b
