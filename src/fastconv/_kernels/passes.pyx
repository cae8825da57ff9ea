"""How a convolution goes through its packed weight and its pixels, and shares both out to threads.

A weight that isn't packed beforehand is packed PACKED_BYTES at a time, and a larger one takes several passes
over the input; where it serves as it lies, packed parts have no bytes. In each pass threads share out the
chunks of pixels and, where these are too few for them, the parts as well.
"""

cimport numpy as cnp

from fastconv._kernels.correlation cimport Correlation, ceil_div, movers
from fastconv._kernels.memory cimport aligned, for_threads, give_back, take
from fastconv._kernels.operands cimport a_pass
from fastconv._kernels.threads cimport EVENLY, IN_TURN, PRODUCTS, parallel_for

cnp.import_array()

# What threads share out: parts [first, first + passed) to be packed, or, packed, for each chunk in portions.
ctypedef struct Pass:
    const void *job
    Pack pack
    Compute compute
    char *packing
    const char *packed
    Py_ssize_t part_bytes, first, passed, portions
    int num_threads
    char *private                # for each thread
    Py_ssize_t private_bytes


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
    cdef Pass now
    cdef Py_ssize_t failed = 0
    cdef bint packs = p.part_bytes > 0 and not p.c.packed
    now.job, now.pack, now.compute, now.part_bytes = job, pack, compute, p.part_bytes
    now.packing = <char *>take(p.a_pass * p.part_bytes) if packs else NULL
    now.private, now.private_bytes = <char *>take(for_threads(private_bytes, num_threads)), private_bytes
    now.num_threads = num_threads
    if (packs and now.packing == NULL) or now.private == NULL:
        give_back(now.packing)
        give_back(now.private)
        return -1
    now.packed, now.first = now.packing, 0
    while now.first < p.parts:
        now.passed = min(p.a_pass, p.parts - now.first)
        if p.c.packed:
            now.packed = p.c.weight + now.first * p.part_bytes
        elif packs:
            pack_parts(&now)
        now.portions = ceil_div(now.passed, p.at_once)
        failed += parallel_for(
            p.chunks * now.portions, num_threads, compute_portion, &now, IN_TURN | PRODUCTS)
        now.first += now.passed
    give_back(now.packing)
    give_back(now.private)
    return failed


cdef Py_ssize_t compute_portion(const void *pass_, Py_ssize_t item, int thread) noexcept nogil:
    """One portion of the parts of a pass, for one chunk."""
    cdef const Pass *now = <const Pass *>pass_
    cdef Py_ssize_t index = item % now.portions
    cdef Portion portion
    portion.packed, portion.first = now.packed, now.first
    portion.begin = now.first + now.passed * index // now.portions
    portion.end = now.first + now.passed * (index + 1) // now.portions
    return not now.compute(now.job, item // now.portions, (item + now.num_threads) // now.portions, &portion,
                           now.private + now.private_bytes * thread)


cdef void pack_parts(const Pass *now) noexcept nogil:
    parallel_for(now.passed, movers(now.passed * now.part_bytes, now.num_threads), pack_part, now, EVENLY)


cdef Py_ssize_t pack_part(const void *pass_, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Pass *now = <const Pass *>pass_
    now.pack(now.job, now.first + item, now.packing + item * now.part_bytes)
    return 0


cdef cnp.ndarray pack_all(
        const Passes *p, const void *job, Pack pack, Py_ssize_t more_bytes, int typenum, int num_threads):
    """An array of all packed parts, which Correlation.packed stands for, and of so many bytes behind them."""
    cdef cnp.ndarray packed = aligned(p.parts * p.part_bytes + more_bytes, typenum)
    cdef Pass whole
    whole.job, whole.pack, whole.part_bytes, whole.num_threads = job, pack, p.part_bytes, num_threads
    whole.packing, whole.first, whole.passed = <char *>cnp.PyArray_DATA(packed), 0, p.parts
    with nogil:
        pack_parts(&whole)
    return packed
