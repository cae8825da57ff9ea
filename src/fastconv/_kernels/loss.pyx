"""Losses with their gradients: one pass over memory, in parts over threads, whose sums are added in order."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint16_t

from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport fc_cross_entropy, fc_kernels, kernels_for
from fastconv._kernels.memory cimport empty, give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, parallel_for
from fastconv._kernels.unchanged cimport still, still_has

cnp.import_array()

cdef enum:
    PART = 1 << 14      # elements that go to a thread together
    HALVES = 2048       # elements of float16 that are converted together
    BLOCK = 256         # weights that are summed before they join the others

ctypedef struct SquaredError:
    const fc_kernels *kernels
    bint half                   # float16, which becomes float32 a block at a time and stays in cache
    char *target
    const char *x
    const char *y
    Py_ssize_t size, count
    double factor
    double *sums                # of each part

ctypedef struct CrossEntropy:
    const fc_kernels *kernels
    const fc_cross_entropy *job
    Py_ssize_t count, part      # positions
    double *sums                # of each part


cdef double *sums_of(Py_ssize_t count, Py_ssize_t part) except NULL:
    """Room for the sum of each part."""
    return <double *>take_workspace((count // part + 1) * <Py_ssize_t>sizeof(double))


cdef double total_of(double *sums, Py_ssize_t count, Py_ssize_t part) noexcept nogil:
    """The sum of all parts, whose room is given back."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(ceil_div(count, part)):
        total += sums[i]
    give_back(sums)
    return total


def squared_error(cnp.ndarray x not None, cnp.ndarray y not None, double factor, int num_threads):
    """The sum of (x - y)^2, and (x - y) * factor; both arrays of one shape and dtype, float16 among them."""
    cdef int typenum = cnp.PyArray_TYPE(x)
    cdef cnp.ndarray result = empty(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), typenum)
    cdef SquaredError s
    s.half = typenum == cnp.NPY_FLOAT16
    s.kernels = kernels_for(cnp.NPY_FLOAT32 if s.half else typenum)
    s.size, s.count, s.factor = cnp.PyArray_ITEMSIZE(x), cnp.PyArray_SIZE(x), factor
    s.x, s.y = <const char *>cnp.PyArray_DATA(x), <const char *>cnp.PyArray_DATA(y)
    s.target = <char *>cnp.PyArray_DATA(result)
    still(y, typenum, s.count)
    s.sums = sums_of(s.count, PART)
    with nogil:
        parallel_for(ceil_div(s.count, PART), num_threads, squared_part, &s, EVENLY)
    return total_of(s.sums, s.count, PART), result


cdef Py_ssize_t squared_part(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    cdef const SquaredError *s = <const SquaredError *>job
    cdef float a[HALVES]
    cdef float b[HALVES]
    cdef Py_ssize_t begin = item * PART, end = min(begin + PART, s.count), at = begin * s.size, size
    cdef double total = 0
    if not s.half:
        s.sums[item] = s.kernels.squared_error(s.target + at, s.x + at, s.y + at, end - begin, s.factor)
        return 0
    while begin < end:
        size = min(<Py_ssize_t>HALVES, end - begin)
        s.kernels.from_half(a, <const uint16_t *>s.x + begin, size)
        s.kernels.from_half(b, <const uint16_t *>s.y + begin, size)
        total += s.kernels.squared_error(a, a, b, size, s.factor)
        s.kernels.to_half(<uint16_t *>s.target + begin, a, size)
        begin += size
    s.sums[item] = total
    return 0


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
    cdef fc_cross_entropy job
    cdef CrossEntropy c
    cdef int i
    c.kernels, c.job = kernels_for(typenum), &job
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
    c.count = cnp.PyArray_SIZE(logits) // job.classes
    still(weight, typenum, job.classes)
    if target is not None:
        still(target, cnp.NPY_INT64, c.count)
    c.part = max(PART // job.classes, 1)
    if job.inner > 1:
        c.part = (c.part + 63) // 64 * 64     # whole vectors
    c.sums = sums_of(c.count, c.part)
    with nogil:
        parallel_for(ceil_div(c.count, c.part), num_threads, cross_entropy_part, &c, EVENLY)
    return total_of(c.sums, c.count, c.part), result


cdef Py_ssize_t cross_entropy_part(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    cdef const CrossEntropy *c = <const CrossEntropy *>job
    cdef Py_ssize_t begin = item * c.part
    c.sums[item] = c.kernels.cross_entropy(c.job, begin, min(begin + c.part, c.count))
    return 0
