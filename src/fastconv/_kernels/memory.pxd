cimport numpy as cnp

cdef void *take(size_t bytes) noexcept nogil
cdef void give_back(void *pointer) noexcept nogil
cdef cnp.ndarray empty(int ndim, cnp.npy_intp *shape, int typenum)
