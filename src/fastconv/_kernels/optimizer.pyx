"""Steps of optimizers, in place: elements shared out in parts over threads."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport uint16_t

from fastconv._kernels.isa cimport fc_adam, fc_kernels, fc_sgd, kernels_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    PART = 1 << 14      # elements that go to a thread together
    HALVES = 1 << 10    # elements of float16 that are converted together, on the stack
    MOST = 5            # arrays of a step


def run(list jobs not None):
    """Calls each function of (function, arguments by name) in turn.

    Python looks for signals between its own instructions only: none is handled before the last one is done.
    """
    for function, arguments in jobs:
        function(**arguments)


def adam(cnp.ndarray data not None, cnp.ndarray grad not None, cnp.ndarray mean not None,
         cnp.ndarray square not None, cnp.ndarray largest, bint maximize, double decay, double shrink,
         double beta1, double beta2, double step_size, double root_of_correction, double eps,
         int num_threads):
    """One step of fc_adam, see kernels.h; of float16 arrays in float32."""
    cdef bint is_half = cnp.PyArray_TYPE(data) == cnp.NPY_FLOAT16
    cdef const fc_kernels *kernels = kernels_for(cnp.NPY_FLOAT32 if is_half else cnp.PyArray_TYPE(data))
    cdef Py_ssize_t count = cnp.PyArray_SIZE(data), part
    cdef fc_adam job
    for kept in (grad, mean, square, largest):
        if kept is not None:
            still(kept, cnp.PyArray_TYPE(data), count)
    job.data, job.mean, job.square = cnp.PyArray_DATA(data), cnp.PyArray_DATA(mean), cnp.PyArray_DATA(square)
    job.largest = NULL if largest is None else cnp.PyArray_DATA(largest)
    job.grad = cnp.PyArray_DATA(grad)
    job.maximize, job.decay, job.shrink, job.beta1, job.beta2 = maximize, decay, shrink, beta1, beta2
    job.step_size, job.root_of_correction, job.eps = step_size, root_of_correction, eps
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        if is_half:
            adam_halves(kernels, &job, part, min(part + PART, count))
        else:
            kernels.adam(&job, part, min(part + PART, count))


def sgd(cnp.ndarray data not None, cnp.ndarray grad not None, cnp.ndarray velocity, bint maximize, bint first,
        bint nesterov, double decay, double lr, double momentum, double damped, int num_threads):
    """One step of fc_sgd, see kernels.h; of float16 arrays in float32."""
    cdef bint is_half = cnp.PyArray_TYPE(data) == cnp.NPY_FLOAT16
    cdef const fc_kernels *kernels = kernels_for(cnp.NPY_FLOAT32 if is_half else cnp.PyArray_TYPE(data))
    cdef Py_ssize_t count = cnp.PyArray_SIZE(data), part
    cdef fc_sgd job
    still(grad, cnp.PyArray_TYPE(data), count)
    if velocity is not None:
        still(velocity, cnp.PyArray_TYPE(data), count)
    job.data, job.grad = cnp.PyArray_DATA(data), cnp.PyArray_DATA(grad)
    job.velocity = NULL if velocity is None else cnp.PyArray_DATA(velocity)
    job.maximize, job.first, job.nesterov = maximize, first, nesterov
    job.decay, job.lr, job.momentum, job.damped = decay, lr, momentum, damped
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        if is_half:
            sgd_halves(kernels, &job, part, min(part + PART, count))
        else:
            kernels.sgd(&job, part, min(part + PART, count))


# ---- float16 ----

cdef void adam_halves(const fc_kernels *kernels, const fc_adam *job, Py_ssize_t begin,
                      Py_ssize_t end) noexcept nogil:
    cdef float singles[MOST][HALVES]
    cdef uint16_t *halves[MOST]
    cdef fc_adam part = job[0]
    cdef Py_ssize_t i = begin, count
    part.data, part.mean, part.square, part.grad = singles[0], singles[1], singles[2], singles[4]
    part.largest = NULL if job.largest == NULL else <void *>singles[3]
    while i < end:
        count = min(<Py_ssize_t>HALVES, end - i)
        halves[0], halves[1] = <uint16_t *>job.data + i, <uint16_t *>job.mean + i
        halves[2], halves[4] = <uint16_t *>job.square + i, <uint16_t *>job.grad + i
        halves[3] = NULL if job.largest == NULL else <uint16_t *>job.largest + i
        convert_from(kernels, singles, halves, MOST, count)
        kernels.adam(&part, 0, count)
        convert_to(kernels, halves, singles, MOST - 1, count)
        i += count


cdef void sgd_halves(const fc_kernels *kernels, const fc_sgd *job, Py_ssize_t begin,
                     Py_ssize_t end) noexcept nogil:
    cdef float singles[3][HALVES]
    cdef uint16_t *halves[3]
    cdef fc_sgd part = job[0]
    cdef Py_ssize_t i = begin, count
    part.data, part.grad = singles[0], singles[2]
    part.velocity = NULL if job.velocity == NULL else <void *>singles[1]
    while i < end:
        count = min(<Py_ssize_t>HALVES, end - i)
        halves[0], halves[2] = <uint16_t *>job.data + i, <uint16_t *>job.grad + i
        halves[1] = NULL if job.velocity == NULL else <uint16_t *>job.velocity + i
        convert_from(kernels, singles, halves, 3, count)
        kernels.sgd(&part, 0, count)
        convert_to(kernels, halves, singles, 2, count)
        i += count


cdef void convert_from(const fc_kernels *kernels, float (*singles)[HALVES], uint16_t **halves, int arrays,
                       Py_ssize_t count) noexcept nogil:
    """Those of the arrays that are there."""
    cdef int i
    for i in range(arrays):
        if halves[i] != NULL:
            kernels.from_half(singles[i], halves[i], count)


cdef void convert_to(const fc_kernels *kernels, uint16_t **halves, float (*singles)[HALVES], int arrays,
                     Py_ssize_t count) noexcept nogil:
    cdef int i
    for i in range(arrays):
        if halves[i] != NULL:
            kernels.to_half(halves[i], singles[i], count)
