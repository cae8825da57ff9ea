"""The sums of a panel of output channels for the pixels of a chunk, tile by tile: conv_direct's inner loops.

A sum is taken in blocks, each a chain of its own, of ROW_BYTES of weights for each row of a tile at most:
these and the pixels that they meet stay in the nearest caches while all tiles of a chunk run over them.

Padding is not computed with where channels and a tile's rows are many: sums are taken tap by tap, each for
those outputs of a tile that see it. With stride 1 those of all outputs are, since neighbouring taps share
what they read; else only those of windows that the border cuts. Where a weight isn't finite, 0 times it is
NaN, so that its channels' windows have to meet the padding. Where images are small, tiles go across them.
"""

from libc.string cimport memcpy, memset

from fastconv._kernels.correlation cimport Correlation, ceil_div, part_of, sum_length
from fastconv._kernels.isa cimport (
    FC_ADD, FC_CHAIN, FC_GO_ON, FC_MAX_MR, FC_MAX_NR, fc_ahead, fc_kernels, fc_tile, new_tile, rows_of,
)
from fastconv._kernels.operands cimport fill_table
from fastconv._kernels.ranges cimport Range, seen_by
from fastconv._kernels.read_ahead cimport LINE, pace

# The outputs of a tile: along a row, down a column, or of several images.
cdef enum Way:
    ALONG
    DOWN
    ACROSS

cdef enum:
    ROW_BYTES = 9216    # of the weights of a panel, for each row of a tile: terms of a sum at a time


tap_channels = TAP_CHANNELS


cdef inline Range all_of(Py_ssize_t outputs) noexcept nogil:
    cdef Range everything
    everything.first, everything.last = 0, outputs
    return everything


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
    rows.first -= job.chunk.row
    rows.last -= job.chunk.row
    return common(all_of(job.rows), rows)


cdef Py_ssize_t most_taps(const Correlation *c) noexcept nogil:
    """Rows and columns of taps, of the part that has most."""
    cdef Py_ssize_t most = 0, index
    for index in range(c.part_count):
        most = max(most, part_of(c, index).taps_h + part_of(c, index).taps_w)
    return most


cdef void set_at_once(const Correlation *c, PanelJob *job) noexcept nogil:
    """All outputs take their sums at once."""
    job.by_taps = False
    job.rows_at_once, job.columns_at_once = all_of(job.rows), all_of(c.out_w)


cdef void fill_tables(const Correlation *c, PanelJob *job) noexcept nogil:
    """Which outputs take their sums at once and which by taps, and the terms of both."""
    cdef Py_ssize_t tap, row, column, channel, k = 0, taps = c.taps_h * c.taps_w
    set_at_once(c, job)
    job.by_taps = sums_by_taps(c)
    if job.across or (job.by_taps and c.stride_w == 1 and taps > 1):
        job.rows_at_once.last = 0
    elif job.unpadded:
        job.rows_at_once = in_chunk(
            whole(c.out_h, c.stride_h, c.top, (c.taps_h - 1) * c.dilation_h, c.height), job)
        job.columns_at_once = whole(c.out_w, c.stride_w, c.left, (c.taps_w - 1) * c.dilation_w, c.width)
    fill_table(c, job.band, job.table)
    if not job.by_taps:
        return
    job.seen_columns = job.seen_rows + c.taps_h
    for row in range(c.taps_h):
        job.seen_rows[row] = all_of(job.rows)
        if job.unpadded:
            job.seen_rows[row] = in_chunk(
                seen_by(c.out_h, c.stride_h, row * c.dilation_h - c.top, c.height), job)
    for column in range(c.taps_w):
        job.seen_columns[column] = all_of(c.out_w)
        if job.unpadded:
            job.seen_columns[column] = seen_by(c.out_w, c.stride_w, column * c.dilation_w - c.left, c.width)
    for tap in range(taps):
        row, column = tap // c.taps_w * c.dilation_h, tap % c.taps_w * c.dilation_w
        for channel in range(c.in_channels):
            job.tap_table[k] = row * job.band.row + column * job.band.pixel + channel * job.band.channel
            job.tap_table[taps * c.in_channels + k] = job.width * (channel * taps + tap)
            k += 1


