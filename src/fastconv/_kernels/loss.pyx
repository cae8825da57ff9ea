"""Losses with their gradients: one pass over memory, in parts over threads, whose sums are added in order."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint16_t

from fastconv._kernels.isa cimport fc_cross_entropy, fc_kernels, kernels_for
from fastconv._kernels.memory cimport empty, give_back, take_workspace
from fastconv._kernels.unchanged cimport still, still_has

cnp.import_array()

cdef enum:
    PART = 1 << 14      # elements that go to a thread together
    HALVES = 2048       # elements of float16 that are converted together
    BLOCK = 256         # weights that are summed before they join the others


cdef double *sums_of(Py_ssize_t count, Py_ssize_t part) except NULL:
    """Room for the sum of each part."""
    return <double *>take_workspace((count // part + 1) * <Py_ssize_t>sizeof(double))


cdef double total_of(double *sums, Py_ssize_t count, Py_ssize_t part) noexcept nogil:
    """The sum of all parts, whose room is given back."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range((count + part - 1) // part):
        total += sums[i]
    give_back(sums)
    return total


def squared_error(cnp.ndarray x not None, cnp.ndarray y not None, double factor, int num_threads):
    """The sum of (x - y)^2, and (x - y) * factor; both arrays of one shape and dtype, float16 among them."""
    cdef int typenum = cnp.PyArray_TYPE(x)
    cdef cnp.ndarray result = empty(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), typenum)
    cdef bint half = typenum == cnp.NPY_FLOAT16
    cdef const fc_kernels *kernels = kernels_for(cnp.NPY_FLOAT32 if half else typenum)
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(x), count = cnp.PyArray_SIZE(x), i
    cdef const char *first = <const char *>cnp.PyArray_DATA(x)
    cdef const char *second = <const char *>cnp.PyArray_DATA(y)
    cdef char *target = <char *>cnp.PyArray_DATA(result)
    cdef double *sums
    still(y, typenum, count)
    sums = sums_of(count, PART)
    for i in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        sums[i // PART] = squared_part(kernels, half, target + i * size, first + i * size, second + i * size,
                                       min(<Py_ssize_t>PART, count - i), factor)
    return total_of(sums, count, PART), result


cdef double squared_part(const fc_kernels *kernels, bint half, char *target, const char *x, const char *y,
                         Py_ssize_t count, double factor) noexcept nogil:
    """A part of the arrays; of float16 through blocks of float32 that stay in cache."""
    cdef float a[HALVES]
    cdef float b[HALVES]
    cdef Py_ssize_t begin = 0, size
    cdef double total = 0
    if not half:
        return kernels.squared_error(target, x, y, count, factor)
    while begin < count:
        size = min(<Py_ssize_t>HALVES, count - begin)
        kernels.from_half(a, <const uint16_t *>x + begin, size)
        kernels.from_half(b, <const uint16_t *>y + begin, size)
        total += kernels.squared_error(a, a, b, size, factor)
        kernels.to_half(<uint16_t *>target + begin, a, size)
        begin += size
    return total


def classes_of(cnp.ndarray target not None, Py_ssize_t classes, ignored, cnp.ndarray weight not None):
    """Targets, -1 where they are ignored; the sum of the others' weights; where the first wrong one is.

    target is int64, C-contiguous; ignored an int64, or None; weight has a float64 for each class. Where all
    are right, that place is -1. Each target is read once, as volatile tells the compiler: what is used is
    what was checked, even where another thread changes the caller's array meanwhile.
    """
    cdef bint ignoring = ignored is not None
    cdef int64_t nothing = ignored if ignoring else 0, number
    cdef Py_ssize_t count = cnp.PyArray_SIZE(target), i, wrong = -1
    cdef cnp.npy_intp shape = count
    cdef cnp.ndarray result = empty(1, &shape, cnp.NPY_INT64)
    cdef const volatile int64_t *given = <const volatile int64_t *>cnp.PyArray_DATA(target)
    cdef int64_t *numbers = <int64_t *>cnp.PyArray_DATA(result)
    cdef const double *weights = <const double *>cnp.PyArray_DATA(weight)
    cdef double total = 0, block = 0
    still(target, cnp.NPY_INT64, count)
    with nogil:
        for i in range(count):
            if i % BLOCK == 0:
                total += block
                block = 0
            number = given[i]
            if ignoring and number == nothing:
                numbers[i] = -1
            elif 0 <= number < classes:
                numbers[i] = number
                block += weights[number]
            else:
                wrong = i
                break
    return result, total + block, wrong


def cross_entropy(cnp.ndarray logits not None, int axis, cnp.ndarray target, cnp.ndarray probability,
                  cnp.ndarray weight not None, double total_weight, double smoothing, double scale,
                  int num_threads):
    """The loss of logits, not scaled, and its gradient times `scale`; see fc_cross_entropy.

    target, int64, or else probability, of the shape of logits, is None; there is at least one class.
    """
    cdef int typenum = cnp.PyArray_TYPE(logits)
    cdef cnp.ndarray result = empty(cnp.PyArray_NDIM(logits), cnp.PyArray_DIMS(logits), typenum)
    cdef const fc_kernels *kernels = kernels_for(typenum)
    cdef fc_cross_entropy job
    cdef Py_ssize_t count, part, i
    cdef double *sums
    still_has(logits, axis)
    job.grad, job.logits = cnp.PyArray_DATA(result), cnp.PyArray_DATA(logits)
    job.target = NULL
    job.probability = NULL
    if target is None:
        still(probability, typenum, cnp.PyArray_SIZE(logits))
        job.probability = cnp.PyArray_DATA(probability)
    else:
        job.target = <const int64_t *>cnp.PyArray_DATA(target)
    job.weight, job.total_weight = cnp.PyArray_DATA(weight), total_weight
    job.smoothing, job.scale = smoothing, scale
    job.classes, job.inner = cnp.PyArray_DIM(logits, axis), 1
    for i in range(axis + 1, cnp.PyArray_NDIM(logits)):
        job.inner *= cnp.PyArray_DIM(logits, i)
    count = cnp.PyArray_SIZE(logits) // job.classes
    still(weight, typenum, job.classes)
    if target is not None:
        still(target, cnp.NPY_INT64, count)
    part = max(PART // job.classes, 1)
    if job.inner > 1:
        part = (part + 63) // 64 * 64     # whole vectors
    sums = sums_of(count, part)
    for i in prange(0, count, part, num_threads=num_threads, nogil=True, schedule="static"):
        sums[i // part] = kernels.cross_entropy(&job, i, min(i + part, count))
    return total_of(sums, count, part), result
