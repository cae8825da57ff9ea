"""Sums over all but channels, and affine maps by channel: what batch normalization passes over memory for."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from fastconv._kernels.isa cimport (
    FC_SUM_PLAIN, FC_SUM_PRODUCTS, FC_SUM_SQUARES, fc_affine, fc_kernels, kernels_for,
)
from fastconv._kernels.memory cimport empty, give_back, take_workspace
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    PIXELS = 256        # summed together with channels last; these sums are summed in their order
    PART = 1 << 14      # elements that go to a thread together


def channel_sums(cnp.ndarray x not None, cnp.ndarray y, cnp.ndarray center, int num_threads):
    """float64 sums by channel of x (N, C, L): plain; with y, of x * (y - center); else of (x - center)^2.

    y has the shape and dtype of x; center is (C,), of the same dtype.
    """
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef Py_ssize_t batch = cnp.PyArray_DIM(x, 0), channels = cnp.PyArray_DIM(x, 1)
    cdef Py_ssize_t plane = cnp.PyArray_DIM(x, 2)
    cdef cnp.npy_intp shape = channels
    cdef cnp.ndarray result = empty(1, &shape, cnp.NPY_FLOAT64)
    cdef double *sums = <double *>cnp.PyArray_DATA(result)
    cdef const char *first = <const char *>cnp.PyArray_DATA(x)
    cdef const char *second = first if y is None else <const char *>cnp.PyArray_DATA(y)
    cdef const char *centers = NULL
    cdef int kind = FC_SUM_PLAIN if center is None else FC_SUM_SQUARES if y is None else FC_SUM_PRODUCTS
    cdef Py_ssize_t channel
    if y is not None:
        still(y, cnp.PyArray_TYPE(x), cnp.PyArray_SIZE(x))
    if center is not None:
        still(center, cnp.PyArray_TYPE(x), channels)
        centers = <const char *>cnp.PyArray_DATA(center)
    memset(sums, 0, channels * sizeof(double))
    if plane == 1:
        sum_pixels(kernels, first, second, centers, batch, channels, kind, sums, num_threads)
        return result
    for channel in prange(channels, num_threads=num_threads, nogil=True, schedule="static"):
        sums[channel] = sum_channel(kernels, first, second, centers, batch, channels, plane, kind, channel)
    return result


cdef double sum_channel(const fc_kernels *kernels, const char *x, const char *y, const char *centers,
                        Py_ssize_t batch, Py_ssize_t channels, Py_ssize_t plane, int kind,
                        Py_ssize_t channel) noexcept nogil:
    cdef double total = 0, center = 0
    cdef Py_ssize_t n, at
    if centers != NULL:
        if kernels.itemsize == 4:
            center = (<const float *>centers)[channel]
        else:
            center = (<const double *>centers)[channel]
    for n in range(batch):
        at = (n * channels + channel) * plane * kernels.itemsize
        total += kernels.sum_row(x + at, y + at, center, plane, kind)
    return total


cdef int sum_pixels(const fc_kernels *kernels, const char *x, const char *y, const char *centers,
                    Py_ssize_t pixels, Py_ssize_t channels, int kind, double *sums,
                    int num_threads) except -1:
    cdef Py_ssize_t parts = (pixels + PIXELS - 1) // PIXELS, part, at, c
    cdef double *partial
    if parts <= 1:
        kernels.sum_pixels(sums, x, y, centers, pixels, channels, kind)
        return 0
    partial = <double *>take_workspace(parts * channels * <Py_ssize_t>sizeof(double) + 1)
    memset(partial, 0, parts * channels * sizeof(double))
    for part in prange(parts, num_threads=num_threads, nogil=True, schedule="static"):
        at = part * PIXELS * channels * kernels.itemsize
        kernels.sum_pixels(partial + part * channels, x + at, y + at, centers,
                           min(<Py_ssize_t>PIXELS, pixels - part * PIXELS), channels, kind)
    for part in range(parts):
        for c in range(channels):
            sums[c] += partial[part * channels + c]
    give_back(partial)
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
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef cnp.ndarray result = into
    if into is None:
        result = empty(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))
    cdef Py_ssize_t channels = cnp.PyArray_DIM(x, 1), plane = cnp.PyArray_DIM(x, 2)
    cdef Py_ssize_t units, unit, step
    if cnp.PyArray_SIZE(x) == 0:
        return result
    for part in (offset, scale, shift):
        still(part, cnp.PyArray_TYPE(x), channels)
    job.dst, job.x, job.channels = cnp.PyArray_DATA(result), cnp.PyArray_DATA(x), channels
    job.offset, job.scale = cnp.PyArray_DATA(offset), cnp.PyArray_DATA(scale)
    job.shift = cnp.PyArray_DATA(shift)
    units = cnp.PyArray_DIM(x, 0) * (1 if plane == 1 else channels)
    step = max(PART // (channels if plane == 1 else plane), 1)
    if num_threads == 1:
        with nogil:
            run_part(kernels, job, plane, 0, units)
        return result
    for unit in prange(0, units, step, num_threads=num_threads, nogil=True, schedule="static"):
        run_part(kernels, job, plane, unit, min(unit + step, units))
    return result


cdef void run_part(const fc_kernels *kernels, const fc_affine *job, Py_ssize_t plane, Py_ssize_t begin,
                   Py_ssize_t end) noexcept nogil:
    if plane == 1:
        kernels.affine_pixels(job, begin, end)
    else:
        kernels.affine_rows(job, plane, begin, end)
