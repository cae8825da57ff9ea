"""What a chunk of a convolution will read, brought into the cache while the one before is computed."""

from fastconv._kernels.correlation cimport (
    Correlation, band_height, band_width, beyond_cache, ceil_div, channels_last,
)
from fastconv._kernels.isa cimport fc_ahead, fc_tile
from fastconv._kernels.operands cimport Band, Chunk, Chunks, chunk_at

cdef enum:
    BURST = 8   # lines


cdef fc_ahead rows_ahead(const Correlation *c, Chunk chunk) noexcept nogil:
    """What load_band will read for a chunk."""
    cdef Py_ssize_t size = c.kernels.itemsize, top = chunk.row * c.stride_h - c.top
    cdef Py_ssize_t first = max(top, 0), last = min(top + band_height(c, chunk.rows), c.height)
    cdef fc_ahead ahead = nothing_ahead()
    ahead.plane = c.x + size * (chunk.image * c.x_image + first * c.x_row)
    ahead.planes, ahead.plane_step = chunk.images * c.in_channels, size * c.x_channel
    ahead.run_step = size * c.stride_h * c.x_row
    if c.taps_h == 1 and c.stride_h > 1:    # rows in between are not read
        ahead.runs, ahead.bytes = ceil_div(last - first, c.stride_h), size * c.width * c.x_pixel
    else:
        ahead.runs, ahead.bytes = 1, size * (last - first) * c.x_row
    if c.groups > 1 or channels_last(c) or last <= first:
        ahead.planes = 0
    return ahead


cdef fc_ahead next_ahead(
        const Correlation *c, const Chunks *chunks, Py_ssize_t index, Py_ssize_t next_index,
        Py_ssize_t tiles) noexcept nogil:
    """rows_ahead of the next chunk, in shares for so many tiles; nothing if there is none."""
    cdef fc_ahead ahead = nothing_ahead()
    if next_index != index and next_index < chunks.count and beyond_cache(c, c.x_image):
        ahead = rows_ahead(c, chunk_at(c, chunks, next_index))
        ahead.share = ceil_div(lines_of(&ahead), max(1, tiles))
    return ahead


cdef void pace(fc_tile *tile, fc_ahead *ahead, Py_ssize_t some, Py_ssize_t others) noexcept nogil:
    """Has so many lines of both lists fetched by each tile of this depth, BURST of them at a time.

    More at a time would fill the buffers that loads wait in.
    """
    cdef Py_ssize_t bursts = max(1, min(ceil_div(some + others, BURST), tile.depth // BURST))
    tile.ahead_terms = ceil_div(tile.depth, bursts)
    ahead[0].share, ahead[1].share = ceil_div(some, bursts), ceil_div(others, bursts)
    tile.ahead = ahead if some + others > 0 else NULL


cdef fc_ahead planes_ahead(const Correlation *c, Chunk chunk, const Band *band) noexcept nogil:
    """A chunk's input where it lies, behind the first tile's channels: tiles take one after the other."""
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef fc_ahead ahead = nothing_ahead()
    ahead.plane, ahead.plane_step = band.data + size * c.kernels.mr * band.channel, size * band.channel
    ahead.planes = max(0, c.in_channels - c.kernels.mr)
    ahead.runs, ahead.run_step = chunk.images, size * band.image
    ahead.bytes = size * ((band_height(c, chunk.rows) - 1) * band.row + band_width(c) * band.pixel)
    if channels_last(c) or ahead.bytes <= 0 or not beyond_cache(c, c.x_image):
        ahead.planes = 0
    return ahead


cdef fc_ahead grads_ahead(
        const Correlation *c, Chunk chunk, Py_ssize_t panel, Py_ssize_t count) noexcept nogil:
    """What turn_panel will read for so many panels of a group, at most; add_products decides when."""
    cdef Py_ssize_t size = c.kernels.itemsize, nr = c.kernels.nr, panels = ceil_div(c.out_channels, nr)
    cdef Py_ssize_t channel = panel % panels * nr
    cdef fc_ahead ahead = nothing_ahead()
    cdef Py_ssize_t channels = min(count * nr, c.out_channels - channel)
    channel += panel // panels * c.out_channels
    ahead.plane = c.out + size * (
        chunk.image * c.out_image + channel * c.out_channel + chunk.row * c.out_row)
    if c.out_pixel == 1:
        ahead.planes, ahead.plane_step = channels, size * c.out_channel
        ahead.runs, ahead.run_step = chunk.images, size * c.out_image
        ahead.bytes = size * chunk.rows * c.out_w
    else:   # NHWC: a run for each pixel, of which images have no others
        ahead.planes, ahead.plane_step = 1, 0
        ahead.runs, ahead.run_step = chunk.images * chunk.rows * c.out_w, size * c.out_pixel
        ahead.bytes = size * channels
    if ahead.runs * ahead.bytes <= 0 or not beyond_cache(c, c.out_image):
        ahead.planes = 0
    return ahead
