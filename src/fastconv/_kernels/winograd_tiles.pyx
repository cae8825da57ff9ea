"""Where Winograd's tiles lie in the images, and how they get from there into vectors and back.

Channels are the lanes of every vector, so neither narrow images nor the order of the axes matter. Several
images share a canvas where that saves tiles: side by side and one above the other, with the zeros
between them serving as padding of both.
"""

from libc.string cimport memset

from fastconv._kernels.correlation cimport ceil_div

cdef enum:
    MOST_ACROSS = 8        # images side by side
    SEGMENT = 16           # tiles transformed at a time, at most, so that their half-written lines stay in L1


cdef View view_of(char *data, Py_ssize_t channels, Py_ssize_t height, Py_ssize_t width,
                  bint channels_last) noexcept nogil:
    """A dense array of images, (N, C, H, W) or (N, H, W, C)."""
    cdef View view
    view.data = data
    view.height = height
    view.width = width
    view.image = channels * height * width
    view.channel = 1 if channels_last else height * width
    view.row = width * channels if channels_last else width
    view.pixel = channels if channels_last else 1
    return view


cdef Canvas canvas_of(int side, Py_ssize_t images, const View *x, Py_ssize_t top, Py_ssize_t bottom,
                      Py_ssize_t left, Py_ssize_t right, Py_ssize_t out_h, Py_ssize_t out_w) noexcept nogil:
    """The arrangement of the images of x, padded by so many pixels, that needs the fewest tiles."""
    cdef Canvas best, canvas
    cdef Py_ssize_t across
    cdef int stacked
    memset(&canvas, 0, sizeof(canvas))
    canvas.side = side
    canvas.tile = PATCH + 1 - side
    canvas.images = images
    canvas.top = top
    canvas.left = left
    canvas.out_h = out_h
    canvas.out_w = out_w
    canvas.period_h = max(x.height + max(top, bottom), out_h)
    canvas.period_w = max(x.width + max(left, right), out_w)
    best = canvas
    for across in range(1, min(images, MOST_ACROSS) + 1):
        for stacked in range(2):
            canvas.across = across
            canvas.down = ceil_div(images, across) if stacked else 1
            canvas.tiles_h = ceil_div((canvas.down - 1) * canvas.period_h + out_h, canvas.tile)
            canvas.tiles_w = ceil_div((canvas.across - 1) * canvas.period_w + out_w, canvas.tile)
            canvas.tiles = ceil_div(images, canvas.across * canvas.down) * canvas.tiles_h * canvas.tiles_w
            if best.tiles == 0 or canvas.tiles < best.tiles:
                best = canvas
    return best


cdef Py_ssize_t row_elements(const fc_kernels *table, const Canvas *canvas) noexcept nogil:
    return (canvas.tile * min(canvas.tiles_w, SEGMENT) + canvas.side - 1) * table.lanes


cdef Py_ssize_t scratch_elements(const fc_kernels *table, const Canvas *canvas) noexcept nogil:
    """The scratch that loading and storing need: the six rows of a row of tiles."""
    return PATCH * row_elements(table, canvas)


# Part of a row of tiles of a canvas.
ctypedef struct Strip:
    Py_ssize_t first, count    # columns of tiles
    Py_ssize_t images          # number of the canvas's first image
    Py_ssize_t row             # first row of outputs in the canvas


cdef Strip strip_of(const Canvas *canvas, Py_ssize_t tile, Py_ssize_t count) noexcept nogil:
    """What of the `count` tiles from number `tile` on lies in one row of tiles."""
    cdef Strip strip
    cdef Py_ssize_t number = tile // canvas.tiles_w
    strip.first = tile % canvas.tiles_w
    strip.count = min(min(count, SEGMENT), canvas.tiles_w - strip.first)
    strip.images = number // canvas.tiles_h * canvas.down * canvas.across
    strip.row = number % canvas.tiles_h * canvas.tile
    return strip


