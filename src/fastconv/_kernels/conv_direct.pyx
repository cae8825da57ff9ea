"""Convolution straight from the padded image: a tile is some pixels of a row by two vectors of channels, or
one where the last channels fit into it.

Pixels are broadcast from a padded band of the input, wherever stride and dilation put them; output channels
lie in vectors, their weights packed in panels [sum][channels of a tile]. Nothing of the size of a column
matrix exists.

A sum is taken in blocks of PANEL_BYTES of weights: these and the pixels that they meet stay in the
first-level cache while all tiles of a chunk run over them.

Padding is not computed with where channels and a tile's rows are many: sums are taken tap by tap, each for
the outputs that see it. With stride 1 those of all outputs are, since neighbours share what they read;
else only those of windows that the border cuts. Where a weight isn't finite, 0 times it is NaN, so that its
channels' windows have to meet the padding.

Workspace: packed weights up to PACKED_BYTES in all, and for each thread a band of about BAND_BYTES (never
less than the rows that one row of outputs needs), a panel of outputs and the table of the sum.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange
from libc.string cimport memcpy, memset

from fastconv._kernels import conv_direct_weight
from fastconv._kernels.correlation cimport (
    Band, Chunk, Chunks, Correlation, a_pass, align, band_elements, beyond_cache, ceil_div, channels_last,
    chunk_at, compute_forward, compute_grad_input, cut, fill_table, first_window, has_finite_sum, load_band,
    movers, pack_weight_panel, panel_vectors, part_of, sum_length, weight_correlation,
)
from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport FC_MAX_NR, fc_kernels, fc_tile, kernels_for, rows_of
from fastconv._kernels.memory cimport aligned, give_back, take
from fastconv._kernels.read_ahead cimport Ahead, fetch, rows_ahead
from fastconv._kernels.threads cimport thread_index

cnp.import_array()

cdef enum:
    PANEL_BYTES = 32768       # of the weights of a panel: terms of a sum at a time
    BAND_BYTES = 327680       # of a band, of which the channels of a block are in use at a time
    PIXELS = 1024             # of a chunk, at most
    SHORTEST_ROW = 96         # pixels that a row is cut into at least
    TAP_CHANNELS = 32         # fewer make sums of one tap too short;
    TAP_ROWS = 12             # so do tiles of fewer rows, which begin a sum as slowly
    PACKED_BYTES = 4194304    # of packed weights at a time; more channels take several passes over the input
    LINE = 64                 # bytes, of the cache


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


# Some outputs of a row or a column: [first, last).
ctypedef struct Range:
    Py_ssize_t first, last


ctypedef struct PanelJob:
    const Chunk *chunk
    const Band *band
    const char *x                   # where the windows of the chunk begin in the band
    Py_ssize_t rows                 # of each image of the chunk
    bint by_taps                    # whether the sums of some outputs are taken so
    Range rows_at_once, columns_at_once     # the others
    bint unpadded                   # the band: no window's part outside of the image is read
    Py_ssize_t *table
    const char *weights             # packed, of the panel
    Py_ssize_t channel, channels    # of the panel, counted over all groups
    int vectors                     # of a tile
    Py_ssize_t width                # elements of these
    Py_ssize_t out_table[FC_MAX_NR]  # where a panel's channels of the result begin
    bint fetch_out                  # into the cache, before they are written
    bint in_place


cdef Correlation cut_flat(const Correlation *whole) noexcept nogil:
    """A plane that flatten made one long row as several of one length, with bands of BAND_BYTES at most."""
    cdef Correlation c = whole[0]
    cdef Py_ssize_t most = max(SHORTEST_ROW, BAND_BYTES // (c.kernels.itemsize * max(c.in_channels, 1)))
    cdef Py_ssize_t rows = ceil_div(c.out_w, most)
    if not (c.parts == NULL and c.height == c.out_h == 1 and c.width == c.out_w and c.taps_w == 1):
        return c
    while rows * SHORTEST_ROW <= c.out_w:
        if c.out_w % rows == 0:
            c.out_h = c.height = rows
            c.out_w = c.width = c.out_w // rows
            c.x_row, c.out_row = c.width * c.x_pixel, c.out_w * c.out_pixel
            break
        rows += 1
    return c


cdef bint correlate(const Correlation *whole, int num_threads) noexcept nogil:
    """Computes all of the result. False where there was no memory; nothing is written then."""
    cdef fc_float_mode mode = 0
    cdef Correlation flat = cut_flat(whole)
    cdef const Correlation *c = &flat
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, nr = kernels.nr
    cdef Py_ssize_t length = sum_length(c)
    # Of all groups, and of all parts: those of the same channels follow each other.
    cdef Py_ssize_t panels = c.groups * ceil_div(c.out_channels, nr) * c.part_count
    cdef Py_ssize_t panel_bytes = packed_bytes(c)
    cdef Py_ssize_t panels_a_pass = a_pass(c, panels, panel_bytes, PACKED_BYTES)
    cdef Chunks chunks = cut(c, BAND_BYTES, PIXELS, num_threads * 2 if num_threads > 1 else 1)
    cdef Py_ssize_t band_bytes = align(band_elements(c, chunks.images, chunks.rows) * size)
    cdef Py_ssize_t table_bytes = align(length * sizeof(Py_ssize_t))
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
    pack_weight_panel(part, panel // panels, channel, min(nr, c.out_channels - channel), width, packed)
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
    cdef Py_ssize_t item, panel, channel, group = -1
    cdef const Correlation *part = NULL
    cdef Band band
    cdef Ahead ahead
    cdef PanelJob job
    cdef bint unpadded
    ahead.planes = 0
    if next_index != index and next_index < chunks.count and beyond_cache(c, c.x_image):
        ahead = rows_ahead(c, chunk_at(c, chunks, next_index), end - begin)
    job.chunk = &chunk
    job.band = &band
    job.table = table
    job.x = NULL
    job.rows = 0
    job.unpadded = False
    for item in range(begin, end):
        panel = item // c.part_count
        job.weights = packed + (item - first) * panel_bytes
        unpadded = sums_by_taps(c) and (<const bint *>(job.weights + panel_bytes - LINE))[0]
        if panel // panels != group or unpadded != job.unpadded:
            group, job.unpadded = panel // panels, unpadded
            band = load_band(c, group, &chunk, band_memory, False, unpadded)
            part = NULL
        if part != part_of(c, item % c.part_count):
            part = part_of(c, item % c.part_count)
            fill_table(part, &band, table)
            job.x = first_window(c, part, &band)
            job.rows = max(0, min(chunk.rows, part.out_h - chunk.row))
            find_windows(part, &job)
        job.channel = panel % panels * c.kernels.nr
        job.channels = min(<Py_ssize_t>c.kernels.nr, c.out_channels - job.channel)
        job.channel += group * c.out_channels
        job.vectors = panel_vectors(c, panel)
        job.width = job.vectors * c.kernels.lanes
        # Where a tile's vectors lie in the result as they do in registers, they go there at once.
        job.in_place = c.out_channel == 1 and job.channels == job.width
        job.fetch_out = not job.in_place and beyond_cache(c, c.out_image)
        for channel in range(job.channels):
            job.out_table[channel] = channel * c.out_channel
        compute_panel(part, &job, &ahead, tiles)
        if not job.in_place:
            store_panel(part, &job, tiles, turned)


cdef inline bint sums_by_taps(const Correlation *c) noexcept nogil:
    return c.in_channels >= TAP_CHANNELS and c.kernels.mr >= TAP_ROWS


cdef Range seen_by(Py_ssize_t outputs, Py_ssize_t stride, Py_ssize_t offset, Py_ssize_t size) noexcept nogil:
    """The outputs o whose o*stride + offset is in an image of so many pixels."""
    cdef Range seen
    seen.first = min(outputs, ceil_div(max(-offset, 0), stride))
    seen.last = max(seen.first, min(outputs, ceil_div(max(size - offset, 0), stride)))
    return seen


cdef Range common(Range a, Range b) noexcept nogil:
    """What a and b have in common; at an end of a where that is nothing."""
    a.first = min(a.last, max(a.first, b.first))
    a.last = max(a.first, min(a.last, b.last))
    return a


cdef Range whole(
        Py_ssize_t outputs, Py_ssize_t stride, Py_ssize_t before, Py_ssize_t reach,
        Py_ssize_t size) noexcept nogil:
    """The outputs that see both the first tap, `before` pixels before the image, and the last one."""
    return common(seen_by(outputs, stride, -before, size), seen_by(outputs, stride, reach - before, size))


cdef Range in_chunk(Range rows, const PanelJob *job) noexcept nogil:
    """Rows of the chunk, of these rows of the image."""
    cdef Range all_rows
    all_rows.first, all_rows.last = 0, job.rows
    rows.first -= job.chunk.row
    rows.last -= job.chunk.row
    return common(all_rows, rows)


cdef void find_windows(const Correlation *c, PanelJob *job) noexcept nogil:
    """Which outputs take their sums at once, which by taps."""
    job.by_taps = sums_by_taps(c)
    job.rows_at_once.first = job.columns_at_once.first = 0
    job.rows_at_once.last, job.columns_at_once.last = job.rows, c.out_w
    if job.by_taps and c.stride_w == 1:
        job.rows_at_once.last = 0
    elif job.unpadded:
        job.rows_at_once = in_chunk(
            whole(c.out_h, c.stride_h, c.top, (c.taps_h - 1) * c.dilation_h, c.height), job)
        job.columns_at_once = whole(c.out_w, c.stride_w, c.left, (c.taps_w - 1) * c.dilation_w, c.width)


cdef inline char *out_pixel(
        const Correlation *c, const PanelJob *job, Py_ssize_t image, Py_ssize_t row) noexcept nogil:
    """The first pixel, of the panel's first channel, in a row of outputs."""
    return c.out + c.kernels.itemsize * (
        (job.chunk.image + image) * c.out_image + (job.chunk.row + row) * c.out_row
        + job.channel * c.out_channel)


