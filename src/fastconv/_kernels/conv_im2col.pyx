"""Convolution as a matrix product over panels of the column matrix, packed as they are needed.

A panel holds a tile's worth of pixels, [term of the sums][pixel of the tile]. Panels of PANEL_BYTES at most
are packed at a time: they stay in the second-level cache while the weights of all output channels run over
them, a tile's channels over one after the other, so that rows of results are written in long pieces; then
they are forgotten. The column matrix as a whole never exists. Sums too long for one panel are added block by
block to results that stay in the second-level cache.
Pixels lie in vectors here, output channels are broadcast, so results go to NCHW memory as they are.

The weight is packed in strips of a tile's channels, unless pixels are so few that it is hardly read again.

Workspace: packed weights (see passes.pyx), and for each thread a band of about 2 MB where there is padding or
columns are sorted (see pixel_panels.pyx), panels, a table, and results of sums that are cut.
"""

cimport numpy as cnp

from fastconv._kernels import conv_im2col_weight
from fastconv._kernels.correlation cimport (
    SEPARATELY, Correlation, align, ceil_div, channels_last, compute_forward, compute_grad_input,
    strip_height, sum_length, weight_correlation,
)
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport (
    FC_ADD, FC_POINTER_ROWS, FC_STREAMED, fc_ahead, fc_fetch_share, fc_kernels, fc_tile, kernels_for,
    new_tile, vectors_for,
)
from fastconv._kernels.operands cimport Band, Chunk, Chunks, chunk_at, pack_weight_panel, terms_follow
from fastconv._kernels.passes cimport Passes, Portion, pack_all, passes_of, run_passes, shares
from fastconv._kernels.pixel_panels cimport (
    RUNS_AHEAD, Panel, Span, chunk_ahead, cut_pixels, fetch_panel, fill_pixels_table, find_panel,
    first_output, load_pixels, pack_panel, panel_ahead, pixels_bytes, write_panel,
)
from fastconv._kernels.read_ahead cimport LINE

cnp.import_array()

cdef enum:
    PANEL_BYTES = 131072      # of panels, which stay in the second-level cache
    SIDE_BY_SIDE = 16         # panels at a time, at most
    RESULT_BYTES = 262144     # of results that blocks of a sum are added to
    FEW_PIXELS = 512          # of all images


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
    cdef Job job = job_of(&c, False, num_threads)
    return pack_all(&job.passes, &job, pack_strip, 0, cnp.PyArray_TYPE(weight), num_threads)


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input."""
    compute_grad_input(correlate, g, grad_output, weight, grad_x, SEPARATELY, num_threads)


grad_weight = conv_im2col_weight.grad_weight
few_pixels = FEW_PIXELS


# Part of the sums: terms [term, term + depth).
ctypedef struct Block:
    Py_ssize_t term, depth
    bint first, last


# A convolution, how it is cut, and a thread's memory, in bytes of each part in the order in which they lie.
ctypedef struct Job:
    const Correlation *c
    Chunks chunks
    Passes passes
    Py_ssize_t height, strips       # output channels of a strip; strips of a group
    bint in_place                   # whether strips lie in the weight as it is
    Py_ssize_t a_row, a_step        # elements from one channel, or term, of a strip to the next
    Py_ssize_t blocks               # that a sum is cut into
    Py_ssize_t side                 # panels that are packed side by side
    Py_ssize_t stay                 # panels for whose results there is room; a multiple of side
    Py_ssize_t panel                # bytes of a panel
    Py_ssize_t panel_results        # of all of a panel's results, where they wait for the next block, else 0
    Py_ssize_t strip_results        # of a strip's, likewise
    Py_ssize_t table, band, runs, panels, results


cdef Job job_of(const Correlation *c, bint in_place, int num_threads) noexcept nogil:
    """`in_place`: whether the weight is read where it lies."""
    cdef Py_ssize_t nr = c.kernels.nr, size = c.kernels.itemsize, length = sum_length(c), panels, tile
    cdef Job job
    job.c = c
    job.chunks = cut_pixels(c, shares(num_threads))
    job.height = strip_height(c)
    job.strips = ceil_div(c.out_channels, job.height)
    job.in_place = in_place
    job.a_row, job.a_step = 1, job.height
    if in_place:
        job.a_row, job.a_step = c.weight_out, 1
    job.passes = passes_of(c, job.strips * c.groups, 0 if in_place else align(length * job.height * size),
                           job.chunks.count, job.strips * c.groups, num_threads)
    panels = max(1, ceil_div(job.chunks.images * job.chunks.rows * c.out_w, nr))
    tile = job.height * nr * size
    job.blocks = max(1, ceil_div(length * nr * size, PANEL_BYTES))
    job.panel = ceil_div(length, job.blocks) * nr * size
    job.side = 1
    if job.blocks == 1:
        if c.out_channel * size % LINE != 0:    # else tiles write whole lines
            job.side = max(1, min(PANEL_BYTES // max(job.panel, 1), SIDE_BY_SIDE, panels))
        job.stay = job.side
        job.panel_results = job.strip_results = 0
        job.results = tile
    else:
        job.strip_results = tile
        job.panel_results = min(job.strips, job.passes.at_once) * tile
        job.stay = min(max(RESULT_BYTES // max(job.panel_results, 1), 4), panels)
        job.results = job.stay * job.panel_results
    job.table = align(length * sizeof(Py_ssize_t))
    job.band = align(pixels_bytes(c, &job.chunks))
    job.runs = align(job.side * sizeof(Panel))
    job.panels = align(job.side * job.panel)
    return job


cdef bint serves_in_place(const Correlation *c) noexcept nogil:
    """Whether to read the weight where it lies: an output channel's is a row of A."""
    return (not c.packed and c.batch * c.out_h * c.out_w <= FEW_PIXELS and c.kernels.mr <= FC_POINTER_ROWS
            and terms_follow(c, channels_last(c)))


