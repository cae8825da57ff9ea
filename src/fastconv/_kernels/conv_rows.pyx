"""Convolution straight from the image, pixels in vectors: for few output channels, and for 1x1 kernels.

A tile is some output channels by two vectors of neighbouring pixels of a row of outputs: four where the
channels are few, fewer at the end of a row. Row k of the product's right side is a window of the padded band,
read where it lies, so nothing is packed but weights. With a stride along rows, the columns of the band that
are so far apart are put side by side first: cheap for few channels. NCHW.

Workspace: packed weights (see passes.pyx), and for each thread a band of about BAND_BYTES and the table of
the sum.
"""

cimport numpy as cnp

from fastconv._kernels import conv_rows_weight
from fastconv._kernels.correlation cimport (
    Correlation, align, beyond_cache, ceil_div, compute_forward, compute_grad_input, part_of, strip_height,
    sum_length, weight_correlation,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport (
    FC_MAX_MR, FC_MAX_NR, FC_MAX_WINDOW, fc_fetch_rows, fc_kernels, fc_tile, kernels_for, new_tile,
)
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, chunk_at, cut, fill_sorted_table, first_window, load_sorted, pack_weight_panel,
    sorted_elements,
)
from fastconv._kernels.passes cimport Passes, Portion, pack_all, passes_of, run_passes, shares

cnp.import_array()

cdef enum:
    BAND_BYTES = 262144
    BLOCK_BYTES = 32768       # of the windows that all strips of channels run over before the next are taken
    PIXELS = 16384            # of a chunk, at most
    ENOUGH_ROWS = 8           # of a tile, for as many multiply-adds under way as the processor can have


def forward(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray weight not None, bias,
            cnp.ndarray out not None, bint relu, int num_threads):
    """out = x convolved with weight, plus bias (or None), clipped at zero if relu."""
    compute_forward(correlate, g, x, weight, bias, out, relu, False, num_threads)


def forward_packed(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray packed not None, bias,
                   cnp.ndarray out not None, bint relu, int num_threads):
    """`forward` with a weight from `pack_weight`."""
    compute_forward(correlate, g, x, packed, bias, out, relu, True, num_threads)


