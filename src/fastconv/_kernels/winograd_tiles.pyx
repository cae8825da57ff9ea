"""Where Winograd's tiles lie in the images, and how they get from there into vectors and back.

Channels are the lanes of every vector, so neither narrow images nor the order of the axes matter. Several
images share a canvas where that saves tiles: side by side and one above the other, with the zeros
between them serving as padding of both.

Of a dilated correlation, a phase has the results whose places leave one rest by the dilation. They meet
inputs of one rest, too: a dense correlation of every dilation-th pixel. Phases of rows are images of their
own. Along a row tiles of all phases interleave, so that pixels are loaded as they lie.
"""

from libc.string cimport memset

from fastconv._kernels.correlation cimport align, ceil_div
from fastconv._kernels.memory cimport for_threads, take_workspace
from fastconv._kernels.precision cimport largest_of, largest_of_some

cdef enum:
    MOST_ACROSS = 8          # images side by side
    SEGMENT = 576            # positions of tiles transformed at a time at most: half-written lines stay in L1
    MOST_TIMES_LARGER = 32   # see are_precise; of random numbers, products are two or three times as large


cdef View view_of(char *data, Py_ssize_t channels, Py_ssize_t height, Py_ssize_t width,
                  bint channels_last) noexcept nogil:
    """A dense array of images, (N, C, H, W) or (N, H, W, C)."""
    cdef View view
    view.data = data
    view.image = channels * height * width
    view.channel = 1 if channels_last else height * width
    view.row = width * channels if channels_last else width
    view.pixel = channels if channels_last else 1
    return view


cdef Axis axis_of(Py_ssize_t taps, Py_ssize_t size, Py_ssize_t before, Py_ssize_t out,
                  Py_ssize_t dilation) noexcept nogil:
    cdef Axis axis
    axis.taps, axis.size, axis.before, axis.out = taps, size, before, out
    axis.dilation = dilation if taps > 1 else 1
    return axis


cdef Py_ssize_t phases_of(const Axis *axis) noexcept nogil:
    """Those that have results; canvas_of needs room for those of the rows."""
    return min(axis.dilation, axis.out)


cdef Phase phase_of(const Axis *axis, Py_ssize_t number) noexcept nogil:
    cdef Phase phase
    cdef Py_ssize_t begin = number - axis.before      # the first tap of the first result
    phase.y.first, phase.y.before = number, 0
    phase.y.size = ceil_div(axis.out - number, axis.dilation)
    phase.x.before = ceil_div(max(-begin, 0), axis.dilation)
    phase.x.first = begin + phase.x.before * axis.dilation
    phase.x.size = min(ceil_div(max(axis.size - phase.x.first, 0), axis.dilation),
                       max(phase.y.size + axis.taps - 1 - phase.x.before, 0))
    phase.after = phase.y.size + axis.taps - 1 - phase.x.before - phase.x.size
    return phase


cdef Py_ssize_t period_of(const Phase *phases, Py_ssize_t count) noexcept nogil:
    """From one image of a canvas to the next: windows see no inputs but their own phase's."""
    cdef Py_ssize_t inputs = 0, windows = 0, period = 0, least = phases[0].x.before, index
    cdef const Span *x
    for index in range(count):
        x = &phases[index].x
        inputs = max(inputs, x.before + x.size)
        windows = max(windows, x.before + x.size + phases[index].after)
        period = max(period, phases[index].y.size)
        least = min(least, x.before)
    return max(period, inputs, windows - least)


cdef Canvas canvas_of(Py_ssize_t images, const Axis *rows, const Axis *columns, Phase *phases) noexcept nogil:
    """The arrangement of the padded images that needs the fewest tiles."""
    cdef Canvas best, canvas
    cdef Axis spread = columns[0]       # whose taps are all from the first to the last
    cdef Py_ssize_t across, index
    cdef int stacked
    memset(&canvas, 0, sizeof(canvas))
    canvas.taps_h, canvas.taps_w = <int>rows.taps, <int>columns.taps
    canvas.patch_h = patch_of(rows.taps)
    canvas.tile_h = canvas.patch_h + 1 - canvas.taps_h
    canvas.tile_w = patch_of(columns.taps) + 1 - canvas.taps_w
    canvas.positions = positions_of(rows, columns)
    canvas.phases = phases_of(rows)
    canvas.images = images * canvas.phases if columns.out > 0 else 0
    if canvas.images == 0:
        return canvas
    canvas.step, canvas.apart = rows.dilation, columns.dilation
    canvas.rows = phases
    for index in range(canvas.phases):
        phases[index] = phase_of(rows, index)
    spread.taps, spread.dilation = (columns.taps - 1) * columns.dilation + 1, 1
    canvas.columns = phase_of(&spread, 0)
    canvas.out_h, canvas.out_w = canvas.rows[0].y.size, columns.out
    canvas.period_h = period_of(canvas.rows, canvas.phases)
    canvas.period_w = period_of(&canvas.columns, 1)
    best = canvas
    for across in range(1, min(canvas.images, MOST_ACROSS) + 1):
        for stacked in range(2):
            canvas.across = across
            canvas.down = ceil_div(canvas.images, across) if stacked else 1
            canvas.tiles_h = ceil_div((canvas.down - 1) * canvas.period_h + canvas.out_h, canvas.tile_h)
            canvas.tiles_w = tiles_along(&canvas, (canvas.across - 1) * canvas.period_w + canvas.out_w)
            canvas.tiles = ceil_div(canvas.images, across * canvas.down) * canvas.tiles_h * canvas.tiles_w
            if best.tiles == 0 or canvas.tiles < best.tiles:
                best = canvas
    return best


