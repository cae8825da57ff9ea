"""Elementwise functions and softmax: one pass over memory, in parts over threads, into recycled memory."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint8_t, uint16_t

from fastconv._kernels.isa cimport fc_binary, fc_kernels, fc_unary, kernels_for
from fastconv._kernels.memory cimport empty

cnp.import_array()

cdef enum:
    PART = 1 << 14      # elements, or positions, that go to a thread together
    BLOCK = 2048        # elements of float16 that are converted together


cdef cnp.ndarray empty_like(cnp.ndarray x):
    return empty(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))


cdef const fc_kernels *kernels_of(cnp.ndarray x) except NULL:
    """The table for an array's dtype; float16 is computed in float32."""
    cdef int typenum = cnp.PyArray_TYPE(x)
    return kernels_for(cnp.NPY_FLOAT32 if typenum == cnp.NPY_FLOAT16 else typenum)


cdef object unary(fc_unary function, cnp.ndarray x, double parameter, int num_threads, cnp.ndarray into=None):
    cdef cnp.ndarray result = empty_like(x) if into is None else into
    cdef const fc_kernels *halves = kernels_of(x) if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT16 else NULL
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(x), count = cnp.PyArray_SIZE(x), part
    cdef const char *source = <const char *>cnp.PyArray_DATA(x)
    cdef char *target = <char *>cnp.PyArray_DATA(result)
    if num_threads == 1:
        with nogil:
            unary_part(halves, function, target, source, count, parameter)
        return result
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        unary_part(halves, function, target + part * size, source + part * size,
                   min(<Py_ssize_t>PART, count - part), parameter)
    return result


cdef void unary_part(const fc_kernels *halves, fc_unary function, char *target, const char *source,
                     Py_ssize_t count, double parameter) noexcept nogil:
    """A part of an array; of float16 if `halves` isn't NULL, through blocks of float32 that stay in cache."""
    cdef float block[BLOCK]
    cdef Py_ssize_t begin = 0, size
    if halves == NULL:
        function(target, source, count, parameter)
        return
    while begin < count:
        size = min(<Py_ssize_t>BLOCK, count - begin)
        halves.from_half(block, <const uint16_t *>source + begin, size)
        function(block, block, size, parameter)
        halves.to_half(<uint16_t *>target + begin, block, size)
        begin += size


cdef object binary(fc_binary function, cnp.ndarray a, cnp.ndarray b, double parameter, int num_threads,
                   cnp.ndarray into=None):
    cdef cnp.ndarray result = empty_like(a) if into is None else into
    cdef const fc_kernels *halves = kernels_of(a) if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT16 else NULL
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(a), count = cnp.PyArray_SIZE(a), part
    cdef const char *first = <const char *>cnp.PyArray_DATA(a)
    cdef const char *second = <const char *>cnp.PyArray_DATA(b)
    cdef char *target = <char *>cnp.PyArray_DATA(result)
    if num_threads == 1:
        with nogil:
            binary_part(halves, function, target, first, second, count, parameter)
        return result
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        binary_part(halves, function, target + part * size, first + part * size, second + part * size,
                    min(<Py_ssize_t>PART, count - part), parameter)
    return result


cdef void binary_part(const fc_kernels *halves, fc_binary function, char *target, const char *first,
                      const char *second, Py_ssize_t count, double parameter) noexcept nogil:
    """As unary_part, of two arrays."""
    cdef float a[BLOCK]
    cdef float b[BLOCK]
    cdef Py_ssize_t begin = 0, size
    if halves == NULL:
        function(target, first, second, count, parameter)
        return
    while begin < count:
        size = min(<Py_ssize_t>BLOCK, count - begin)
        halves.from_half(a, <const uint16_t *>first + begin, size)
        halves.from_half(b, <const uint16_t *>second + begin, size)
        function(a, a, b, size, parameter)
        halves.to_half(<uint16_t *>target + begin, a, size)
        begin += size


# Arrays are C-contiguous, aligned and native: float32, float64, or float16, which is computed in float32.
# `into`, where given, gets the result, and may be an operand.

def relu(cnp.ndarray x not None, double ceiling, int num_threads, cnp.ndarray into=None):
    return unary(kernels_of(x).relu, x, ceiling, num_threads, into)


