"""Local response normalization and its gradient: one pass over memory, with a workspace that stays in cache.

Workspace: for each thread, 32 pixels (NHWC: one) of all channels and a window; twice that for the gradient.
"""

cimport numpy as cnp

from fastconv._kernels.correlation cimport align, ceil_div
from fastconv._kernels.isa cimport FC_MAX_LANES, FC_RESPONSE_PIXELS, fc_kernels, fc_response, kernels_for
from fastconv._kernels.memory cimport empty, for_threads, give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, parallel_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    PART = 1 << 13      # elements, at least, that go to a thread together

ctypedef struct Units:
    const fc_kernels *kernels
    const fc_response *job
    Py_ssize_t count, step      # all, and those that go to a thread together
    char *workspace             # for each thread
    Py_ssize_t each


def response_norm(cnp.ndarray x not None, cnp.ndarray grad_output, Py_ssize_t before, Py_ssize_t after,
                  double scale, double beta, double k, int num_threads):
    """x / (k + scale * s)^beta for x (N, C, L), s summing the squares of channels c - before ... c + after.

    With grad_output, which has the shape and dtype of x, the gradient by x.
    """
    cdef Units units
    cdef fc_response job
    cdef Py_ssize_t pixels, elements
    units.kernels, units.job = kernels_for(cnp.PyArray_TYPE(x)), &job
    cdef cnp.ndarray result = empty(3, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))
    if cnp.PyArray_SIZE(x) == 0:
        return result
    if grad_output is not None:
        still(grad_output, cnp.PyArray_TYPE(x), cnp.PyArray_SIZE(x))
    job.dst, job.x = cnp.PyArray_DATA(result), cnp.PyArray_DATA(x)
    job.grad_output = NULL if grad_output is None else cnp.PyArray_DATA(grad_output)
    job.channels, job.plane = cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2)
    job.before, job.after = min(before, job.channels - 1), min(after, job.channels - 1)
    job.scale, job.beta, job.k = scale, beta, k
    pixels = 1 if job.plane == 1 else FC_RESPONSE_PIXELS
    units.count = cnp.PyArray_DIM(x, 0) * ceil_div(job.plane, pixels)
    units.step = max(PART // (job.channels * pixels), 1)
    elements = (job.before + job.channels + job.after) * pixels + FC_MAX_LANES
    units.each = align(elements * (1 if grad_output is None else 2) * units.kernels.itemsize)
    units.workspace = take_workspace(for_threads(units.each, num_threads))
    with nogil:
        parallel_for(ceil_div(units.count, units.step), num_threads, compute_part, &units, EVENLY)
    give_back(units.workspace)
    return result


cdef Py_ssize_t compute_part(const void *units, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Units *u = <const Units *>units
    cdef Py_ssize_t begin = item * u.step
    u.kernels.response_norm(u.job, begin, min(begin + u.step, u.count), u.workspace + u.each * thread)
    return 0
