"""Depthwise convolution with channels in lanes: NHWC as it lies, and narrow planes of NCHW, turned.

A row of a narrow plane fills vectors badly, and most of its windows meet the border. As many planes as a
vector has lanes are turned into pixels [row][column][channel] in a buffer that stays in cache, which costs
about as much as a few taps of each pixel, and turned back.

Workspace: the weight once more and, for turned planes, at most TURNED_BYTES a thread.
"""

from cython.parallel cimport parallel, prange
from libc.string cimport memset

from fastconv._kernels.correlation cimport Correlation, align, ceil_div
from fastconv._kernels.depthwise_job cimport job_of, take_image, take_rows
from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.isa cimport FC_SLIDING_ROWS, fc_depthwise
from fastconv._kernels.memory cimport give_back, take
from fastconv._kernels.threads cimport thread_index

cdef enum:
    TURNED_BYTES = 262144     # of a vector's planes of inputs and outputs
    # In fifths of the time of a multiply-add of vectors, measured:
    TAP = 6                   # a tap of a vector of a row
    VECTOR = 30               # beginning and ending a vector of a row
    TURNED_TAP = 5            # a tap of a pixel
    PIXEL = 45                # turning a pixel there or back


cdef bint correlate_pixels(const Correlation *c, int num_threads) noexcept nogil:
    cdef fc_float_mode mode = 0
    cdef Py_ssize_t size = c.kernels.itemsize, taps = c.taps_h * c.taps_w
    cdef Py_ssize_t items = c.batch * c.out_h, item
    cdef char *turned = <char *>take(taps * c.groups * size)
    cdef fc_depthwise job = job_of(c)
    if turned == NULL:
        return False
    turn_weight(c, 0, c.groups, c.groups, turned)
    job.weight = turned
    with parallel(num_threads=num_threads):
        mode = fc_flush_denormals()
        for item in prange(items, schedule="static"):
            compute_pixels(c, job, item)
        fc_restore_float_mode(mode)
    give_back(turned)
    return True


