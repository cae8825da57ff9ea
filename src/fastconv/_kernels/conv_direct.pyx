"""Convolution straight from the padded image: a tile is some pixels of a row by two vectors of channels, or
one where the last channels fit into it.

Pixels are broadcast from a padded band of the input, wherever stride and dilation put them; output channels
lie in vectors, their weights packed in panels [sum][channels of a tile]. Nothing of the size of a column
matrix exists. How the sums of a panel are taken, and which bands of planes are turned: direct_panel.pyx.

Workspace: packed weights (see passes.pyx), and for each thread a band of about BAND_BYTES (ACROSS_BYTES of
small images, never less than the rows that one row of outputs needs), a panel of outputs and the table of
the sum.
"""

cimport numpy as cnp

from fastconv._kernels import conv_direct_weight
from fastconv._kernels.correlation cimport (
    TOGETHER, Correlation, align, beyond_cache, ceil_div, compute_forward, compute_grad_input,
    has_finite_sum, panel_vectors, part_of, sum_length, weight_correlation,
)
from fastconv._kernels.direct_panel cimport (
    PanelJob, compute_panel, fill_tables, goes_across, most_taps, packed_by_taps, store_panel, sums_by_taps,
    turns,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_ahead, kernels_for
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, band_elements, chunk_at, cut, cut_flat, first_window, load_band, pack_weight_panel,
)
from fastconv._kernels.passes cimport Passes, Portion, pack_all, passes_of, run_passes, shares
from fastconv._kernels.ranges cimport Range
from fastconv._kernels.read_ahead cimport LINE, next_ahead, nothing_ahead

cnp.import_array()

cdef enum:
    BAND_BYTES = 327680       # of a band, of which the channels of a block are in use at a time
    ACROSS_BYTES = 1048576    # of a band of images that share tiles: much of it is padding that isn't there
    PIXELS = 1024             # of a chunk, at most


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
    cdef Correlation c = weight_correlation(kernels_for(cnp.PyArray_TYPE(weight)), g, weight)
    c.turned = turns(&c)
    cdef Job job = job_of(&c, num_threads)
    return pack_all(&job.passes, &job, pack_panel, 0, cnp.PyArray_TYPE(weight), num_threads)


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input."""
    compute_grad_input(correlate, g, grad_output, weight, grad_x, TOGETHER, num_threads)


grad_weight = conv_direct_weight.grad_weight


# A convolution, and bytes of a thread's workspace in the order in which they lie.
ctypedef struct Job:
    const Correlation *c
    Chunks chunks
    Passes passes
    bint across                     # see goes_across
    Py_ssize_t table, tiles, turned, band


cdef Job job_of(const Correlation *c, int num_threads) noexcept nogil:
    cdef Py_ssize_t size = c.kernels.itemsize, nr = c.kernels.nr
    # Of all groups, and of all parts: those of the same channels follow each other.
    cdef Py_ssize_t panels = c.groups * ceil_div(c.out_channels, nr) * c.part_count
    cdef Job job
    job.c, job.across = c, goes_across(c)
    if job.across:          # threads share out channels before tiles get shorter
        job.chunks = cut(c, ACROSS_BYTES, PIXELS, max(1, min(shares(num_threads), c.batch // c.kernels.mr)))
    else:
        job.chunks = cut(c, BAND_BYTES, PIXELS, shares(num_threads))
    job.passes = passes_of(c, panels, packed_bytes(c), job.chunks.count, panels, num_threads)
    if job.across and job.chunks.count % num_threads:   # equal shares
        job.passes.at_once = ceil_div(job.passes.at_once, num_threads)
    # What follows begins with a pair of lines, which are fetched together.
    job.table = 2 * LINE * ceil_div(
        3 * sum_length(c) * sizeof(Py_ssize_t) + most_taps(c) * sizeof(Range), 2 * LINE)
    job.tiles = align(job.chunks.images * job.chunks.rows * c.out_w * nr * size)
    job.turned = align(c.out_w * nr * size)
    job.band = align(size * band_elements(c, job.chunks.images, job.chunks.rows))
    return job


cdef bint correlate(const Correlation *whole, int num_threads) noexcept nogil:
    """Computes all of the result. False where there was no memory; nothing is written then."""
    cdef Correlation c = cut_flat(
        whole, BAND_BYTES // (whole.kernels.itemsize * max(whole.in_channels, 1)))
    c.turned = turns(&c)
    cdef Job job = job_of(&c, num_threads)
    return run_passes(&job.passes, &job, pack_panel, compute_chunk,
                      job.table + job.tiles + job.turned + job.band, num_threads) == 0


cdef Py_ssize_t packed_bytes(const Correlation *c) noexcept nogil:
    """Of a panel of weights and, in a line behind them, whether all are finite."""
    return align(sum_length(c) * c.kernels.nr * c.kernels.itemsize) + LINE


cdef void pack_panel(const void *job, Py_ssize_t index, char *packed) noexcept nogil:
    cdef const Correlation *c = (<const Job *>job).c
    cdef Py_ssize_t nr = c.kernels.nr, panels = ceil_div(c.out_channels, nr), panel = index // c.part_count
    cdef Py_ssize_t channel = panel % panels * nr, width = panel_vectors(c, panel) * c.kernels.lanes
    cdef const Correlation *part = part_of(c, index % c.part_count)
    pack_weight_panel(part, panel // panels, channel, min(nr, c.out_channels - channel), width, packed,
                      packed_by_taps(c))
    (<bint *>(packed + packed_bytes(c) - LINE))[0] = has_finite_sum(
        c.kernels, packed, sum_length(part) * width)


cdef bint compute_chunk(
        const void *work, Py_ssize_t index, Py_ssize_t next_index, const Portion *portion,
        char *private) noexcept nogil:
    """A portion's panels for a chunk of pixels."""
    cdef const Job *whole = <const Job *>work
    cdef const Correlation *c = whole.c
    cdef Chunk chunk = chunk_at(c, &whole.chunks, index)
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef char *tiles = private + whole.table
    cdef char *turned = tiles + whole.tiles
    cdef char *band_memory = turned + whole.turned
    cdef Py_ssize_t panels = ceil_div(c.out_channels, c.kernels.nr)
    cdef Py_ssize_t item, panel, group = -1
    cdef const Correlation *part = NULL
    cdef Band band
    cdef fc_ahead ahead[2]
    cdef PanelJob job
    cdef bint unpadded
    ahead[0] = next_ahead(
        c, &whole.chunks, index, next_index,
        (portion.end - portion.begin) * chunk.images * chunk.rows * ceil_div(c.out_w, c.kernels.mr))
    ahead[1] = nothing_ahead()
    job.lines_ahead = ahead[0].share
    job.chunk = &chunk
    job.band = &band
    job.table, job.tap_table = table, table + sum_length(c)
    job.seen_rows = <Range *>(table + 3 * sum_length(c))
    job.x = NULL
    job.rows = job.vectors = 0
    job.unpadded = job.accumulate = False
    job.across = whole.across and (c.stride_w > 1 or chunk.images >= c.out_w)
    for item in range(portion.begin, portion.end):
        panel = item // c.part_count
        job.weights = portion.packed + (item - portion.first) * whole.passes.part_bytes
        unpadded = sums_by_taps(c) and (<const bint *>(job.weights + whole.passes.part_bytes - LINE))[0]
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
        job.fetch_out = not job.in_place and not job.across and beyond_cache(c, c.out_image)
        compute_panel(part, &job, ahead, tiles)
        if not job.in_place:
            store_panel(part, &job, tiles, turned)
    return True