cdef inline Py_ssize_t tiles_along(const Canvas *canvas, Py_ssize_t pixels) noexcept nogil:
    """Tiles that a row of results takes: groups of interleaved ones, and those of a last group that begin in
    the row."""
    cdef Py_ssize_t group = canvas.tile_w * canvas.apart
    return pixels // group * canvas.apart + min(pixels % group, canvas.apart)


cdef inline Py_ssize_t segment_tiles(const Canvas *canvas) noexcept nogil:
    return min(SEGMENT // canvas.positions, canvas.tiles_w)


cdef Py_ssize_t row_elements(const fc_kernels *table, const Canvas *canvas) noexcept nogil:
    cdef Py_ssize_t tiles = segment_tiles(canvas)
    return table.lanes * (tiles * canvas.tile_w + min(tiles, canvas.apart) * (canvas.taps_w - 1))


cdef Py_ssize_t scratch_elements(const fc_kernels *table, const Canvas *canvas) noexcept nogil:
    """The scratch that loading and storing need: the rows of a row of tiles."""
    return canvas.patch_h * row_elements(table, canvas)


# Part of a row of tiles of a canvas: whole groups of interleaved ones, or a part of one, whose lines in
# scratch leave out what lies between its pixels.
ctypedef struct Strip:
    Py_ssize_t count           # tiles
    Py_ssize_t step            # from one pixel of a tile to its next, in scratch
    Py_ssize_t images          # number of the canvas's first image
    Py_ssize_t row, column     # first pixel of outputs in the canvas


cdef Strip strip_of(const Canvas *canvas, Py_ssize_t tile, Py_ssize_t count) noexcept nogil:
    """What of the `count` tiles from number `tile` on lies in one row of tiles."""
    cdef Strip strip
    cdef Py_ssize_t number = tile // canvas.tiles_w, first = tile % canvas.tiles_w
    cdef Py_ssize_t phase = first % canvas.apart, parts
    strip.column = (first - phase) * canvas.tile_w + phase
    strip.count = min(min(count, segment_tiles(canvas)), canvas.tiles_w - first)
    if phase == 0 and strip.count >= canvas.apart:
        strip.count -= strip.count % canvas.apart
        strip.step = canvas.apart
    else:
        # Equal parts, where a group has more tiles than a segment.
        parts = ceil_div(canvas.apart, segment_tiles(canvas))
        strip.count = min(min(strip.count, ceil_div(canvas.apart, parts)), canvas.apart - phase)
        strip.step = strip.count
    strip.images = number // canvas.tiles_h * canvas.down * canvas.across
    strip.row = number % canvas.tiles_h * canvas.tile_h
    return strip


cdef inline Py_ssize_t runs_of(const Canvas *canvas, const Strip *strip, Py_ssize_t pixels) noexcept nogil:
    """Of neighbours that a line of a strip has, canvas.apart from each other, of `pixels` a tile."""
    return 1 if strip.step == canvas.apart else pixels


cdef inline Py_ssize_t line_pixels(
        const Canvas *canvas, const Strip *strip, Py_ssize_t pixels) noexcept nogil:
    return (strip.count - strip.step) * canvas.tile_w + strip.step * pixels


# An image of a canvas, where it is in the arrays.
ctypedef struct Place:
    Py_ssize_t image
    const Phase *rows


cdef inline Place place_of(const Canvas *canvas, Py_ssize_t image) noexcept nogil:
    cdef Place place
    place.image, place.rows = image, canvas.rows
    if canvas.phases > 1:
        place.image = image // canvas.phases
        place.rows += image % canvas.phases
    return place


cdef inline char *pixel_at(
        const fc_kernels *table, const View *view, const Canvas *canvas, Py_ssize_t image, const Span *rows,
        Py_ssize_t y, const Span *columns, Py_ssize_t x, Py_ssize_t channel) noexcept nogil:
    """Pixel (y, x) of a phase."""
    return view.data + table.itemsize * (
        image * view.image + channel * view.channel + (rows.first + y * canvas.step) * view.row
        + (columns.first + x) * view.pixel)


cdef void load_row(const fc_kernels *table, char *row, const View *view, bint results, const Canvas *canvas,
                   const Strip *strip, Py_ssize_t line, Py_ssize_t begin, Py_ssize_t pixels,
                   Py_ssize_t channel, Py_ssize_t lanes) noexcept nogil:
    """Pixels of a line of a strip, from column `begin` of the canvas on, from all images that they cross, as
    vectors of channels; zero in between. The view is of inputs or of results."""
    cdef Py_ssize_t vector = table.itemsize * table.lanes
    cdef Py_ssize_t block = min((strip.row + line) // canvas.period_h, canvas.down - 1)
    cdef Py_ssize_t image = strip.images + block * canvas.across
    cdef Py_ssize_t end = begin + pixels, done = begin, j = begin // canvas.period_w
    cdef Py_ssize_t y, origin, start, stop
    cdef const Span *rows
    cdef const Span *columns = &canvas.columns.y if results else &canvas.columns.x
    cdef Place place
    while j < canvas.across and image + j < canvas.images and j * canvas.period_w < end:
        place = place_of(canvas, image + j)
        rows = &place.rows.y if results else &place.rows.x
        y = strip.row + line - block * canvas.period_h - rows.before
        origin = j * canvas.period_w + columns.before
        start = max(origin, begin)
        stop = min(origin + columns.size, end)
        if 0 <= y < rows.size and start < stop:
            memset(row + (done - begin) * vector, 0, (start - done) * vector)
            table.lanes_from(
                row + (start - begin) * vector,
                pixel_at(table, view, canvas, place.image, rows, y, columns, start - origin, channel),
                view.channel, view.pixel, lanes, stop - start)
            done = stop
        j += 1
    memset(row + (done - begin) * vector, 0, (end - done) * vector)


cdef void store_row(const fc_kernels *table, const char *row, const View *view, const Canvas *canvas,
                    const Strip *strip, Py_ssize_t line, Py_ssize_t begin, Py_ssize_t pixels,
                    Py_ssize_t channel, Py_ssize_t lanes) noexcept nogil:
    """The way back, without what lies between the images."""
    cdef Py_ssize_t vector = table.itemsize * table.lanes
    cdef Py_ssize_t block = min((strip.row + line) // canvas.period_h, canvas.down - 1)
    cdef Py_ssize_t y = strip.row + line - block * canvas.period_h
    cdef Py_ssize_t image = strip.images + block * canvas.across
    cdef Py_ssize_t end = begin + pixels, j = begin // canvas.period_w
    cdef Py_ssize_t origin, start, stop
    cdef Place place
    while j < canvas.across and image + j < canvas.images and j * canvas.period_w < end:
        place = place_of(canvas, image + j)
        origin = j * canvas.period_w
        start = max(origin, begin)
        stop = min(origin + canvas.out_w, end)
        if y < place.rows.y.size and start < stop:
            table.lanes_to(
                pixel_at(table, view, canvas, place.image, &place.rows.y, y, &canvas.columns.y,
                         start - origin, channel),
                view.channel, view.pixel, row + (start - begin) * vector, lanes, stop - start)
        j += 1


cdef void load_lines(
        const fc_kernels *table, char *scratch, Py_ssize_t row, const View *view, bint results,
        const Canvas *canvas, const Strip *strip, Py_ssize_t lines, Py_ssize_t pixels, Py_ssize_t channel,
        Py_ssize_t lanes) noexcept nogil:
    """All lines of a strip, of `pixels` a tile, `row` elements apart."""
    cdef Py_ssize_t runs = runs_of(canvas, strip, pixels), line, run
    cdef Py_ssize_t each = line_pixels(canvas, strip, pixels) // runs
    for line in range(lines):
        for run in range(runs):
            load_row(table, scratch + (line * row + run * each * table.lanes) * table.itemsize, view, results,
                     canvas, strip, line, strip.column + run * canvas.apart, each, channel, lanes)


cdef void store_lines(
        const fc_kernels *table, const char *scratch, Py_ssize_t row, const View *view, const Canvas *canvas,
        const Strip *strip, Py_ssize_t channel, Py_ssize_t lanes) noexcept nogil:
    """Likewise those of results."""
    cdef Py_ssize_t runs = runs_of(canvas, strip, canvas.tile_w), line, run
    cdef Py_ssize_t each = line_pixels(canvas, strip, canvas.tile_w) // runs
    for line in range(canvas.tile_h):
        for run in range(runs):
            store_row(table, scratch + (line * row + run * each * table.lanes) * table.itemsize, view, canvas,
                      strip, line, strip.column + run * canvas.apart, each, channel, lanes)


cdef void load_inputs(
        const fc_kernels *table, Tiles to, const View *x, const Canvas *canvas, Py_ssize_t tile,
        Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, char *scratch) noexcept nogil:
    """B^T x B of `count` tiles from number `tile` on, of some channels; a last vector's other lanes are 0."""
    cdef Py_ssize_t size = table.itemsize, row = row_elements(table, canvas)
    cdef Py_ssize_t patch_w = canvas.tile_w + canvas.taps_w - 1, first
    cdef Strip strip
    while count > 0:
        strip = strip_of(canvas, tile, count)
        first = 0
        while first < channels:
            load_lines(table, scratch, row, x, False, canvas, &strip, canvas.patch_h, patch_w,
                       channel + first, min(table.lanes, channels - first))
            table.winograd_input(to.data + first * size, to.position, to.tile, scratch, row,
                                 line_pixels(canvas, &strip, patch_w), strip.count, strip.step, canvas.taps_h,
                                 canvas.taps_w)
            first += table.lanes
        to.data += strip.count * to.tile * size
        tile += strip.count
        count -= strip.count


cdef void load_grad_outputs(
        const fc_kernels *table, Tiles to, const View *y, const Canvas *canvas, Py_ssize_t tile,
        Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, char *scratch) noexcept nogil:
    """A y A^T, likewise."""
    cdef Py_ssize_t size = table.itemsize, row = row_elements(table, canvas)
    cdef Py_ssize_t first
    cdef Strip strip
    while count > 0:
        strip = strip_of(canvas, tile, count)
        first = 0
        while first < channels:
            load_lines(table, scratch, row, y, True, canvas, &strip, canvas.tile_h, canvas.tile_w,
                       channel + first, min(table.lanes, channels - first))
            table.winograd_grad_output(to.data + first * size, to.position, to.tile, scratch, row,
                                       line_pixels(canvas, &strip, canvas.tile_w), strip.count, strip.step,
                                       canvas.taps_h, canvas.taps_w)
            first += table.lanes
        to.data += strip.count * to.tile * size
        tile += strip.count
        count -= strip.count


cdef bint store_outputs(
        const fc_kernels *table, Tiles tiles, const View *y, const Canvas *canvas, Py_ssize_t tile,
        Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, const char *bias, bint relu,
        char *largest, char *scratch) noexcept nogil:
    """A^T m A + bias of `count` tiles from number `tile` on, into the images; bias: whole vectors or NULL.

    Returns whether m is finite; `largest` is for are_precise.
    """
    cdef Py_ssize_t size = table.itemsize, row = row_elements(table, canvas)
    cdef bint finite = True
    cdef Py_ssize_t first
    cdef Strip strip
    while count > 0:
        strip = strip_of(canvas, tile, count)
        first = 0
        while first < channels:
            finite &= table.winograd_output(
                scratch, row, tiles.data + first * size, tiles.position, tiles.tile, strip.count,
                strip.step, <const char *>NULL if bias == NULL else bias + first * size, relu, largest,
                canvas.taps_h, canvas.taps_w)
            store_lines(table, scratch, row, y, canvas, &strip, channel + first,
                        min(table.lanes, channels - first))
            first += table.lanes
        tiles.data += strip.count * tiles.tile * size
        tile += strip.count
        count -= strip.count
    return finite


cdef char *take_largest(const fc_kernels *table, int num_threads) except NULL:
    """Zeros, which each thread's products raise to the largest of them, by lanes."""
    cdef Py_ssize_t bytes = for_threads(largest_bytes(table), num_threads)
    cdef char *largest = take_workspace(bytes)
    memset(largest, 0, bytes)
    return largest


cdef inline Py_ssize_t largest_bytes(const fc_kernels *table) noexcept nogil:
    return align(table.lanes * table.itemsize)


cdef char *largest_by(const fc_kernels *table, char *largest, int thread) noexcept nogil:
    return largest + thread * largest_bytes(table)


cdef bint are_precise(
        const fc_kernels *table, char *largest, int num_threads, const char *results,
        Py_ssize_t count) noexcept nogil:
    """Whether no product is so large, beside the largest of some results, that its rounding may exceed what
    is promised for results."""
    cdef double product = 0
    cdef int i
    for i in range(num_threads):
        product = max(product, largest_of(table, largest_by(table, largest, i), table.lanes))
    return product <= MOST_TIMES_LARGER * largest_of_some(table, results, count)
