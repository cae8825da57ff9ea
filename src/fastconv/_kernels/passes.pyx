"""How a convolution goes through its packed weight and its pixels, and shares both out to threads.

A weight that isn't packed beforehand is packed PACKED_BYTES at a time, and a larger one takes several passes
over the input. In each of them threads share out the chunks of pixels and, where these are too few for them,
the parts as well.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange

from fastconv._kernels.correlation cimport Correlation, ceil_div, movers
from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.isa cimport fc_streamed
from fastconv._kernels.memory cimport aligned, give_back, take
from fastconv._kernels.operands cimport a_pass
from fastconv._kernels.threads cimport thread_index

cnp.import_array()


cdef Passes passes_of(
        const Correlation *c, Py_ssize_t parts, Py_ssize_t part_bytes, Py_ssize_t chunks, Py_ssize_t most,
        int num_threads, Py_ssize_t packed_bytes=PACKED_BYTES) noexcept nogil:
    """`most`: parts that the workspace for a chunk has room for; `packed_bytes`: of a pass, about."""
    cdef Passes p
    p.c, p.parts, p.part_bytes, p.chunks = c, parts, part_bytes, chunks
    p.a_pass = a_pass(c, parts, part_bytes, packed_bytes)
    cdef Py_ssize_t portions = min(p.a_pass, ceil_div(shares(num_threads), max(chunks, 1)))
    p.at_once = ceil_div(p.a_pass, max(portions, ceil_div(p.a_pass, max(most, 1))))
    return p


cdef Py_ssize_t run_passes(
        const Passes *p, const void *job, Pack pack, Compute compute, Py_ssize_t private_bytes,
        int num_threads) noexcept nogil:
    """Computes all parts for all chunks.

    Returns how often `compute` returned False; -1 if there was no memory, and nothing is written then.
    """
    cdef fc_float_mode mode = 0
    cdef char *packing = NULL if p.c.packed else <char *>take(p.a_pass * p.part_bytes)
    cdef char *private = <char *>take(private_bytes * num_threads)
    cdef const char *packed = packing
    cdef Py_ssize_t first = 0, passed, index, portions, failed = 0
    if (packing == NULL and not p.c.packed) or private == NULL:
        give_back(packing)
        give_back(private)
        return -1
    while first < p.parts:
        passed = min(p.a_pass, p.parts - first)
        if p.c.packed:
            packed = p.c.weight + first * p.part_bytes
        else:
            pack_parts(p, job, pack, first, passed, packing, num_threads)
        portions = ceil_div(passed, p.at_once)
        with parallel(num_threads=num_threads):
            mode = fc_flush_denormals()
            for index in prange(p.chunks * portions, schedule="dynamic"):
                failed += not compute_portion(
                    job, compute, index // portions, (index + num_threads) // portions, packed, first, passed,
                    index % portions, portions, private + private_bytes * thread_index())
            fc_streamed()
            fc_restore_float_mode(mode)
        first += passed
    give_back(packing)
    give_back(private)
    return failed


cdef bint compute_portion(
        const void *job, Compute compute, Py_ssize_t chunk, Py_ssize_t next_chunk, const char *packed,
        Py_ssize_t first, Py_ssize_t passed, Py_ssize_t index, Py_ssize_t portions,
        char *private) noexcept nogil:
    """Portion `index` of the parts of a pass."""
    cdef Portion portion
    portion.packed, portion.first = packed, first
    portion.begin = first + passed * index // portions
    portion.end = first + passed * (index + 1) // portions
    return compute(job, chunk, next_chunk, &portion, private)


cdef void pack_parts(
        const Passes *p, const void *job, Pack pack, Py_ssize_t first, Py_ssize_t count, char *packed,
        int num_threads) noexcept nogil:
    """Parts from `first` on."""
    cdef Py_ssize_t index
    for index in prange(count, num_threads=movers(count * p.part_bytes, num_threads), schedule="static"):
        pack(job, first + index, packed + index * p.part_bytes)


cdef cnp.ndarray pack_all(
        const Passes *p, const void *job, Pack pack, Py_ssize_t more_bytes, int typenum, int num_threads):
    """An array of all packed parts, which Correlation.packed stands for, and of so many bytes behind them."""
    cdef cnp.ndarray packed = aligned(p.parts * p.part_bytes + more_bytes, typenum)
    with nogil:
        pack_parts(p, job, pack, 0, p.parts, <char *>cnp.PyArray_DATA(packed), num_threads)
    return packed
