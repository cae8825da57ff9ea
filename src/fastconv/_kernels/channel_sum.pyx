"""Sums over everything but channels: the gradient of a bias."""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels.correlation cimport ceil_div
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels, kernels_for
from fastconv._kernels.memory cimport give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, parallel_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    BLOCK = 512      # pixels summed one after the other in NHWC; blocks are summed after them
    RANGE = 16       # channels whose planes, neighbours in NCHW, are read one after the other

# Of images' channels, NCHW or NHWC.
ctypedef struct Sums:
    const fc_kernels *kernels
    const char *source
    Py_ssize_t batch, channels, plane
    char *sums       # or, in NHWC, of each block, one after the other


def grad_bias(
        ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray grad not None,
        int num_threads):
    """grad[k] = sum of grad_output over images and pixels of channel k."""
    cdef Sums s
    cdef char *total = <char *>cnp.PyArray_DATA(grad)
    cdef Py_ssize_t blocks
    s.kernels = kernels_for(cnp.PyArray_TYPE(grad))
    s.batch, s.channels, s.plane = g.batch, g.out_channels, g.out_h * g.out_w
    s.source, s.sums = <const char *>cnp.PyArray_DATA(grad_output), total
    still(grad_output, cnp.PyArray_TYPE(grad), s.batch * s.channels * s.plane)
    if not g.channels_last:
        with nogil:
            parallel_for(ceil_div(s.channels, RANGE), num_threads, sum_planes, &s, EVENLY)
        return
    blocks = ceil_div(s.batch * s.plane, BLOCK)
    s.sums = take_workspace(max(blocks * s.channels * s.kernels.itemsize, 1))
    with nogil:
        parallel_for(blocks, num_threads, sum_block, &s, EVENLY)
        sum_pixels(s.kernels, s.sums, s.channels, blocks, total)
    give_back(s.sums)


cdef Py_ssize_t sum_planes(const void *sums, Py_ssize_t item, int thread) noexcept nogil:
    """A RANGE of channels."""
    cdef const Sums *s = <const Sums *>sums
    cdef Py_ssize_t first = item * RANGE, end = min(first + RANGE, s.channels), n, channel
    cdef Py_ssize_t size = s.kernels.itemsize
    memset(s.sums + first * size, 0, (end - first) * size)
    for n in range(s.batch):
        for channel in range(first, end):
            s.kernels.add_sum(s.sums + channel * size,
                              s.source + (n * s.channels + channel) * s.plane * size, s.plane)
    return 0


cdef Py_ssize_t sum_block(const void *sums, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Sums *s = <const Sums *>sums
    cdef Py_ssize_t first = item * BLOCK, row = s.channels * s.kernels.itemsize
    sum_pixels(s.kernels, s.source + first * row, s.channels,
               min(<Py_ssize_t>BLOCK, s.batch * s.plane - first), s.sums + item * row)
    return 0


cdef void sum_pixels(
        const fc_kernels *kernels, const char *source, Py_ssize_t channels, Py_ssize_t pixels,
        char *total) noexcept nogil:
    cdef Py_ssize_t p
    memset(total, 0, channels * kernels.itemsize)
    for p in range(pixels):
        kernels.add(total, source + p * channels * kernels.itemsize, channels)
