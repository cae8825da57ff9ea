cimport numpy as cnp

cdef void *take(size_t bytes) noexcept nogil
cdef char *take_workspace(Py_ssize_t bytes) except NULL
cdef void give_back(void *pointer) noexcept nogil
cdef cnp.ndarray aligned(size_t bytes, int typenum)
cdef cnp.ndarray empty(int ndim, cnp.npy_intp *shape, int typenum)
