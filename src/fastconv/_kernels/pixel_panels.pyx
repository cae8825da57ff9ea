"""Panels of the column matrix: a tile's worth of pixels with all that their windows see.

They are packed as they are needed, from the images, or from a band of a chunk where there is padding. Where
the windows of a stride overlap, the columns of the band are sorted by its phases first, so that pixels of a
panel are neighbours for every tap.
"""

from libc.stdint cimport PTRDIFF_MAX
from libc.string cimport memset

from fastconv._kernels.correlation cimport Correlation, ceil_div, channels_inner
from fastconv._kernels.isa cimport fc_ahead, fc_kernels
from fastconv._kernels.operands cimport (
    Band, Chunk, Chunks, band_elements, cut, fill_sorted_table, fill_table, load_band, load_sorted,
    needs_bands, sorted_elements,
)
from fastconv._kernels.read_ahead cimport next_ahead, nothing_ahead

cdef enum:
    IMAGES_BYTES = 1048576    # of a band of images
    BAND_BYTES = 2097152      # of one larger image: whole, most often; rows that two share are copied twice
    PIXELS = 4096             # of a chunk, at most


cdef bint sorts(const Correlation *c) noexcept nogil:
    return c.taps_w > c.stride_w > 1 and not channels_inner(c)


cdef bint copies(const Correlation *c) noexcept nogil:
    """Whether load_pixels may copy."""
    return sorts(c) or needs_bands(c)


cdef Chunks cut_pixels(const Correlation *c, Py_ssize_t at_least) noexcept nogil:
    """Chunks, no fewer than `at_least` if there are pixels enough for them."""
    cdef Py_ssize_t most = PTRDIFF_MAX      # where panels are packed straight from the images
    if copies(c):
        most = BAND_BYTES
        if band_elements(c, 1, c.out_h) * c.kernels.itemsize <= IMAGES_BYTES:
            most = IMAGES_BYTES
    return cut(c, most, PIXELS, at_least)


cdef Py_ssize_t pixels_bytes(const Correlation *c, const Chunks *chunks) noexcept nogil:
    """Of memory that load_pixels may write to."""
    if sorts(c):
        return sorted_elements(c, chunks.images, chunks.rows) * c.kernels.itemsize
    if needs_bands(c):
        return band_elements(c, chunks.images, chunks.rows) * c.kernels.itemsize
    return 0


cdef Band load_pixels(
        const Correlation *c, Py_ssize_t group, const Chunk *chunk, char *buffer) noexcept nogil:
    """The chunk's input, padded and, where that helps, sorted."""
    return load_sorted(c, group, chunk, buffer) if sorts(c) else load_band(c, group, chunk, buffer)


cdef void fill_pixels_table(const Correlation *c, const Band *band, Py_ssize_t *table) noexcept nogil:
    """fill_table for a band of load_pixels."""
    if sorts(c):
        fill_sorted_table(c, band, table)
    else:
        fill_table(c, band, table)


cdef void find_panel(
        const Correlation *c, const Chunk *chunk, const Span *span, Py_ssize_t column, Py_ssize_t columns,
        Panel *panel) noexcept nogil:
    """The pixels of columns [column, column + columns) of a span's, cut at the ends of rows and of images."""
    cdef Py_ssize_t image = column // span.columns, done = column % span.columns, at = 0, pixel, count
    cdef Run *run
    panel.pixels = panel.count = 0
    while at < columns:
        pixel = span.first + done
        count = min(c.out_w - pixel % c.out_w, span.count - done, columns - at)
        if count > 0:
            run = &panel.runs[panel.count]
            run.image, run.row, run.column = image, pixel // c.out_w, pixel % c.out_w
            run.count, run.at = count, at
            panel.pixels += count
            panel.count += 1
            at += count
            done += count
        else:
            at += span.columns - done
            done = span.columns
        if done == span.columns:
            image += 1
            done = 0
    # Rows of a plane follow each other.
    panel.in_place = panel.pixels == c.kernels.nr and c.out_pixel == 1 and (
        panel.count == 1
        or (panel.runs[panel.count - 1].image == panel.runs[0].image and c.out_row == c.out_w))


