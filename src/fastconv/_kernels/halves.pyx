"""Half precision to single and back: float16 arrays are computed in float32."""

cimport numpy as cnp
from libc.stdint cimport uint16_t

from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport fc_kernels, kernels_for
from fastconv._kernels.memory cimport empty
from fastconv._kernels.threads cimport EVENLY, Body, parallel_for

cnp.import_array()

cdef enum:
    PART = 1 << 14      # elements that go to a thread together

# From one of the arrays to the other.
ctypedef struct Conversion:
    const fc_kernels *kernels
    uint16_t *halves
    float *singles
    Py_ssize_t count


def to_single(cnp.ndarray halves not None, int num_threads):
    """A float32 array of the values of a C-contiguous, aligned, native float16 array."""
    cdef cnp.ndarray result = empty(cnp.PyArray_NDIM(halves), cnp.PyArray_DIMS(halves), cnp.NPY_FLOAT32)
    convert(halves, result, part_to_single, num_threads)
    return result


def from_single(cnp.ndarray singles not None, int num_threads):
    """A float16 array of a C-contiguous, aligned, native float32 array's values, rounded to the nearest."""
    cdef cnp.ndarray result = empty(cnp.PyArray_NDIM(singles), cnp.PyArray_DIMS(singles), cnp.NPY_FLOAT16)
    convert(result, singles, part_from_single, num_threads)
    return result


cdef int convert(cnp.ndarray halves, cnp.ndarray singles, Body convert_part, int num_threads) except -1:
    cdef Conversion c
    c.kernels, c.count = kernels_for(cnp.NPY_FLOAT32), cnp.PyArray_SIZE(halves)
    c.halves, c.singles = <uint16_t *>cnp.PyArray_DATA(halves), <float *>cnp.PyArray_DATA(singles)
    with nogil:
        parallel_for(ceil_div(c.count, PART), num_threads, convert_part, &c, EVENLY)
    return 0


cdef Py_ssize_t part_to_single(const void *conversion, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Conversion *c = <const Conversion *>conversion
    cdef Py_ssize_t begin = item * PART
    c.kernels.from_half(c.singles + begin, c.halves + begin, min(<Py_ssize_t>PART, c.count - begin))
    return 0


cdef Py_ssize_t part_from_single(const void *conversion, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Conversion *c = <const Conversion *>conversion
    cdef Py_ssize_t begin = item * PART
    c.kernels.to_half(c.halves + begin, c.singles + begin, min(<Py_ssize_t>PART, c.count - begin))
    return 0
