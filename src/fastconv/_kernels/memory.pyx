"""Recycled, aligned memory behind results and workspaces.

New pages cost several times what it takes to write to pages that a process has already, so a block that
is given back is kept for the next request of its size class. Blocks are shared by all threads; the free
lists are guarded by a lock that is held for a few instructions. What is kept is bounded: a block that
would exceed the bound goes back to the system at once.

An array keeps its block through its `base`; only when the last view is gone is the block free again.

AddressSanitizer is told what of a block is in use: all else, and a kept block but for its header, is
poisoned.
"""

cimport numpy as cnp

cnp.import_array()

cdef extern from *:
    """
    #if defined(__has_feature)
    #if __has_feature(address_sanitizer)
    #define __SANITIZE_ADDRESS__ 1
    #endif
    #endif
    #ifdef __SANITIZE_ADDRESS__
    #include <sanitizer/asan_interface.h>
    #else
    #define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
    #define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
    #endif

    /* The system's own lock: Python's reads the clock each time, which takes as long as all else here. */
    #if defined(_WIN32)
    #include <malloc.h>
    #include <windows.h>
    static SRWLOCK fc_guard = SRWLOCK_INIT;
    static void fc_lock(void) { AcquireSRWLockExclusive(&fc_guard); }
    static void fc_unlock(void) { ReleaseSRWLockExclusive(&fc_guard); }
    static void fc_hold_lock_over_forks(void) {}
    static void *fc_aligned(size_t alignment, size_t bytes) { return _aligned_malloc(bytes, alignment); }
    static void fc_aligned_free(void *p) { _aligned_free(p); }
    #else
    #include <pthread.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    static pthread_mutex_t fc_guard = PTHREAD_MUTEX_INITIALIZER;
    static void fc_lock(void) { pthread_mutex_lock(&fc_guard); }
    static void fc_unlock(void) { pthread_mutex_unlock(&fc_guard); }
    /* A child that was forked while another thread held the lock would wait for it forever. */
    static void fc_hold_lock_over_forks(void) { pthread_atfork(fc_lock, fc_unlock, fc_unlock); }
    static void *fc_aligned(size_t alignment, size_t bytes)
    {
        void *p = NULL;
        if (posix_memalign(&p, alignment, bytes)) return NULL;
    #ifdef MADV_HUGEPAGE
        if (alignment >= (size_t)1 << 21) madvise(p, bytes, MADV_HUGEPAGE);
    #endif
        return p;
    }
    static void fc_aligned_free(void *p) { free(p); }
    #endif
    """
    void fc_lock() noexcept nogil
    void fc_unlock() noexcept nogil
    void fc_hold_lock_over_forks()
    void *fc_aligned(size_t alignment, size_t bytes) noexcept nogil
    void fc_aligned_free(void *) noexcept nogil
    void ASAN_POISON_MEMORY_REGION(void *, size_t) noexcept nogil
    void ASAN_UNPOISON_MEMORY_REGION(void *, size_t) noexcept nogil

cdef enum:
    HEADER = 64            # bytes before each block, so that data begins on a cache line
    SMALL = 16384          # bytes; results up to here are NumPy's own affair, workspaces are not
    STEPS = 4              # size classes between a power of two and the next
    CLASSES = 48 * STEPS
    HUGE_PAGE = 1 << 21
    MOST_AXES = 64         # of an array of NumPy

ctypedef struct Block:
    Block *next
    size_t bytes           # of the whole block, header included
    int size_class

cdef Block *free_blocks[CLASSES]
cdef size_t kept_bytes = 0
cdef size_t used_bytes = 0
cdef size_t keep_at_most = <size_t>1 << 30
cdef object make_result = None        # of results_from
cdef Py_ssize_t until_failure = 0     # takes, the failing one included; 0: none fails (fail_allocation)

fc_hold_lock_over_forks()


cdef int size_class_of(size_t bytes, size_t *rounded) noexcept nogil:
    """Index of the smallest class that holds `bytes`, and its size: 2^p * (1 + i/4), from 1 KiB on.

    There is none of 3.5 MiB: two huge pages are touched sooner than one and 384 small ones.
    """
    cdef int power = 10
    cdef size_t step
    cdef int i
    if HUGE_PAGE // 2 * 3 < bytes < 2 * HUGE_PAGE:
        bytes = 2 * HUGE_PAGE
    while power < 47 and (<size_t>2 << power) <= bytes:
        power += 1
    step = (<size_t>1 << power) // STEPS
    for i in range(STEPS):
        if ((<size_t>1 << power) + i * step) >= bytes:
            rounded[0] = (<size_t>1 << power) + i * step
            return (power - 10) * STEPS + i
    rounded[0] = <size_t>2 << power
    return (power - 9) * STEPS


cdef bint must_fail() noexcept nogil:
    """Whether this is the allocation that `fail_allocation` named; asked under the lock."""
    global until_failure
    cdef bint failing = until_failure == 1
    until_failure -= until_failure > 0
    return failing


cdef void *take(size_t bytes) noexcept nogil:
    """At least `bytes` bytes, aligned to 64, contents undefined; NULL where there is no memory."""
    global kept_bytes, used_bytes
    cdef size_t whole
    cdef Block *block
    if bytes > <size_t>most_bytes():
        return NULL
    cdef int size_class = size_class_of(bytes + HEADER, &whole)
    fc_lock()
    if must_fail():
        fc_unlock()
        return NULL
    block = free_blocks[size_class]
    if block != NULL:
        free_blocks[size_class] = block.next
        kept_bytes -= block.bytes
        used_bytes += block.bytes
    fc_unlock()
    if block == NULL:
        block = <Block *>fc_aligned(HUGE_PAGE if whole >= HUGE_PAGE else HEADER, whole)
        if block == NULL:
            release_kept()
            block = <Block *>fc_aligned(HEADER, whole)
            if block == NULL:
                return NULL
        block.bytes = whole
        block.size_class = size_class
        fc_lock()
        used_bytes += whole
        fc_unlock()
    ASAN_UNPOISON_MEMORY_REGION(<char *>block + HEADER, bytes)
    ASAN_POISON_MEMORY_REGION(<char *>block + HEADER + bytes, whole - HEADER - bytes)
    return <char *>block + HEADER


