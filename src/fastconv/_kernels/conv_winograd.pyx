"""3x3 and 5x5 convolution with stride 1 by Winograd's F(4x4, 3x3) and F(2x2, 5x5), forward and backward.

An image is cut into tiles of 4x4 or 2x2 outputs, each seeing 6x6 inputs. Transformed tiles of one block,
V[position][tile][channel], times transformed weights, U[panel][position][channel][column of the panel], is a
matrix product at each of 36 positions; its result M[position][tile][output channel] is transformed back.
The weight's gradient uses the transposed transforms, and the tiles are what is summed over.

A NaN or an infinity would spoil its whole tile, and numbers near the largest overflow before their sums do.
The transform back notices it, almost for nothing, and the direct kernels then compute the call again.

Threads share out blocks of tiles and, where these are few, ranges of output channels. No sum depends on how.

Workspace in float32, twice that in float64: 144 bytes a weight for all transformed weights, unless there are
few tiles; and for each thread, with C input channels of a group, at most about 144 * 96 * (C + 64) bytes for
V and M (11 MB for 512 channels), or for few tiles 144 * (65536 + 256 * 64 + 64 * C) bytes (16 MB).
The weight's gradient needs 3 MB a thread and, for small weights, up to 8 times their size.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange
from libc.string cimport memcpy, memset

from fastconv._kernels import conv_direct

from fastconv._kernels cimport memory
from fastconv._kernels.correlation cimport align, all_finite, ceil_div, check_arrays, movers
from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels, fc_tile, kernels_for, rows_of, vectors_for
from fastconv._kernels.threads cimport thread_index
from fastconv._kernels.winograd_tiles cimport (
    Canvas, POSITIONS, Tiles, View, canvas_of, load_grad_outputs, load_inputs, scratch_elements,
    store_outputs, view_of,
)

cnp.import_array()

cdef enum:
    BLOCK_TILES = 48         # about
    BLOCK_CHANNELS = 64      # output channels that are transformed back at a time, about
    FEW_TILES = 256          # up to so many, transformed weights are not worth keeping
    MOST_V = 1 << 16         # elements of a position of V, where the weights are not kept
    LARGE_WEIGHT = 1 << 15   # channels in times out; beyond, the L2 cache does not keep a position of U
    PANEL_BYTES = 16384      # of a panel of U, which stays in the L1 cache
    GRAD_CHANNELS = 64       # of each kind in a block of the weight's gradient, about
    GRAD_PARTS = 8           # independent parts of the weight's gradient at least, where there are tiles

# The weights as they come. Steps count elements.
cdef struct Weights:
    const char *data
    Py_ssize_t group, column, depth
    bint flip

# y = x * weights, one convolution. Channels are those of one group.
cdef struct Product:
    const fc_kernels *table
    int side                     # taps along an axis
    Canvas canvas
    View x, y
    Py_ssize_t groups, in_channels, out_channels
    Weights weights
    const char *u                # transformed weights; NULL where each block transforms what it needs
    const char *bias             # NULL, or `panels` whole panels a group
    bint relu
    Py_ssize_t blocks, block_tiles
    Py_ssize_t panels            # of a group's output channels
    Py_ssize_t ranges, range_panels
    Py_ssize_t block_panels

# The weight's gradient. Channels are those of one group.
cdef struct Reduction:
    const fc_kernels *table
    Canvas canvas
    View x, y                    # input and grad_output
    Py_ssize_t groups, in_channels, out_channels
    Py_ssize_t in_blocks, in_block, out_blocks, out_block
    Py_ssize_t chunks            # of tiles, each with sums of its own
    char *grad_weight            # sums of the first chunk
    char *partial                # of the others
    Py_ssize_t bytes             # of either


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    return ceil_div(n, step) * step


cdef inline Py_ssize_t part(Py_ssize_t i, Py_ssize_t parts, Py_ssize_t n) noexcept nogil:
    """Where part i of n things begins, in parts that differ by one at most."""
    return i * n // parts


cdef Tiles tiles_at(char *data, Py_ssize_t tiles, Py_ssize_t channels,
                    const fc_kernels *table) noexcept nogil:
    """Room for transformed tiles. Positions are a cache line apart, or all might share sets of the cache."""
    cdef Tiles result
    result.data = data
    result.tile = channels
    result.position = tiles * channels + 64 // table.itemsize
    return result


# ---- transformed weights ----


cdef inline Py_ssize_t u_position(const Product *p) noexcept nogil:
    """Elements from one position of a panel of U to the next, a cache line more than it needs."""
    return p.in_channels * p.table.nr + 64 // p.table.itemsize


cdef Weights weights_of(ConvGeometry g, const char *data, bint for_grad_input) noexcept nogil:
    """For the input's gradient with flipped taps and the channels' roles exchanged."""
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, row = taps * (g.in_channels // g.groups)
    cdef Weights result
    result.data = data
    result.group = g.out_channels // g.groups * row
    result.column = taps if for_grad_input else row
    result.depth = row if for_grad_input else taps
    result.flip = for_grad_input
    return result


cdef void transform_panel(const Product *p, Py_ssize_t group, Py_ssize_t panel, char *u) noexcept nogil:
    cdef const Weights *w = &p.weights
    cdef Py_ssize_t first = panel * p.table.nr
    p.table.winograd_weight(
        u, u_position(p), w.data + p.table.itemsize * (group * w.group + first * w.column), w.column, w.depth,
        min(p.table.nr, p.out_channels - first), p.in_channels, w.flip, p.side)


cdef Py_ssize_t packed_elements(const Product *p) noexcept nogil:
    return p.groups * p.panels * POSITIONS * u_position(p)


cdef void transform_weights(const Product *p, char *u, int num_threads) noexcept:
    """All of U."""
    cdef fc_float_mode mode = 0
    cdef Py_ssize_t bytes = p.table.itemsize * POSITIONS * u_position(p)
    cdef Py_ssize_t item
    with nogil, parallel(num_threads=num_threads):
        mode = fc_flush_denormals()
        for item in prange(p.groups * p.panels, schedule="static"):
            transform_panel(p, item // p.panels, item % p.panels, u + item * bytes)
        fc_restore_float_mode(mode)


# ---- forward, and the input's gradient ----


cdef void set_blocks(Product *p, int num_threads) noexcept nogil:
    """Shares the tiles, and where they are few also the output channels, out to the threads."""
    cdef Py_ssize_t rows = p.table.mr, tiles = p.canvas.tiles
    cdef Py_ssize_t blocks
    if p.u == NULL:
        # As few blocks as possible, for each transforms the weights again.
        blocks = ceil_div(tiles * p.in_channels, MOST_V)
    else:
        blocks = ceil_div(tiles, BLOCK_TILES * (2 if p.in_channels * p.out_channels > LARGE_WEIGHT else 1))
    if num_threads > 1 and p.groups == 1 and (p.u != NULL or tiles > p.out_channels):
        blocks = min(round_up(blocks, num_threads), ceil_div(tiles, 4 * rows))
    blocks = max(blocks, 1)
    p.block_tiles = round_up(ceil_div(tiles, blocks), rows)
    p.blocks = ceil_div(tiles, p.block_tiles)
    p.range_panels = ceil_div(p.panels, min(p.panels, ceil_div(num_threads, p.blocks * p.groups)))
    p.ranges = ceil_div(p.panels, p.range_panels)
    p.block_panels = ceil_div(p.range_panels, ceil_div(p.range_panels * p.table.nr, BLOCK_CHANNELS))


cdef void multiply(const Product *p, Tiles v, Tiles m, Py_ssize_t tiles, const char *u,
                   Py_ssize_t out_channels) noexcept nogil:
    """M = V U at each position, for the output channels of some panels."""
    cdef const fc_kernels *table = p.table
    cdef Py_ssize_t size = table.itemsize, nr = table.nr
    cdef Py_ssize_t u_step = u_position(p)
    cdef Py_ssize_t slices = max(1, ceil_div(p.in_channels * nr * size, PANEL_BYTES))
    cdef Py_ssize_t position, panel, i, channel, j, row, ahead, heights
    cdef fc_tile tile
    memset(&tile, 0, sizeof(tile))
    tile.a_row = v.tile
    tile.a_step = 1
    tile.b_step = nr
    tile.c_row = m.tile
    for position in range(POSITIONS):
        for panel in range(ceil_div(out_channels, nr)):
            tile.vectors = vectors_for(table, out_channels - panel * nr)
            heights = ceil_div(tiles, rows_of(table, tile.vectors))
            for i in range(slices):
                channel = part(i, slices, p.in_channels)
                tile.depth = part(i + 1, slices, p.in_channels) - channel
                tile.accumulate = i > 0
                tile.b = u + size * ((panel * POSITIONS + position) * u_step + channel * nr)
                ahead = size * nr * tile.depth
                for j in range(heights):
                    table.prefetch(<const char *>tile.b + ahead + part(j, heights, ahead),
                                   part(j + 1, heights, ahead) - part(j, heights, ahead))
                    row = part(j, heights, tiles)
                    tile.rows = <int>(part(j + 1, heights, tiles) - row)
                    tile.a = v.data + size * (position * v.position + row * v.tile + channel)
                    tile.c = m.data + size * (position * m.position + row * m.tile + panel * nr)
                    table.gemm_tile(&tile)


cdef Py_ssize_t product_bytes(
        const Product *p, char *work, Tiles *v, Tiles *m, char **u, char **scratch) noexcept nogil:
    """Lays out one thread's workspace."""
    cdef Py_ssize_t size = p.table.itemsize
    v[0] = tiles_at(work, p.block_tiles, round_up(p.in_channels, p.table.lanes), p.table)
    m[0] = tiles_at(v.data + align(POSITIONS * v.position * size), p.block_tiles, p.block_panels * p.table.nr,
                    p.table)
    u[0] = m.data + align(POSITIONS * m.position * size)
    scratch[0] = u[0] + (align(p.block_panels * POSITIONS * u_position(p) * size) if p.u == NULL else 0)
    return scratch[0] - work + align(scratch_elements(p.table, &p.canvas) * size)