cdef inline const char *first_input(const Correlation *c, const Band *band, const Run *run) noexcept nogil:
    return band.data + c.kernels.itemsize * (run.image * band.image + run.row * c.stride_h * band.row
                                             + run.column * band.step)


cdef void pack_panel(
        const Correlation *c, const Band *band, const Py_ssize_t *table, Py_ssize_t depth, const Panel *panel,
        char *packed) noexcept nogil:
    """packed[term][column of a tile] for the first `depth` terms of `table`; zero where there is no pixel. A
    run may be written with zeros behind it, which the next one's pixels replace."""
    cdef const fc_kernels *kernels = c.kernels
    cdef const Run *run
    cdef int i
    if panel.pixels < kernels.nr:
        memset(packed, 0, depth * kernels.nr * kernels.itemsize)
    for i in range(panel.count):
        run = &panel.runs[i]
        kernels.gather_rows(packed + run.at * kernels.itemsize, kernels.nr, first_input(c, band, run), table,
                            band.step, depth, run.count, kernels.nr - run.at)


cdef Run run_at(const Correlation *c, const Span *span, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """The pixels of so many columns of a span, from `column` on, up to the end of a row."""
    cdef Py_ssize_t pixel = span.first + column % span.columns
    cdef Run run
    run.image, run.row, run.column = column // span.columns, pixel // c.out_w, pixel % c.out_w
    run.count, run.at = min(c.out_w - run.column, columns), 0
    return run


cdef fc_ahead run_ahead(
        const Correlation *c, const Band *band, const Run *run, Py_ssize_t channel,
        Py_ssize_t channels) noexcept nogil:
    """What the windows of a run see, of so many channels from `channel` on."""
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef fc_ahead ahead = nothing_ahead()
    ahead.plane = first_input(c, band, run) + size * channel * band.channel
    ahead.planes, ahead.plane_step = channels, size * band.channel
    ahead.runs, ahead.run_step = c.taps_h, size * c.dilation_h * band.row
    ahead.bytes = size * ((run.count - 1) * band.step + (c.taps_w - 1) * c.dilation_w + 1)
    return ahead


cdef void panel_ahead(
        const Correlation *c, const Chunk *chunk, const Band *band, const Span *span, Py_ssize_t column,
        Py_ssize_t columns, Py_ssize_t term, Py_ssize_t terms, fc_ahead *ahead) noexcept nogil:
    """What is to be packed from a column of a span on, of some terms: one channel's pixels lie too far from
    the next one's for the processor's own prefetching. The first list goes up to the end of a row; where
    windows of the next row see none of the same rows, the second one is for its first pixels, as many again:
    what comes early is there in time. Nothing behind the span, nor where channels are neighbours, or few of
    a line's pixels are needed, or they come from a copy."""
    cdef Py_ssize_t taps = max(c.taps_h * c.taps_w, 1), channel = term // taps, i
    cdef bint far = band.step <= 2 and not copies(c)
    cdef Run run
    for i in range(RUNS_AHEAD):
        ahead[i] = nothing_ahead()
        if far and column // span.columns < chunk.images:
            run = run_at(c, span, column, columns)
            ahead[i] = run_ahead(c, band, &run, channel, ceil_div(term + terms, taps) - channel)
            column += run.count
            far = run.count < columns and (c.taps_h - 1) * c.dilation_h < c.stride_h


cdef fc_ahead chunk_ahead(
        const Correlation *c, const Chunks *chunks, Py_ssize_t index, Py_ssize_t next_index,
        Py_ssize_t tiles) noexcept nogil:
    """What load_pixels is to copy for the next chunk, in shares for so many tiles."""
    return next_ahead(c, chunks, index, next_index, tiles) if copies(c) else nothing_ahead()


cdef void write_panel(
        const Correlation *c, const Chunk *chunk, const Panel *panel, Py_ssize_t channel, Py_ssize_t channels,
        const char *results) noexcept nogil:
    """Writes results[channel][column of a tile] to where they belong; `channel` counts all groups'."""
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, k
    cdef const Run *run
    cdef char *to
    cdef int i
    for i in range(panel.count):
        run = &panel.runs[i]
        to = first_output(c, chunk, channel, run)
        for k in range(channels):
            kernels.scatter(to + k * c.out_channel * size, c.out_pixel,
                            results + (k * kernels.nr + run.at) * size, run.count)
