"""Convolution straight from the padded image: a tile is some pixels of a row by two vectors of channels, or
one where the last channels fit into it.

Pixels are broadcast from a padded band of the input, wherever stride and dilation put them; output channels
lie in vectors, their weights packed in panels [sum][channels of a tile]. Nothing of the size of a column
matrix exists. How the sums of a panel are taken, and which bands of planes are turned: direct_panel.pyx.

Workspace: packed weights up to PACKED_BYTES in all, and for each thread a band of about BAND_BYTES (never
less than the rows that one row of outputs needs), a panel of outputs and the table of the sum.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange

from fastconv._kernels import conv_direct_weight
from fastconv._kernels.correlation cimport (
    Correlation, align, beyond_cache, ceil_div, compute_forward, compute_grad_input, has_finite_sum, movers,
    panel_vectors, part_of, sum_length, weight_correlation,
)
from fastconv._kernels.direct_panel cimport (
    PanelJob, compute_panel, fill_tables, most_taps, packed_by_taps, store_panel, sums_by_taps, turns,
)
from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_ahead, fc_kernels, kernels_for
from fastconv._kernels.memory cimport aligned, give_back, take
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, a_pass, band_elements, chunk_at, cut, cut_flat, first_window, load_band,
    pack_weight_panel,
)
from fastconv._kernels.ranges cimport Range
from fastconv._kernels.read_ahead cimport LINE, lines_of, nothing_ahead, rows_ahead
from fastconv._kernels.threads cimport thread_index

cnp.import_array()

cdef enum:
    BAND_BYTES = 327680       # of a band, of which the channels of a block are in use at a time
    PIXELS = 1024             # of a chunk, at most
    PACKED_BYTES = 4194304    # of packed weights at a time; more channels take several passes over the input


def forward(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray weight not None, bias,
            cnp.ndarray out not None, bint relu, int num_threads):
    """out = x convolved with weight, plus bias (or None), clipped at zero if relu."""
    compute_forward(correlate, g, x, weight, bias, out, relu, False, num_threads)


def forward_packed(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray packed not None, bias,
                   cnp.ndarray out not None, bint relu, int num_threads):
    """`forward` with a weight from `pack_weight`."""
    compute_forward(correlate, g, x, packed, bias, out, relu, True, num_threads)


def pack_weight(ConvGeometry g not None, cnp.ndarray weight not None, int num_threads):
    """All panels of the weight, for `forward_packed` with images of any size."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(weight))
    cdef Correlation c = weight_correlation(kernels, g, weight)
    c.turned = turns(&c)
    cdef Py_ssize_t panels = c.groups * ceil_div(c.out_channels, kernels.nr), index
    cdef Py_ssize_t panel_bytes = packed_bytes(&c)
    cdef cnp.ndarray packed = aligned(panels * panel_bytes, cnp.PyArray_TYPE(weight))
    cdef char *panel = <char *>cnp.PyArray_DATA(packed)
    for index in prange(panels, num_threads=num_threads, nogil=True, schedule="static"):
        pack_panel(&c, index, panel + index * panel_bytes)
    return packed


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input."""
    compute_grad_input(correlate, g, grad_output, weight, grad_x, True, num_threads)


grad_weight = conv_direct_weight.grad_weight


cdef bint correlate(const Correlation *whole, int num_threads) noexcept nogil:
    """Computes all of the result. False where there was no memory; nothing is written then."""
    cdef fc_float_mode mode = 0
    cdef Correlation flat = cut_flat(
        whole, BAND_BYTES // (whole.kernels.itemsize * max(whole.in_channels, 1)))
    flat.turned = turns(&flat)
    cdef const Correlation *c = &flat
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t length = sum_length(c)
    # Of all groups, and of all parts: those of the same channels follow each other.
    cdef Py_ssize_t panels = c.groups * ceil_div(c.out_channels, nr) * c.part_count
    cdef Py_ssize_t panel_bytes = packed_bytes(c)
    cdef Py_ssize_t panels_a_pass = a_pass(c, panels, panel_bytes, PACKED_BYTES)
    cdef Chunks chunks = cut(c, BAND_BYTES, PIXELS, num_threads * 2 if num_threads > 1 else 1)
    cdef Py_ssize_t band_bytes = align(size * band_elements(c, chunks.images, chunks.rows))
    # What follows begins with a pair of lines, which are fetched together.
    cdef Py_ssize_t table_bytes = 2 * LINE * ceil_div(
        3 * length * sizeof(Py_ssize_t) + most_taps(c) * sizeof(Range), 2 * LINE)
    cdef Py_ssize_t tiles_bytes = align(chunks.images * chunks.rows * c.out_w * nr * size)
    cdef Py_ssize_t turned_bytes = align(c.out_w * nr * size)
    cdef Py_ssize_t each = band_bytes + table_bytes + tiles_bytes + turned_bytes
    cdef char *packing = NULL if c.packed else <char *>take(panels_a_pass * panel_bytes)
    cdef char *private = <char *>take(each * num_threads)
    cdef const char *packed
    cdef Py_ssize_t first, passed, index, items
    cdef int splits
    if (packing == NULL and not c.packed) or private == NULL:
        give_back(packing)
        give_back(private)
        return False
    first = 0
    while first < panels:
        passed = min(panels_a_pass, panels - first)     # panels [first, first + passed)
        # Where chunks are too few for the threads, the panels of a pass are shared out as well.
        splits = <int>max(1, min(passed, ceil_div(2 * num_threads, chunks.count))) if num_threads > 1 else 1
        if c.packed:
            packed = c.weight + first * panel_bytes
        else:
            packed = packing
            for index in prange(passed, num_threads=movers(passed * panel_bytes, num_threads),
                                schedule="static"):
                pack_panel(c, first + index, packing + index * panel_bytes)
        items = chunks.count * splits
        with parallel(num_threads=num_threads):
            mode = fc_flush_denormals()
            for index in prange(items, schedule="dynamic"):
                compute_chunk(c, &chunks, index // splits, (index + num_threads) // splits, first,
                              first + passed * (index % splits) // splits,
                              first + passed * (index % splits + 1) // splits, packed, panel_bytes,
                              private + each * thread_index(), table_bytes, tiles_bytes, turned_bytes)
            fc_restore_float_mode(mode)
        first += passed
    give_back(packing)
    give_back(private)
    return True


cdef Py_ssize_t packed_bytes(const Correlation *c) noexcept nogil:
    """Of a panel of weights and, in a line behind them, whether all are finite."""
    return align(sum_length(c) * c.kernels.nr * c.kernels.itemsize) + LINE


cdef void pack_panel(const Correlation *c, Py_ssize_t index, char *packed) noexcept nogil:
    cdef Py_ssize_t nr = c.kernels.nr, panels = ceil_div(c.out_channels, nr), panel = index // c.part_count
    cdef Py_ssize_t channel = panel % panels * nr, width = panel_vectors(c, panel) * c.kernels.lanes
    cdef const Correlation *part = part_of(c, index % c.part_count)
    pack_weight_panel(part, panel // panels, channel, min(nr, c.out_channels - channel), width, packed,
                      packed_by_taps(c))
    (<bint *>(packed + packed_bytes(c) - LINE))[0] = has_finite_sum(
        c.kernels, packed, sum_length(part) * width)


cdef void compute_chunk(
        const Correlation *c, const Chunks *chunks, Py_ssize_t index, Py_ssize_t next_index, Py_ssize_t first,
        Py_ssize_t begin, Py_ssize_t end, const char *packed, Py_ssize_t panel_bytes, char *private,
        Py_ssize_t table_bytes, Py_ssize_t tiles_bytes, Py_ssize_t turned_bytes) noexcept nogil:
    """Output channels of panels [begin, end) for a chunk of pixels; packed holds panels from `first` on.

    Chunk `next_index` is probably this thread's next one.
    """
    cdef Chunk chunk = chunk_at(c, chunks, index)
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef char *tiles = private + table_bytes
    cdef char *turned = tiles + tiles_bytes
    cdef char *band_memory = turned + turned_bytes
    cdef Py_ssize_t panels = ceil_div(c.out_channels, c.kernels.nr)
    cdef Py_ssize_t item, panel, group = -1
    cdef const Correlation *part = NULL
    cdef Band band
    cdef fc_ahead ahead[2]
    cdef PanelJob job
    cdef bint unpadded
    ahead[0] = ahead[1] = nothing_ahead()
    if next_index != index and next_index < chunks.count and beyond_cache(c, c.x_image):
        ahead[0] = rows_ahead(c, chunk_at(c, chunks, next_index))
    job.lines_ahead = ceil_div(lines_of(&ahead[0]), max(
        1, (end - begin) * chunk.images * chunk.rows * ceil_div(c.out_w, c.kernels.mr)))
    job.chunk = &chunk
    job.band = &band
    job.table, job.tap_table = table, table + sum_length(c)
    job.seen_rows = <Range *>(table + 3 * sum_length(c))
    job.x = NULL
    job.rows = job.vectors = 0
    job.unpadded = job.accumulate = False
    for item in range(begin, end):
        panel = item // c.part_count
        job.weights = packed + (item - first) * panel_bytes
        unpadded = sums_by_taps(c) and (<const bint *>(job.weights + panel_bytes - LINE))[0]
        if panel // panels != group or unpadded != job.unpadded:
            group, job.unpadded = panel // panels, unpadded
            band = load_band(c, group, &chunk, band_memory, False, unpadded)
            part = NULL
        if part != part_of(c, item % c.part_count) or job.vectors != panel_vectors(c, panel):
            part = part_of(c, item % c.part_count)
            job.x = first_window(c, part, &band)
            job.rows = max(0, min(chunk.rows, part.out_h - chunk.row))
            job.vectors = panel_vectors(c, panel)
            job.width = job.vectors * c.kernels.lanes
            fill_tables(part, &job)
        job.channel = panel % panels * c.kernels.nr
        job.channels = min(<Py_ssize_t>c.kernels.nr, c.out_channels - job.channel)
        job.channel += group * c.out_channels
        # Where a tile's vectors lie in the result as they do in registers, they go there at once.
        job.in_place = c.out_channel == 1 and job.channels == job.width
        job.fetch_out = not job.in_place and beyond_cache(c, c.out_image)
        compute_panel(part, &job, ahead, tiles)
        if not job.in_place:
            store_panel(part, &job, tiles, turned)
