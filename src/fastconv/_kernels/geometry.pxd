cdef class ConvGeometry:
    # A convolution's sizes, as the kernels read them; made once a set of shapes by fastconv._spec.
    cdef readonly Py_ssize_t batch, in_channels, height, width
    cdef readonly Py_ssize_t out_channels, groups, kernel_h, kernel_w
    cdef readonly Py_ssize_t out_h, out_w
    cdef readonly Py_ssize_t stride_h, stride_w, dilation_h, dilation_w
    cdef readonly Py_ssize_t top, bottom, left, right
    cdef readonly bint channels_last
