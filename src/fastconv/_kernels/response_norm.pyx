"""Local response normalization and its gradient: one pass over memory, with a workspace that stays in cache.

Workspace: for each thread, 32 pixels (NHWC: one) of all channels and a window; twice that for the gradient.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange

from fastconv._kernels.isa cimport FC_MAX_LANES, FC_RESPONSE_PIXELS, fc_kernels, fc_response, kernels_for
from fastconv._kernels.memory cimport empty, give_back, take_workspace
from fastconv._kernels.threads cimport thread_index
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    PART = 1 << 13      # elements, at least, that go to a thread together


def response_norm(cnp.ndarray x not None, cnp.ndarray grad_output, Py_ssize_t before, Py_ssize_t after,
                  double scale, double beta, double k, int num_threads):
    """x / (k + scale * s)^beta for x (N, C, L), s summing the squares of channels c - before ... c + after.

    With grad_output, which has the shape and dtype of x, the gradient by x.
    """
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef cnp.ndarray result = empty(3, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))
    cdef fc_response job
    cdef Py_ssize_t pixels, units, step, each, begin
    cdef char *workspace
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
    units = cnp.PyArray_DIM(x, 0) * ((job.plane + pixels - 1) // pixels)
    step = max(PART // (job.channels * pixels), 1)
    each = (job.before + job.channels + job.after) * pixels + FC_MAX_LANES
    each = (each * (1 if grad_output is None else 2) * kernels.itemsize + 63) // 64 * 64
    workspace = take_workspace(each * num_threads)
    with nogil, parallel(num_threads=num_threads):
        for begin in prange(0, units, step, schedule="static"):
            kernels.response_norm(&job, begin, min(begin + step, units), workspace + each * thread_index())
    give_back(workspace)
    return result
