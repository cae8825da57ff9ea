"""Convolution straight from the image, pixels in vectors: for few output channels, and for 1x1 kernels.

A tile is some output channels by two vectors of neighbouring pixels of a row of outputs: four where the
channels are few, fewer at the end of a row. Row k of the product's right side is a window of the padded band,
read where it lies, so nothing is packed but weights. With a stride along rows, the columns of the band that
are so far apart are put side by side first: cheap for few channels. NCHW.

The gradient of the weight, with stride 1, sums products of rows of grad_output with such windows, each
element in a vector of its own whose lanes are added up in the end: for few channels, since these vectors
must stay in cache. That of the bias is summed along with it, as if by a window of ones.

Workspace: packed weights (see passes.pyx), and for each thread a band of about BAND_BYTES and the table of
the sum. The gradient of the weight: a vector for each element, for up to SPLITS parts of the sum.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels.correlation cimport (
    Correlation, align, beyond_cache, ceil_div, compute_forward, compute_grad_input, forward_correlation,
    movers, part_of, strip_height, sum_length, weight_correlation,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport (
    FC_MAX_MR, FC_MAX_NR, FC_MAX_WINDOW, fc_fetch_rows, fc_kernels, fc_tile, fc_window_sums, kernels_for,
    new_tile,
)
from fastconv._kernels.memory cimport give_back, take
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, band_elements, chunk_at, cut, fill_sorted_table, fill_table, first_window, load_band,
    load_sorted, pack_weight_panel, sorted_elements,
)
from fastconv._kernels.passes cimport Passes, Portion, pack_all, passes_of, run_passes, shares
from fastconv._kernels.threads cimport EVENLY, IN_TURN, PRODUCTS, parallel_for

cnp.import_array()

cdef enum:
    BAND_BYTES = 262144
    BLOCK_BYTES = 32768       # of the windows that all strips of channels run over before the next are taken
    PIXELS = 16384            # of a chunk, at most
    ENOUGH_ROWS = 8           # of a tile, for as many multiply-adds under way as the processor can have
    SUMMED_BYTES = 16384      # of a plane of grad_output that meets all windows before the next pixels do
    SPLITS = 8                # most parts that the sum of a weight's gradient is cut into
    SPLIT_BYTES = 1048576     # most bytes of partial sums that cutting may cost


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


# The gradient of the weight; its sum is cut and shared out as in conv_direct_weight.

ctypedef struct WeightJob:
    Correlation c                   # the forward one; x is read, out is grad_output, weight unused
    Chunks chunks
    Py_ssize_t splits               # parts of the sum; split s sums chunks from count*s/splits on
    Py_ssize_t length               # terms of a forward sum: elements of a row of grad
    Py_ssize_t rows                 # output channels of all groups
    Py_ssize_t row_bytes            # of partial sums, of one output channel
    char *sums                      # [splits][rows][length][lanes]
    char *own                       # [splits][rows][lanes], of the bias; NULL: not needed
    char *private                   # for each thread: table, band
    Py_ssize_t table_bytes, each
    Py_ssize_t ranges               # that a group's output channels are shared out in
    char *grad
    char *grad_bias                 # NULL: not needed


def grad_weight(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                cnp.ndarray grad not None, int num_threads):
    """grad = gradient of the weight."""
    grad_weight_and_bias(g, grad_output, x, grad, None, num_threads)


def grad_weight_and_bias(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                         cnp.ndarray grad not None, cnp.ndarray grad_bias, int num_threads):
    """grad = gradient of the weight, grad_bias = that of the bias, unless it is None."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef WeightJob job
    cdef Py_ssize_t own_bytes = 0 if grad_bias is None else kernels.lanes * kernels.itemsize
    job.c = forward_correlation(kernels, g, x, grad, None, grad_output, False)
    # These sizes must not depend on the number of threads: they decide the order of the sums.
    job.chunks = cut(&job.c, BAND_BYTES, SUMMED_BYTES // kernels.itemsize, 1)
    job.length = sum_length(&job.c)
    job.row_bytes = job.length * kernels.lanes * kernels.itemsize
    job.rows = job.c.groups * job.c.out_channels
    job.splits = min(SPLITS, job.chunks.count, SPLIT_BYTES // (job.rows * job.row_bytes) + 1)
    job.table_bytes = align(job.length * sizeof(Py_ssize_t))
    job.each = job.table_bytes + align(
        band_elements(&job.c, job.chunks.images, job.chunks.rows) * kernels.itemsize)
    job.sums = <char *>take(job.splits * job.rows * (job.row_bytes + own_bytes))
    job.private = <char *>take(job.each * num_threads)
    if job.sums == NULL or job.private == NULL:
        give_back(job.sums)
        give_back(job.private)
        raise MemoryError("no memory for the workspace of a convolution's gradient")
    job.grad, job.grad_bias, job.own = <char *>cnp.PyArray_DATA(grad), NULL, NULL
    if grad_bias is not None:
        job.grad_bias = <char *>cnp.PyArray_DATA(grad_bias)
        job.own = job.sums + job.splits * job.rows * job.row_bytes
    # Where splits and groups are too few for the threads, output channels are shared out as well.
    job.ranges = 1
    if num_threads > 1:
        job.ranges = min(job.c.out_channels, ceil_div(2 * num_threads, job.splits * job.c.groups))
    with nogil:
        parallel_for(
            job.splits * job.c.groups * job.ranges, num_threads, sum_windows, &job, IN_TURN | PRODUCTS)
        parallel_for(job.rows, movers(job.splits * job.rows * job.row_bytes, num_threads), finish_row, &job,
                     EVENLY)
        give_back(job.sums)
        give_back(job.private)


cdef Py_ssize_t sum_windows(const void *weight_job, Py_ssize_t item, int thread) noexcept nogil:
    """One split's sums of a range of output channels of a group."""
    cdef const WeightJob *job = <const WeightJob *>weight_job
    cdef const Correlation *c = &job.c
    cdef Py_ssize_t number = item % job.ranges, split = item // job.ranges % job.splits
    cdef Py_ssize_t group = item // (job.ranges * job.splits)
    cdef Py_ssize_t begin = c.out_channels * number // job.ranges
    cdef Py_ssize_t end = c.out_channels * (number + 1) // job.ranges
    cdef char *private = job.private + job.each * thread
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, index
    cdef Py_ssize_t row = (split * c.groups + group) * c.out_channels + begin
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef Chunk chunk
    cdef Band band
    cdef fc_window_sums sums
    sums.planes, sums.a_plane, sums.a_image, sums.a_row = end - begin, c.out_channel, c.out_image, c.out_row
    sums.b_table, sums.terms = table, job.length
    sums.width = c.out_w
    sums.sums = job.sums + row * job.row_bytes
    memset(sums.sums, 0, (end - begin) * job.row_bytes)
    sums.own = NULL
    if job.own != NULL:
        sums.own = job.own + row * kernels.lanes * size
        memset(sums.own, 0, (end - begin) * kernels.lanes * size)
    for index in range(job.chunks.count * split // job.splits, job.chunks.count * (split + 1) // job.splits):
        chunk = chunk_at(c, &job.chunks, index)
        band = load_band(c, group, &chunk, private + job.table_bytes)
        fill_table(c, &band, table)
        sums.images, sums.rows = chunk.images, chunk.rows
        sums.a = c.out + size * (chunk.image * c.out_image + chunk.row * c.out_row
                                 + (group * c.out_channels + begin) * c.out_channel)
        sums.b, sums.b_image, sums.b_row = band.data, band.image, c.stride_h * band.row
        kernels.window_sums(&sums)
    return 0


cdef Py_ssize_t finish_row(const void *weight_job, Py_ssize_t row, int thread) noexcept nogil:
    """One output channel's row of the gradient and its gradient of the bias."""
    cdef const WeightJob *job = <const WeightJob *>weight_job
    add_up(job, job.sums, row, job.length, job.grad)
    if job.grad_bias != NULL:
        add_up(job, job.own, row, 1, job.grad_bias)
    return 0


cdef void add_up(
        const WeightJob *job, char *sums, Py_ssize_t row, Py_ssize_t length, char *out) noexcept nogil:
    """Adds up the splits, in order, and the lanes of one output channel's row of a gradient."""
    cdef const fc_kernels *kernels = job.c.kernels
    cdef Py_ssize_t split, count = length * kernels.lanes
    cdef char *total = sums + row * count * kernels.itemsize
    for split in range(1, job.splits):
        kernels.add(total, total + split * job.rows * count * kernels.itemsize, count)
    kernels.depthwise_weight_finish(out + row * length * kernels.itemsize, total, 1, length)
