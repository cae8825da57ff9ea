"""Sums over everything but channels: the gradient of a bias."""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels, kernels_for
from fastconv._kernels.memory cimport give_back, take_workspace
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    BLOCK = 512      # pixels summed one after the other in NHWC; blocks are summed after them
    RANGE = 16       # channels whose planes, neighbours in NCHW, are read one after the other


def grad_bias(
        ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray grad not None,
        int num_threads):
    """grad[k] = sum of grad_output over images and pixels of channel k."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(grad))
    cdef Py_ssize_t size = kernels.itemsize, channels = g.out_channels, plane = g.out_h * g.out_w
    cdef Py_ssize_t pixels = g.batch * plane, blocks = (pixels + BLOCK - 1) // BLOCK
    cdef Py_ssize_t block
    cdef const char *source = <const char *>cnp.PyArray_DATA(grad_output)
    cdef char *sums = <char *>cnp.PyArray_DATA(grad)
    cdef char *parts = NULL
    still(grad_output, cnp.PyArray_TYPE(grad), pixels * channels)
    memset(sums, 0, channels * size)
    if not g.channels_last:
        blocks = (channels + RANGE - 1) // RANGE
        for block in prange(blocks, num_threads=num_threads, nogil=True, schedule="static"):
            sum_planes(kernels, source + block * RANGE * plane * size, channels * plane, plane, g.batch,
                       min(<Py_ssize_t>RANGE, channels - block * RANGE), sums + block * RANGE * size)
        return
    parts = take_workspace(max(blocks * channels * size, 1))
    for block in prange(blocks, num_threads=num_threads, nogil=True, schedule="static"):
        sum_pixels(kernels, source + block * BLOCK * channels * size, channels,
                   min(<Py_ssize_t>BLOCK, pixels - block * BLOCK), parts + block * channels * size)
    sum_pixels(kernels, parts, channels, blocks, sums)
    give_back(parts)


cdef void sum_planes(
        const fc_kernels *kernels, const char *source, Py_ssize_t image, Py_ssize_t plane, Py_ssize_t batch,
        Py_ssize_t channels, char *totals) noexcept nogil:
    cdef Py_ssize_t n, channel, size = kernels.itemsize
    for n in range(batch):
        for channel in range(channels):
            kernels.add_sum(totals + channel * size, source + (n * image + channel * plane) * size, plane)


cdef void sum_pixels(
        const fc_kernels *kernels, const char *source, Py_ssize_t channels, Py_ssize_t pixels,
        char *total) noexcept nogil:
    cdef Py_ssize_t p
    memset(total, 0, channels * kernels.itemsize)
    for p in range(pixels):
        kernels.add(total, source + p * channels * kernels.itemsize, channels)