cdef void compute_panel(const Correlation *c, const PanelJob *job, Ahead *ahead, char *tiles) noexcept nogil:
    """One panel of channels, all pixels of a chunk: into `tiles` [pixel][channel], or in place."""
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef char column_bias[FC_MAX_NR * 8]
    cdef Range above, below, left, right
    cdef fc_tile tile
    tile.vectors = job.vectors
    tile.row_bias = NULL
    tile.column_bias = NULL
    if c.bias != NULL:
        memset(column_bias, 0, job.width * size)
        memcpy(column_bias, c.bias + job.channel * size, job.channels * size)
        tile.column_bias = column_bias
    add_at_once(c, job, &tile, ahead, tiles)
    if job.by_taps:
        above.first, above.last = 0, job.rows_at_once.first
        below.first, below.last = job.rows_at_once.last, job.rows
        left.first, left.last = 0, job.columns_at_once.first
        right.first, right.last = job.columns_at_once.last, c.out_w
        add_by_taps(c, job, &tile, above, every_column(c), False, ahead, tiles)
        add_by_taps(c, job, &tile, below, every_column(c), False, ahead, tiles)
        add_by_taps(c, job, &tile, job.rows_at_once, left, True, ahead, tiles)
        add_by_taps(c, job, &tile, job.rows_at_once, right, True, ahead, tiles)