cdef bint correlate(const Correlation *c, int num_threads) noexcept nogil:
    """Computes all of c.out. False where there was no memory; nothing is written then."""
    cdef Job job = job_of(c, serves_in_place(c), num_threads)
    return run_passes(&job.passes, &job, pack_strip, compute_chunk,
                      align(job.table + job.band + job.runs + job.panels + job.results), num_threads) == 0


cdef void pack_strip(const void *work, Py_ssize_t strip, char *packed) noexcept nogil:
    cdef const Job *job = <const Job *>work
    cdef const Correlation *c = job.c
    cdef Py_ssize_t channel = strip % job.strips * job.height
    cdef Py_ssize_t channels = min(job.height, c.out_channels - channel)
    pack_weight_panel(c, strip // job.strips, channel, channels, job.height, packed, channels_last(c))


# A chunk of one group, and this thread's memory.
ctypedef struct Task:
    const Job *job
    Chunk chunk
    Span pixels                     # all
    Py_ssize_t group
    Portion strips                  # of the group
    Band band
    Py_ssize_t *table
    Panel *panels
    char *packed                    # the panels
    char *results
    fc_ahead ahead                  # of the next chunk


cdef bint compute_chunk(
        const void *work, Py_ssize_t index, Py_ssize_t next_index, const Portion *portion,
        char *private) noexcept nogil:
    """A portion's output channels for one chunk of pixels."""
    cdef const Job *job = <const Job *>work
    cdef const Correlation *c = job.c
    cdef char *band_memory = private + job.table
    cdef Py_ssize_t group, from_pixel, to_pixel, pixels
    cdef Task t
    t.job = job
    t.chunk = chunk_at(c, &job.chunks, index)
    t.pixels.first, t.pixels.count = 0, t.chunk.rows * c.out_w
    t.pixels.columns = t.pixels.count
    pixels = t.chunk.images * t.pixels.count
    t.table = <Py_ssize_t *>private
    t.panels = <Panel *>(band_memory + job.band)
    t.packed = band_memory + job.band + job.runs
    t.results = t.packed + job.panels
    t.strips = portion[0]
    t.ahead = chunk_ahead(c, &job.chunks, index, next_index,
                          (portion.end - portion.begin) * ceil_div(pixels, c.kernels.nr) * job.blocks)
    for group in range(portion.begin // job.strips, ceil_div(portion.end, job.strips)):
        t.group = group
        t.strips.begin = max(portion.begin, group * job.strips)
        t.strips.end = min(portion.end, (group + 1) * job.strips)
        t.band = load_pixels(c, group, &t.chunk, band_memory)
        fill_pixels_table(c, &t.band, t.table)
        from_pixel = 0
        while from_pixel < pixels:
            to_pixel = min(from_pixel + job.stay * c.kernels.nr, pixels)
            compute_pixels(&t, from_pixel, to_pixel)
            from_pixel = to_pixel
    return True


cdef void compute_pixels(Task *t, Py_ssize_t from_pixel, Py_ssize_t to_pixel) noexcept nogil:
    """All blocks of the sums of pixels for whose results there is room."""
    cdef const Job *job = t.job
    cdef Py_ssize_t length = sum_length(job.c), side = job.side * job.c.kernels.nr, number, pixel, next_pixel
    cdef Block block
    for number in range(job.blocks):
        block.term = length * number // job.blocks
        block.depth = length * (number + 1) // job.blocks - block.term
        block.first = number == 0
        block.last = number == job.blocks - 1
        pixel = from_pixel
        while pixel < to_pixel:
            next_pixel = pixel + side
            if next_pixel >= to_pixel:
                next_pixel = to_pixel if block.last else from_pixel
            compute_panels(
                t, &block, pixel, min(pixel + side, to_pixel),
                t.results + (pixel - from_pixel) // job.c.kernels.nr * job.panel_results, next_pixel)
            pixel += side


cdef const char *strip_at(const Task *t, Py_ssize_t strip) noexcept nogil:
    cdef const Job *job = t.job
    cdef const Correlation *c = job.c
    if not job.in_place:
        return t.strips.packed + (strip - t.strips.first) * job.passes.part_bytes
    return c.weight + c.kernels.itemsize * (
        t.group * c.weight_group + (strip - t.group * job.strips) * job.height * c.weight_out)


cdef void compute_panels(
        Task *t, const Block *block, Py_ssize_t from_pixel, Py_ssize_t to_pixel, char *results,
        Py_ssize_t next_pixel) noexcept nogil:
    """Panels side by side, which are packed here; those from `next_pixel` on are fetched meanwhile."""
    cdef const Job *job = t.job
    cdef const Correlation *c = job.c
    cdef Py_ssize_t nr = c.kernels.nr, count = ceil_div(to_pixel - from_pixel, nr), strip, i
    cdef Py_ssize_t share = ceil_div(c.in_channels, count * (t.strips.end - t.strips.begin))
    cdef fc_ahead ahead[RUNS_AHEAD]
    cdef fc_tile tile = new_tile()
    panel_ahead(c, &t.chunk, &t.band, &t.pixels, next_pixel, job.side * nr, block.term, block.depth, ahead)
    for i in range(count):
        find_panel(c, &t.chunk, &t.pixels, from_pixel + i * nr, min(nr, to_pixel - from_pixel - i * nr),
                   &t.panels[i])
        pack_panel(c, &t.band, t.table + block.term, block.depth, &t.panels[i], t.packed + i * job.panel)
    tile.depth = block.depth
    tile.a_row, tile.a_step = job.a_row, job.a_step
    tile.b_step = nr
    tile.accumulate = 0 if block.first else FC_ADD
    tile.relu = c.relu and block.last
    for strip in range(t.strips.begin, t.strips.end):
        tile.a = strip_at(t, strip) + block.term * job.a_step * c.kernels.itemsize
        for i in range(count):
            fetch_panel(ahead, share)
            fc_fetch_share(&t.ahead)
            tile.b = t.packed + i * job.panel
            multiply(t, block, (strip - t.group * job.strips) * job.height, &t.panels[i], &tile,
                     results + i * job.panel_results)
        results += job.strip_results


cdef void multiply(
        const Task *t, const Block *block, Py_ssize_t channel, const Panel *panel,
        fc_tile *tile, char *results) noexcept nogil:
    """A strip's channels, from `channel` of the group on, one panel of pixels, one block of the sums."""
    cdef const Correlation *c = t.job.c
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t nr = kernels.nr, size = kernels.itemsize
    cdef Py_ssize_t first_channel = t.group * c.out_channels + channel
    tile.c = first_output(c, &t.chunk, first_channel, &panel.runs[0]) if panel.in_place else results
    tile.c_row = c.out_channel if panel.in_place else nr
    tile.rows = <int>min(t.job.height, c.out_channels - channel)
    tile.vectors = vectors_for(kernels, panel.pixels)
    # Nothing of so large a result is still in the cache when it is read. Whole lines only.
    tile.stream = (
        panel.in_place and block.first and block.last and panel.pixels == nr
        and c.batch * c.out_image * size >= FC_STREAMED and c.out_channel * size % LINE == 0
        and <size_t>tile.c % LINE == 0)
    tile.row_bias = c.bias + size * first_channel if c.bias != NULL else NULL
    kernels.gemm_tile(tile)
    if block.last and not panel.in_place:
        write_panel(c, &t.chunk, panel, first_channel, tile.rows, results)
