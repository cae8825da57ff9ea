"""Whether arrays can go to the kernels, and other arguments to a cache, as they are."""

cimport numpy as cnp

cnp.import_array()

cdef enum:
    WANTED = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED


cdef inline bint is_native(object array, int typenum) noexcept:
    return (type(array) is cnp.ndarray and cnp.PyArray_TYPE(<cnp.ndarray>array) == typenum
            and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>array)
            and cnp.PyArray_CHKFLAGS(<cnp.ndarray>array, WANTED))


def native(first, second, third=None) -> bool:
    """Whether all are C-contiguous, aligned, native, of one dtype (float32 or float64); third may be None."""
    if type(first) is not cnp.ndarray:
        return False
    cdef int typenum = cnp.PyArray_TYPE(<cnp.ndarray>first)
    return ((typenum == cnp.NPY_FLOAT32 or typenum == cnp.NPY_FLOAT64)
            and is_native(first, typenum) and is_native(second, typenum)
            and (third is None or is_native(third, typenum)))


def all_native(tuple values not None, bint halves) -> bool:
    """The same of any number of arrays, at least one; with `halves` they may be of float16, too."""
    first = values[0]
    if type(first) is not cnp.ndarray:
        return False
    cdef int typenum = cnp.PyArray_TYPE(<cnp.ndarray>first)
    if typenum != cnp.NPY_FLOAT32 and typenum != cnp.NPY_FLOAT64 and not (
            halves and typenum == cnp.NPY_FLOAT16):
        return False
    for value in values:
        if not is_native(value, typenum):
            return False
    return True


def exact(*values) -> bool:
    """Whether all are ints, strings or (nested) tuples of these, of exactly these types.

    Then those that are equal as keys of a cache are equal as arguments, which True, 1 and 1.0 are not.
    """
    return all_exact(values)


cdef bint all_exact(tuple values) noexcept:
    for value in values:
        if type(value) is tuple:
            if not all_exact(<tuple>value):
                return False
        elif type(value) is not int and type(value) is not str:
            return False
    return True