cdef inline Range every_column(const Correlation *c) noexcept nogil:
    cdef Range columns
    columns.first, columns.last = 0, c.out_w
    return columns


cdef void add_at_once(
        const Correlation *c, const PanelJob *job, fc_tile *tile, Ahead *ahead, char *tiles) noexcept nogil:
    cdef Py_ssize_t length = sum_length(c), block, begin
    cdef Py_ssize_t blocks = max(1, ceil_div(length * job.width * c.kernels.itemsize, PANEL_BYTES))
    tile.a_step, tile.b_step = 0, job.width
    for block in range(blocks):
        begin = length * block // blocks
        tile.depth = length * (block + 1) // blocks - begin
        tile.a_table = job.table + begin
        tile.b = job.weights + begin * job.width * c.kernels.itemsize
        tile.accumulate = block > 0
        tile.relu = c.relu and block == blocks - 1
        add_terms(c, job, tile, job.x, job.rows_at_once, job.columns_at_once, False, ahead,
                  job.fetch_out and block == blocks - 1, tiles)


cdef void add_by_taps(
        const Correlation *c, const PanelJob *job, fc_tile *tile, Range rows, Range columns, bint down,
        Ahead *ahead, char *tiles) noexcept nogil:
    """`down`: in tiles along a column, not a row."""
    cdef Py_ssize_t size = c.kernels.itemsize, taps = c.taps_h * c.taps_w
    cdef Py_ssize_t blocks = ceil_div(c.in_channels * job.width * size, PANEL_BYTES)
    cdef Py_ssize_t tap, block, begin, row, column
    cdef Range seen_rows = rows, seen_columns = columns
    cdef bint pixels = channels_last(c)     # their channels are the innermost loop of a sum
    cdef bint by_all, first, last
    if rows.first == rows.last or columns.first == columns.last:
        return
    tile.a_table = NULL
    tile.a_step = job.band.channel
    tile.b_step = job.width if pixels else taps * job.width
    for tap in range(taps):
        row, column = tap // c.taps_w * c.dilation_h, tap % c.taps_w * c.dilation_w
        if job.unpadded:
            seen_rows = common(rows, in_chunk(seen_by(c.out_h, c.stride_h, row - c.top, c.height), job))
            seen_columns = common(columns, seen_by(c.out_w, c.stride_w, column - c.left, c.width))
        by_all = same(seen_rows, rows) and same(seen_columns, columns)
        for block in range(blocks):
            first, last = tap == block == 0, tap == taps - 1 and block == blocks - 1
            begin = c.in_channels * block // blocks
            tile.b = job.weights + job.width * size * (
                tap * c.in_channels + begin if pixels else begin * taps + tap)
            tile.accumulate, tile.relu = not first, 0
            if first and not by_all:    # begin with the bias
                tile.depth = 0
                add_terms(c, job, tile, job.x, rows, columns, down, NULL, False, tiles)
                tile.accumulate = 1
            tile.depth = c.in_channels * (block + 1) // blocks - begin
            tile.relu = c.relu and last and by_all
            add_terms(c, job, tile, job.x + size * (
                row * job.band.row + column * job.band.pixel + begin * job.band.channel),
                seen_rows, seen_columns, down, ahead, job.fetch_out and last, tiles)
            if c.relu and last and not by_all:
                tile.depth, tile.relu = 0, 1
                add_terms(c, job, tile, job.x, rows, columns, down, NULL, False, tiles)