cdef char *take_workspace(Py_ssize_t bytes) except NULL:
    """`take`, or MemoryError."""
    cdef void *workspace = take(bytes)
    if workspace == NULL:
        raise MemoryError(f"no memory for {bytes} bytes of workspace")
    return <char *>workspace


cdef void give_back(void *pointer) noexcept nogil:
    """Ends the use of what `take` returned; NULL is allowed."""
    global kept_bytes, used_bytes
    cdef Block *block
    cdef bint keep
    if pointer == NULL:
        return
    block = <Block *>(<char *>pointer - HEADER)
    ASAN_POISON_MEMORY_REGION(pointer, block.bytes - HEADER)
    fc_lock()
    used_bytes -= block.bytes
    keep = kept_bytes + block.bytes <= keep_at_most
    if keep:
        block.next = free_blocks[block.size_class]
        free_blocks[block.size_class] = block
        kept_bytes += block.bytes
    fc_unlock()
    if not keep:
        free_block(block)


cdef void free_block(Block *block) noexcept nogil:
    ASAN_UNPOISON_MEMORY_REGION(block, block.bytes)
    fc_aligned_free(block)


cdef void release_kept() noexcept nogil:
    global kept_bytes
    cdef Block *block
    cdef Block *rest
    cdef int i
    for i in range(CLASSES):
        fc_lock()
        block = free_blocks[i]
        free_blocks[i] = NULL
        rest = block
        while rest != NULL:
            kept_bytes -= rest.bytes
            rest = rest.next
        fc_unlock()
        while block != NULL:
            rest = block.next
            free_block(block)
            block = rest


cdef class Memory:
    """Base object of an array whose data came from `take`."""
    cdef void *pointer

    def __dealloc__(self):
        give_back(self.pointer)


cdef cnp.ndarray empty(int ndim, cnp.npy_intp *shape, int typenum):
    """A new C-contiguous array, contents undefined; MemoryError where it does not fit."""
    cdef size_t bytes = 2 if typenum == cnp.NPY_FLOAT16 else 4 if typenum == cnp.NPY_FLOAT32 else 8
    cdef int i
    for i in range(ndim):
        if shape[i] and bytes > <size_t>most_bytes() // <size_t>shape[i]:
            raise MemoryError(
                f"a result of {ndim} axes, {shape[i]} long along axis {i}, does not fit into memory"
            )
        bytes *= shape[i]
    if make_result is not None:
        return make_result(tuple([shape[i] for i in range(ndim)]), typenum)
    if bytes <= SMALL:
        return cnp.PyArray_EMPTY(ndim, shape, typenum, 0)
    return in_block(ndim, shape, typenum, bytes)


cdef cnp.ndarray aligned(size_t bytes, int typenum):
    """A new array of one axis, of `bytes` bytes, that begins on a cache line however small it is."""
    cdef cnp.npy_intp elements = bytes // (4 if typenum == cnp.NPY_FLOAT32 else 8)
    return in_block(1, &elements, typenum, bytes)


cdef cnp.ndarray in_block(int ndim, cnp.npy_intp *shape, int typenum, size_t bytes):
    cdef Memory memory = Memory.__new__(Memory)
    memory.pointer = take(bytes)
    if memory.pointer == NULL:
        raise MemoryError(f"no memory for a result of {bytes} bytes")
    array = cnp.PyArray_SimpleNewFromData(ndim, shape, typenum, memory.pointer)
    cnp.set_array_base(array, memory)
    return array


def new_array(tuple shape, int typenum):
    """A new array in recycled memory; `typenum` is NumPy's number of float16, float32, float64 or int64."""
    cdef cnp.npy_intp dims[MOST_AXES]
    cdef int i
    if len(shape) > MOST_AXES:
        raise ValueError(f"shape: got {len(shape)} axes, needs at most {MOST_AXES}")
    for i in range(len(shape)):
        dims[i] = shape[i]
    return empty(<int>len(shape), dims, typenum)


def memory_info() -> dict:
    """How much memory there is of this library's own, in bytes.

    Returns
    -------
    dict of int
        "used" by living arrays and running calls, "kept" for reuse, and the "limit" of what is kept.

    Examples
    --------
    >>> import fastconv as fc
    >>> y = fc.relu([[1.0, -1.0]])
    >>> sorted(fc.memory_info())
    ['kept', 'limit', 'used']
    """
    cdef size_t used, kept
    fc_lock()
    used, kept = used_bytes, kept_bytes
    fc_unlock()
    return {"used": used, "kept": kept, "limit": keep_at_most}


def release_memory() -> None:
    """Give all memory that is kept for reuse back to the system; living arrays are untouched.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.release_memory()
    >>> fc.memory_info()["kept"]
    0
    """
    release_kept()


def fail_allocation(Py_ssize_t number) -> bool:
    """For tests: the `number`-th allocation from now on fails, once; 0: none. Is an earlier order pending?"""
    global until_failure
    fc_lock()
    cdef bint pending = until_failure > 0
    until_failure = number
    fc_unlock()
    return pending


def results_from(make) -> None:
    """For tests: `make(shape, typenum)` makes the arrays of results, wherever it likes; None: as ever."""
    global make_result
    make_result = make