cdef bint convolve_block(const Product *p, Py_ssize_t item, char *work) noexcept nogil:
    """One block of tiles times one range of output channels of one group. Returns whether all is finite."""
    cdef const fc_kernels *table = p.table
    cdef Py_ssize_t size = table.itemsize, nr = table.nr
    cdef Py_ssize_t group = item // (p.ranges * p.blocks)
    cdef Py_ssize_t first = item % p.blocks * p.block_tiles
    cdef Py_ssize_t tiles = min(p.block_tiles, p.canvas.tiles - first)
    cdef Py_ssize_t panel = item // p.blocks % p.ranges * p.range_panels
    cdef Py_ssize_t last_panel = min(panel + p.range_panels, p.panels)
    cdef Py_ssize_t count, channels, i, u_bytes = size * POSITIONS * u_position(p)
    cdef bint finite = True
    cdef const char *bias
    cdef const char *u
    cdef char *own_u
    cdef char *scratch
    cdef Tiles v, m
    product_bytes(p, work, &v, &m, &own_u, &scratch)
    load_inputs(table, v, &p.x, &p.canvas, first, tiles, group * p.in_channels, p.in_channels, scratch)
    while panel < last_panel:
        count = min(p.block_panels, last_panel - panel)
        channels = min(count * nr, p.out_channels - panel * nr)
        if p.u == NULL:
            for i in range(count):
                transform_panel(p, group, panel + i, own_u + i * u_bytes)
            u = own_u
        else:
            u = p.u + (group * p.panels + panel) * u_bytes
        multiply(p, v, m, tiles, u, channels)
        bias = <const char *>NULL if p.bias == NULL else p.bias + size * (group * p.panels + panel) * nr
        finite &= store_outputs(table, m, &p.y, &p.canvas, first, tiles, group * p.out_channels + panel * nr,
                                channels, bias, p.relu, scratch)
        panel += count
    return finite