cdef void load_row(const fc_kernels *table, char *row, const View *view, const Canvas *canvas,
                   const Strip *strip, Py_ssize_t line, Py_ssize_t top, Py_ssize_t left, Py_ssize_t halo,
                   Py_ssize_t channel, Py_ssize_t lanes) noexcept nogil:
    """One line of a strip, from all images that it crosses, as vectors of channels; zero in between."""
    cdef Py_ssize_t size = table.itemsize, vector = size * table.lanes
    cdef Py_ssize_t block = min((strip.row + line) // canvas.period_h, canvas.down - 1)
    cdef Py_ssize_t y = strip.row + line - block * canvas.period_h - top
    cdef Py_ssize_t image = strip.images + block * canvas.across
    cdef Py_ssize_t begin = strip.first * canvas.tile, end = begin + strip.count * canvas.tile + halo
    cdef Py_ssize_t done = begin, j = begin // canvas.period_w
    cdef Py_ssize_t origin, start, stop
    if 0 <= y < view.height:
        while j < canvas.across and image + j < canvas.images and j * canvas.period_w + left < end:
            origin = j * canvas.period_w + left
            start = max(origin, begin)
            stop = min(origin + view.width, end)
            if start < stop:
                memset(row + (done - begin) * vector, 0, (start - done) * vector)
                table.lanes_from(
                    row + (start - begin) * vector,
                    view.data + size * ((image + j) * view.image + channel * view.channel + y * view.row
                                        + (start - origin) * view.pixel),
                    view.channel, view.pixel, lanes, stop - start)
                done = stop
            j += 1
    memset(row + (done - begin) * vector, 0, (end - done) * vector)


cdef void store_row(const fc_kernels *table, const char *row, const View *view, const Canvas *canvas,
                    const Strip *strip, Py_ssize_t line, Py_ssize_t channel, Py_ssize_t lanes) noexcept nogil:
    """The way back, without what lies between the images."""
    cdef Py_ssize_t size = table.itemsize, vector = size * table.lanes
    cdef Py_ssize_t block = min((strip.row + line) // canvas.period_h, canvas.down - 1)
    cdef Py_ssize_t y = strip.row + line - block * canvas.period_h
    cdef Py_ssize_t image = strip.images + block * canvas.across
    cdef Py_ssize_t begin = strip.first * canvas.tile, end = begin + strip.count * canvas.tile
    cdef Py_ssize_t j = begin // canvas.period_w
    cdef Py_ssize_t origin, start, stop
    if y >= view.height:
        return
    while j < canvas.across and image + j < canvas.images and j * canvas.period_w < end:
        origin = j * canvas.period_w
        start = max(origin, begin)
        stop = min(origin + view.width, end)
        if start < stop:
            table.lanes_to(
                view.data + size * ((image + j) * view.image + channel * view.channel + y * view.row
                                    + (start - origin) * view.pixel),
                view.channel, view.pixel, row + (start - begin) * vector, lanes, stop - start)
        j += 1


cdef void load_inputs(
        const fc_kernels *table, Tiles to, const View *x, const Canvas *canvas, Py_ssize_t tile,
        Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, char *scratch) noexcept nogil:
    """B^T x B of `count` tiles from number `tile` on, of some channels; a last vector's other lanes are 0."""
    cdef Py_ssize_t size = table.itemsize, row = row_elements(table, canvas)
    cdef Py_ssize_t line, first
    cdef Strip strip
    while count > 0:
        strip = strip_of(canvas, tile, count)
        first = 0
        while first < channels:
            for line in range(PATCH):
                load_row(table, scratch + line * row * size, x, canvas, &strip, line, canvas.top, canvas.left,
                         canvas.side - 1, channel + first, min(table.lanes, channels - first))
            table.winograd_input(to.data + first * size, to.position, to.tile, scratch, row, strip.count,
                                 canvas.side)
            first += table.lanes
        to.data += strip.count * to.tile * size
        tile += strip.count
        count -= strip.count


cdef void load_grad_outputs(
        const fc_kernels *table, Tiles to, const View *y, const Canvas *canvas, Py_ssize_t tile,
        Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, char *scratch) noexcept nogil:
    """A y A^T, likewise."""
    cdef Py_ssize_t size = table.itemsize, row = row_elements(table, canvas)
    cdef Py_ssize_t line, first
    cdef Strip strip
    while count > 0:
        strip = strip_of(canvas, tile, count)
        first = 0
        while first < channels:
            for line in range(canvas.tile):
                load_row(table, scratch + line * row * size, y, canvas, &strip, line, 0, 0, 0,
                         channel + first, min(table.lanes, channels - first))
            table.winograd_grad_output(to.data + first * size, to.position, to.tile, scratch, row,
                                       strip.count, canvas.side)
            first += table.lanes
        to.data += strip.count * to.tile * size
        tile += strip.count
        count -= strip.count


cdef bint store_outputs(
        const fc_kernels *table, Tiles tiles, const View *y, const Canvas *canvas, Py_ssize_t tile,
        Py_ssize_t count, Py_ssize_t channel, Py_ssize_t channels, const char *bias, bint relu,
        char *scratch) noexcept nogil:
    """A^T m A + bias of `count` tiles from number `tile` on, into the images; bias: whole vectors or NULL.

    Returns whether m is finite.
    """
    cdef Py_ssize_t size = table.itemsize, row = row_elements(table, canvas)
    cdef bint finite = True
    cdef Py_ssize_t line, first
    cdef Strip strip
    while count > 0:
        strip = strip_of(canvas, tile, count)
        first = 0
        while first < channels:
            finite &= table.winograd_output(
                scratch, row, tiles.data + first * size, tiles.position, tiles.tile, strip.count,
                <const char *>NULL if bias == NULL else bias + first * size, relu, canvas.side)
            for line in range(canvas.tile):
                store_row(table, scratch + line * row * size, y, canvas, &strip, line, channel + first,
                          min(table.lanes, channels - first))
            first += table.lanes
        tiles.data += strip.count * tiles.tile * size
        tile += strip.count
        count -= strip.count
    return finite
