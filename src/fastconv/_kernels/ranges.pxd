from fastconv._kernels.correlation cimport ceil_div

# Some outputs of a row or a column: [first, last).
ctypedef struct Range:
    Py_ssize_t first, last

cdef inline Range seen_by(
        Py_ssize_t outputs, Py_ssize_t stride, Py_ssize_t offset, Py_ssize_t size) noexcept nogil:
    """The outputs o whose o*stride + offset is in an image of so many pixels."""
    cdef Range seen
    seen.first = min(outputs, ceil_div(max(-offset, 0), stride))
    seen.last = max(seen.first, min(outputs, ceil_div(max(size - offset, 0), stride)))
    return seen