cdef int convolve(Product *p, int num_threads) except -1:
    """All of p.y. Returns whether it is what IEEE arithmetic gives: see the top of this file."""
    cdef fc_float_mode mode = 0
    cdef Py_ssize_t items, item, each
    cdef Tiles v, m
    cdef char *packed = NULL
    cdef char *work = NULL
    cdef char *u
    cdef char *scratch
    cdef int spoilt = 0
    if p.canvas.tiles == 0 or p.groups == 0 or p.out_channels == 0:
        return True
    try:
        if p.u == NULL and p.canvas.tiles > FEW_TILES:
            packed = take(packed_elements(p) * p.table.itemsize)
            transform_weights(p, packed, movers(packed_elements(p) * p.table.itemsize, num_threads))
            p.u = packed
        set_blocks(p, num_threads)
        items = p.groups * p.ranges * p.blocks
        num_threads = min(num_threads, items)
        each = product_bytes(p, NULL, &v, &m, &u, &scratch)
        work = take(num_threads * each)
        with nogil, parallel(num_threads=num_threads):
            mode = fc_flush_denormals()
            for item in prange(items, schedule="dynamic"):
                spoilt += not convolve_block(p, item, work + thread_index() * each)
            fc_restore_float_mode(mode)
    finally:
        memory.give_back(work)
        memory.give_back(packed)
    return spoilt == 0


