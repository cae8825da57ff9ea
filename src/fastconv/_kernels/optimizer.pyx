"""Steps of optimizers, in place: elements shared out in parts over threads."""

cimport numpy as cnp
from cython.parallel cimport prange

from fastconv._kernels.isa cimport fc_adam, fc_kernels, fc_sgd, kernels_for

cnp.import_array()

cdef enum:
    PART = 1 << 14      # elements that go to a thread together


def adam(cnp.ndarray data not None, cnp.ndarray grad not None, cnp.ndarray mean not None,
         cnp.ndarray square not None, cnp.ndarray largest, bint maximize, double decay, double shrink,
         double beta1, double beta2, double step_size, double root_of_correction, double eps,
         int num_threads):
    """One step of fc_adam, see kernels.h."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(data))
    cdef Py_ssize_t count = cnp.PyArray_SIZE(data), part
    cdef fc_adam job
    job.data, job.mean, job.square = cnp.PyArray_DATA(data), cnp.PyArray_DATA(mean), cnp.PyArray_DATA(square)
    job.largest = NULL if largest is None else cnp.PyArray_DATA(largest)
    job.grad = cnp.PyArray_DATA(grad)
    job.maximize, job.decay, job.shrink, job.beta1, job.beta2 = maximize, decay, shrink, beta1, beta2
    job.step_size, job.root_of_correction, job.eps = step_size, root_of_correction, eps
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        kernels.adam(&job, part, min(part + PART, count))


def sgd(cnp.ndarray data not None, cnp.ndarray grad not None, cnp.ndarray velocity, bint maximize, bint first,
        bint nesterov, double decay, double lr, double momentum, double damped, int num_threads):
    """One step of fc_sgd, see kernels.h."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(data))
    cdef Py_ssize_t count = cnp.PyArray_SIZE(data), part
    cdef fc_sgd job
    job.data, job.grad = cnp.PyArray_DATA(data), cnp.PyArray_DATA(grad)
    job.velocity = NULL if velocity is None else cnp.PyArray_DATA(velocity)
    job.maximize, job.first, job.nesterov = maximize, first, nesterov
    job.decay, job.lr, job.momentum, job.damped = decay, lr, momentum, damped
    for part in prange(0, count, PART, num_threads=num_threads, nogil=True, schedule="static"):
        kernels.sgd(&job, part, min(part + PART, count))
