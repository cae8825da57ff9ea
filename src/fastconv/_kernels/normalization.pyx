"""Sums over all but channels, and affine maps by channel: what batch normalization passes over memory for."""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport (
    FC_SUM_PLAIN, FC_SUM_PRODUCTS, FC_SUM_SQUARES, fc_affine, fc_kernels, kernels_for,
)
from fastconv._kernels.memory cimport empty, give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, parallel_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    PIXELS = 256        # summed together with channels last; these sums are summed in their order
    PART = 1 << 14      # elements that go to a thread together

# Sums by channel of arrays [batch][channels][plane].
ctypedef struct Sums:
    const fc_kernels *kernels
    const char *x
    const char *y
    const char *centers
    Py_ssize_t batch, channels, plane
    int kind
    double *sums        # or, of each part of so many PIXELS, one after the other

ctypedef struct Affine:
    const fc_kernels *kernels
    const fc_affine *job
    Py_ssize_t plane
    Py_ssize_t units, step      # rows of a plane, or pixels: all, and those that go to a thread together


def channel_sums(cnp.ndarray x not None, cnp.ndarray y, cnp.ndarray center, int num_threads):
    """float64 sums by channel of x (N, C, L): plain; with y, of x * (y - center); else of (x - center)^2.

    y has the shape and dtype of x; center is (C,), of the same dtype.
    """
    cdef Sums s
    s.kernels = kernels_for(cnp.PyArray_TYPE(x))
    s.batch, s.channels, s.plane = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2)
    cdef cnp.npy_intp shape = s.channels
    cdef cnp.ndarray result = empty(1, &shape, cnp.NPY_FLOAT64)
    s.sums = <double *>cnp.PyArray_DATA(result)
    s.x = <const char *>cnp.PyArray_DATA(x)
    s.y = s.x if y is None else <const char *>cnp.PyArray_DATA(y)
    s.centers = NULL
    s.kind = FC_SUM_PLAIN if center is None else FC_SUM_SQUARES if y is None else FC_SUM_PRODUCTS
    if y is not None:
        still(y, cnp.PyArray_TYPE(x), cnp.PyArray_SIZE(x))
    if center is not None:
        still(center, cnp.PyArray_TYPE(x), s.channels)
        s.centers = <const char *>cnp.PyArray_DATA(center)
    if s.plane == 1:
        sum_pixels(&s, num_threads)
        return result
    with nogil:
        parallel_for(s.channels, num_threads, sum_channel, &s, EVENLY)
    return result


cdef Py_ssize_t sum_channel(const void *sums, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Sums *s = <const Sums *>sums
    cdef double total = 0, center = 0
    cdef Py_ssize_t n, at
    if s.centers != NULL:
        if s.kernels.itemsize == 4:
            center = (<const float *>s.centers)[item]
        else:
            center = (<const double *>s.centers)[item]
    for n in range(s.batch):
        at = (n * s.channels + item) * s.plane * s.kernels.itemsize
        total += s.kernels.sum_row(s.x + at, s.y + at, center, s.plane, s.kind)
    s.sums[item] = total
    return 0


cdef int sum_pixels(const Sums *s, int num_threads) except -1:
    cdef Py_ssize_t parts = ceil_div(s.batch, PIXELS), part, c
    cdef Sums partial = s[0]
    memset(s.sums, 0, s.channels * sizeof(double))
    if parts <= 1:
        sum_part(s, 0, 0)
        return 0
    partial.sums = <double *>take_workspace(parts * s.channels * <Py_ssize_t>sizeof(double) + 1)
    memset(partial.sums, 0, parts * s.channels * sizeof(double))
    with nogil:
        parallel_for(parts, num_threads, sum_part, &partial, EVENLY)
    for part in range(parts):
        for c in range(s.channels):
            s.sums[c] += partial.sums[part * s.channels + c]
    give_back(partial.sums)
    return 0


cdef Py_ssize_t sum_part(const void *sums, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Sums *s = <const Sums *>sums
    cdef Py_ssize_t first = item * PIXELS, at = first * s.channels * s.kernels.itemsize
    s.kernels.sum_pixels(s.sums + item * s.channels, s.x + at, s.y + at, s.centers,
                         min(<Py_ssize_t>PIXELS, s.batch - first), s.channels, s.kind)
    return 0


def affine(cnp.ndarray x not None, cnp.ndarray offset not None, cnp.ndarray scale not None,
           cnp.ndarray shift not None, int num_threads, cnp.ndarray into=None):
    """(x - offset) * scale + shift by channel, for x of shape (N, C, L) and the others of shape (C,).

    `into`, where given, gets the result, and may be x.
    """
    cdef fc_affine job
    job.y = job.center = job.slope = NULL
    return run(&job, x, offset, scale, shift, num_threads, into)


def affine_sum(cnp.ndarray x not None, cnp.ndarray offset not None, cnp.ndarray scale not None,
               cnp.ndarray shift not None, cnp.ndarray y not None, cnp.ndarray center not None,
               cnp.ndarray slope not None, int num_threads):
    """((y - center) * slope + x - offset) * scale + shift by channel, for x and y of shape (N, C, L)."""
    cdef fc_affine job
    still(y, cnp.PyArray_TYPE(x), cnp.PyArray_SIZE(x))
    still(center, cnp.PyArray_TYPE(x), cnp.PyArray_DIM(x, 1))
    still(slope, cnp.PyArray_TYPE(x), cnp.PyArray_DIM(x, 1))
    job.y, job.center, job.slope = cnp.PyArray_DATA(y), cnp.PyArray_DATA(center), cnp.PyArray_DATA(slope)
    return run(&job, x, offset, scale, shift, num_threads)


cdef cnp.ndarray run(fc_affine *job, cnp.ndarray x, cnp.ndarray offset, cnp.ndarray scale, cnp.ndarray shift,
                     int num_threads, cnp.ndarray into=None):
    cdef Affine a
    cdef cnp.ndarray result = into
    a.kernels = kernels_for(cnp.PyArray_TYPE(x))
    if into is None:
        result = empty(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))
    cdef Py_ssize_t channels = cnp.PyArray_DIM(x, 1)
    if cnp.PyArray_SIZE(x) == 0:
        return result
    for part in (offset, scale, shift):
        still(part, cnp.PyArray_TYPE(x), channels)
    job.dst, job.x, job.channels = cnp.PyArray_DATA(result), cnp.PyArray_DATA(x), channels
    job.offset, job.scale = cnp.PyArray_DATA(offset), cnp.PyArray_DATA(scale)
    job.shift = cnp.PyArray_DATA(shift)
    a.job, a.plane = job, cnp.PyArray_DIM(x, 2)
    a.units = cnp.PyArray_DIM(x, 0) * (1 if a.plane == 1 else channels)
    a.step = max(PART // (channels if a.plane == 1 else a.plane), 1)
    with nogil:
        parallel_for(ceil_div(a.units, a.step), num_threads, run_part, &a, EVENLY)
    return result


cdef Py_ssize_t run_part(const void *affine_, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Affine *a = <const Affine *>affine_
    cdef Py_ssize_t begin = item * a.step, end = min(begin + a.step, a.units)
    if a.plane == 1:
        a.kernels.affine_pixels(a.job, begin, end)
    else:
        a.kernels.affine_rows(a.job, a.plane, begin, end)
    return 0
