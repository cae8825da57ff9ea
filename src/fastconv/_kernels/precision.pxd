"""How large what is added is, beside what comes of it: its rounding errors stay.

Winograd's transforms and Strassen's sums mix what a result does not see: rounding errors of large pixels that
meet taps of zero alone reach results that don't depend on them.
"""

from libc.math cimport fabs

from fastconv._kernels.isa cimport fc_kernels

# Of some elements one of EACH_ASKED is looked at, or so many that they are from FEWEST to MOST.
cdef enum:
    EACH_ASKED = 61
    FEWEST_ASKED = 256
    MOST_ASKED = 4096

cdef inline double size_of(const fc_kernels *table, const char *data, Py_ssize_t i) noexcept nogil:
    return fabs((<const double *>data)[i]) if table.itemsize == 8 else fabs((<const float *>data)[i])

cdef inline double largest_of(
        const fc_kernels *table, const char *data, Py_ssize_t count, Py_ssize_t step=1) noexcept nogil:
    cdef double largest = 0
    cdef Py_ssize_t i = 0
    while i < count:
        largest = max(largest, size_of(table, data, i))
        i += step
    return largest

cdef inline double largest_of_some(
        const fc_kernels *table, const char *data, Py_ssize_t count) noexcept nogil:
    """The step is odd, so that it does not meet the same pixel of all channels."""
    cdef Py_ssize_t step = max(EACH_ASKED, count // MOST_ASKED)
    return largest_of(table, data, count, min(count // FEWEST_ASKED, step) | 1)
