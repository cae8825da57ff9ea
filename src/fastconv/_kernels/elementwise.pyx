"""Elementwise functions and softmax: one pass over memory, in parts over threads, into recycled memory."""

cimport numpy as cnp
from libc.stdint cimport uint8_t, uint16_t

from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport fc_binary, fc_kernels, fc_unary, kernels_for
from fastconv._kernels.memory cimport empty, for_threads, give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, parallel_for
from fastconv._kernels.unchanged cimport still, still_has

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


ctypedef enum Kind:
    UNARY
    BINARY
    RELU_BITS
    RELU_BACKWARD_BITS
    KEEP


# One pass over arrays of `count` elements. What isn't of the kind isn't looked at.
ctypedef struct Pass:
    Kind kind
    fc_unary *unary
    fc_binary *binary
    double parameter
    uint8_t *marks              # a bit for each element of a, or, of KEEP, a byte
    const fc_kernels *kernels
    bint half                   # float16, which becomes float32 a block at a time and stays in cache
    char *target
    const char *a
    const char *b               # NULL where there is one operand
    Py_ssize_t size, count


cdef cnp.ndarray run(Pass *p, cnp.ndarray a, cnp.ndarray b, int num_threads, cnp.ndarray into=None):
    """The result of a pass whose first five fields are set, in `into` if that is not None; b may be None."""
    cdef cnp.ndarray result = empty_like(a) if into is None else into
    p.kernels, p.half = kernels_of(a), cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT16
    p.target, p.a = <char *>cnp.PyArray_DATA(result), <const char *>cnp.PyArray_DATA(a)
    p.b = NULL
    if b is not None:
        still(b, cnp.PyArray_TYPE(a), cnp.PyArray_SIZE(a))
        p.b = <const char *>cnp.PyArray_DATA(b)
    p.size, p.count = cnp.PyArray_ITEMSIZE(a), cnp.PyArray_SIZE(a)
    with nogil:
        parallel_for(ceil_div(p.count, PART), num_threads, run_part, p, EVENLY)
    return result


