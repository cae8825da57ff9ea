cimport numpy as cnp

cdef inline Py_ssize_t most_bytes() noexcept nogil:
    """No processor addresses more; sums of a few such numbers are far from what Py_ssize_t holds."""
    return <Py_ssize_t>1 << 47

cdef inline Py_ssize_t for_threads(Py_ssize_t bytes, Py_ssize_t num_threads) noexcept nogil:
    """Bytes for each of so many threads; more than there can be where the product would not fit."""
    return bytes * num_threads if bytes <= most_bytes() // num_threads else most_bytes() + 1

cdef void *take(size_t bytes) noexcept nogil
cdef char *take_workspace(Py_ssize_t bytes) except NULL
cdef void give_back(void *pointer) noexcept nogil
cdef cnp.ndarray aligned(size_t bytes, int typenum)
cdef cnp.ndarray empty(int ndim, cnp.npy_intp *shape, int typenum)
