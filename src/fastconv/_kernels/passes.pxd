cimport numpy as cnp

from fastconv._kernels.correlation cimport Correlation

cdef enum:
    PACKED_BYTES = 4194304

# A convolution's packed weight in parts, each of some output channels, for so many chunks of pixels.
ctypedef struct Passes:
    const Correlation *c
    Py_ssize_t parts, part_bytes
    Py_ssize_t chunks
    Py_ssize_t a_pass           # parts that are packed at a time
    Py_ssize_t at_once          # parts that a chunk is computed for in one go, at most

# Parts [begin, end) of those that are packed, of which `packed` begins with `first`.
ctypedef struct Portion:
    const char *packed
    Py_ssize_t first, begin, end

# Packs a part. `job` is the algorithm's own, here and below.
ctypedef void (*Pack)(const void *job, Py_ssize_t part, char *packed) noexcept nogil

# Computes a portion's channels for a chunk, with this thread's workspace. `next_chunk` is probably its next
# one, or none. Returns whether the results are as they should be.
ctypedef bint (*Compute)(
    const void *job, Py_ssize_t chunk, Py_ssize_t next_chunk, const Portion *portion,
    char *private) noexcept nogil

cdef inline int shares(int num_threads) noexcept nogil:
    """Pieces to have at least, so that no thread waits long for the last one."""
    return 2 * num_threads if num_threads > 1 else 1

cdef Passes passes_of(
    const Correlation *c, Py_ssize_t parts, Py_ssize_t part_bytes, Py_ssize_t chunks, Py_ssize_t most,
    int num_threads, Py_ssize_t packed_bytes=*) noexcept nogil
cdef Py_ssize_t run_passes(
    const Passes *p, const void *job, Pack pack, Compute compute, Py_ssize_t private_bytes,
    int num_threads) noexcept nogil
cdef cnp.ndarray pack_all(
    const Passes *p, const void *job, Pack pack, Py_ssize_t more_bytes, int typenum, int num_threads)