cdef Py_ssize_t run_part(const void *pass_, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Pass *p = <const Pass *>pass_
    cdef float a[BLOCK]
    cdef float b[BLOCK]
    cdef Py_ssize_t begin = item * PART, end = min(begin + PART, p.count), count
    if not p.half:
        apply(p, p.target + begin * p.size, p.a + begin * p.size,
              p.b + begin * p.size if p.b != NULL else NULL, begin, end - begin)
        return 0
    while begin < end:
        count = min(<Py_ssize_t>BLOCK, end - begin)
        p.kernels.from_half(a, <const uint16_t *>p.a + begin, count)
        if p.b != NULL:
            p.kernels.from_half(b, <const uint16_t *>p.b + begin, count)
        apply(p, a, a, b, begin, count)
        p.kernels.to_half(<uint16_t *>p.target + begin, a, count)
        begin += count
    return 0


cdef inline void apply(const Pass *p, void *target, const void *a, const void *b, Py_ssize_t begin,
                       Py_ssize_t count) noexcept nogil:
    """Elements from `begin` on, a multiple of 8, that are at a and b."""
    if p.kind == UNARY:
        p.unary(target, a, count, p.parameter)
    elif p.kind == BINARY:
        p.binary(target, a, b, count, p.parameter)
    elif p.kind == RELU_BITS:
        p.kernels.relu_bits(target, p.marks + begin // 8, a, count, p.parameter)
    elif p.kind == RELU_BACKWARD_BITS:
        p.kernels.relu_backward_bits(target, a, p.marks + begin // 8, count)
    else:
        p.kernels.keep(target, a, p.marks + begin, count, p.parameter)


cdef cnp.ndarray unary(fc_unary *function, cnp.ndarray x, double parameter, int num_threads,
                       cnp.ndarray into=None):
    cdef Pass p
    p.kind, p.unary, p.parameter = UNARY, function, parameter
    return run(&p, x, None, num_threads, into)


cdef cnp.ndarray binary(fc_binary *function, cnp.ndarray a, cnp.ndarray b, double parameter, int num_threads,
                        cnp.ndarray into=None):
    cdef Pass p
    p.kind, p.binary, p.parameter = BINARY, function, parameter
    return run(&p, a, b, num_threads, into)


cdef cnp.ndarray marked(Kind kind, cnp.ndarray x, cnp.ndarray marks, double parameter, int num_threads,
                        cnp.ndarray into=None):
    cdef Pass p
    p.kind, p.marks, p.parameter = kind, <uint8_t *>cnp.PyArray_DATA(marks), parameter
    return run(&p, x, None, num_threads, into)


# Arrays are C-contiguous, aligned and native: float32, float64, or float16, which is computed in float32.
# `into`, where given, gets the result, and may be an operand.

def relu(cnp.ndarray x not None, double ceiling, int num_threads, cnp.ndarray into=None):
    return unary(kernels_of(x).relu, x, ceiling, num_threads, into)


def relu_backward(cnp.ndarray grad_output not None, cnp.ndarray x not None, double ceiling, int num_threads):
    return binary(kernels_of(x).relu_backward, grad_output, x, ceiling, num_threads)


def relu_bits(cnp.ndarray x not None, double ceiling, int num_threads):
    """relu, and whether the gradient of each element passes: a bit each, in int64."""
    cdef cnp.npy_intp words = (cnp.PyArray_SIZE(x) + 63) // 64
    cdef cnp.ndarray signs = empty(1, &words, cnp.NPY_INT64)
    return marked(RELU_BITS, x, signs, ceiling, num_threads), signs


def relu_backward_bits(cnp.ndarray grad_output not None, cnp.ndarray signs not None, int num_threads,
                       cnp.ndarray into=None):
    """grad_output where a bit of `relu_bits` is set, else 0."""
    still(signs, cnp.NPY_INT64, (cnp.PyArray_SIZE(grad_output) + 63) // 64)
    return marked(RELU_BACKWARD_BITS, grad_output, signs, 0, num_threads, into)


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
    still(mask, cnp.NPY_BOOL, cnp.PyArray_SIZE(x))
    return marked(KEEP, x, mask, scale, num_threads)


# Along an axis of arrays that are [positions // inner][classes][inner].
ctypedef struct Softmax:
    const fc_kernels *kernels
    bint logarithm
    char *target
    const char *given           # x, or, of the gradient, the output
    const char *grad
    Py_ssize_t classes, inner, positions
    Py_ssize_t part             # positions that go to a thread together
    float *singles              # for each thread, where arrays are of float16; else NULL
    Py_ssize_t each


cdef Softmax softmax_of(cnp.ndarray given, int axis, bint logarithm, cnp.ndarray result) except *:
    """All but the table, and what only the gradient has."""
    cdef Softmax s
    cdef int i
    still_has(given, axis)
    s.logarithm = logarithm
    s.target, s.given = <char *>cnp.PyArray_DATA(result), <const char *>cnp.PyArray_DATA(given)
    s.classes, s.inner, s.positions = cnp.PyArray_DIM(given, axis), 1, 1
    for i in range(cnp.PyArray_NDIM(given)):
        if i != axis:
            s.positions *= cnp.PyArray_DIM(given, i)
        if i > axis:
            s.inner *= cnp.PyArray_DIM(given, i)
    s.part = max(PART // max(s.classes, 1), 1)
    if s.inner > 1:
        s.part = (s.part + 63) // 64 * 64     # whole vectors
    return s


def softmax(cnp.ndarray x not None, int axis, bint logarithm, int num_threads):
    """softmax(x) along an axis, or its logarithm."""
    cdef cnp.ndarray result = empty_like(x)
    cdef Softmax s = softmax_of(x, axis, logarithm, result)
    s.kernels = kernels_for(cnp.PyArray_TYPE(x))
    if s.classes == 0:
        return result
    with nogil:
        parallel_for(ceil_div(s.positions, s.part), num_threads, softmax_part, &s, EVENLY)
    return result


cdef Py_ssize_t softmax_part(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Softmax *s = <const Softmax *>job
    cdef Py_ssize_t begin = item * s.part, end = min(begin + s.part, s.positions)
    s.kernels.softmax(s.target, s.given, s.classes, s.inner, begin, end, s.logarithm)
    return 0


def softmax_backward(
        cnp.ndarray grad_output not None, cnp.ndarray output not None, int axis, bint logarithm,
        int num_threads):
    """The gradient of `softmax` by x; along the last axis of float16, too."""
    cdef cnp.ndarray result = empty_like(output)
    still(grad_output, cnp.PyArray_TYPE(output), cnp.PyArray_SIZE(output))
    cdef Softmax s = softmax_of(output, axis, logarithm, result)
    s.kernels, s.grad = kernels_of(output), <const char *>cnp.PyArray_DATA(grad_output)
    s.singles, s.each = NULL, 3 * s.part * s.classes
    if s.classes == 0:
        return result
    if cnp.PyArray_TYPE(output) == cnp.NPY_FLOAT16:
        s.singles = <float *>take_workspace(for_threads(s.each * <Py_ssize_t>sizeof(float), num_threads))
    with nogil:
        parallel_for(ceil_div(s.positions, s.part), num_threads, backward_part, &s, EVENLY)
    give_back(s.singles)
    return result


cdef Py_ssize_t backward_part(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """A part of the gradient; rows of float16 are float32 meanwhile and stay in cache."""
    cdef const Softmax *s = <const Softmax *>job
    cdef Py_ssize_t begin = item * s.part, end = min(begin + s.part, s.positions)
    cdef Py_ssize_t at = begin * s.classes, count = (end - begin) * s.classes
    cdef float *singles
    if s.singles == NULL:
        s.kernels.softmax_backward(s.target, s.grad, s.given, s.classes, s.inner, begin, end, s.logarithm)
        return 0
    singles = s.singles + s.each * thread
    s.kernels.from_half(singles, <const uint16_t *>s.grad + at, count)
    s.kernels.from_half(singles + count, <const uint16_t *>s.given + at, count)
    s.kernels.softmax_backward(
        singles + 2 * count, singles, singles + count, s.classes, 1, 0, end - begin, s.logarithm)
    s.kernels.to_half(<uint16_t *>s.target + at, singles + 2 * count, count)
    return 0