cdef char *take(Py_ssize_t bytes) except NULL:
    cdef void *work = memory.take(bytes)
    if work == NULL:
        raise MemoryError(f"no memory for {bytes} bytes of workspace")
    return <char *>work


def supports(ConvGeometry g) -> bool:
    """Whether this algorithm can do the convolution."""
    return ((g.kernel_h == 3 or g.kernel_h == 5) and g.kernel_w == g.kernel_h
            and g.stride_h == 1 and g.stride_w == 1 and g.dilation_h == 1 and g.dilation_w == 1)


cdef Product product_of(ConvGeometry g, const fc_kernels *table, bint for_grad_input) noexcept nogil:
    """What the geometry settles; the input's gradient goes from output channels to input channels."""
    cdef Product p
    memset(&p, 0, sizeof(p))
    p.table = table
    p.side = g.kernel_h
    p.groups = g.groups
    p.in_channels = (g.out_channels if for_grad_input else g.in_channels) // g.groups
    p.out_channels = (g.in_channels if for_grad_input else g.out_channels) // g.groups
    p.panels = ceil_div(p.out_channels, table.nr)
    return p


def pack_weight(ConvGeometry g, cnp.ndarray weight, int num_threads) -> cnp.ndarray:
    """The transformed weights that `forward_packed` takes, and behind them the weights as they are."""
    cdef int typenum = cnp.PyArray_TYPE(weight)
    cdef Product p = product_of(g, kernels_for(typenum), False)
    cdef Py_ssize_t bytes = packed_elements(&p) * p.table.itemsize
    cdef cnp.ndarray packed = memory.aligned(bytes + cnp.PyArray_NBYTES(weight), typenum)
    p.weights = weights_of(g, cnp.PyArray_BYTES(weight), False)
    transform_weights(&p, cnp.PyArray_BYTES(packed), num_threads)
    memcpy(cnp.PyArray_BYTES(packed) + bytes, cnp.PyArray_BYTES(weight), cnp.PyArray_NBYTES(weight))
    return packed


