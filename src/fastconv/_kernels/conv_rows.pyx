"""Convolution straight from the image, pixels in vectors: for few output channels, and for 1x1 kernels.

A tile is some output channels by two vectors of neighbouring pixels of a row of outputs: four where the
channels are few, fewer at the end of a row. Row k of the product's right side is a window of the padded band,
read where it lies, so nothing is packed but weights. With a stride along rows, the columns of the band that
are so far apart are put side by side first: cheap for few channels. The gradient of an input with such a
stride has all phases of some pixels computed at a time, and written to their row as neighbours. NCHW.

Workspace: packed weights (see passes.pyx), and for each thread a band of about BAND_BYTES, the tables of the
sums and, of such a gradient, a tile's results of each phase.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels import conv_rows_weight
from fastconv._kernels.correlation cimport (
    IN_ROWS, Correlation, align, beyond_cache, ceil_div, compute_forward, compute_grad_input, part_of,
    strip_height, sum_length, weight_correlation,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport (
    FC_MAX_WINDOW, fc_ahead, fc_fetch_rows, fc_fetch_share, fc_kernels, fc_tile, kernels_for, new_tile,
)
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, chunk_at, cut, fill_sorted_table, first_window, load_sorted, pack_weight_panel,
    sorted_elements,
)
from fastconv._kernels.passes cimport Passes, Portion, pack_all, passes_of, run_passes, shares
from fastconv._kernels.read_ahead cimport next_ahead

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
    compute_grad_input(correlate, g, grad_output, weight, grad_x, IN_ROWS, num_threads)


grad_weight = conv_rows_weight.grad_weight
grad_weight_and_bias = conv_rows_weight.grad_weight_and_bias


# What tiles of one part have in common.
ctypedef struct Piece:
    Py_ssize_t depth
    Py_ssize_t weights              # bytes of a strip that are other parts'
    const Py_ssize_t *table
    const char *x                   # where the windows begin
    char *results                   # [channel][pixel] of a tile


# A convolution, and how its output channels and pixels are cut into tiles. A line: the parts with results in
# the same rows, one for each phase of their columns that has taps. A strip's weights are those of a line.
ctypedef struct Job:
    const Correlation *c
    Chunks chunks
    Passes passes
    Py_ssize_t lines                # of a group
    Py_ssize_t height, strips       # output channels of a strip; strips of a line
    Py_ssize_t phases, pixels       # of a row of results; pixels of the longest phase
    Py_ssize_t width                # pixels of the widest tile
    bint copy                       # windows may reach past the end of a row, so the band must be a copy
    Py_ssize_t table, band, pieces  # bytes of a thread's workspace, where its results follow these
    Py_ssize_t phase                # bytes of a phase's results of a tile


cdef Job job_of(const Correlation *c, int num_threads) noexcept nogil:
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, terms = 0, index, strips
    cdef Job job
    job.c = c
    job.chunks = cut(c, BAND_BYTES, PIXELS, shares(num_threads))
    job.lines = c.part_count // c.part_columns
    job.height = strip_height(c)
    job.strips = ceil_div(c.out_channels, job.height)
    job.phases = min(c.out_pixel, c.out_span)
    job.pixels = ceil_div(c.out_span, c.out_pixel)
    # A last strip of few channels has the widest tiles.
    job.width = kernels.lanes * tile_vectors(
        kernels, c.out_channels - (job.strips - 1) * job.height, job.pixels, job.pixels)
    job.copy = job.pixels % kernels.lanes != 0
    for index in range(c.part_count):
        job.copy |= part_of(c, index).out_w % kernels.lanes != 0
    for index in range(job.lines):
        terms = max(terms, line_terms(c, index))
    job.pieces = align(c.part_columns * sizeof(Piece))
    job.table = align(terms * sizeof(Py_ssize_t))
    # A last window reads up to a tile past the last row's end.
    job.band = align((sorted_elements(c, job.chunks.images, job.chunks.rows) + job.width) * size)
    job.phase = kernels.mr * kernels.nr * size      # wide tiles have half the rows
    strips = job.strips * job.lines * c.groups
    job.passes = passes_of(c, strips, align(terms * job.height * size), job.chunks.count, strips, num_threads)
    return job


cdef Py_ssize_t line_terms(const Correlation *c, Py_ssize_t line) noexcept nogil:
    """Of the sums of all parts of a line."""
    cdef Py_ssize_t terms = 0, column
    for column in range(c.part_columns):
        terms += sum_length(part_of(c, line * c.part_columns + column))
    return terms


cdef bint correlate(const Correlation *c, int num_threads) noexcept nogil:
    """Computes all of c.out. False where there was no memory; nothing is written then."""
    cdef Job job = job_of(c, num_threads)
    return run_passes(&job.passes, &job, pack_strip, compute_chunk,
                      align(job.pieces + job.table + job.band + job.phases * job.phase), num_threads) == 0


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
    cdef Py_ssize_t channel = strip % job.strips * job.height, line = strip // job.strips, column
    cdef Py_ssize_t channels = min(job.height, c.out_channels - channel)
    cdef const Correlation *parts = part_of(c, line % job.lines * c.part_columns)
    for column in range(c.part_columns):
        pack_weight_panel(&parts[column], line // job.lines, channel, channels, job.height, packed, False)
        packed += sum_length(&parts[column]) * job.height * c.kernels.itemsize


# Strips of a line, for one chunk.
ctypedef struct Task:
    const Job *job
    const Correlation *parts        # of the line
    Piece *pieces                   # one for each
    Portion strips
    Band band
    Py_ssize_t first_channel        # of the group
    char *results                   # of all phases of a tile
    fc_ahead ahead                  # of the next chunk


cdef bint compute_chunk(
        const void *work, Py_ssize_t index, Py_ssize_t next_index, const Portion *portion,
        char *private) noexcept nogil:
    """A portion's output channels for one chunk of pixels."""
    cdef const Job *job = <const Job *>work
    cdef const Correlation *c = job.c
    cdef Chunk chunk = chunk_at(c, &job.chunks, index)
    cdef char *band_memory = private + job.table
    cdef Py_ssize_t line, group = -1
    cdef Task t
    t.job, t.strips = job, portion[0]
    t.pieces = <Piece *>(band_memory + job.band)
    t.results = band_memory + job.band + job.pieces
    t.ahead = next_ahead(
        c, &job.chunks, index, next_index,
        (portion.end - portion.begin) * chunk.images * chunk.rows * ceil_div(job.pixels, job.width))
    if c.part_columns < job.phases:
        memset(t.results, 0, job.phases * job.phase)
    for line in range(portion.begin // job.strips, ceil_div(portion.end, job.strips)):
        if line // job.lines != group:
            group = line // job.lines
            t.band = load_sorted(c, group, &chunk, band_memory, job.copy)
            t.first_channel = group * c.out_channels
        t.parts = part_of(c, line % job.lines * c.part_columns)
        take_pieces(&t, <Py_ssize_t *>private)
        t.strips.begin = max(portion.begin, line * job.strips)
        t.strips.end = min(portion.end, (line + 1) * job.strips)
        compute_line(&t, &chunk)
    return True


cdef void take_pieces(Task *t, Py_ssize_t *table) noexcept nogil:
    """The pieces of a line, one table after the other."""
    cdef const Job *job = t.job
    cdef const Correlation *part
    cdef Piece *piece
    cdef Py_ssize_t column, terms = 0
    for column in range(job.c.part_columns):
        part = &t.parts[column]
        piece = &t.pieces[column]
        fill_sorted_table(part, &t.band, table + terms)
        piece.depth, piece.table = sum_length(part), table + terms
        piece.weights = terms * job.height * part.kernels.itemsize
        piece.x = first_window(job.c, part, &t.band)
        piece.results = t.results + part.out_phase * job.phase
        terms += piece.depth


cdef void compute_line(Task *t, const Chunk *chunk) noexcept nogil:
    cdef const Job *job = t.job
    cdef const Correlation *c = job.c
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef Py_ssize_t block = max(1, BLOCK_BYTES // (c.in_channels * job.width * size + 1)) * job.width
    cdef Py_ssize_t image, row, pixel, windows
    cdef char *out
    for image in range(chunk.images):
        for row in range(min(chunk.rows, t.parts.out_h - chunk.row)):
            windows = size * (image * t.band.image + row * c.stride_h * t.band.row)
            out = t.parts.out - size * t.parts.out_phase
            out += size * ((chunk.image + image) * c.out_image + (chunk.row + row) * c.out_row)
            pixel = 0
            # Two calls: what is called once GCC makes a part of this function, and runs out of registers.
            while pixel + block < job.pixels:
                compute_block(t, windows, out, pixel, pixel + block)
                pixel += block
            compute_block(t, windows, out, pixel, job.pixels)


cdef inline void begin_piece(const Piece *piece, const char *weights, fc_tile *tile) noexcept nogil:
    """For tiles of one strip, whose weights these are."""
    tile.depth = piece.depth
    tile.a = weights + piece.weights
    tile.b_table = piece.table


cdef void compute_block(
        Task *t, Py_ssize_t windows, char *out, Py_ssize_t from_pixel, Py_ssize_t to_pixel) noexcept nogil:
    """Pixels [from_pixel, to_pixel) of all phases of a row, whose windows begin so many bytes behind those of
    the first one; out at the row's start."""
    cdef const Job *job = t.job
    cdef const Correlation *c = job.c
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, columns = c.part_columns, step = c.out_pixel
    cdef Py_ssize_t strip, channel, pixel, at, width, column, k
    cdef const Piece *piece
    cdef const char *weights
    cdef char *to
    cdef bint fetch = beyond_cache(c, c.out_image), in_place
    cdef fc_tile tile = new_tile()
    tile.a_row = 1
    tile.a_step = job.height
    tile.relu = c.relu
    for strip in range(t.strips.begin, t.strips.end):
        channel = strip % job.strips * job.height
        tile.rows = <int>min(job.height, c.out_channels - channel)
        channel += t.first_channel
        weights = t.strips.packed + (strip - t.strips.first) * job.passes.part_bytes
        if c.bias != NULL:
            tile.row_bias = c.bias + channel * size
        begin_piece(t.pieces, weights, &tile)
        pixel = from_pixel
        while pixel < to_pixel:
            tile.vectors = tile_vectors(kernels, tile.rows, job.pixels, job.pixels - pixel)
            width = tile.vectors * kernels.lanes
            # The last tile moves back into the row, over pixels that it computes once more.
            at = to_pixel - width if step == 1 and pixel + width > to_pixel >= width else pixel
            in_place = step == 1 and at + width <= to_pixel
            to = out + size * (channel * c.out_channel + at * step)
            fc_fetch_share(&t.ahead)
            if fetch and not in_place:
                fc_fetch_rows(to, size * c.out_channel, tile.rows, size * width * step)
            tile.c_row = c.out_channel if in_place else width
            for column in range(columns):
                piece = &t.pieces[column]
                if columns > 1:
                    begin_piece(piece, weights, &tile)
                tile.b = piece.x + windows + size * at
                tile.c = to if in_place else piece.results
                kernels.gemm_window(&tile)
            if not in_place:
                for k in range(tile.rows):
                    write_row(t, to + size * k * c.out_channel, size * k * width,
                              min(width * step, c.out_span - at * step))
            pixel += width


cdef inline void write_row(const Task *t, char *to, Py_ssize_t row, Py_ssize_t count) noexcept nogil:
    """So many results of all phases, of the channel whose results begin at byte `row` of a phase."""
    cdef const Correlation *c = t.job.c
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t step = c.out_pixel, column, phase
    if step == 2:
        kernels.zip(to, t.results + row, t.results + row + t.job.phase, count)
        return
    if c.part_columns < step:
        memset(to, 0, kernels.itemsize * count)
    for column in range(c.part_columns):
        phase = t.parts[column].out_phase
        if phase < count:
            kernels.scatter(to + kernels.itemsize * phase, step, t.pieces[column].results + row,
                            ceil_div(count - phase, step))
