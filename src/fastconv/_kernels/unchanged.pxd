cimport numpy as cnp

# What a kernel asks of arrays once more, with the GIL held and before it reads where the data lie: they were
# checked, but another thread may have given one another dtype or shape since then.

cdef inline int still(cnp.ndarray array, int typenum, Py_ssize_t elements) except -1:
    """Raises ValueError unless the array is of that dtype and has so many elements."""
    if cnp.PyArray_TYPE(array) != typenum or cnp.PyArray_SIZE(array) != elements:
        raise ValueError("arrays: got another dtype or shape of one during the call, needs them to stay")
    return 0

cdef inline int still_has(cnp.ndarray array, int axis) except -1:
    """Raises ValueError unless the array has that axis."""
    if axis >= cnp.PyArray_NDIM(array):
        raise ValueError("arrays: got fewer axes of one during the call, needs them to stay")
    return 0