cdef void compute_pixels(const Correlation *c, fc_depthwise job, Py_ssize_t item) noexcept nogil:
    take_image(&job, c, item // c.out_h)
    take_rows(&job, c.kernels.itemsize, item % c.out_h, 1)
    c.kernels.depthwise_pixels(&job)


cdef void turn_weight(
        const Correlation *c, Py_ssize_t first, Py_ssize_t channels, Py_ssize_t step,
        char *turned) noexcept nogil:
    """turned[tap*step + i] of channel first + i, taps in the order of the correlation."""
    cdef Py_ssize_t size = c.kernels.itemsize, i, j
    for i in range(c.taps_h):
        for j in range(c.taps_w):
            c.kernels.gather(turned + size * (i * c.taps_w + j) * step,
                             c.weight + size * (first * c.weight_group + i * c.weight_h + j * c.weight_w),
                             c.weight_group, channels)


# ---- narrow planes ----


cdef bint turns(const Correlation *c) noexcept nogil:
    """Whether planes are computed faster as pixels than as they lie."""
    cdef Py_ssize_t lanes = c.kernels.lanes, taps = c.taps_h * c.taps_w
    cdef Py_ssize_t inputs = c.height * c.width, outputs = c.out_h * c.out_w
    cdef bint has_kind = (c.taps_h == c.taps_w and c.stride_h == c.stride_w
                          and c.dilation_h == c.dilation_w == 1
                          and ((c.taps_h == 5 and c.stride_h <= 2) or (c.taps_h == 7 and c.stride_h == 1)))
    cdef bint fits = plane_bytes(c, inputs) + plane_bytes(c, outputs) <= TURNED_BYTES
    cdef Py_ssize_t planes = lanes * c.out_h * ceil_div(c.out_w, lanes) * (TAP * taps + VECTOR)
    cdef Py_ssize_t pixels = TURNED_TAP * taps * outputs + PIXEL * (inputs + outputs)
    cdef bint pays = 2 * c.out_w < lanes if slides(c) else pixels < planes
    return has_kind and c.groups >= lanes and pays and fits


cdef inline bint slides(const Correlation *c) noexcept nogil:
    """Whether planes are computed down columns of vectors, for which a row should fill half of one."""
    return c.kernels.mr >= FC_SLIDING_ROWS and c.taps_h == c.taps_w == 5 and c.stride_h == 1


cdef inline Py_ssize_t plane_bytes(const Correlation *c, Py_ssize_t pixels) noexcept nogil:
    """Of a turned plane."""
    return align(pixels * c.kernels.lanes * c.kernels.itemsize)


cdef bint correlate_turned(const Correlation *c, int num_threads) noexcept nogil:
    cdef fc_float_mode mode = 0
    cdef Py_ssize_t size = c.kernels.itemsize, lanes = c.kernels.lanes, taps = c.taps_h * c.taps_w
    cdef Py_ssize_t vectors = ceil_div(c.groups, lanes), items = c.batch * vectors, item
    cdef Py_ssize_t filter_bytes = (taps + 1) * lanes * size      # of a vector's channels, with the bias
    cdef Py_ssize_t each = plane_bytes(c, c.height * c.width) + plane_bytes(c, c.out_h * c.out_w)
    cdef char *filters = <char *>take(vectors * filter_bytes)
    cdef char *private = <char *>take(each * num_threads)
    if filters == NULL or private == NULL:
        give_back(filters)
        give_back(private)
        return False
    for item in range(vectors):
        turn_filters(c, item * lanes, min(lanes, c.groups - item * lanes), filters + item * filter_bytes)
    with parallel(num_threads=num_threads):
        mode = fc_flush_denormals()
        memset(private + each * thread_index(), 0, each)
        for item in prange(items, schedule="static"):
            compute_turned(c, item // vectors, item % vectors * lanes,
                           filters + item % vectors * filter_bytes, private + each * thread_index())
        fc_restore_float_mode(mode)
    give_back(filters)
    give_back(private)
    return True


cdef void turn_filters(
        const Correlation *c, Py_ssize_t first, Py_ssize_t channels, char *filters) noexcept nogil:
    """[tap][lane], then the bias; zero where channels end within the vector."""
    cdef Py_ssize_t size = c.kernels.itemsize, taps = c.taps_h * c.taps_w, lanes = c.kernels.lanes
    memset(filters, 0, (taps + 1) * lanes * size)
    turn_weight(c, first, channels, lanes, filters)
    if c.bias != NULL:
        c.kernels.gather(filters + taps * lanes * size, c.bias + first * size, 1, channels)


cdef void compute_turned(
        const Correlation *c, Py_ssize_t image, Py_ssize_t channel, const char *filters,
        char *private) noexcept nogil:
    """A vector's channels of an image. Lanes without a channel compute with whatever was there before."""
    cdef Py_ssize_t size = c.kernels.itemsize, lanes = c.kernels.lanes
    cdef Py_ssize_t channels = min(lanes, c.groups - channel)
    cdef char *turned = private + plane_bytes(c, c.height * c.width)
    cdef fc_depthwise job = job_of(c)
    c.kernels.transpose(private, lanes, c.x + size * (image * c.x_image + channel * c.x_channel), c.x_channel,
                        channels, c.height * c.width)
    job.planes = lanes
    job.x, job.x_row, job.x_pixel = private, c.width * lanes, lanes
    job.out, job.out_row, job.out_pixel = turned, c.out_w * lanes, lanes
    job.weight = filters
    if c.bias != NULL:
        job.bias = filters + c.taps_h * c.taps_w * lanes * size
    c.kernels.depthwise_pixels(&job)
    c.kernels.transpose(c.out + size * (image * c.out_image + channel * c.out_channel), c.out_channel, turned,
                        lanes, c.out_h * c.out_w, channels)