cdef inline bint same(Range a, Range b) noexcept nogil:
    return a.first == b.first and a.last == b.last


cdef void add_terms(
        const Correlation *c, const PanelJob *job, fc_tile *tile, const char *x, Range rows, Range columns,
        bint down, Ahead *ahead, bint fetch_out, char *tiles) noexcept nogil:
    """Some terms for these outputs of each image of the chunk; x: where the first output's terms begin."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize
    cdef Range outer = columns if down else rows, inner = rows if down else columns
    cdef Py_ssize_t tiles_a_line = ceil_div(inner.last - inner.first, rows_of(kernels, job.vectors))
    cdef Py_ssize_t image, line, index, at, row, column
    cdef char *out
    tile.a_row = c.stride_h * job.band.row if down else c.stride_w * job.band.pixel
    if job.in_place:
        tile.c_row = c.out_row if down else c.out_pixel
    else:
        tile.c_row = c.out_w * job.width if down else job.width
    for image in range(job.chunk.images):
        for line in range(outer.first, outer.last):
            at = inner.first
            for index in range(tiles_a_line):
                tile.rows = <int>((inner.last - at) // (tiles_a_line - index))      # as even as possible
                row, column = (at, line) if down else (line, at)
                tile.a = x + size * (image * job.band.image + row * c.stride_h * job.band.row
                                     + column * c.stride_w * job.band.pixel)
                out = out_pixel(c, job, image, row) + column * c.out_pixel * size
                tile.c = out
                if not job.in_place:
                    tile.c = tiles + ((image * job.rows + row) * c.out_w + column) * job.width * size
                if ahead != NULL and ahead.planes > 0:
                    fetch(kernels, ahead)
                if fetch_out:   # what store_panel will write
                    kernels.fetch_rows(out, job.out_table, job.channels, (tile.rows - 1) * c.out_pixel + 1)
                kernels.gemm_tile(tile)
                at += tile.rows


cdef void store_panel(
        const Correlation *c, const PanelJob *job, const char *tiles, char *turned) noexcept nogil:
    """Moves a panel of outputs from `tiles` [pixel][channel] into place."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, width = job.width
    cdef Py_ssize_t image, row, index
    cdef char *out
    if c.out_pixel == 1 and c.out_row == c.out_w:   # rows follow each other
        for image in range(job.chunk.images):
            kernels.transpose(out_pixel(c, job, image, 0), c.out_channel, tiles, width,
                              job.rows * c.out_w, job.channels)
            tiles += job.rows * c.out_w * width * size
        return
    for image in range(job.chunk.images):
        for row in range(job.rows):
            out = out_pixel(c, job, image, row)
            if c.out_channel == 1:
                for index in range(c.out_w):
                    kernels.gather(out + index * c.out_pixel * size, tiles + index * width * size,
                                   1, job.channels)
            else:
                kernels.transpose(turned, c.out_w, tiles, width, c.out_w, job.channels)
                for index in range(job.channels):
                    kernels.scatter(out + index * c.out_channel * size, c.out_pixel,
                                    turned + index * c.out_w * size, c.out_w)
            tiles += c.out_w * width * size
