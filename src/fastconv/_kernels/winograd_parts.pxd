cimport numpy as cnp

from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels

# An axis of a kernel as a sum of shorter ones. Part i has the taps first_tap(i) + u*stride, u < side, of
# which those below `taps` exist. It is a kernel of stride 1 on an image of its own, whose pixel j is pixel
# j*stride + first_tap(i) - padding of the image.
ctypedef struct Cut:
    Py_ssize_t stride, taps, side
    Py_ssize_t runs              # of `side` taps, in each phase of the stride
    Py_ssize_t count             # stride * runs

# A kernel as a sum of small ones: part (i, j) is number i*w.count + j.
ctypedef struct Parts:
    Cut h, w
    Py_ssize_t count

cdef Parts parts_of(ConvGeometry g) noexcept nogil
cdef ConvGeometry dense_geometry(ConvGeometry g, const Parts *parts)
cdef Py_ssize_t images_at_once(ConvGeometry dense, const Parts *parts, const fc_kernels *table) noexcept nogil
cdef char *room_for_images(ConvGeometry dense, const Parts *parts, const fc_kernels *table,
                           Py_ssize_t images) except? NULL
cdef char *image_at(cnp.ndarray array, Py_ssize_t images, Py_ssize_t image) noexcept
cdef cnp.ndarray dense_weight(ConvGeometry dense, const Parts *parts, int typenum)
cdef cnp.ndarray split_weight(ConvGeometry dense, const Parts *parts, cnp.ndarray weight, int num_threads)
cdef int join_weight(ConvGeometry dense, const Parts *parts, cnp.ndarray dense_weight, cnp.ndarray weight,
                     int num_threads) except -1
cdef int split_images(const fc_kernels *table, ConvGeometry g, ConvGeometry dense, const Parts *parts,
                      const char *x, char *dense_x, Py_ssize_t images, int num_threads) except -1
cdef int join_images(const fc_kernels *table, ConvGeometry g, ConvGeometry dense, const Parts *parts, char *x,
                     const char *dense_x, Py_ssize_t images, int num_threads) except -1
