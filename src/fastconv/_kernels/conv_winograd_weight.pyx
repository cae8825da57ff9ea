"""The gradient of the weight by Winograd's algorithm.

Tiles of grad_output, W[position][tile][output channel], and of the input, V[position][tile][channel], come
from the transposed transforms: products are summed over the tiles, and the sums transformed back.

Workspace in float32, twice that in float64: 3 MB a thread and, for small weights, up to 8 times their size.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels import conv_direct

from fastconv._kernels cimport memory
from fastconv._kernels.correlation cimport align, all_finite, ceil_div, check_arrays
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport FC_ADD, fc_kernels, fc_tile, kernels_for, new_tile, rows_of, vectors_for
from fastconv._kernels.memory cimport for_threads, take_workspace
from fastconv._kernels.threads cimport IN_TURN, PRODUCTS, parallel_for
from fastconv._kernels.winograd_parts cimport (
    Parts, dense_geometry, dense_weight, image_at, images_at_once, join_weight, parts_of, room_for_images,
    split_images,
)
from fastconv._kernels.winograd_tiles cimport (
    Axis, Canvas, Phase, Tiles, View, are_precise, axis_of, block_tiles, canvas_of, largest_by,
    load_grad_outputs, load_inputs, part, phases_of, round_up, scratch_elements, take_largest, tiles_at,
    view_of,
)

cnp.import_array()

cdef enum:
    GRAD_CHANNELS = 64       # of each kind in a block, about
    GRAD_PARTS = 8           # independent parts at least, where there are tiles

# Channels are those of one group.
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
    char *work                   # for each thread
    Py_ssize_t each
    char *largest                # for each thread, see are_precise


cdef void accumulate(const fc_kernels *table, int positions, Tiles s, Tiles w, Tiles v, Py_ssize_t tiles,
                     Py_ssize_t out_channels, Py_ssize_t in_channels, bint first) noexcept nogil:
    """S[k][c] += sum over tiles of W[tile][k] V[tile][c], at each position; S = it for the first tiles."""
    cdef Py_ssize_t size = table.itemsize, nr = table.nr
    cdef Py_ssize_t position, panel, heights, i, row
    cdef fc_tile tile = new_tile()
    tile.depth = tiles
    tile.a_row = 1
    tile.a_step = w.tile
    tile.b_step = v.tile
    tile.c_row = s.tile
    tile.accumulate = 0 if first else FC_ADD
    for position in range(positions):
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
    cdef Py_ssize_t tiles = block_tiles(p.canvas.positions), each = p.canvas.positions * p.table.itemsize
    v[0] = tiles_at(work, tiles, p.in_block, p.table)
    w[0] = tiles_at(v.data + align(v.position * each), tiles, p.out_block, p.table)
    s[0] = tiles_at(w.data + align(w.position * each), p.out_block, p.in_block, p.table)
    scratch[0] = s.data + align(s.position * each)
    return scratch[0] - work + align(scratch_elements(p.table, &p.canvas) * p.table.itemsize)


cdef Py_ssize_t reduce_part(const void *reduction, Py_ssize_t item, int thread) noexcept nogil:
    """The sums of one chunk of tiles for a block of input and a block of output channels."""
    cdef const Reduction *p = <const Reduction *>reduction
    cdef const fc_kernels *table = p.table
    cdef Py_ssize_t size = table.itemsize, lanes = table.lanes, taps = p.canvas.taps_h * p.canvas.taps_w
    cdef Py_ssize_t c0 = item % p.in_blocks * p.in_block
    cdef Py_ssize_t k0 = item // p.in_blocks % p.out_blocks * p.out_block
    cdef Py_ssize_t group = item // (p.in_blocks * p.out_blocks) % p.groups
    cdef Py_ssize_t chunk = item // (p.in_blocks * p.out_blocks * p.groups)
    cdef Py_ssize_t in_channels = min(p.in_block, p.in_channels - c0)
    cdef Py_ssize_t out_channels = min(p.out_block, p.out_channels - k0)
    cdef Py_ssize_t begin = part(chunk, p.chunks, p.canvas.tiles)
    cdef Py_ssize_t end = part(chunk + 1, p.chunks, p.canvas.tiles)
    cdef Py_ssize_t blocks = ceil_div(end - begin, block_tiles(p.canvas.positions))
    cdef Py_ssize_t block, first, tiles, i, k
    cdef char *largest = largest_by(table, p.largest, thread)
    cdef char *scratch
    cdef char *sums
    cdef Tiles v, w, s
    reduction_bytes(p, p.work + p.each * thread, &v, &w, &s, &scratch)
    # Products read whole panels, loads write whole vectors.
    memset(v.data, 0, size * p.canvas.positions * v.position)
    for block in range(blocks):
        first = begin + part(block, blocks, end - begin)
        tiles = begin + part(block + 1, blocks, end - begin) - first
        load_inputs(table, v, &p.x, &p.canvas, first, tiles, group * p.in_channels + c0, in_channels, scratch)
        load_grad_outputs(table, w, &p.y, &p.canvas, first, tiles, group * p.out_channels + k0, out_channels,
                          scratch)
        accumulate(table, p.canvas.positions, s, w, v, tiles, out_channels, in_channels, block == 0)
    for k in range(out_channels):
        sums = p.grad_weight if chunk == 0 else p.partial + (chunk - 1) * p.bytes
        sums += size * taps * ((group * p.out_channels + k0 + k) * p.in_channels + c0)
        for i in range(ceil_div(in_channels, lanes)):
            table.winograd_grad_weight(sums + i * lanes * taps * size, taps,
                                       s.data + size * (k * s.tile + i * lanes), s.position,
                                       min(lanes, in_channels - i * lanes), largest, p.canvas.taps_h,
                                       p.canvas.taps_w)
    return 0


cdef int sum_images(ConvGeometry g, const fc_kernels *table, Py_ssize_t images, const char *grad_output,
                    const char *x, char *grad, int num_threads) except -1:
    """grad = gradient of the weight over some images; g is of one small kernel.

    Returns whether it is as precise as results are to be.
    """
    cdef Reduction p
    cdef Axis rows = axis_of(g.kernel_h, g.height, g.top, g.out_h, g.dilation_h)
    cdef Axis columns = axis_of(g.kernel_w, g.width, g.left, g.out_w, g.dilation_w)
    cdef Phase *phases = NULL
    cdef char *work = NULL
    cdef char *largest = NULL
    cdef char *scratch
    cdef Py_ssize_t parts, items, chunk
    cdef Tiles v, w, s
    p.table = table
    p.groups = g.groups
    p.in_channels = g.in_channels // g.groups
    p.out_channels = g.out_channels // g.groups
    p.x = view_of(<char *>x, g.in_channels, g.height, g.width, g.channels_last)
    p.y = view_of(<char *>grad_output, g.out_channels, g.out_h, g.out_w, g.channels_last)
    p.grad_weight = grad
    p.bytes = table.itemsize * g.out_channels * p.in_channels * g.kernel_h * g.kernel_w
    try:
        phases = <Phase *>take_workspace(phases_of(&rows) * <Py_ssize_t>sizeof(Phase))
        p.canvas = canvas_of(images, &rows, &columns, phases)
        if p.bytes == 0 or p.canvas.tiles == 0:
            memset(p.grad_weight, 0, p.bytes)
            return True
        p.in_block = round_up(ceil_div(p.in_channels, ceil_div(p.in_channels, GRAD_CHANNELS)), p.table.nr)
        p.in_blocks = ceil_div(p.in_channels, p.in_block)
        p.out_block = round_up(
            ceil_div(p.out_channels, ceil_div(p.out_channels, GRAD_CHANNELS)), p.table.lanes)
        p.out_blocks = ceil_div(p.out_channels, p.out_block)
        parts = p.groups * p.in_blocks * p.out_blocks
        p.chunks = min(ceil_div(p.canvas.tiles, block_tiles(p.canvas.positions)), ceil_div(GRAD_PARTS, parts))
        items = parts * p.chunks
        num_threads = min(num_threads, items)
        p.each = reduction_bytes(&p, NULL, &v, &w, &s, &scratch)
        p.work = work = take_workspace(for_threads(p.each, num_threads) + (p.chunks - 1) * p.bytes)
        p.partial = work + num_threads * p.each
        p.largest = largest = take_largest(table, num_threads)
        with nogil:
            parallel_for(items, num_threads, reduce_part, &p, IN_TURN | PRODUCTS)
        for chunk in range(p.chunks - 1):
            p.table.add(p.grad_weight, p.partial + chunk * p.bytes, p.bytes // p.table.itemsize)
        return are_precise(table, largest, num_threads, p.grad_weight, p.bytes // table.itemsize)
    finally:
        memory.give_back(largest)
        memory.give_back(work)
        memory.give_back(phases)


cdef int sum_parts(ConvGeometry g, const fc_kernels *table, const Parts *parts, cnp.ndarray grad_output,
                   cnp.ndarray x, cnp.ndarray grad, int num_threads) except -1:
    """The same where the kernel is a sum of parts, of as many images at a time as these are made of."""
    cdef bint precise = True
    cdef ConvGeometry dense = dense_geometry(g, parts)
    cdef Py_ssize_t each = images_at_once(dense, parts, table), image = 0, images
    cdef cnp.ndarray total = dense_weight(dense, parts, cnp.PyArray_TYPE(grad))
    cdef cnp.ndarray more = total if each >= g.batch else dense_weight(dense, parts, cnp.PyArray_TYPE(grad))
    cdef char *dense_x = room_for_images(dense, parts, table, each)
    try:
        while image < g.batch:
            images = min(each, g.batch - image)
            split_images(table, g, dense, parts, image_at(x, g.batch, image), dense_x, images, num_threads)
            precise &= sum_images(dense, table, images, image_at(grad_output, g.batch, image), dense_x,
                                  cnp.PyArray_BYTES(more if image else total), num_threads)
            if image:
                table.add(cnp.PyArray_DATA(total), cnp.PyArray_DATA(more), cnp.PyArray_SIZE(total))
            image += images
    finally:
        memory.give_back(dense_x)
    join_weight(dense, parts, total, grad, num_threads)
    return precise


def grad_weight(ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray x, cnp.ndarray grad,
                int num_threads) -> None:
    """grad = gradient of the weight; the order of its sums depends on the geometry alone."""
    cdef const fc_kernels *table = kernels_for(cnp.PyArray_TYPE(x))
    cdef Parts parts = parts_of(g)
    cdef bint precise
    check_arrays(g, cnp.PyArray_TYPE(x), x, grad, None, grad_output)
    if parts.count > 1 and g.batch:
        precise = sum_parts(g, table, &parts, grad_output, x, grad, num_threads)
    else:
        precise = sum_images(g, table, g.batch, cnp.PyArray_BYTES(grad_output), cnp.PyArray_BYTES(x),
                             cnp.PyArray_BYTES(grad), num_threads)
    if not precise or not all_finite(table, grad, num_threads):
        conv_direct.grad_weight(g, grad_output, x, grad, num_threads)