cdef void compute_panel(
        const Correlation *c, const PanelJob *job, fc_ahead *ahead, char *tiles) noexcept nogil:
    """One panel of channels, all pixels of a chunk: into `tiles` [pixel][channel], or in place."""
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef char column_bias[FC_MAX_NR * 8]
    cdef Range above, below, left, right
    cdef fc_tile tile = new_tile()
    tile.vectors = job.vectors
    if c.bias != NULL:
        memset(column_bias, 0, job.width * size)
        memcpy(column_bias, c.bias + job.channel * size, job.channels * size)
        tile.column_bias = column_bias
    add_at_once(c, job, &tile, ahead, tiles)
    if job.across:
        add_across(c, job, &tile, ahead, tiles)
    elif job.by_taps:
        above.first, above.last = 0, job.rows_at_once.first
        below.first, below.last = job.rows_at_once.last, job.rows
        left.first, left.last = 0, job.columns_at_once.first
        right.first, right.last = job.columns_at_once.last, c.out_w
        add_by_taps(c, job, &tile, above, all_of(c.out_w), ALONG, ahead, tiles)
        add_by_taps(c, job, &tile, below, all_of(c.out_w), ALONG, ahead, tiles)
        add_by_taps(c, job, &tile, job.rows_at_once, left, DOWN, ahead, tiles)
        add_by_taps(c, job, &tile, job.rows_at_once, right, DOWN, ahead, tiles)


cdef inline Py_ssize_t blocks_of(const Correlation *c, const PanelJob *job) noexcept nogil:
    cdef Py_ssize_t length = sum_length(c), most = ROW_BYTES * c.kernels.mr
    return max(1, ceil_div(length * job.width * c.kernels.itemsize, most), ceil_div(length, FC_CHAIN))


