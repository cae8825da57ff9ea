"""The column matrix of a convolution: what taps see, gathered into rows (im2col) and added back (col2im).

A row of the matrix belongs to a channel and a tap; its elements are the output pixels. `col2im` walks rows
of the image, so that a row stays in cache while all taps add to it, in the order of the taps: no thread
shares a pixel with another, and a pixel's sum has one order.
"""

cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset

from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels, kernels_for
from fastconv._kernels.ranges cimport Range, seen_by
from fastconv._kernels.unchanged cimport still

cnp.import_array()


def im2col(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray cols not None, int num_threads):
    """cols[n, (c, i, j), (o, p)] = x[n, c, o*stride + i*dilation - top, p*stride + j*dilation - left]."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef Py_ssize_t size = kernels.itemsize, taps = g.kernel_h * g.kernel_w
    cdef Py_ssize_t plane = g.height * g.width * size, columns = g.out_h * g.out_w * size
    cdef const char *source = <const char *>cnp.PyArray_DATA(x)
    cdef char *out = <char *>cnp.PyArray_DATA(cols)
    cdef Py_ssize_t index, rows = g.batch * g.in_channels * taps
    still(x, cnp.PyArray_TYPE(cols), g.batch * g.in_channels * g.height * g.width)
    for index in prange(rows, num_threads=num_threads, nogil=True, schedule="static"):
        gather_tap(kernels, g, index % taps // g.kernel_w, index % g.kernel_w, source + index // taps * plane,
                   out + index * columns)


cdef void gather_tap(
        const fc_kernels *kernels, ConvGeometry g, Py_ssize_t i, Py_ssize_t j, const char *plane,
        char *out) noexcept nogil:
    """One row of the matrix: what tap (i, j) sees of a plane."""
    cdef Py_ssize_t size = kernels.itemsize, row = g.out_w * size
    cdef Py_ssize_t top = i * g.dilation_h - g.top, left = j * g.dilation_w - g.left
    cdef Range rows = seen_by(g.out_h, g.stride_h, top, g.height)
    cdef Range pixels = seen_by(g.out_w, g.stride_w, left, g.width)
    cdef Py_ssize_t before = pixels.first * size, count = pixels.last - pixels.first
    cdef Py_ssize_t after = (g.out_w - pixels.last) * size, o
    memset(out, 0, rows.first * row)
    for o in range(rows.first, rows.last):
        if before:
            memset(out + o * row, 0, before)
        if count:
            kernels.gather(
                out + o * row + before,
                plane + size * ((o * g.stride_h + top) * g.width + pixels.first * g.stride_w + left),
                g.stride_w, count)
        if after:
            memset(out + (o + 1) * row - after, 0, after)
    memset(out + rows.last * row, 0, (g.out_h - rows.last) * row)


def col2im(ConvGeometry g not None, cnp.ndarray cols not None, cnp.ndarray x not None, int num_threads):
    """x = the sum of all elements of cols that `im2col` would take from each pixel."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef Py_ssize_t size = kernels.itemsize, row = g.width * size
    cdef Py_ssize_t channel = g.kernel_h * g.kernel_w * g.out_h * g.out_w * size
    cdef const char *source = <const char *>cnp.PyArray_DATA(cols)
    cdef char *out = <char *>cnp.PyArray_DATA(x)
    cdef Py_ssize_t index, rows = g.batch * g.in_channels * g.height
    still(cols, cnp.PyArray_TYPE(x), g.batch * g.in_channels * g.kernel_h * g.kernel_w * g.out_h * g.out_w)
    for index in prange(rows, num_threads=num_threads, nogil=True, schedule="static"):
        add_row(kernels, g, index % g.height, source + index // g.height * channel, out + index * row)


cdef void add_row(
        const fc_kernels *kernels, ConvGeometry g, Py_ssize_t y, const char *cols, char *out) noexcept nogil:
    """Row y of an image's channel, from that channel's rows of the matrix."""
    cdef Py_ssize_t size = kernels.itemsize, columns = g.out_h * g.out_w
    cdef Py_ssize_t i, j, o, left
    cdef Range pixels
    memset(out, 0, g.width * size)
    for i in range(g.kernel_h):
        o = y + g.top - i * g.dilation_h
        if o < 0 or o % g.stride_h or o // g.stride_h >= g.out_h:
            continue
        o //= g.stride_h
        for j in range(g.kernel_w):
            left = j * g.dilation_w - g.left
            pixels = seen_by(g.out_w, g.stride_w, left, g.width)
            if pixels.first < pixels.last:
                kernels.scatter_add(
                    out + size * (pixels.first * g.stride_w + left), g.stride_w,
                    cols + size * ((i * g.kernel_w + j) * columns + o * g.out_w + pixels.first),
                    pixels.last - pixels.first)