def forward(ConvGeometry g, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out, bint relu,
            int num_threads) -> None:
    """out = x * weight + bias, then max(out, 0) with `relu`; bias may be None."""
    cdef Product p = product_of(g, kernels_for(cnp.PyArray_TYPE(x)), False)
    check_arrays(g, cnp.PyArray_TYPE(x), x, weight, bias, out)
    p.weights = weights_of(g, cnp.PyArray_BYTES(weight), False)
    if not run_forward(&p, g, x, bias, out, relu, num_threads):
        conv_direct.forward(g, x, weight, bias, out, relu, num_threads)


def forward_packed(ConvGeometry g, cnp.ndarray x, cnp.ndarray packed, bias, cnp.ndarray out, bint relu,
                   int num_threads) -> None:
    """`forward` with weights from `pack_weight`."""
    cdef Product p = product_of(g, kernels_for(cnp.PyArray_TYPE(x)), False)
    check_arrays(g, cnp.PyArray_TYPE(x), x, None, bias, out)
    p.u = cnp.PyArray_BYTES(packed)
    if not run_forward(&p, g, x, bias, out, relu, num_threads):
        conv_direct.forward(g, x, packed[packed_elements(&p):], bias, out, relu, num_threads)


cdef int run_forward(Product *p, ConvGeometry g, cnp.ndarray x, bias, cnp.ndarray out, bint relu,
                     int num_threads) except -1:
    cdef char *whole_panels = NULL
    p.x = view_of(cnp.PyArray_BYTES(x), g.in_channels, g.height, g.width, g.channels_last)
    p.y = view_of(cnp.PyArray_BYTES(out), g.out_channels, g.out_h, g.out_w, g.channels_last)
    p.canvas = canvas_of(g.kernel_h, g.batch, &p.x, g.top, g.bottom, g.left, g.right, g.out_h, g.out_w)
    p.relu = relu
    if bias is not None:
        whole_panels = padded_bias(p, cnp.PyArray_BYTES(bias))
    p.bias = whole_panels
    try:
        return convolve(p, num_threads)
    finally:
        memory.give_back(whole_panels)


cdef char *padded_bias(const Product *p, const char *bias) except NULL:
    """The bias with each group in whole panels; for `give_back`."""
    cdef Py_ssize_t size = p.table.itemsize, group
    cdef Py_ssize_t padded = size * round_up(p.out_channels, p.table.nr), dense = size * p.out_channels
    cdef char *result = take(p.groups * padded)
    memset(result, 0, p.groups * padded)
    for group in range(p.groups):
        memcpy(result + group * padded, bias + group * dense, dense)
    return result


cdef Py_ssize_t crop(Py_ssize_t *padding) noexcept nogil:
    """How many pixels a negative padding cuts off; it becomes 0."""
    cdef Py_ssize_t cut = max(-padding[0], 0)
    padding[0] += cut
    return cut


def grad_input(ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight, cnp.ndarray grad_x,
               int num_threads) -> None:
    """grad_x: grad_output convolved with the flipped weights, padded by side - 1 pixels less what x was."""
    cdef Product p = product_of(g, kernels_for(cnp.PyArray_TYPE(grad_output)), True)
    cdef Py_ssize_t halo = p.side - 1
    cdef Py_ssize_t top = halo - g.top, bottom = halo - g.bottom, left = halo - g.left, right = halo - g.right
    cdef Py_ssize_t y = crop(&top), x = crop(&left)
    check_arrays(g, cnp.PyArray_TYPE(grad_output), grad_x, weight, None, grad_output)
    p.x = view_of(cnp.PyArray_BYTES(grad_output), g.out_channels, g.out_h, g.out_w, g.channels_last)
    p.y = view_of(cnp.PyArray_BYTES(grad_x), g.in_channels, g.height, g.width, g.channels_last)
    p.x.data += p.table.itemsize * (y * p.x.row + x * p.x.pixel)
    p.x.height = max(0, p.x.height - y - crop(&bottom))
    p.x.width = max(0, p.x.width - x - crop(&right))
    p.canvas = canvas_of(p.side, g.batch, &p.x, top, bottom, left, right, g.height, g.width)
    p.weights = weights_of(g, cnp.PyArray_BYTES(weight), True)
    if not convolve(&p, num_threads):
        conv_direct.grad_input(g, grad_output, weight, grad_x, num_threads)


