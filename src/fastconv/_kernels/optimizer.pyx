"""Steps of optimizers, in place: elements shared out in parts over threads."""

cimport numpy as cnp
from libc.stdint cimport uint16_t

from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.isa cimport fc_adam, fc_kernels, fc_sgd, kernels_for
from fastconv._kernels.threads cimport EVENLY, Body, parallel_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    PART = 1 << 14      # elements that go to a thread together
    HALVES = 1 << 10    # elements of float16 that are converted together, on the stack
    MOST = 5            # arrays of a step

ctypedef struct Step:
    const fc_kernels *kernels
    const void *job     # fc_adam, or fc_sgd
    bint is_half
    Py_ssize_t count


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
    cdef fc_adam job
    for kept in (grad, mean, square, largest):
        if kept is not None:
            still(kept, cnp.PyArray_TYPE(data), cnp.PyArray_SIZE(data))
    job.data, job.mean, job.square = cnp.PyArray_DATA(data), cnp.PyArray_DATA(mean), cnp.PyArray_DATA(square)
    job.largest = NULL if largest is None else cnp.PyArray_DATA(largest)
    job.grad = cnp.PyArray_DATA(grad)
    job.maximize, job.decay, job.shrink, job.beta1, job.beta2 = maximize, decay, shrink, beta1, beta2
    job.step_size, job.root_of_correction, job.eps = step_size, root_of_correction, eps
    share_out(data, &job, adam_part, num_threads)


def sgd(cnp.ndarray data not None, cnp.ndarray grad not None, cnp.ndarray velocity, bint maximize, bint first,
        bint nesterov, double decay, double lr, double momentum, double damped, int num_threads):
    """One step of fc_sgd, see kernels.h; of float16 arrays in float32."""
    cdef fc_sgd job
    still(grad, cnp.PyArray_TYPE(data), cnp.PyArray_SIZE(data))
    if velocity is not None:
        still(velocity, cnp.PyArray_TYPE(data), cnp.PyArray_SIZE(data))
    job.data, job.grad = cnp.PyArray_DATA(data), cnp.PyArray_DATA(grad)
    job.velocity = NULL if velocity is None else cnp.PyArray_DATA(velocity)
    job.maximize, job.first, job.nesterov = maximize, first, nesterov
    job.decay, job.lr, job.momentum, job.damped = decay, lr, momentum, damped
    share_out(data, &job, sgd_part, num_threads)


cdef int share_out(cnp.ndarray data, const void *job, Body step_part, int num_threads) except -1:
    cdef Step s
    s.job, s.is_half, s.count = job, cnp.PyArray_TYPE(data) == cnp.NPY_FLOAT16, cnp.PyArray_SIZE(data)
    s.kernels = kernels_for(cnp.NPY_FLOAT32 if s.is_half else cnp.PyArray_TYPE(data))
    with nogil:
        parallel_for(ceil_div(s.count, PART), num_threads, step_part, &s, EVENLY)
    return 0


cdef Py_ssize_t adam_part(const void *step, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Step *s = <const Step *>step
    cdef const fc_adam *job = <const fc_adam *>s.job
    cdef float singles[MOST][HALVES]
    cdef uint16_t *halves[MOST]
    cdef fc_adam part = job[0]
    cdef Py_ssize_t i = item * PART, end = min(i + PART, s.count), count
    if not s.is_half:
        s.kernels.adam(job, i, end)
        return 0
    part.data, part.mean, part.square, part.grad = singles[0], singles[1], singles[2], singles[4]
    part.largest = NULL if job.largest == NULL else <void *>singles[3]
    while i < end:
        count = min(<Py_ssize_t>HALVES, end - i)
        halves[0], halves[1] = <uint16_t *>job.data + i, <uint16_t *>job.mean + i
        halves[2], halves[4] = <uint16_t *>job.square + i, <uint16_t *>job.grad + i
        halves[3] = NULL if job.largest == NULL else <uint16_t *>job.largest + i
        convert_from(s.kernels, singles, halves, MOST, count)
        s.kernels.adam(&part, 0, count)
        convert_to(s.kernels, halves, singles, MOST - 1, count)
        i += count
    return 0


cdef Py_ssize_t sgd_part(const void *step, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Step *s = <const Step *>step
    cdef const fc_sgd *job = <const fc_sgd *>s.job
    cdef float singles[3][HALVES]
    cdef uint16_t *halves[3]
    cdef fc_sgd part = job[0]
    cdef Py_ssize_t i = item * PART, end = min(i + PART, s.count), count
    if not s.is_half:
        s.kernels.sgd(job, i, end)
        return 0
    part.data, part.grad = singles[0], singles[2]
    part.velocity = NULL if job.velocity == NULL else <void *>singles[1]
    while i < end:
        count = min(<Py_ssize_t>HALVES, end - i)
        halves[0], halves[2] = <uint16_t *>job.data + i, <uint16_t *>job.grad + i
        halves[1] = NULL if job.velocity == NULL else <uint16_t *>job.velocity + i
        convert_from(s.kernels, singles, halves, 3, count)
        s.kernels.sgd(&part, 0, count)
        convert_to(s.kernels, halves, singles, 2, count)
        i += count
    return 0


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
