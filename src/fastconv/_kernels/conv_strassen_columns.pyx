"""Convolution by Strassen's product (see strassen_parts.pyx) of columns: panels of sums, by im2col's tiles.

A panel of a and one of b, pixel by pixel of the same image, become the seven operands, over which all weights
run. Sums too long for a panel are cut into blocks, whose products are added up. Columns are added for each
tap, images once, but tiles of packed panels are the fastest, and results are written as they are.

Workspace: packed weights (see passes.pyx), and for each thread what im2col has of bands (see
pixel_panels.pyx), the operands, about OPERAND_BYTES, a table, and products of at most PRODUCT_BYTES.
"""

cimport numpy as cnp

from fastconv._kernels.correlation cimport (
    SEPARATELY, Correlation, align, ceil_div, compute_forward, compute_grad_input, strip_height, sum_length,
    weight_correlation,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport (
    FC_ADD, fc_ahead, fc_fetch_share, fc_kernels, fc_tile, kernels_for, new_tile, vectors_for,
)
from fastconv._kernels.operands cimport Band, Chunk, Chunks, chunk_at
from fastconv._kernels.passes cimport PACKED_BYTES, Passes, Portion, passes_of, run_passes, shares
from fastconv._kernels.pixel_panels cimport (
    RUNS_AHEAD, Panel, Span, chunk_ahead, cut_pixels, fetch_panel, fill_pixels_table, find_panel,
    first_output, load_pixels, pack_panel, panel_ahead, pixels_bytes, write_panel,
)
from fastconv._kernels.strassen_parts cimport (
    A0, A1, B1, PRODUCTS, S1, S2, S3, S4, halved, halves, mend, pack_products, pack_with_weight,
)

cnp.import_array()

cdef enum:
    QUARTERS = 4
    PANEL_BYTES = 65536       # of an operand's panel
    OPERAND_BYTES = 524288    # of the operands of the pairs that are multiplied together
    PRODUCT_BYTES = 524288    # of these pairs' products
    APART = 320               # bytes more from panel to panel: those 2^n apart fight for the same cache sets


# A convolution, how it is cut, and bytes of each part of a thread's memory in the order in which they lie.
ctypedef struct Job:
    const Correlation *c
    Correlation half                # see halved
    Chunks chunks
    Passes passes
    Py_ssize_t height, strips       # output channels of a strip; strips of a half
    Py_ssize_t weights              # bytes of a strip's weights in a product
    Py_ssize_t blocks               # that a sum is cut into
    Py_ssize_t side                 # pairs that are multiplied together
    Py_ssize_t panel                # bytes of an operand's panel
    Py_ssize_t results              # bytes of a panel's results in a product
    Py_ssize_t table, band, panels, operands, products


cdef Job job_of(const Correlation *c, int num_threads) noexcept nogil:
    cdef Py_ssize_t nr = c.kernels.nr, size = c.kernels.itemsize, length, pairs, products, most
    cdef Job job
    job.c = c
    job.half = halved(c)
    length = sum_length(&job.half)
    # How many images a chunk has is no matter, but which rows are halves of one depends on sizes alone.
    job.chunks = cut_pixels(c, min(shares(num_threads), max(c.batch, 1)))
    job.height = strip_height(&job.half)
    job.strips = ceil_div(job.half.out_channels, job.height)
    job.weights = align(length * job.height * size)
    job.blocks = max(1, ceil_div(length * nr * size, PANEL_BYTES))
    job.panel = align(ceil_div(length, job.blocks) * nr * size) + APART
    pairs = ceil_div(job.chunks.images * ceil_div(job.chunks.rows * c.out_w, 2), nr)
    # Operands are packed once for all strips, if one pair's products are not too many for that.
    products = PRODUCTS * job.height * nr * size
    job.side = min(OPERAND_BYTES // max(PRODUCTS * job.panel, 1), PRODUCT_BYTES // (products * job.strips))
    job.side = max(1, min(job.side, pairs))
    most = max(1, PRODUCT_BYTES // (products * job.side))
    # Seven quarters where others have four, and a pass packs the pixels anew.
    job.passes = passes_of(c, job.strips, PRODUCTS * job.weights, job.chunks.count, most, num_threads,
                           2 * PACKED_BYTES)
    job.results = align(job.passes.at_once * job.height * nr * size)
    job.table = align(length * sizeof(Py_ssize_t))
    job.band = align(pixels_bytes(c, &job.chunks))
    job.panels = align(2 * job.side * sizeof(Panel))
    job.operands = PRODUCTS * job.side * job.panel
    job.products = PRODUCTS * job.side * job.results
    return job


# ---- weights ----


cdef void pack_strip(const void *work, Py_ssize_t strip, char *packed) noexcept nogil:
    """The seven products' weights for the output channels of a strip of a half."""
    cdef const Job *job = <const Job *>work
    pack_products(&job.half, strip * job.height, rows_of(job, strip), job.height, packed, job.weights)


cdef inline Py_ssize_t rows_of(const Job *job, Py_ssize_t strip) noexcept nogil:
    """Output channels of a strip, of either half."""
    return min(job.height, job.half.out_channels - strip * job.height)


# ---- products ----


# A chunk, and this thread's memory. Spans, bands and panels of a and b are neighbours.
ctypedef struct Task:
    const Job *job
    Chunk chunk
    Span halves[2]                  # pixels of a, and of b
    Band inputs[2]                  # channels of 0, and of 1
    Portion strips
    Py_ssize_t *table               # of the terms of half of the channels
    Panel *panels                   # [pair][a, b]
    char *operands                  # [product][pair][term][pixel]
    char *products                  # [product][pair][output channel of the strips][pixel]
    fc_ahead ahead                  # of the next chunk


cdef bint compute_chunk(
        const void *work, Py_ssize_t index, Py_ssize_t next_index, const Portion *portion,
        char *private) noexcept nogil:
    """A portion's channels of both halves for one chunk of pixels. Returns whether all is finite."""
    cdef const Job *job = <const Job *>work
    cdef const Correlation *c = job.c
    cdef Py_ssize_t pixels, columns, some = job.side * c.kernels.nr, column = 0
    cdef bint finite = True
    cdef Task t
    t.job = job
    t.chunk = chunk_at(c, &job.chunks, index)
    t.strips = portion[0]
    pixels = t.chunk.rows * c.out_w
    t.halves[0].first, t.halves[0].count = 0, ceil_div(pixels, 2)
    t.halves[1].first, t.halves[1].count = t.halves[0].count, pixels // 2
    t.halves[0].columns = t.halves[1].columns = t.halves[0].count
    t.table = <Py_ssize_t *>private
    t.panels = <Panel *>(private + job.table + job.band)
    t.operands = <char *>t.panels + job.panels
    t.products = t.operands + job.operands
    t.inputs[0] = t.inputs[1] = load_pixels(c, 0, &t.chunk, private + job.table)
    t.inputs[1].data += job.half.in_channels * t.inputs[0].channel * c.kernels.itemsize
    fill_pixels_table(&job.half, &t.inputs[0], t.table)
    columns = t.chunk.images * t.halves[0].columns
    t.ahead = chunk_ahead(
        c, &job.chunks, index, next_index,
        PRODUCTS * (portion.end - portion.begin) * ceil_div(columns, c.kernels.nr) * job.blocks)
    while column < columns:
        finite &= compute_pairs(&t, column, min(some, columns - column))
        column += some
    return finite


cdef bint compute_pairs(Task *t, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """Columns [column, column + columns) of the halves. Returns whether all is finite."""
    cdef const Job *job = t.job
    cdef Py_ssize_t nr = job.c.kernels.nr, length = sum_length(&job.half), pairs = ceil_div(columns, nr)
    cdef Py_ssize_t block, term, next_term = 0, pair
    cdef int half
    cdef bint finite = True, last
    for pair in range(pairs):
        for half in range(2):
            find_panel(job.c, &t.chunk, &t.halves[half], column + pair * nr, min(nr, columns - pair * nr),
                       &t.panels[2 * pair + half])
    for block in range(job.blocks):
        term, next_term = next_term, length * (block + 1) // job.blocks
        last = block + 1 == job.blocks
        for pair in range(pairs):
            pack_operands(t, pair, term, next_term - term)
        multiply(t, pairs, term, next_term - term, column + (columns if last else 0),
                 0 if last else next_term)
    for pair in range(pairs):
        finite &= join(t, pair)
    return finite


cdef inline char *operand(const Task *t, int product, Py_ssize_t pair) noexcept nogil:
    return t.operands + (product * t.job.side + pair) * t.job.panel


cdef inline char *result(const Task *t, int product, Py_ssize_t pair) noexcept nogil:
    return t.products + (product * t.job.side + pair) * t.job.results


cdef void pack_operands(const Task *t, Py_ssize_t pair, Py_ssize_t term, Py_ssize_t depth) noexcept nogil:
    """A block of the seven operands of a pair."""
    cdef const Correlation *c = t.job.c
    cdef const Py_ssize_t *table = t.table + term
    cdef Panel *a = &t.panels[2 * pair]
    cdef Panel *b = a + 1
    cdef char *b0 = operand(t, S3, pair)
    pack_panel(c, &t.inputs[0], table, depth, a, operand(t, A0, pair))
    pack_panel(c, &t.inputs[1], table, depth, a, operand(t, A1, pair))
    pack_panel(c, &t.inputs[0], table, depth, b, b0)
    pack_panel(c, &t.inputs[1], table, depth, b, operand(t, B1, pair))
    c.kernels.strassen_operands(
        operand(t, A0, pair), operand(t, A1, pair), b0, operand(t, B1, pair), operand(t, S1, pair),
        operand(t, S2, pair), operand(t, S4, pair), depth * c.kernels.nr)


cdef void multiply(
        Task *t, Py_ssize_t pairs, Py_ssize_t term, Py_ssize_t depth, Py_ssize_t next_column,
        Py_ssize_t next_term) noexcept nogil:
    """A block of the seven products. Meanwhile that is fetched which the next operands are made of, from
    `next_column` of the halves and from `next_term` on."""
    cdef const Job *job = t.job
    cdef const Correlation *c = job.c
    cdef Py_ssize_t nr = c.kernels.nr, size = c.kernels.itemsize, strips = t.strips.end - t.strips.begin
    cdef Py_ssize_t share = ceil_div(job.half.in_channels, PRODUCTS * strips * pairs), strip, pair
    cdef fc_tile tile = new_tile()
    cdef fc_ahead ahead[QUARTERS][RUNS_AHEAD]
    cdef int product, i
    for i in range(QUARTERS):
        panel_ahead(&job.half, &t.chunk, &t.inputs[i % 2], &t.halves[i // 2], next_column, job.side * nr,
                    next_term, depth, ahead[i])
    tile.depth = depth
    tile.a_row = 1
    tile.a_step = job.height
    tile.b_step = tile.c_row = nr
    tile.accumulate = FC_ADD if term > 0 else 0
    for product in range(PRODUCTS):
        for strip in range(t.strips.begin, t.strips.end):
            tile.rows = <int>rows_of(job, strip)
            tile.a = (t.strips.packed + (strip - t.strips.first) * job.passes.part_bytes
                      + product * job.weights + term * job.height * size)
            for pair in range(pairs):
                for i in range(QUARTERS):
                    fetch_panel(ahead[i], share)
                fc_fetch_share(&t.ahead)
                tile.vectors = vectors_for(c.kernels, t.panels[2 * pair].pixels)
                tile.b = operand(t, product, pair)
                tile.c = result(t, product, pair) + (strip - t.strips.begin) * job.height * nr * size
                c.kernels.gemm_tile(&tile)


cdef bint join(const Task *t, Py_ssize_t pair) noexcept nogil:
    """Results of a pair of panels from its products. Returns whether all is finite."""
    cdef const Job *job = t.job
    cdef const Correlation *c = job.c
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize
    cdef Py_ssize_t channel[4]
    cdef Py_ssize_t channels = (
        min(job.half.out_channels, t.strips.end * job.height) - t.strips.begin * job.height)
    cdef void *to[4]                # first channels of a, last of a, first of b, last of b
    cdef Py_ssize_t row[2]
    cdef const void *bias[2]
    cdef const Panel *panel
    cdef int i
    for i in range(4):
        panel = &t.panels[2 * pair + i // 2]
        channel[i] = t.strips.begin * job.height + i % 2 * job.half.out_channels
        bias[i % 2] = c.bias + channel[i] * size if c.bias != NULL else NULL
        if panel.in_place:
            to[i], row[i // 2] = first_output(c, &t.chunk, channel[i], &panel.runs[0]), c.out_channel
        else:
            to[i], row[i // 2] = result(t, i, pair), kernels.nr
    cdef bint finite = kernels.strassen_results(
        to, row, result(t, 0, pair), job.side * job.results // size, bias, channels,
        vectors_for(kernels, t.panels[2 * pair].pixels), c.relu)
    for i in range(4):
        panel = &t.panels[2 * pair + i // 2]
        if not panel.in_place:
            write_panel(c, &t.chunk, panel, channel[i], channels, <char *>to[i])
    return finite


# ---- whole convolutions ----


cdef bint correlate(const Correlation *c, int num_threads) noexcept nogil:
    """Computes all of c.out. False where there was no memory."""
    cdef Job job = job_of(c, num_threads)
    cdef Py_ssize_t spoilt = run_passes(
        &job.passes, &job, pack_strip, compute_chunk,
        job.table + job.band + job.panels + job.operands + job.products, num_threads)
    return mend(c, &job.passes, spoilt, num_threads)


def supports(ConvGeometry g, bint for_grad_input=False) -> bool:
    """Whether this algorithm can do the convolution, or the gradient of its input."""
    return not g.channels_last and halves(g, for_grad_input)


def forward(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray weight not None, bias,
            cnp.ndarray out not None, bint relu, int num_threads):
    """out = x convolved with weight, plus bias (or None), clipped at zero if relu."""
    compute_forward(correlate, g, x, weight, bias, out, relu, False, num_threads)


def forward_packed(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray packed not None, bias,
                   cnp.ndarray out not None, bint relu, int num_threads):
    """`forward` with a weight from `pack_weight`."""
    compute_forward(correlate, g, x, packed, bias, out, relu, True, num_threads)


def pack_weight(ConvGeometry g not None, cnp.ndarray weight not None, int num_threads):
    """All strips of the weight, for `forward_packed` with images of any size, and behind them the weight."""
    cdef Correlation c = weight_correlation(kernels_for(cnp.PyArray_TYPE(weight)), g, weight)
    cdef Job job = job_of(&c, num_threads)
    return pack_with_weight(&job.passes, &job, pack_strip, weight, num_threads)


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input."""
    compute_grad_input(correlate, g, grad_output, weight, grad_x, SEPARATELY, num_threads)