# ---- the weight's gradient ----


cdef void accumulate(const fc_kernels *table, Tiles s, Tiles w, Tiles v, Py_ssize_t tiles,
                     Py_ssize_t out_channels, Py_ssize_t in_channels, bint first) noexcept nogil:
    """S[k][c] += sum over tiles of W[tile][k] V[tile][c], at each position; S = it for the first tiles."""
    cdef Py_ssize_t size = table.itemsize, nr = table.nr
    cdef Py_ssize_t position, panel, heights, i, row
    cdef fc_tile tile
    memset(&tile, 0, sizeof(tile))
    tile.depth = tiles
    tile.a_row = 1
    tile.a_step = w.tile
    tile.b_step = v.tile
    tile.c_row = s.tile
    tile.accumulate = not first
    for position in range(POSITIONS):
        for panel in range(ceil_div(in_channels, nr)):
            tile.b = v.data + size * (position * v.position + panel * nr)
            tile.vectors = vectors_for(table, in_channels - panel * nr)
            heights = ceil_div(out_channels, rows_of(table, tile.vectors))
            for i in range(heights):
                row = part(i, heights, out_channels)
                tile.rows = <int>(part(i + 1, heights, out_channels) - row)
                tile.a = w.data + size * (position * w.position + row)
                tile.c = s.data + size * (position * s.position + row * s.tile + panel * nr)
                table.gemm_tile(&tile)


cdef Py_ssize_t reduction_bytes(const Reduction *p, char *work, Tiles *v, Tiles *w, Tiles *s,
                                char **scratch) noexcept nogil:
    """Lays out one thread's workspace."""
    cdef Py_ssize_t size = p.table.itemsize
    v[0] = tiles_at(work, BLOCK_TILES, p.in_block, p.table)
    w[0] = tiles_at(v.data + align(POSITIONS * v.position * size), BLOCK_TILES, p.out_block, p.table)
    s[0] = tiles_at(w.data + align(POSITIONS * w.position * size), p.out_block, p.in_block, p.table)
    scratch[0] = s.data + align(POSITIONS * s.position * size)
    return scratch[0] - work + align(scratch_elements(p.table, &p.canvas) * size)


cdef void reduce_part(const Reduction *p, Py_ssize_t item, char *work) noexcept nogil:
    """The sums of one chunk of tiles for a block of input and a block of output channels."""
    cdef const fc_kernels *table = p.table
    cdef Py_ssize_t size = table.itemsize, lanes = table.lanes, taps = p.canvas.side * p.canvas.side
    cdef Py_ssize_t c0 = item % p.in_blocks * p.in_block
    cdef Py_ssize_t k0 = item // p.in_blocks % p.out_blocks * p.out_block
    cdef Py_ssize_t group = item // (p.in_blocks * p.out_blocks) % p.groups
    cdef Py_ssize_t chunk = item // (p.in_blocks * p.out_blocks * p.groups)
    cdef Py_ssize_t in_channels = min(p.in_block, p.in_channels - c0)
    cdef Py_ssize_t out_channels = min(p.out_block, p.out_channels - k0)
    cdef Py_ssize_t begin = part(chunk, p.chunks, p.canvas.tiles)
    cdef Py_ssize_t end = part(chunk + 1, p.chunks, p.canvas.tiles)
    cdef Py_ssize_t blocks = ceil_div(end - begin, BLOCK_TILES)
    cdef Py_ssize_t block, first, tiles, i, k
    cdef char *scratch
    cdef char *sums
    cdef Tiles v, w, s
    reduction_bytes(p, work, &v, &w, &s, &scratch)
    memset(v.data, 0, size * POSITIONS * v.position)  # products read whole panels, loads write whole vectors
    for block in range(blocks):
        first = begin + part(block, blocks, end - begin)
        tiles = begin + part(block + 1, blocks, end - begin) - first
        load_inputs(table, v, &p.x, &p.canvas, first, tiles, group * p.in_channels + c0, in_channels, scratch)
        load_grad_outputs(table, w, &p.y, &p.canvas, first, tiles, group * p.out_channels + k0, out_channels,
                          scratch)
        accumulate(table, s, w, v, tiles, out_channels, in_channels, block == 0)
    for k in range(out_channels):
        sums = p.grad_weight if chunk == 0 else p.partial + (chunk - 1) * p.bytes
        sums += size * taps * ((group * p.out_channels + k0 + k) * p.in_channels + c0)
        for i in range(ceil_div(in_channels, lanes)):
            table.winograd_grad_weight(sums + i * lanes * taps * size, taps,
                                       s.data + size * (k * s.tile + i * lanes), s.position,
                                       min(lanes, in_channels - i * lanes), p.canvas.side)