def relu_backward(cnp.ndarray grad_output not None, cnp.ndarray x not None, double ceiling, int num_threads):
    return binary(kernels_of(x).relu_backward, grad_output, x, ceiling, num_threads)


def relu_bits(cnp.ndarray x not None, double ceiling, int num_threads):
    """relu, and whether the gradient of each element passes: a bit each, in int64."""
    cdef cnp.ndarray result = empty_like(x)
    cdef const fc_kernels *kernels = kernels_of(x)
    cdef bint half = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT16
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(x), count = cnp.PyArray_SIZE(x), part
    cdef cnp.npy_intp words = (count + 63) // 64
    cdef cnp.ndarray signs = empty(1, &words, cnp.NPY_INT64)
    cdef const char *source = <const char *>cnp.PyArray_DATA(x)
    cdef char *target = <char *>cnp.PyArray_DATA(result)
    cdef uint8_t *bits = <uint8_t *>cnp.PyArray_DATA(signs)
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        relu_bits_part(kernels, half, target + part * size, bits + part // 8, source + part * size,
                       min(<Py_ssize_t>PART, count - part), ceiling)
    return result, signs


cdef void relu_bits_part(const fc_kernels *kernels, bint half, char *target, uint8_t *bits,
                         const char *source, Py_ssize_t count, double ceiling) noexcept nogil:
    """As unary_part, with bits."""
    cdef float block[BLOCK]
    cdef Py_ssize_t begin = 0, size
    if not half:
        kernels.relu_bits(target, bits, source, count, ceiling)
        return
    while begin < count:
        size = min(<Py_ssize_t>BLOCK, count - begin)
        kernels.from_half(block, <const uint16_t *>source + begin, size)
        kernels.relu_bits(block, bits + begin // 8, block, size, ceiling)
        kernels.to_half(<uint16_t *>target + begin, block, size)
        begin += size


def relu_backward_bits(cnp.ndarray grad_output not None, cnp.ndarray signs not None, int num_threads):
    """grad_output where a bit of `relu_bits` is set, else 0."""
    cdef cnp.ndarray result = empty_like(grad_output)
    cdef const fc_kernels *kernels = kernels_of(grad_output)
    cdef bint half = cnp.PyArray_TYPE(grad_output) == cnp.NPY_FLOAT16
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(grad_output), count = cnp.PyArray_SIZE(grad_output), part
    cdef const char *source = <const char *>cnp.PyArray_DATA(grad_output)
    cdef char *target = <char *>cnp.PyArray_DATA(result)
    cdef const uint8_t *bits = <const uint8_t *>cnp.PyArray_DATA(signs)
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        relu_backward_bits_part(kernels, half, target + part * size, source + part * size, bits + part // 8,
                                min(<Py_ssize_t>PART, count - part))
    return result


cdef void relu_backward_bits_part(const fc_kernels *kernels, bint half, char *target, const char *source,
                                  const uint8_t *bits, Py_ssize_t count) noexcept nogil:
    """As unary_part, with bits."""
    cdef float block[BLOCK]
    cdef Py_ssize_t begin = 0, size
    if not half:
        kernels.relu_backward_bits(target, source, bits, count)
        return
    while begin < count:
        size = min(<Py_ssize_t>BLOCK, count - begin)
        kernels.from_half(block, <const uint16_t *>source + begin, size)
        kernels.relu_backward_bits(block, block, bits + begin // 8, size)
        kernels.to_half(<uint16_t *>target + begin, block, size)
        begin += size


def leaky_relu(cnp.ndarray x not None, double slope, int num_threads):
    return unary(kernels_of(x).leaky_relu, x, slope, num_threads)


def leaky_relu_backward(
        cnp.ndarray grad_output not None, cnp.ndarray x not None, double slope, int num_threads):
    return binary(kernels_of(x).leaky_relu_backward, grad_output, x, slope, num_threads)


def sigmoid(cnp.ndarray x not None, int num_threads):
    return unary(kernels_of(x).sigmoid, x, 0, num_threads)


def sigmoid_backward(cnp.ndarray grad_output not None, cnp.ndarray output not None, int num_threads):
    return binary(kernels_of(output).sigmoid_backward, grad_output, output, 0, num_threads)


def tanh(cnp.ndarray x not None, int num_threads):
    return unary(kernels_of(x).tanh, x, 0, num_threads)


def tanh_backward(cnp.ndarray grad_output not None, cnp.ndarray output not None, int num_threads):
    return binary(kernels_of(output).tanh_backward, grad_output, output, 0, num_threads)


def plus(cnp.ndarray a not None, cnp.ndarray b not None, ceiling, int num_threads, cnp.ndarray into=None):
    """a + b, or, with a ceiling, min(max(a + b, 0), ceiling)."""
    if ceiling is None:
        return binary(kernels_of(a).plus, a, b, 0, num_threads, into)
    return binary(kernels_of(a).plus_relu, a, b, ceiling, num_threads, into)


def keep(cnp.ndarray x not None, cnp.ndarray mask not None, double scale, int num_threads):
    """x * scale where the mask, of bool, is true, else x * 0."""
    cdef cnp.ndarray result = empty_like(x)
    cdef const fc_kernels *kernels = kernels_of(x)
    cdef bint half = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT16
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(x), count = cnp.PyArray_SIZE(x), part
    cdef const char *source = <const char *>cnp.PyArray_DATA(x)
    cdef const uint8_t *kept = <const uint8_t *>cnp.PyArray_DATA(mask)
    cdef char *target = <char *>cnp.PyArray_DATA(result)
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        keep_part(kernels, half, target + part * size, source + part * size, kept + part,
                  min(<Py_ssize_t>PART, count - part), scale)
    return result


cdef void keep_part(const fc_kernels *kernels, bint half, char *target, const char *source,
                    const uint8_t *kept, Py_ssize_t count, double scale) noexcept nogil:
    """As unary_part, with a mask."""
    cdef float block[BLOCK]
    cdef Py_ssize_t begin = 0, size
    if not half:
        kernels.keep(target, source, kept, count, scale)
        return
    while begin < count:
        size = min(<Py_ssize_t>BLOCK, count - begin)
        kernels.from_half(block, <const uint16_t *>source + begin, size)
        kernels.keep(block, block, kept + begin, size, scale)
        kernels.to_half(<uint16_t *>target + begin, block, size)
        begin += size


cdef struct Classes:
    Py_ssize_t count, inner, positions, part


cdef Classes classes_of(cnp.ndarray x, int axis):
    """The axes of x as [positions // inner][classes][inner], and how many positions a part has."""
    cdef Classes c
    cdef int i
    c.count, c.inner, c.positions = cnp.PyArray_DIM(x, axis), 1, 1
    for i in range(cnp.PyArray_NDIM(x)):
        if i != axis:
            c.positions *= cnp.PyArray_DIM(x, i)
        if i > axis:
            c.inner *= cnp.PyArray_DIM(x, i)
    c.part = max(PART // max(c.count, 1), 1)
    if c.inner > 1:
        c.part = (c.part + 63) // 64 * 64     # whole vectors
    return c


def softmax(cnp.ndarray x not None, int axis, bint logarithm, int num_threads):
    """softmax(x) along an axis, or its logarithm."""
    cdef cnp.ndarray result = empty_like(x)
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef Classes c = classes_of(x, axis)
    cdef const char *source = <const char *>cnp.PyArray_DATA(x)
    cdef char *target = <char *>cnp.PyArray_DATA(result)
    cdef Py_ssize_t begin
    if c.count == 0:
        return result
    for begin in prange(0, c.positions, c.part, num_threads=num_threads, nogil=True, schedule="static"):
        kernels.softmax(target, source, c.count, c.inner, begin, min(begin + c.part, c.positions), logarithm)
    return result


def softmax_backward(
        cnp.ndarray grad_output not None, cnp.ndarray output not None, int axis, bint logarithm,
        int num_threads):
    """The gradient of `softmax` by x."""
    cdef cnp.ndarray result = empty_like(output)
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(output))
    cdef Classes c = classes_of(output, axis)
    cdef const char *grad = <const char *>cnp.PyArray_DATA(grad_output)
    cdef const char *given = <const char *>cnp.PyArray_DATA(output)
    cdef char *target = <char *>cnp.PyArray_DATA(result)
    cdef Py_ssize_t begin
    if c.count == 0:
        return result
    for begin in prange(0, c.positions, c.part, num_threads=num_threads, nogil=True, schedule="static"):
        kernels.softmax_backward(target, grad, given, c.count, c.inner, begin,
                                 min(begin + c.part, c.positions), logarithm)
    return result
