"""The column matrix of a convolution: what taps see, gathered into rows (im2col) and added back (col2im).

A row of the matrix belongs to a channel and a tap; its elements are the output pixels. `col2im` walks rows
of the image, so that a row stays in cache while all taps add to it, in the order of the taps: no thread
shares a pixel with another, and a pixel's sum has one order.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels, kernels_for
from fastconv._kernels.ranges cimport Range, seen_by
from fastconv._kernels.threads cimport EVENLY, parallel_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

ctypedef struct Job:
    const fc_kernels *kernels
    const char *source
    char *target
    Py_ssize_t height, width, kernel_h, kernel_w, out_h, out_w
    Py_ssize_t stride_h, stride_w, dilation_h, dilation_w, top, left


cdef Job job_of(ConvGeometry g, cnp.ndarray source, cnp.ndarray target) except *:
    cdef Job c
    c.kernels = kernels_for(cnp.PyArray_TYPE(target))
    c.source, c.target = <const char *>cnp.PyArray_DATA(source), <char *>cnp.PyArray_DATA(target)
    c.height, c.width, c.kernel_h, c.kernel_w = g.height, g.width, g.kernel_h, g.kernel_w
    c.out_h, c.out_w, c.stride_h, c.stride_w = g.out_h, g.out_w, g.stride_h, g.stride_w
    c.dilation_h, c.dilation_w, c.top, c.left = g.dilation_h, g.dilation_w, g.top, g.left
    return c


def im2col(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray cols not None, int num_threads):
    """cols[n, (c, i, j), (o, p)] = x[n, c, o*stride + i*dilation - top, p*stride + j*dilation - left]."""
    cdef Job job = job_of(g, x, cols)
    still(x, cnp.PyArray_TYPE(cols), g.batch * g.in_channels * g.height * g.width)
    with nogil:
        parallel_for(
            g.batch * g.in_channels * g.kernel_h * g.kernel_w, num_threads, gather_tap, &job, EVENLY)


cdef Py_ssize_t gather_tap(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """One row of the matrix: what a tap sees of a plane."""
    cdef const Job *c = <const Job *>job
    cdef Py_ssize_t size = c.kernels.itemsize, row = c.out_w * size
    cdef Py_ssize_t top = item // c.kernel_w % c.kernel_h * c.dilation_h - c.top
    cdef Py_ssize_t left = item % c.kernel_w * c.dilation_w - c.left
    cdef const char *plane = c.source + item // (c.kernel_h * c.kernel_w) * c.height * c.width * size
    cdef char *out = c.target + item * c.out_h * row
    cdef Range rows = seen_by(c.out_h, c.stride_h, top, c.height)
    cdef Range pixels = seen_by(c.out_w, c.stride_w, left, c.width)
    cdef Py_ssize_t before = pixels.first * size, count = pixels.last - pixels.first
    cdef Py_ssize_t after = (c.out_w - pixels.last) * size, o
    memset(out, 0, rows.first * row)
    for o in range(rows.first, rows.last):
        if before:
            memset(out + o * row, 0, before)
        if count:
            c.kernels.gather(
                out + o * row + before,
                plane + size * ((o * c.stride_h + top) * c.width + pixels.first * c.stride_w + left),
                c.stride_w, count)
        if after:
            memset(out + (o + 1) * row - after, 0, after)
    memset(out + rows.last * row, 0, (c.out_h - rows.last) * row)
    return 0


def col2im(ConvGeometry g not None, cnp.ndarray cols not None, cnp.ndarray x not None, int num_threads):
    """x = the sum of all elements of cols that `im2col` would take from each pixel."""
    cdef Job job = job_of(g, cols, x)
    still(cols, cnp.PyArray_TYPE(x), g.batch * g.in_channels * g.kernel_h * g.kernel_w * g.out_h * g.out_w)
    with nogil:
        parallel_for(g.batch * g.in_channels * g.height, num_threads, add_row, &job, EVENLY)


cdef Py_ssize_t add_row(const void *job, Py_ssize_t item, int thread) noexcept nogil:
    """A row of an image's channel, from that channel's rows of the matrix."""
    cdef const Job *c = <const Job *>job
    cdef Py_ssize_t size = c.kernels.itemsize, columns = c.out_h * c.out_w
    cdef const char *cols = c.source + item // c.height * c.kernel_h * c.kernel_w * columns * size
    cdef char *out = c.target + item * c.width * size
    cdef Py_ssize_t y = item % c.height, i, j, o, left
    cdef Range pixels
    memset(out, 0, c.width * size)
    for i in range(c.kernel_h):
        o = y + c.top - i * c.dilation_h
        if o < 0 or o % c.stride_h or o // c.stride_h >= c.out_h:
            continue
        o //= c.stride_h
        for j in range(c.kernel_w):
            left = j * c.dilation_w - c.left
            pixels = seen_by(c.out_w, c.stride_w, left, c.width)
            if pixels.first < pixels.last:
                c.kernels.scatter_add(
                    out + size * (pixels.first * c.stride_w + left), c.stride_w,
                    cols + size * ((i * c.kernel_w + j) * columns + o * c.out_w + pixels.first),
                    pixels.last - pixels.first)
    return 0
