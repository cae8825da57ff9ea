cimport numpy as cnp

from fastconv._kernels.correlation cimport Correlation
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.passes cimport Pack, Passes

cdef enum:
    PRODUCTS = 7

# The products' operands, in their order (see strassen_parts.pyx).
cdef enum:
    A0, A1, S1, S2, S4, S3, B1

cdef bint halves(ConvGeometry g, bint for_grad_input) noexcept
cdef Correlation halved(const Correlation *whole) noexcept nogil
cdef void pack_products(
    const Correlation *half, Py_ssize_t channel, Py_ssize_t width, Py_ssize_t padded, char *packed,
    Py_ssize_t product_bytes) noexcept nogil
cdef cnp.ndarray pack_with_weight(
    const Passes *passes, const void *job, Pack pack, cnp.ndarray weight, int num_threads)
cdef bint mend(const Correlation *c, const Passes *passes, Py_ssize_t spoilt, int num_threads) noexcept nogil