def grad_weight(ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray x, cnp.ndarray grad_weight,
                int num_threads) -> None:
    """grad_weight, summed over all images and pixels in an order that depends on the geometry alone."""
    cdef fc_float_mode mode = 0
    cdef Reduction p
    cdef Py_ssize_t parts, items, item, each, chunk
    cdef int all_threads
    cdef char *scratch
    cdef char *work
    cdef Tiles v, w, s
    check_arrays(g, cnp.PyArray_TYPE(x), x, grad_weight, None, grad_output)
    p.table = kernels_for(cnp.PyArray_TYPE(x))
    p.groups = g.groups
    p.in_channels = g.in_channels // g.groups
    p.out_channels = g.out_channels // g.groups
    p.x = view_of(cnp.PyArray_BYTES(x), g.in_channels, g.height, g.width, g.channels_last)
    p.y = view_of(cnp.PyArray_BYTES(grad_output), g.out_channels, g.out_h, g.out_w, g.channels_last)
    p.canvas = canvas_of(g.kernel_h, g.batch, &p.x, g.top, g.bottom, g.left, g.right, g.out_h, g.out_w)
    p.grad_weight = cnp.PyArray_BYTES(grad_weight)
    p.bytes = cnp.PyArray_NBYTES(grad_weight)
    if p.bytes == 0 or p.canvas.tiles == 0:
        memset(p.grad_weight, 0, p.bytes)
        return
    p.in_block = round_up(ceil_div(p.in_channels, ceil_div(p.in_channels, GRAD_CHANNELS)), p.table.nr)
    p.in_blocks = ceil_div(p.in_channels, p.in_block)
    p.out_block = round_up(ceil_div(p.out_channels, ceil_div(p.out_channels, GRAD_CHANNELS)), p.table.lanes)
    p.out_blocks = ceil_div(p.out_channels, p.out_block)
    parts = p.groups * p.in_blocks * p.out_blocks
    p.chunks = min(ceil_div(p.canvas.tiles, BLOCK_TILES), ceil_div(GRAD_PARTS, parts))
    items = parts * p.chunks
    all_threads = num_threads
    num_threads = min(num_threads, items)
    each = reduction_bytes(&p, NULL, &v, &w, &s, &scratch)
    work = take(num_threads * each + (p.chunks - 1) * p.bytes)
    p.partial = work + num_threads * each
    with nogil, parallel(num_threads=num_threads):
        mode = fc_flush_denormals()
        for item in prange(items, schedule="dynamic"):
            reduce_part(&p, item, work + thread_index() * each)
        fc_restore_float_mode(mode)
    for chunk in range(p.chunks - 1):
        p.table.add(p.grad_weight, p.partial + chunk * p.bytes, p.bytes // p.table.itemsize)
    memory.give_back(work)
    if not all_finite(p.table, grad_weight, num_threads):
        conv_direct.grad_weight(g, grad_output, x, grad_weight, all_threads)
