"""The two sides of the products that a correlation is cut into: chunks of padded input, and packed weights.

Both have the terms of a sum in one order, which sum_axes gives.
"""

from libc.string cimport memcpy, memset

from fastconv._kernels.correlation cimport (
    Correlation, band_height, band_width, ceil_div, channels_inner, sum_length,
)
from fastconv._kernels.ranges cimport Range, seen_by

cdef enum:
    PIECE = 16384      # bytes of weights whose terms are sorted at a time
    MOST_APART = 4     # elements, of which a tap is one, that whole vectors may turn for it
    SHORTEST_ROW = 96  # pixels that a row is cut into at least
    BAD_STRIDE = 512   # bytes; lines this many bytes apart, times 2^n, fight for the same cache sets


cdef void sum_axes(const Correlation *c, bint by_taps, Axis *axes) noexcept nogil:
    """The loops of the sum, outermost first: channels are innermost if `by_taps`."""
    cdef int channel = 2 if by_taps else 0
    cdef int row = 0 if channel else 1
    axes[channel].count, axes[channel].weight_step = c.in_channels, c.weight_in
    axes[row].count, axes[row].weight_step = c.taps_h, c.weight_h
    axes[row + 1].count, axes[row + 1].weight_step = c.taps_w, c.weight_w


cdef Py_ssize_t off_sets(const Correlation *c, Py_ssize_t elements) noexcept nogil:
    """A step of so many elements; of a cache line more for a power of two."""
    return elements + (64 // c.kernels.itemsize if elements * c.kernels.itemsize % BAD_STRIDE == 0 else 0)


cdef Band new_band(const Correlation *c, Py_ssize_t rows, char *buffer) noexcept nogil:
    """A band of chunks with so many rows of outputs that isn't the array itself."""
    cdef Band band
    band.data = buffer
    if channels_inner(c):
        band.channel, band.pixel = 1, off_sets(c, c.in_channels) if c.turned else c.in_channels
        band.row = band_width(c) * band.pixel
        band.image = band_height(c, rows) * band.row
    else:
        band.pixel, band.row = 1, band_width(c)
        band.channel = off_sets(c, band_height(c, rows) * band.row)
        band.image = c.in_channels * band.channel
    band.step = c.stride_w * band.pixel
    return band


cdef Py_ssize_t band_elements(const Correlation *c, Py_ssize_t images, Py_ssize_t rows) noexcept nogil:
    """How many elements load_band may write for a chunk of this size."""
    return images * new_band(c, rows, NULL).image


cdef Correlation cut_flat(const Correlation *whole, Py_ssize_t most) noexcept nogil:
    """A plane that flatten made one long row as several of one length, of about `most` pixels at most."""
    cdef Correlation c = whole[0]
    cdef Py_ssize_t rows = ceil_div(c.out_w, max(SHORTEST_ROW, most))
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


cdef Chunks cut(
        const Correlation *c, Py_ssize_t band_bytes, Py_ssize_t pixels, Py_ssize_t at_least) noexcept nogil:
    """Chunks of about `pixels` outputs at most, whose bands take about `band_bytes` at most (a row at least).

    There are no fewer than `at_least` (all groups together) if images and rows suffice for that. A result's
    bits don't depend on the cut, only which results are computed together.
    """
    cdef Chunks chunks
    cdef Py_ssize_t limit = band_bytes // c.kernels.itemsize
    chunks.images = min(limit // max(band_elements(c, 1, c.out_h), 1), pixels // max(c.out_h * c.out_w, 1))
    chunks.images = max(1, min(chunks.images, c.batch, c.batch * c.groups // max(at_least, 1)))
    chunks.rows = max(1, c.out_h)
    while chunks.rows > 1 and (
            band_elements(c, 1, chunks.rows) > limit
            or chunks.rows * c.out_w > pixels
            or c.groups * c.batch * ceil_div(c.out_h, chunks.rows) < at_least):
        chunks.rows = (chunks.rows + 1) // 2 if chunks.rows > 2 else 1
    chunks.per_image = ceil_div(c.out_h, chunks.rows)
    chunks.rows = ceil_div(c.out_h, max(1, chunks.per_image))
    if chunks.per_image > 1:
        chunks.images = 1
    chunks.per_batch = ceil_div(c.batch, chunks.images)
    chunks.images = ceil_div(c.batch, max(1, chunks.per_batch))
    chunks.count = chunks.per_batch * chunks.per_image
    return chunks


cdef Py_ssize_t a_pass(
        const Correlation *c, Py_ssize_t parts, Py_ssize_t bytes, Py_ssize_t most) noexcept nogil:
    """How many of so many packed parts of the weight, of `bytes` each, to keep at a time: about `most` bytes,
    in passes over the input as even as may be; all where the weight is packed already."""
    cdef Py_ssize_t fitting = max(most // max(bytes, 1), 1)
    if c.packed:
        return max(parts, 1)
    return max(ceil_div(parts, max(ceil_div(parts, fitting), 1)), 1)


cdef Chunk chunk_at(const Correlation *c, const Chunks *chunks, Py_ssize_t index) noexcept nogil:
    cdef Chunk chunk
    chunk.image = index // chunks.per_image * chunks.images
    chunk.images = max(0, min(chunks.images, c.batch - chunk.image))
    chunk.row = index % chunks.per_image * chunks.rows
    chunk.rows = max(0, min(chunks.rows, c.out_h - chunk.row))
    return chunk


cdef bint lies_in_place(const Correlation *c, Py_ssize_t top, Py_ssize_t rows) noexcept nogil:
    """Whether rows [top, top + rows) of the images serve as a band as they are."""
    return (top >= 0 and c.left <= 0 and top + rows <= c.height and band_width(c) - c.left <= c.width
            and lies_well(c))


cdef inline bint lies_well(const Correlation *c) noexcept nogil:
    """The same but for padding."""
    return not c.turned and (c.x_channel * c.kernels.itemsize % BAD_STRIDE != 0 or c.x_channel == 1)


cdef bint needs_bands(const Correlation *c) noexcept nogil:
    """Whether load_band copies for some chunk, unless it is told to copy."""
    return not lies_in_place(c, -c.top, band_height(c, c.out_h))


cdef Band load_band(
        const Correlation *c, Py_ssize_t group, const Chunk *chunk, char *buffer,
        bint copy=False, bint unpadded=False) noexcept nogil:
    """The chunk's input, padded: the array itself where that does and not `copy`, else a copy in `buffer`.

    Nobody reads the padding of an `unpadded` band, so that it needn't exist.
    """
    cdef Band band = new_band(c, chunk.rows, buffer)
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef Py_ssize_t rows = band_height(c, chunk.rows), columns = band_width(c)
    cdef Py_ssize_t top = chunk.row * c.stride_h - c.top
    cdef const char *source = c.x + size * (group * c.in_channels * c.x_channel + chunk.image * c.x_image)
    cdef bint planes = not channels_inner(c)
    if not copy and (lies_well(c) if unpadded else lies_in_place(c, top, rows)):
        band.data = source + size * (top * c.x_row - c.left * c.x_pixel)
        band.image, band.channel, band.row, band.pixel = c.x_image, c.x_channel, c.x_row, c.x_pixel
        band.step = c.stride_w * band.pixel
        return band
    # Columns [begin, end) of the band exist in x; the others are padding.
    cdef Py_ssize_t begin = min(max(c.left, 0), columns)
    cdef Py_ssize_t end = max(min(c.width + c.left, columns), begin)
    # So do its rows [first, last).
    cdef Py_ssize_t first = min(max(-top, 0), rows), last = max(min(c.height - top, rows), first)
    cdef Py_ssize_t image, channel, row
    cdef char *to
    cdef char *row_to
    cdef const char *line
    for image in range(chunk.images):
        for channel in range(c.in_channels if planes else 1):
            to = buffer + size * (image * band.image + channel * band.channel)
            line = source + size * (image * c.x_image + channel * c.x_channel + (top + first) * c.x_row
                                    + (begin - c.left) * c.x_pixel)
            memset(to, 0, size * first * band.row)
            if planes or c.in_channels == c.x_pixel:
                c.kernels.pad_rows(to + size * first * band.row, band.row, line, c.x_row, last - first,
                                   begin * band.pixel, (end - begin) * band.pixel,
                                   (columns - end) * band.pixel, 1)
            else:
                for row in range(first, last):
                    row_to = to + size * row * band.row
                    memset(row_to, 0, size * begin * band.pixel)
                    memset(row_to + size * end * band.pixel, 0, size * (columns - end) * band.pixel)
                    row_to += size * begin * band.pixel
                    if c.turned:
                        c.kernels.transpose(row_to, band.pixel, line, c.x_channel, c.in_channels, end - begin)
                    else:   # channels of a group, from among those of all: each pixel is a row
                        c.kernels.pad_rows(
                            row_to, band.pixel, line, c.x_pixel, end - begin, 0, c.in_channels, 0, 1)
                    line += size * c.x_row
            memset(to + size * last * band.row, 0, size * (rows - last) * band.row)
    return band


cdef void fill_table(const Correlation *c, const Band *band, Py_ssize_t *table) noexcept nogil:
    """table[k]: where in the band the k-th term of a sum lies, from where its first term lies."""
    cdef Axis axes[3]
    cdef Py_ssize_t i, j, m, k = 0
    cdef bint by_taps = band.pixel != 1     # in the order in which the band lies in memory
    sum_axes(c, by_taps, axes)
    cdef int channel = 2 if by_taps else 0
    cdef int row = 0 if channel else 1
    axes[channel].band_step = band.channel
    axes[row].band_step = c.dilation_h * band.row
    axes[row + 1].band_step = c.dilation_w * band.pixel
    for i in range(axes[0].count):
        for j in range(axes[1].count):
            for m in range(axes[2].count):
                table[k] = i * axes[0].band_step + j * axes[1].band_step + m * axes[2].band_step
                k += 1


cdef inline Py_ssize_t sorted_width(const Correlation *c) noexcept nogil:
    """Columns of a band that are stride_w apart from the first one on."""
    return ceil_div(band_width(c), c.stride_w)


cdef Band sorted_band(const Correlation *c, Py_ssize_t rows, char *buffer) noexcept nogil:
    """What load_sorted makes of a chunk with so many rows of outputs where there is a stride."""
    cdef Band band
    band.data, band.step, band.pixel, band.row = buffer, 1, 1, c.stride_w * sorted_width(c)
    band.channel = off_sets(c, band_height(c, rows) * band.row)
    band.image = c.in_channels * band.channel
    return band


cdef Py_ssize_t sorted_elements(const Correlation *c, Py_ssize_t images, Py_ssize_t rows) noexcept nogil:
    """How many elements load_sorted may write."""
    if c.stride_w == 1:
        return band_elements(c, images, rows)
    return images * sorted_band(c, rows, NULL).image


cdef Band load_sorted(
        const Correlation *c, Py_ssize_t group, const Chunk *chunk, char *buffer,
        bint copy=False) noexcept nogil:
    """load_band, whose rows with a stride are [column % stride_w][column // stride_w]."""
    cdef Py_ssize_t size = c.kernels.itemsize, rows = band_height(c, chunk.rows), width = sorted_width(c)
    cdef Py_ssize_t top = chunk.row * c.stride_h - c.top
    cdef Range seen = seen_by(rows, 1, top, c.height), inside
    cdef Py_ssize_t image, channel, phase
    cdef const char *plane
    cdef char *to
    cdef Band band
    if c.stride_w == 1:
        return load_band(c, group, chunk, buffer, copy)
    band = sorted_band(c, chunk.rows, buffer)
    for image in range(chunk.images):
        for channel in range(c.in_channels):
            plane = c.x + size * ((chunk.image + image) * c.x_image
                                  + (group * c.in_channels + channel) * c.x_channel
                                  + (top + seen.first) * c.x_row - c.left)
            to = buffer + size * (image * band.image + channel * band.channel)
            memset(to, 0, size * seen.first * band.row)
            memset(to + size * seen.last * band.row, 0, size * (rows - seen.last) * band.row)
            to += size * seen.first * band.row
            for phase in range(c.stride_w):
                inside = seen_by(width, c.stride_w, phase - c.left, c.width)
                c.kernels.pad_rows(
                    to + size * phase * width, band.row, plane + size * (inside.first * c.stride_w + phase),
                    c.x_row, seen.last - seen.first, inside.first, inside.last - inside.first,
                    width - inside.last, c.stride_w)
    return band


cdef void fill_sorted_table(const Correlation *c, const Band *band, Py_ssize_t *table) noexcept nogil:
    """fill_table for a band of load_sorted."""
    cdef Py_ssize_t channel, row, tap, column, k = 0
    if c.stride_w == 1:
        fill_table(c, band, table)
        return
    for channel in range(c.in_channels):
        for row in range(c.taps_h):
            for tap in range(c.taps_w):
                column = tap * c.dilation_w
                table[k] = (channel * band.channel + row * c.dilation_h * band.row
                            + column % c.stride_w * sorted_width(c) + column // c.stride_w)
                k += 1


cdef Py_ssize_t fill_pixels(
        const Chunk *chunk, Py_ssize_t columns, Py_ssize_t image_step, Py_ssize_t row_step,
        Py_ssize_t column_step, Py_ssize_t *table) noexcept nogil:
    """table[p]: where the chunk's pixel p lies, from the first; returns the number of pixels."""
    cdef Py_ssize_t image, row, column, p = 0
    for image in range(chunk.images):
        for row in range(chunk.rows):
            for column in range(columns):
                table[p] = image * image_step + row * row_step + column * column_step
                p += 1
    return p


cdef inline Py_ssize_t distance(Py_ssize_t step) noexcept nogil:
    return max(step, -step)


cdef void pack_weight_panel(
        const Correlation *c, Py_ssize_t group, Py_ssize_t first, Py_ssize_t width, Py_ssize_t padded,
        char *packed, bint by_taps) noexcept nogil:
    """packed[k*padded + r]: weight of the k-th term for output channel first + r of the group, or zero.

    Terms are in the order of sum_axes.
    """
    cdef Axis axes[3]
    cdef Py_ssize_t i, j, m, at
    cdef Py_ssize_t start = group * c.weight_group + first * c.weight_out
    cdef Py_ssize_t size = c.kernels.itemsize, taps = c.taps_h * c.taps_w, span, most
    if taps == 1 and c.weight_out == 1:     # of the gradient of the input
        c.kernels.pad_rows(packed, padded, c.weight + start * size, c.weight_in, c.in_channels, 0, width,
                           padded - width, 1)
        return
    if terms_follow(c, by_taps):
        if width < padded:
            memset(packed, 0, sum_length(c) * padded * size)
        c.kernels.transpose(packed, padded, c.weight + start * size, c.weight_out, width, sum_length(c))
        return
    span = 1 + (c.taps_h - 1) * distance(c.weight_h) + (c.taps_w - 1) * distance(c.weight_w)
    most = MOST_APART * taps if width >= c.kernels.lanes else taps
    if 1 < taps and span <= most and span * padded * size <= PIECE:
        turn_weight_panel(c, start, span, width, padded, packed, by_taps)
        return
    sum_axes(c, by_taps, axes)
    for i in range(axes[0].count):
        for j in range(axes[1].count):
            for m in range(axes[2].count):
                at = start + i * axes[0].weight_step + j * axes[1].weight_step + m * axes[2].weight_step
                c.kernels.gather(packed, c.weight + at * size, c.weight_out, width)
                memset(packed + width * size, 0, (padded - width) * size)
                packed += padded * size


cdef bint terms_follow(const Correlation *c, bint by_taps) noexcept nogil:
    """Whether the weights of a result lie one after the other, in the order of sum_axes."""
    cdef Py_ssize_t taps = c.taps_h * c.taps_w
    return (c.weight_w == 1 and c.weight_h == c.taps_w and c.weight_in == taps
            and (taps == 1 or not by_taps))


cdef void turn_weight_panel(
        const Correlation *c, Py_ssize_t start, Py_ssize_t span, Py_ssize_t width, Py_ssize_t padded,
        char *packed, bint by_taps) noexcept nogil:
    """The same for channels whose taps are `span` elements with what lies between them: that is turned, too,
    some channels at a time, and of the rows that result the taps are taken."""
    cdef Py_ssize_t size = c.kernels.itemsize, row = padded * size, taps = c.taps_h * c.taps_w
    cdef Py_ssize_t lowest = min(0, (c.taps_h - 1) * c.weight_h) + min(0, (c.taps_w - 1) * c.weight_w)
    cdef Py_ssize_t most = PIECE // (span * row) if c.weight_in == span else 1
    cdef Py_ssize_t tap_step = c.in_channels if by_taps else 1, channel_step = 1 if by_taps else taps
    cdef Py_ssize_t first = 0, channels, channel, i, j
    cdef char piece[PIECE]
    cdef char *to
    cdef const char *turned
    if width < padded:
        memset(piece, 0, PIECE)
    while first < c.in_channels:
        channels = min(most, c.in_channels - first)
        c.kernels.transpose(piece, padded, c.weight + (start + first * c.weight_in + lowest) * size,
                            c.weight_out, width, channels * span)
        for i in range(c.taps_h):
            for j in range(c.taps_w):
                to = packed + (first * channel_step + (i * c.taps_w + j) * tap_step) * row
                turned = piece + (i * c.weight_h + j * c.weight_w - lowest) * row
                for channel in range(channels):
                    memcpy(to + channel * channel_step * row, turned + channel * span * row, row)
        first += channels
