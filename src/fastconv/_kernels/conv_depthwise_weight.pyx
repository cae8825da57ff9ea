"""The gradient of the weight of a depthwise convolution: a vector of partial sums is kept for each tap.

Its parts (images, and bands of rows where there are few images) are summed in order, in groups whose number
depends on the sizes alone. In NCHW the gradient of the bias is summed along with it, while the planes are in
the cache.

Workspace: for NCHW a row of zeros; partial sums, at most SUM_BYTES a group.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from fastconv._kernels import channel_sum

from fastconv._kernels.correlation cimport Correlation, align, ceil_div, forward_correlation
from fastconv._kernels.depthwise_job cimport BAND_ROWS, job_of, take_image, take_planes, take_rows, take_zeros
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_depthwise, fc_kernels, kernels_for
from fastconv._kernels.memory cimport give_back, take
from fastconv._kernels.threads cimport IN_TURN, PRODUCTS, parallel_for

cnp.import_array()

cdef enum:
    SPLITS = 16               # groups of partial sums, at most, and items that make more of them needless
    RANGE_BYTES = 16384       # of partial sums of a range of channels: they stay in the first-level cache
    SUM_BYTES = 1048576       # of partial sums, where their number is a choice
    PLANE_BYTES = 131072      # of grad_output that are summed to the bias as soon as the weight has seen them

ctypedef struct WeightJob:
    Correlation c                    # the forward one; x is read, out is grad_output, weight unused
    Py_ssize_t bands, rows           # of an image; a part is a band of an image
    Py_ssize_t splits                # groups of parts: split s has parts [parts*s/splits, parts*(s+1)/splits)
    Py_ssize_t channels, ranges      # channels that are summed together, at most, and how many such ranges
    Py_ssize_t sums_step             # NHWC: elements from a tap's sums to the next one's
    Py_ssize_t sums_bytes, own_bytes  # of a split
    char *sums
    char *own                        # [split][channel], of the bias; NULL: not needed, or not here
    const char *zeros


def grad_weight(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                cnp.ndarray grad not None, int num_threads):
    """grad = gradient of the weight."""
    grad_weight_and_bias(g, grad_output, x, grad, None, num_threads)


def grad_weight_and_bias(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                         cnp.ndarray grad not None, cnp.ndarray grad_bias, int num_threads):
    """grad = gradient of the weight, grad_bias = that of the bias, unless it is None."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef WeightJob job
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, split
    cdef char *out = <char *>cnp.PyArray_DATA(grad)
    cdef char *bias = NULL
    cdef char *zeros
    if grad_bias is not None and g.channels_last:
        channel_sum.grad_bias(g, grad_output, grad_bias, num_threads)
    elif grad_bias is not None:
        bias = <char *>cnp.PyArray_DATA(grad_bias)
    # Everything here but the number of threads decides the order of the sums.
    job.c = forward_correlation(kernels, g, x, grad, None, grad_output, False)
    if g.channels_last:
        job.channels = g.groups
        job.sums_step = ceil_div(g.groups, kernels.lanes) * kernels.lanes
        job.sums_bytes = align(taps * job.sums_step * kernels.itemsize)
    else:
        job.channels = max(1, min(g.groups, RANGE_BYTES // (taps * kernels.lanes * kernels.itemsize)))
        job.sums_step = 0
        job.sums_bytes = align(g.groups * taps * kernels.lanes * kernels.itemsize)
    job.ranges = ceil_div(g.groups, job.channels)
    job.bands = max(1, min(ceil_div(SPLITS, g.batch * job.ranges), job.c.out_h // BAND_ROWS))
    job.rows = ceil_div(job.c.out_h, job.bands)
    job.bands = ceil_div(job.c.out_h, job.rows)
    job.splits = max(1, min(ceil_div(SPLITS, job.ranges), g.batch * job.bands, SUM_BYTES // job.sums_bytes))
    job.own_bytes = 0 if bias == NULL else align(g.groups * kernels.itemsize)
    job.sums = <char *>take(job.splits * (job.sums_bytes + job.own_bytes))
    zeros = take_zeros(job.c.width * kernels.itemsize)
    if job.sums == NULL or zeros == NULL:
        give_back(job.sums)
        give_back(zeros)
        raise MemoryError("no memory for the workspace of a convolution's gradient")
    job.zeros = zeros
    job.own = NULL if bias == NULL else job.sums + job.splits * job.sums_bytes
    with nogil:
        memset(job.sums, 0, job.splits * (job.sums_bytes + job.own_bytes))
        parallel_for(job.splits * job.ranges, num_threads, sum_parts, &job, IN_TURN | PRODUCTS)
        for split in range(1, job.splits):
            kernels.add(job.sums, job.sums + split * job.sums_bytes, job.sums_bytes // kernels.itemsize)
            if bias != NULL:
                kernels.add(job.own, job.own + split * job.own_bytes, g.groups)
        finish_sums(&job, out)
        if bias != NULL:
            memcpy(bias, job.own, g.groups * kernels.itemsize)
        give_back(job.sums)
        give_back(zeros)


cdef Py_ssize_t sum_parts(const void *weight_job, Py_ssize_t item, int thread) noexcept nogil:
    """One range of channels of all parts of a split."""
    cdef const WeightJob *w = <const WeightJob *>weight_job
    cdef const Correlation *c = &w.c
    cdef Py_ssize_t split = item // w.ranges, index = item % w.ranges
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, parts = c.batch * w.bands
    cdef Py_ssize_t first = index * w.channels, end = min(first + w.channels, c.groups)
    cdef Py_ssize_t step = w.channels, part, row, rows, block, channel, channels, plane
    cdef char *sums = w.sums + split * w.sums_bytes
    cdef fc_depthwise job
    if w.own != NULL:
        step = min(step, PLANE_BYTES // (w.rows * c.out_w * size) + 1)
    for part in range(parts * split // w.splits, parts * (split + 1) // w.splits):
        row = part % w.bands * w.rows
        rows = min(w.rows, c.out_h - row)
        for block in range(ceil_div(end - first, step)):
            channel = first + block * step
            channels = min(step, end - channel)
            job = job_of(c)
            job.zeros = w.zeros
            take_image(&job, c, part // w.bands)
            take_planes(&job, size, channel, channels)
            take_rows(&job, size, row, rows)
            if w.sums_step:
                kernels.depthwise_pixels_weight(&job, sums + size * channel, w.sums_step)
                continue
            kernels.depthwise_weight(&job, sums + size * channel * c.taps_h * c.taps_w * kernels.lanes)
            for plane in range(channels if w.own != NULL else 0):
                kernels.add_sum(w.own + split * w.own_bytes + size * (channel + plane),
                                <const char *>job.out + size * plane * job.out_plane, rows * c.out_w)
    return 0


cdef void finish_sums(const WeightJob *w, char *grad) noexcept nogil:
    """Writes the gradient from the sums of the first split."""
    cdef const fc_kernels *kernels = w.c.kernels
    cdef Py_ssize_t size = kernels.itemsize, taps = w.c.taps_h * w.c.taps_w, channel
    if w.sums_step:
        kernels.transpose(grad, taps, w.sums, w.sums_step, taps, w.c.groups)
        return
    for channel in range(w.c.groups):
        kernels.depthwise_weight_finish(grad + size * channel * taps,
                                        w.sums + size * channel * taps * kernels.lanes,
                                        w.c.taps_h, w.c.taps_w)
