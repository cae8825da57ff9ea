"""Half precision to single and back: float16 arrays are computed in float32."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint16_t

from fastconv._kernels.isa cimport fc_kernels, kernels_for
from fastconv._kernels.memory cimport empty

cnp.import_array()

cdef enum:
    PART = 1 << 14      # elements that go to a thread together


def to_single(cnp.ndarray halves not None, int num_threads):
    """A float32 array of the values of a C-contiguous, aligned, native float16 array."""
    cdef cnp.ndarray result = empty(cnp.PyArray_NDIM(halves), cnp.PyArray_DIMS(halves), cnp.NPY_FLOAT32)
    cdef const fc_kernels *kernels = kernels_for(cnp.NPY_FLOAT32)
    cdef const uint16_t *source = <const uint16_t *>cnp.PyArray_DATA(halves)
    cdef float *target = <float *>cnp.PyArray_DATA(result)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(halves), part
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        kernels.from_half(target + part, source + part, min(<Py_ssize_t>PART, count - part))
    return result


def from_single(cnp.ndarray singles not None, int num_threads):
    """A float16 array of a C-contiguous, aligned, native float32 array's values, rounded to the nearest."""
    cdef cnp.ndarray result = empty(cnp.PyArray_NDIM(singles), cnp.PyArray_DIMS(singles), cnp.NPY_FLOAT16)
    cdef const fc_kernels *kernels = kernels_for(cnp.NPY_FLOAT32)
    cdef const float *source = <const float *>cnp.PyArray_DATA(singles)
    cdef uint16_t *target = <uint16_t *>cnp.PyArray_DATA(result)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(singles), part
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        kernels.to_half(target + part, source + part, min(<Py_ssize_t>PART, count - part))
    return result