cdef void add_at_once(
        const Correlation *c, const PanelJob *job, fc_tile *tile, fc_ahead *ahead,
        char *tiles) noexcept nogil:
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, length = sum_length(c), blocks = blocks_of(c, job)
    cdef Py_ssize_t tiles_a_row = ceil_div(
        job.columns_at_once.last - job.columns_at_once.first, rows_of(kernels, job.vectors))
    cdef Py_ssize_t block, begin, image, row, column, index
    set_steps(c, job, tile, ALONG)
    for block in range(blocks):
        begin = length * block // blocks
        tile.depth = length * (block + 1) // blocks - begin
        tile.a_table = job.table + begin
        tile.b = job.weights + begin * job.width * size
        tile.accumulate = FC_ADD if job.accumulate or block > 0 else 0
        tile.relu = c.relu and block == blocks - 1
        set_pace(c, job, tile, ahead, block == blocks - 1)
        for image in range(job.chunk.images):
            for row in range(job.rows_at_once.first, job.rows_at_once.last):
                column = job.columns_at_once.first
                for index in range(tiles_a_row):
                    tile.rows = <int>((job.columns_at_once.last - column) // (tiles_a_row - index))
                    place(c, job, tile, image, row, column, tiles)
                    fetch_out(c, job, tile, image, row, column, ahead)
                    kernels.gemm_tile(tile)
                    column += tile.rows


cdef void add_by_taps(
        const Correlation *c, const PanelJob *job, fc_tile *tile, Range rows, Range columns, Way way,
        fc_ahead *ahead, char *tiles) noexcept nogil:
    """Outputs in these rows and columns, in tiles along rows or down columns."""
    cdef Py_ssize_t length = sum_length(c), blocks = blocks_of(c, job)
    cdef Range outer = columns if way == DOWN else rows, inner = rows if way == DOWN else columns
    cdef Py_ssize_t tiles_a_line = ceil_div(inner.last - inner.first, rows_of(c.kernels, job.vectors))
    cdef Py_ssize_t block, image, line, at, index
    set_steps(c, job, tile, way)
    tile.b = job.weights
    for block in range(blocks):
        tile.depth = length // blocks
        if way == ALONG:
            set_pace(c, job, tile, ahead, block == blocks - 1)
        for image in range(job.chunk.images):
            for line in range(outer.first, outer.last):
                at = inner.first
                for index in range(tiles_a_line):
                    tile.rows = <int>((inner.last - at) // (tiles_a_line - index))
                    if way == DOWN:
                        place(c, job, tile, image, at, line, tiles)
                        add_runs(c, job, tile[0], at, line, way, block, blocks)
                    else:
                        place(c, job, tile, image, line, at, tiles)
                        fetch_out(c, job, tile, image, line, at, ahead)
                        add_runs(c, job, tile[0], line, at, way, block, blocks)
                    at += tile.rows


cdef void add_across(
        const Correlation *c, const PanelJob *job, fc_tile *tile, fc_ahead *ahead,
        char *tiles) noexcept nogil:
    """All outputs, by taps, in tiles of the same pixel of several images."""
    cdef Py_ssize_t length = sum_length(c), blocks = blocks_of(c, job), images = job.chunk.images
    cdef Py_ssize_t tiles_a_pixel = ceil_div(images, rows_of(c.kernels, job.vectors))
    cdef Py_ssize_t block, row, column, image, index
    set_steps(c, job, tile, ACROSS)
    tile.b = job.weights
    for block in range(blocks):
        tile.depth = length // blocks
        set_pace(c, job, tile, ahead, block == blocks - 1)
        for row in range(job.rows):
            for column in range(c.out_w):
                image = 0
                for index in range(tiles_a_pixel):
                    tile.rows = <int>((images - image) // (tiles_a_pixel - index))
                    place(c, job, tile, image, row, column, tiles)
                    add_runs(c, job, tile[0], row, column, ACROSS, block, blocks)
                    image += tile.rows


cdef void add_runs(
        const Correlation *c, const PanelJob *job, fc_tile whole, Py_ssize_t row, Py_ssize_t column, Way way,
        Py_ssize_t number, Py_ssize_t blocks) noexcept nogil:
    """A block of the sums, by taps, of a tile whose first output is in this row and column; taps seen alike
    in one go.

    However often it is interrupted, a block's sum is one chain: no result depends on the others of its tile.
    """
    cdef Py_ssize_t length = sum_length(c)
    cdef Py_ssize_t begin = length * number // blocks, end = length * (number + 1) // blocks
    cdef Py_ssize_t tap = begin // c.in_channels, term = begin
    cdef bint first = number == 0, relu = c.relu and end == length, seen_by_all
    cdef char sums[FC_MAX_MR * FC_MAX_NR * 8]
    cdef Range seen, run        # outputs of the tile
    cdef fc_tile block = whole
    block.accumulate = 0
    if not first:
        block.c = sums
        block.c_row, block.column_bias = job.width, NULL
    run.first = run.last = 0
    while term < end:
        seen = seen_of_tile(&job.seen_rows[tap // c.taps_w], &job.seen_columns[tap % c.taps_w], row, column,
                            whole.rows, way)
        if seen.first != run.first or seen.last != run.last:
            add_run(c, job, &block, run, begin, term)
            run, begin = seen, term
        tap += 1
        term = tap * c.in_channels
    seen_by_all = run.first == 0 and run.last == whole.rows
    if seen_by_all and not first and not block.accumulate:
        block = whole
        block.accumulate = FC_ADD
    if seen_by_all and block.c == whole.c:
        block.relu = relu
        add_run(c, job, &block, run, begin, end)
        return
    add_run(c, job, &block, run, begin, end)
    if block.accumulate and not first:
        add_block(c, &whole, sums, job.width)
    if relu or (first and not block.accumulate):
        whole.accumulate = FC_GO_ON if block.accumulate or not first else 0
        whole.depth, whole.relu = 0, relu
        c.kernels.gemm_tile(&whole)


cdef inline void add_block(
        const Correlation *c, const fc_tile *tile, const char *sums, Py_ssize_t width) noexcept nogil:
    """Adds sums [row][width] to the results of a tile."""
    cdef Py_ssize_t size = c.kernels.itemsize, i
    if tile.c_row == width:
        c.kernels.add(tile.c, sums, tile.rows * width)
        return
    for i in range(tile.rows):
        c.kernels.add(<char *>tile.c + i * tile.c_row * size, sums + i * width * size, width)


cdef inline Range seen_of_tile(
        const Range *rows, const Range *columns, Py_ssize_t row, Py_ssize_t column, Py_ssize_t count,
        Way way) noexcept nogil:
    """Which of a tile's outputs see a tap that outputs in these rows and columns see."""
    cdef Range seen = all_of(count)
    if way != DOWN and not within(row, rows):
        seen.last = 0
    elif way != ALONG and not within(column, columns):
        seen.last = 0
    elif way == ALONG:
        seen.first, seen.last = max(columns.first - column, 0), min(columns.last - column, count)
    elif way == DOWN:
        seen.first, seen.last = max(rows.first - row, 0), min(rows.last - row, count)
    return seen


cdef inline bint within(Py_ssize_t output, const Range *outputs) noexcept nogil:
    return outputs.first <= output < outputs.last


cdef inline void add_run(
        const Correlation *c, const PanelJob *job, fc_tile *whole, Range run, Py_ssize_t begin,
        Py_ssize_t end) noexcept nogil:
    """Terms [begin, end) for some outputs of a tile; if these are the first, the others get the bias."""
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef fc_tile tile
    if run.last <= run.first:
        return
    if not whole.accumulate and run.last - run.first < whole.rows:
        whole.depth = 0
        c.kernels.gemm_tile(whole)
        whole.accumulate = FC_GO_ON
    tile = whole[0]
    tile.a = <const char *>tile.a + run.first * tile.a_row * size
    tile.c = <char *>tile.c + run.first * tile.c_row * size
    tile.rows = <int>(run.last - run.first)
    tile.depth = end - begin
    tile.a_table = job.tap_table + begin
    if packed_by_taps(c):
        tile.b = job.weights + begin * job.width * size
    else:
        tile.b_table = job.tap_table + sum_length(c) + begin
    c.kernels.gemm_tile(&tile)
    whole.accumulate = FC_GO_ON


cdef inline void set_steps(
        const Correlation *c, const PanelJob *job, fc_tile *tile, Way way) noexcept nogil:
    tile.a_step, tile.b_step = 0, job.width
    if way == ALONG:
        tile.a_row = job.band.step
        tile.c_row = c.out_pixel if job.in_place else job.width
    elif way == DOWN:
        tile.a_row = c.stride_h * job.band.row
        tile.c_row = c.out_row if job.in_place else c.out_w * job.width
    else:
        tile.a_row = job.band.image
        tile.c_row = c.out_image if job.in_place else job.rows * c.out_w * job.width
    tile.a_table = tile.b_table = NULL
    tile.ahead = NULL
    tile.relu = 0


cdef inline void place(
        const Correlation *c, const PanelJob *job, fc_tile *tile, Py_ssize_t image, Py_ssize_t row,
        Py_ssize_t column, char *tiles) noexcept nogil:
    """Where the tile's first window begins, and where its results go."""
    cdef Py_ssize_t size = c.kernels.itemsize
    tile.a = job.x + size * (image * job.band.image + row * c.stride_h * job.band.row
                             + column * job.band.step)
    if job.in_place:
        tile.c = out_pixel(c, job, image, row) + column * c.out_pixel * size
    else:
        tile.c = tiles + ((image * job.rows + row) * c.out_w + column) * job.width * size


cdef inline void set_pace(
        const Correlation *c, const PanelJob *job, fc_tile *tile, fc_ahead *ahead, bint last) noexcept nogil:
    """Lets tiles fetch what the next chunk reads and, with the last terms, what will be written then."""
    ahead[1].planes = 0
    pace(tile, ahead, ceil_div(job.lines_ahead, blocks_of(c, job)) if ahead[0].planes > 0 else 0,
         2 * job.channels if last and job.fetch_out else 0)


cdef inline void fetch_out(
        const Correlation *c, const PanelJob *job, const fc_tile *tile, Py_ssize_t image, Py_ssize_t row,
        Py_ssize_t column, fc_ahead *ahead) noexcept nogil:
    """The lines of a tile's results, which are written when its panel is done."""
    cdef Py_ssize_t size = c.kernels.itemsize
    if ahead[1].share > 0:
        ahead[1].plane = out_pixel(c, job, image, row) + column * c.out_pixel * size
        ahead[1].planes, ahead[1].plane_step, ahead[1].runs = job.channels, c.out_channel * size, 1
        ahead[1].run = ahead[1].fetched = 0
        ahead[1].bytes = ((tile.rows - 1) * c.out_pixel + 1) * size + LINE - 1     # wherever a line begins


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
                    if c.alone:
                        memset(out - c.out_phase * size, 0, c.out_span * size)
                    kernels.scatter(out, c.out_pixel, turned + index * c.out_w * size, c.out_w)
                    out += c.out_channel * size
            tiles += c.out_w * width * size
