"""What the kernels of depthwise convolution are told, and parts of that."""

from libc.string cimport memset

from fastconv._kernels.correlation cimport Correlation
from fastconv._kernels.isa cimport fc_depthwise
from fastconv._kernels.memory cimport take

cdef enum:
    BAND_ROWS = 32     # least rows of outputs in a part, where planes are cut

cdef inline fc_depthwise job_of(const Correlation *c) noexcept nogil:
    """All planes of the first image; or, in NHWC, all of its pixels, but for the weight."""
    cdef fc_depthwise job
    job.planes = c.groups
    job.x_plane, job.out_plane, job.weight_plane = c.x_channel, c.out_channel, c.weight_group
    job.x = c.x
    job.height, job.width, job.x_row, job.x_pixel = c.height, c.width, c.x_row, c.x_pixel
    job.out = c.out
    job.out_h, job.out_w, job.out_row, job.out_pixel = c.out_h, c.out_w, c.out_row, c.out_pixel
    job.weight = c.weight
    job.taps_h, job.taps_w, job.weight_h, job.weight_w = c.taps_h, c.taps_w, c.weight_h, c.weight_w
    job.stride_h, job.stride_w = c.stride_h, c.stride_w
    job.dilation_h, job.dilation_w = c.dilation_h, c.dilation_w
    job.top, job.left = c.top, c.left
    job.bias = c.bias
    job.zeros = NULL
    job.relu = c.relu
    return job

cdef inline void take_rows(
        fc_depthwise *job, Py_ssize_t size, Py_ssize_t row, Py_ssize_t rows) noexcept nogil:
    """Leaves rows [row, row + rows) of the outputs."""
    job.out = <char *>job.out + size * row * job.out_row
    job.top -= row * job.stride_h
    job.out_h = rows

cdef inline void take_planes(
        fc_depthwise *job, Py_ssize_t size, Py_ssize_t plane, Py_ssize_t planes) noexcept nogil:
    """Leaves planes [plane, plane + planes)."""
    job.x = <const char *>job.x + size * plane * job.x_plane
    job.out = <char *>job.out + size * plane * job.out_plane
    job.weight = <const char *>job.weight + size * plane * job.weight_plane
    if job.bias != NULL:
        job.bias = <const char *>job.bias + size * plane
    job.planes = planes

cdef inline void take_image(fc_depthwise *job, const Correlation *c, Py_ssize_t image) noexcept nogil:
    job.x = <const char *>job.x + c.kernels.itemsize * image * c.x_image
    job.out = <char *>job.out + c.kernels.itemsize * image * c.out_image

cdef inline char *take_zeros(size_t bytes) noexcept nogil:
    """NULL where there is no memory."""
    cdef char *zeros = <char *>take(bytes)
    if zeros != NULL:
        memset(zeros, 0, bytes)
    return zeros
