"""Convolution as a matrix product over panels of the column matrix, packed as they are needed.

A panel holds a tile's worth of pixels, [term of the sums][pixel of the tile]. Panels of PANEL_BYTES at most
are packed at a time: they stay in the first-level cache while the weights of all output channels run over
them, a tile's channels over one after the other, so that rows of results are written in long pieces; then
they are forgotten. The column matrix as a whole never exists. Sums too long for one panel are added block by
block to results that stay in the second-level cache.
Pixels lie in vectors here, output channels are broadcast, so results go to NCHW memory as they are.

Workspace: packed weights up to PACKED_BYTES in all, and for each thread a band of about BAND_BYTES where
there is padding (see correlation.pyx), panels, a table, and results of sums that are cut.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange
from libc.stdint cimport PTRDIFF_MAX
from libc.string cimport memset

from fastconv._kernels import conv_im2col_weight
from fastconv._kernels.correlation cimport (
    Correlation, align, ceil_div, channels_last, compute_forward, compute_grad_input, movers, sum_length,
    weight_correlation,
)
from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport (
    FC_MAX_NR, FC_STREAMED, fc_kernels, fc_streamed, fc_tile, kernels_for, new_tile, vectors_for,
)
from fastconv._kernels.memory cimport aligned, give_back, take
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, a_pass, band_elements, chunk_at, cut, fill_table, load_band, needs_bands,
    pack_weight_panel,
)
from fastconv._kernels.read_ahead cimport LINE
from fastconv._kernels.threads cimport thread_index

cnp.import_array()

cdef enum:
    BAND_BYTES = 262144
    PANEL_BYTES = 24576       # of panels, which stay in the first-level cache
    SIDE_BY_SIDE = 16         # panels at a time, at most
    RESULT_BYTES = 262144     # of results that blocks of a sum are added to
    PIXELS = 4096             # of a chunk, at most
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
    """All strips of the weight, for `forward_packed` with images of any size."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(weight))
    cdef Correlation c = weight_correlation(kernels, g, weight)
    cdef Py_ssize_t height = strip_height(&c), index
    cdef Py_ssize_t strips = c.groups * ceil_div(c.out_channels, height)
    cdef Py_ssize_t strip_bytes = align(sum_length(&c) * height * kernels.itemsize)
    cdef cnp.ndarray packed = aligned(strips * strip_bytes, cnp.PyArray_TYPE(weight))
    cdef char *strip = <char *>cnp.PyArray_DATA(packed)
    for index in prange(strips, num_threads=num_threads, nogil=True, schedule="static"):
        pack_strip(&c, index, height, strip + index * strip_bytes)
    return packed


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input."""
    compute_grad_input(correlate, g, grad_output, weight, grad_x, False, num_threads)


grad_weight = conv_im2col_weight.grad_weight


# Neighbours in one row of outputs.
ctypedef struct Run:
    Py_ssize_t image, row, column, count, at   # image and row counted in the chunk; at: column of the tile


# A tile's worth of pixels of a chunk.
ctypedef struct Panel:
    Run runs[FC_MAX_NR]
    int count                       # of runs
    Py_ssize_t pixels
    bint in_place                   # the tile's rows may be written to the output as they are
    char *results                   # else they are kept here until the sums are complete, [out channel][nr]


# Part of the sums: terms [term, term + depth).
ctypedef struct Block:
    Py_ssize_t term, depth
    bint first, last


# A thread's memory, in bytes of each part in the order in which they lie, and how much is done at a time.
ctypedef struct Layout:
    Py_ssize_t table, band, runs, panels, results
    Py_ssize_t height, strip        # output channels of a strip, bytes of its weights
    Py_ssize_t blocks               # that a sum is cut into
    Py_ssize_t side                 # panels that are packed side by side
    Py_ssize_t stay                 # panels for whose results there is room; a multiple of side
    Py_ssize_t panel                # bytes of a panel
    Py_ssize_t panel_results        # of all of a panel's results, where they wait for the next block, else 0
    Py_ssize_t strip_results        # of a strip's, likewise


cdef Layout layout_of(
        const Correlation *c, const Chunks *chunks, Py_ssize_t strips, Py_ssize_t strip_bytes,
        bint banded) noexcept nogil:
    """For so many strips at a time."""
    cdef Layout layout
    cdef Py_ssize_t nr = c.kernels.nr, size = c.kernels.itemsize, length = sum_length(c)
    cdef Py_ssize_t panels = max(1, ceil_div(chunks.images * chunks.rows * c.out_w, nr)), tile
    layout.height = strip_height(c)
    layout.strip = strip_bytes
    tile = layout.height * nr * size
    layout.blocks = max(1, ceil_div(length * nr * size, PANEL_BYTES))
    layout.panel = ceil_div(length, layout.blocks) * nr * size
    if layout.blocks == 1:
        layout.side = 1
        if c.out_channel * size % LINE != 0:    # else tiles write whole lines
            layout.side = max(1, min(PANEL_BYTES // max(layout.panel, 1), SIDE_BY_SIDE, panels))
        layout.stay = layout.side
        layout.panel_results = layout.strip_results = 0
        layout.results = tile
    else:
        layout.side = 1
        layout.strip_results = tile
        layout.panel_results = strips * tile
        layout.stay = min(max(RESULT_BYTES // max(layout.panel_results, 1), 4), panels)
        layout.results = layout.stay * layout.panel_results
    layout.table = align(length * sizeof(Py_ssize_t))
    layout.band = align(band_elements(c, chunks.images, chunks.rows) * size) if banded else 0
    layout.runs = align(layout.side * sizeof(Panel))
    layout.panels = align(layout.side * layout.panel)
    return layout


cdef bint correlate(const Correlation *c, int num_threads) noexcept nogil:
    """Computes all of c.out. False where there was no memory; nothing is written then."""
    cdef fc_float_mode mode = 0
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t height = strip_height(c), strips = ceil_div(c.out_channels, height)
    cdef Py_ssize_t strip_bytes = align(sum_length(c) * height * kernels.itemsize)
    cdef Py_ssize_t strips_a_pass = a_pass(c, strips * c.groups, strip_bytes, PACKED_BYTES)
    # Where panels are packed straight from the images, only the number of pixels bounds a chunk.
    cdef bint banded = needs_bands(c)
    cdef Chunks chunks = cut(c, BAND_BYTES if banded else <Py_ssize_t>PTRDIFF_MAX, PIXELS,
                             num_threads * 2 if num_threads > 1 else 1)
    cdef Layout layout = layout_of(c, &chunks, min(strips, strips_a_pass), strip_bytes, banded)
    cdef Py_ssize_t each = align(layout.table + layout.band + layout.runs + layout.panels + layout.results)
    cdef char *packing = NULL if c.packed else <char *>take(strips_a_pass * strip_bytes)
    cdef char *private = <char *>take(each * num_threads)
    cdef const char *packed
    cdef Py_ssize_t first, passed, index, items
    cdef int splits
    if (packing == NULL and not c.packed) or private == NULL:
        give_back(packing)
        give_back(private)
        return False
    first = 0
    while first < strips * c.groups:
        passed = min(strips_a_pass, strips * c.groups - first)
        splits = <int>max(1, min(passed, ceil_div(2 * num_threads, chunks.count))) if num_threads > 1 else 1
        if c.packed:
            packed = c.weight + first * strip_bytes
        else:
            packed = packing
            for index in prange(passed, num_threads=movers(passed * strip_bytes, num_threads),
                                schedule="static"):
                pack_strip(c, first + index, height, packing + index * strip_bytes)
        items = chunks.count * splits
        with parallel(num_threads=num_threads):
            mode = fc_flush_denormals()
            for index in prange(items, schedule="dynamic"):
                compute_chunk(c, &chunks, index // splits, first, first + passed * (index % splits) // splits,
                              first + passed * (index % splits + 1) // splits, packed, &layout,
                              private + each * thread_index())
            fc_streamed()
            fc_restore_float_mode(mode)
        first += passed
    give_back(packing)
    give_back(private)
    return True


cdef Py_ssize_t strip_height(const Correlation *c) noexcept nogil:
    """Out channels in strips of one height: 13 and 12 of 25 rather than 14 and 11."""
    return max(1, ceil_div(c.out_channels, max(1, ceil_div(c.out_channels, c.kernels.mr))))


cdef void pack_strip(const Correlation *c, Py_ssize_t strip, Py_ssize_t height, char *packed) noexcept nogil:
    cdef Py_ssize_t strips = ceil_div(c.out_channels, height)
    cdef Py_ssize_t channel = strip % strips * height
    cdef Py_ssize_t channels = min(height, c.out_channels - channel)
    pack_weight_panel(c, strip // strips, channel, channels, height, packed, channels_last(c))


cdef void compute_chunk(
        const Correlation *c, const Chunks *chunks, Py_ssize_t index, Py_ssize_t first, Py_ssize_t begin,
        Py_ssize_t end, const char *packed, const Layout *layout, char *private) noexcept nogil:
    """Output channels of strips [begin, end) for one chunk of pixels; packed holds strips from `first` on."""
    cdef Chunk chunk = chunk_at(c, chunks, index)
    cdef Py_ssize_t *table = <Py_ssize_t *>private
    cdef char *band_memory = private + layout.table
    cdef Panel *panels = <Panel *>(band_memory + layout.band)
    cdef char *packed_pixels = band_memory + layout.band + layout.runs
    cdef char *results = packed_pixels + layout.panels
    cdef Py_ssize_t strips = ceil_div(c.out_channels, layout.height), nr = c.kernels.nr
    cdef Py_ssize_t pixels = chunk.images * chunk.rows * c.out_w, length = sum_length(c)
    cdef Py_ssize_t group, strip, from_strip, to_strip, pixel, from_pixel, to_pixel, next_pixel
    cdef Py_ssize_t number, count, i
    cdef Band band
    cdef Block block
    for group in range(begin // strips, ceil_div(end, strips)):
        from_strip = max(begin, group * strips)
        to_strip = min(end, (group + 1) * strips)
        band = load_band(c, group, &chunk, band_memory)
        fill_table(c, &band, table)
        from_pixel = 0
        while from_pixel < pixels:
            to_pixel = min(from_pixel + layout.stay * nr, pixels)
            for number in range(layout.blocks):
                block.term = length * number // layout.blocks
                block.depth = length * (number + 1) // layout.blocks - block.term
                block.first = number == 0
                block.last = number == layout.blocks - 1
                pixel = from_pixel
                while pixel < to_pixel:
                    count = 0
                    while count < layout.side and pixel < to_pixel:
                        find_panel(c, &chunk, pixel, min(nr, to_pixel - pixel), &panels[count])
                        panels[count].results = results + (pixel - from_pixel) // nr * layout.panel_results
                        pack_pixels(c, &band, table + block.term, block.depth, &panels[count],
                                    packed_pixels + count * layout.panel)
                        pixel += nr
                        count += 1
                    next_pixel = pixel if pixel < to_pixel else to_pixel if block.last else from_pixel
                    for strip in range(from_strip, to_strip):
                        if next_pixel < pixels:
                            fetch_pixels(c, &chunk, &band, table, &block, next_pixel, layout.side * nr,
                                         strip - from_strip, to_strip - from_strip)
                        for i in range(count):
                            multiply(c, &chunk, packed + (strip - first) * layout.strip, layout.height, group,
                                     strip % strips * layout.height, packed_pixels + i * layout.panel,
                                     &panels[i], &block)
                            panels[i].results += layout.strip_results
            from_pixel = to_pixel


cdef void find_panel(const Correlation *c, const Chunk *chunk, Py_ssize_t pixel, Py_ssize_t pixels,
                     Panel *panel) noexcept nogil:
    """Pixels [pixel, pixel + pixels) of a chunk, cut at the ends of rows."""
    cdef Py_ssize_t row = pixel // c.out_w, column = pixel % c.out_w, at = 0
    cdef Run *run = panel.runs
    panel.pixels = pixels
    panel.count = 0
    while at < pixels:
        run = &panel.runs[panel.count]
        run.image = row // chunk.rows
        run.row = row % chunk.rows
        run.column = column
        run.count = min(c.out_w - column, pixels - at)
        run.at = at
        at += run.count
        panel.count += 1
        row += 1
        column = 0
    # Rows of a plane follow each other.
    panel.in_place = (pixels == c.kernels.nr and c.out_pixel == 1
                      and (panel.count == 1 or (run.image == panel.runs[0].image and c.out_row == c.out_w)))


cdef inline const char *first_input(const Correlation *c, const Band *band, const Run *run) noexcept nogil:
    return band.data + c.kernels.itemsize * (run.image * band.image + run.row * c.stride_h * band.row
                                             + run.column * c.stride_w * band.pixel)


cdef inline char *first_output(const Correlation *c, const Chunk *chunk, Py_ssize_t channel,
                               const Run *run) noexcept nogil:
    return c.out + c.kernels.itemsize * (
        (chunk.image + run.image) * c.out_image + (chunk.row + run.row) * c.out_row
        + run.column * c.out_pixel + channel * c.out_channel)


cdef void pack_pixels(const Correlation *c, const Band *band, const Py_ssize_t *table, Py_ssize_t depth,
                      const Panel *panel, char *packed) noexcept nogil:
    """packed[term][pixel of the tile] for the first `depth` terms of `table`; zero behind its pixels."""
    cdef const fc_kernels *kernels = c.kernels
    cdef const Run *run
    cdef int i
    if panel.pixels < kernels.nr:
        memset(packed, 0, depth * kernels.nr * kernels.itemsize)
    for i in range(panel.count):
        run = &panel.runs[i]
        kernels.gather_rows(packed + run.at * kernels.itemsize, kernels.nr, first_input(c, band, run), table,
                            c.stride_w * band.pixel, depth, run.count)


cdef void fetch_pixels(
        const Correlation *c, const Chunk *chunk, const Band *band, const Py_ssize_t *table,
        const Block *block, Py_ssize_t pixel, Py_ssize_t pixels, Py_ssize_t part,
        Py_ssize_t parts) noexcept nogil:
    """Fetches a part of the panels from `pixel` on into the cache, up to the end of a row: one term's pixels
    lie too far from the next one's for the processor's own prefetching."""
    cdef Run run
    cdef Py_ssize_t row = pixel // c.out_w, begin = block.depth * part // parts
    if c.stride_w * band.pixel <= 2:
        run.image, run.row, run.column = row // chunk.rows, row % chunk.rows, pixel % c.out_w
        run.count = min(c.out_w - run.column, pixels)
        c.kernels.fetch_rows(first_input(c, band, &run), table + block.term + begin,
                             block.depth * (part + 1) // parts - begin,
                             (run.count - 1) * c.stride_w * band.pixel + 1)


cdef void multiply(
        const Correlation *c, const Chunk *chunk, const char *strip, Py_ssize_t height, Py_ssize_t group,
        Py_ssize_t channel, const char *packed, const Panel *panel, const Block *block) noexcept nogil:
    """One tile: channels from `channel` on of a group, one panel of pixels, one block of the sums."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t nr = kernels.nr, size = kernels.itemsize
    cdef Py_ssize_t first_channel = group * c.out_channels + channel
    cdef Py_ssize_t i, k
    cdef const Run *run
    cdef char *to
    cdef fc_tile tile = new_tile()
    tile.depth = block.depth
    tile.a = strip + block.term * height * size
    tile.a_row = 1
    tile.a_step = height
    tile.b = packed
    tile.b_step = nr
    tile.c = first_output(c, chunk, first_channel, &panel.runs[0]) if panel.in_place else panel.results
    tile.c_row = c.out_channel if panel.in_place else nr
    tile.rows = <int>min(height, c.out_channels - channel)
    tile.vectors = vectors_for(kernels, panel.pixels)
    tile.accumulate = not block.first
    tile.relu = c.relu and block.last
    # Nothing of so large a result is still in the cache when it is read. Whole lines only.
    tile.stream = (
        panel.in_place and block.first and block.last and panel.pixels == nr
        and c.batch * c.out_image * size >= FC_STREAMED and c.out_channel * size % LINE == 0
        and <size_t>tile.c % LINE == 0)
    tile.row_bias = c.bias + size * first_channel if c.bias != NULL else NULL
    kernels.gemm_tile(&tile)
    if panel.in_place or not block.last:
        return
    for i in range(panel.count):
        run = &panel.runs[i]
        to = first_output(c, chunk, first_channel, run)
        for k in range(tile.rows):
            kernels.scatter(to + k * c.out_channel * size, c.out_pixel,
                            panel.results + (k * nr + run.at) * size, run.count)
