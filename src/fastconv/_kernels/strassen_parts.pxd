from fastconv._kernels.correlation cimport Correlation

cdef enum:
    PRODUCTS = 7

# The products' operands, in their order (see strassen_parts.pyx).
cdef enum:
    A0, A1, S1, S2, S4, S3, B1

cdef Correlation halved(const Correlation *whole) noexcept nogil
cdef void pack_products(
    const Correlation *half, Py_ssize_t channel, Py_ssize_t width, Py_ssize_t padded, char *packed,
    Py_ssize_t product_bytes) noexcept nogil
