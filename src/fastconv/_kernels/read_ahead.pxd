from fastconv._kernels.correlation cimport Chunk, Correlation
from fastconv._kernels.isa cimport fc_kernels

# Images' rows that the next chunk will read, fetched into the cache bit by bit while a chunk is computed:
# planes of channels, of which a chunk takes some rows each, are no stream that the processor's own
# prefetching follows.
ctypedef struct Ahead:
    const char *plane
    Py_ssize_t planes, plane_step   # that are left, and bytes from one to the next
    Py_ssize_t runs, run_step       # of rows that follow each other, of a plane; bytes from one to the next
    Py_ssize_t run, fetched         # the current one, and bytes of it that were fetched
    Py_ssize_t bytes                # of a run
    Py_ssize_t share                # bytes to fetch at a time

cdef Ahead rows_ahead(const Correlation *c, Chunk chunk, Py_ssize_t panels) noexcept nogil
cdef Ahead grads_ahead(const Correlation *c, Chunk chunk, Py_ssize_t panel) noexcept nogil

cdef inline void fetch(const fc_kernels *kernels, Ahead *ahead) noexcept nogil:
    cdef Py_ssize_t bytes = min(ahead.share, ahead.bytes - ahead.fetched)
    kernels.prefetch(ahead.plane + ahead.run * ahead.run_step + ahead.fetched, bytes)
    ahead.fetched += bytes
    if ahead.fetched == ahead.bytes:
        ahead.fetched = 0
        ahead.run += 1
        if ahead.run == ahead.runs:
            ahead.run = 0
            ahead.plane += ahead.plane_step
            ahead.planes -= 1
