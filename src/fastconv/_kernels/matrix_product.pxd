cimport numpy as cnp

from fastconv._kernels.isa cimport fc_kernels

# An operand: element (i, k) lies at i*outer + k*inner elements from data; one of both steps is 1.
ctypedef struct Operand:
    const char *data
    Py_ssize_t outer, inner

# c[i*columns + j] = sum over k < depth of a(i, k) * b(j, k), plus bias[j].
ctypedef struct Product:
    const fc_kernels *kernels
    Py_ssize_t rows, columns, depth
    Operand a, b
    char *c
    const char *bias
    bint relu       # max(c, 0) is the result
    bint b_is_half  # b is float16, of which multiply_rows alone makes float

cdef Product product(
    cnp.ndarray a, Py_ssize_t a_outer, Py_ssize_t a_inner, cnp.ndarray b, Py_ssize_t b_outer,
    Py_ssize_t b_inner, Py_ssize_t depth, cnp.ndarray c, Py_ssize_t columns)
cdef int multiply(const Product *p, int num_threads) except -1
