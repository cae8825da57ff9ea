from fastconv._kernels.correlation cimport Correlation, ceil_div
from fastconv._kernels.isa cimport fc_ahead, fc_tile
from fastconv._kernels.operands cimport Band, Chunk, Chunks

cdef enum:
    LINE = 64   # bytes, of the cache

# What comes next, fetched into the cache bit by bit while tiles are computed: planes of channels, of which a
# chunk takes some rows each, are no stream that the processor's own prefetching follows.

cdef inline fc_ahead nothing_ahead() noexcept nogil:
    cdef fc_ahead ahead
    ahead.plane = NULL
    ahead.planes = ahead.plane_step = ahead.runs = ahead.run_step = ahead.bytes = 0
    ahead.run = ahead.fetched = ahead.share = 0
    return ahead

cdef fc_ahead rows_ahead(const Correlation *c, Chunk chunk) noexcept nogil
cdef fc_ahead next_ahead(
    const Correlation *c, const Chunks *chunks, Py_ssize_t index, Py_ssize_t next_index,
    Py_ssize_t tiles) noexcept nogil
cdef fc_ahead grads_ahead(
    const Correlation *c, Chunk chunk, Py_ssize_t panel, Py_ssize_t count) noexcept nogil
cdef fc_ahead planes_ahead(const Correlation *c, Chunk chunk, const Band *band) noexcept nogil
cdef void pace(fc_tile *tile, fc_ahead *ahead, Py_ssize_t some, Py_ssize_t others) noexcept nogil

cdef inline Py_ssize_t lines_of(const fc_ahead *ahead) noexcept nogil:
    """About."""
    return ahead.planes * ahead.runs * (ceil_div(ahead.bytes, LINE) + 1)
