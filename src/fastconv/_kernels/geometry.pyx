"""Sizes of an operation as plain C integers: what the kernels know of fastconv._spec."""


cdef class ConvGeometry:
    def __init__(self, x_shape, weight_shape, out_size, stride, dilation, padding, groups, channels_last):
        """x_shape (N, C, H, W), weight_shape (K, C // groups, R, S), padding ((t, b), (l, r))."""
        self.batch, self.in_channels, self.height, self.width = x_shape
        self.out_channels, _, self.kernel_h, self.kernel_w = weight_shape
        self.out_h, self.out_w = out_size
        self.stride_h, self.stride_w = stride
        self.dilation_h, self.dilation_w = dilation
        (self.top, self.bottom), (self.left, self.right) = padding
        self.groups = groups
        self.channels_last = channels_last