def pack_weight(ConvGeometry g not None, cnp.ndarray weight not None, int num_threads):
    """All strips of the weight, for `forward_packed` with images of any size."""
    cdef Correlation c = weight_correlation(kernels_for(cnp.PyArray_TYPE(weight)), g, weight)
    cdef Job job = job_of(&c, num_threads)
    return pack_all(&job.passes, &job, pack_strip, 0, cnp.PyArray_TYPE(weight), num_threads)


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input."""
    compute_grad_input(correlate, g, grad_output, weight, grad_x, True, num_threads)


grad_weight = conv_rows_weight.grad_weight
grad_weight_and_bias = conv_rows_weight.grad_weight_and_bias


# A convolution, and how its output channels and pixels are cut into tiles.
ctypedef struct Job:
    const Correlation *c
    Chunks chunks
    Passes passes
    Py_ssize_t height, strips       # output channels of a strip; strips of a part of a group
    Py_ssize_t width                # pixels of the widest tile
    bint copy                       # windows may reach past the end of a row, so the band must be a copy
    Py_ssize_t table_bytes


cdef Job job_of(const Correlation *c, int num_threads) noexcept nogil:
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t index, strips
    cdef Job job
    job.c = c
    job.chunks = cut(c, BAND_BYTES, PIXELS, shares(num_threads))
    job.height = strip_height(c)
    job.strips = ceil_div(c.out_channels, job.height)
    # A last strip of few channels has the widest tiles.
    job.width = kernels.lanes * tile_vectors(
        kernels, c.out_channels - (job.strips - 1) * job.height, c.out_w, c.out_w)
    job.copy = False
    for index in range(c.part_count):
        job.copy |= part_of(c, index).out_w % kernels.lanes != 0
    job.table_bytes = align(sum_length(c) * sizeof(Py_ssize_t))
    strips = job.strips * c.part_count * c.groups
    job.passes = passes_of(c, strips, align(sum_length(c) * job.height * kernels.itemsize), job.chunks.count,
                           strips, num_threads)
    return job


cdef bint correlate(const Correlation *c, int num_threads) noexcept nogil:
    """Computes all of c.out. False where there was no memory; nothing is written then."""
    cdef Job job = job_of(c, num_threads)
    # A last window reads up to a tile past the last row's end.
    cdef Py_ssize_t band = align(
        (sorted_elements(c, job.chunks.images, job.chunks.rows) + job.width) * c.kernels.itemsize)
    return run_passes(&job.passes, &job, pack_strip, compute_chunk, job.table_bytes + band, num_threads) == 0


cdef inline int tile_vectors(
        const fc_kernels *kernels, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t left) noexcept nogil:
    """As many vectors as a tile of so many rows may have, but no more than the `left` pixels of a row fill.

    Where rows are enough to hide the latency, the tile is no longer than the row, and may be moved back.
    """
    cdef int vectors = FC_MAX_WINDOW if rows <= kernels.mr // 2 else 2
    while vectors > 1 and (vectors * kernels.lanes >= left + kernels.lanes
                           or (rows >= ENOUGH_ROWS and vectors * kernels.lanes > row)):
        vectors //= 2
    return vectors


cdef void pack_strip(const void *work, Py_ssize_t strip, char *packed) noexcept nogil:
    cdef const Job *job = <const Job *>work
    cdef const Correlation *c = job.c
    cdef Py_ssize_t channel = strip % job.strips * job.height, part = strip // job.strips
    cdef Py_ssize_t channels = min(job.height, c.out_channels - channel)
    pack_weight_panel(part_of(c, part % c.part_count), part // c.part_count, channel, channels, job.height,
                      packed, False)


cdef bint compute_chunk(
        const void *work, Py_ssize_t index, Py_ssize_t next_index, const Portion *portion,
        char *private) noexcept nogil:
    """A portion's output channels for one chunk of pixels."""
    cdef const Job *job = <const Job *>work
    cdef const Correlation *c = job.c
    cdef Chunk chunk = chunk_at(c, &job.chunks, index)
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef Py_ssize_t item, group = -1
    cdef const Correlation *part
    cdef Portion strips = portion[0]
    cdef Band band
    for item in range(portion.begin // job.strips, ceil_div(portion.end, job.strips)):
        if item // c.part_count != group:
            group = item // c.part_count
            band = load_sorted(c, group, &chunk, private + job.table_bytes, job.copy)
        part = part_of(c, item % c.part_count)
        fill_sorted_table(part, &band, table)
        strips.begin = max(portion.begin, item * job.strips)
        strips.end = min(portion.end, (item + 1) * job.strips)
        compute_part(job, part, table, &chunk, group, &strips, &band, first_window(c, part, &band))
    return True


cdef void compute_part(
        const Job *job, const Correlation *c, const Py_ssize_t *table, const Chunk *chunk, Py_ssize_t group,
        const Portion *strips, const Band *band, const char *x) noexcept nogil:
    """Strips of one group and part, c; x as in first_window."""
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef Py_ssize_t block = max(1, BLOCK_BYTES // (c.in_channels * job.width * size + 1)) * job.width
    cdef Py_ssize_t image, row, pixel
    for image in range(chunk.images):
        for row in range(min(chunk.rows, c.out_h - chunk.row)):
            pixel = 0
            while pixel < c.out_w:
                compute_block(
                    job, c, table, group * c.out_channels, strips,
                    x + size * (image * band.image + row * c.stride_h * band.row),
                    c.out + size * ((chunk.image + image) * c.out_image + (chunk.row + row) * c.out_row),
                    pixel, min(pixel + block, c.out_w))
                pixel += block


cdef void compute_block(
        const Job *job, const Correlation *c, const Py_ssize_t *table, Py_ssize_t first_channel,
        const Portion *strips, const char *x, char *out, Py_ssize_t from_pixel,
        Py_ssize_t to_pixel) noexcept nogil:
    """Pixels [from_pixel, to_pixel) of a row; x, out at the row's start."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize
    cdef Py_ssize_t strip, channel, pixel, at, width, k
    cdef char scratch[FC_MAX_MR * FC_MAX_NR * 8]   # as many elements as mr x nr; wide tiles: half the rows
    cdef char *to
    cdef bint fetch = c.out_pixel == 1 and beyond_cache(c, c.out_image)
    cdef fc_tile tile = new_tile()
    tile.depth = sum_length(c)
    tile.a_row = 1
    tile.a_step = job.height
    tile.b_table = <Py_ssize_t *>table
    tile.relu = c.relu
    for strip in range(strips.begin, strips.end):
        channel = strip % job.strips * job.height
        tile.rows = <int>min(job.height, c.out_channels - channel)
        channel += first_channel
        tile.a = strips.packed + (strip - strips.first) * job.passes.part_bytes
        if c.bias != NULL:
            tile.row_bias = c.bias + channel * size
        pixel = from_pixel
        while pixel < to_pixel:
            tile.vectors = tile_vectors(kernels, tile.rows, c.out_w, c.out_w - pixel)
            width = tile.vectors * kernels.lanes
            # The last tile moves back into the row, over pixels that it computes once more.
            at = to_pixel - width if c.out_pixel == 1 and pixel + width > to_pixel >= width else pixel
            tile.b = x + at * size
            to = out + size * (channel * c.out_channel + at * c.out_pixel)
            if fetch:       # what will be written in the next row, or further on in a flat one
                fc_fetch_rows(to + size * (c.out_row if c.out_h > 1 else 2 * width), size * c.out_channel,
                              tile.rows, size * width)
            if c.out_pixel == 1 and at + width <= to_pixel:
                tile.c = to
                tile.c_row = c.out_channel
                kernels.gemm_window(&tile)
            else:
                tile.c = scratch
                tile.c_row = width
                kernels.gemm_window(&tile)
                for k in range(tile.rows):
                    kernels.scatter(to + k * c.out_channel * size, c.out_pixel, scratch + k * width * size,
                                    min(width, to_pixel - pixel))
            pixel += width
