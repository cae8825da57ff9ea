"""Depthwise convolution with channels in lanes: NHWC as it lies, and narrow planes of NCHW, turned.

A row of a narrow plane fills vectors badly, and most of its windows meet the border. As many planes as a
vector has lanes are turned into pixels [row][column][channel] in a buffer that stays in cache, which costs
about as much as a few taps of each pixel, and turned back.

Workspace: the weight once more and, for turned planes, at most TURNED_BYTES a thread.
"""

from libc.string cimport memset

from fastconv._kernels.correlation cimport Correlation, align, ceil_div
from fastconv._kernels.depthwise_job cimport job_of, take_image, take_rows
from fastconv._kernels.isa cimport FC_SLIDING_ROWS, fc_depthwise
from fastconv._kernels.memory cimport for_threads, give_back, take
from fastconv._kernels.threads cimport EVENLY, PRODUCTS, parallel_for

cdef enum:
    TURNED_BYTES = 262144     # of a vector's planes of inputs and outputs
    # In fifths of the time of a multiply-add of vectors, measured:
    TAP = 6                   # a tap of a vector of a row
    VECTOR = 30               # beginning and ending a vector of a row
    TURNED_TAP = 5            # a tap of a pixel
    PIXEL = 45                # turning a pixel there or back


# A correlation whose weight, or whose filters of each vector of channels, have been turned.
ctypedef struct Turned:
    const Correlation *c
    char *weight
    Py_ssize_t vectors, filter_bytes
    char *private             # for each thread: a vector's planes of inputs and of outputs
    Py_ssize_t each


cdef bint correlate_pixels(const Correlation *c, int num_threads) noexcept nogil:
    cdef Turned t
    t.c = c
    t.weight = <char *>take(c.taps_h * c.taps_w * c.groups * c.kernels.itemsize)
    if t.weight == NULL:
        return False
    turn_weight(c, 0, c.groups, c.groups, t.weight)
    parallel_for(c.batch * c.out_h, num_threads, compute_pixels, &t, EVENLY | PRODUCTS)
    give_back(t.weight)
    return True


cdef Py_ssize_t compute_pixels(const void *turned, Py_ssize_t item, int thread) noexcept nogil:
    """A row."""
    cdef const Turned *t = <const Turned *>turned
    cdef const Correlation *c = t.c
    cdef fc_depthwise job = job_of(c)
    job.weight = t.weight
    take_image(&job, c, item // c.out_h)
    take_rows(&job, c.kernels.itemsize, item % c.out_h, 1)
    c.kernels.depthwise_pixels(&job)
    return 0


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
    cdef Turned t
    cdef Py_ssize_t size = c.kernels.itemsize, lanes = c.kernels.lanes, taps = c.taps_h * c.taps_w, vector
    t.c = c
    t.vectors = ceil_div(c.groups, lanes)
    t.filter_bytes = (taps + 1) * lanes * size      # of a vector's channels, with the bias
    t.each = plane_bytes(c, c.height * c.width) + plane_bytes(c, c.out_h * c.out_w)
    t.weight = <char *>take(t.vectors * t.filter_bytes)
    t.private = <char *>take(for_threads(t.each, num_threads))
    if t.weight == NULL or t.private == NULL:
        give_back(t.weight)
        give_back(t.private)
        return False
    for vector in range(t.vectors):
        turn_filters(c, vector * lanes, min(lanes, c.groups - vector * lanes),
                     t.weight + vector * t.filter_bytes)
    parallel_for(c.batch * t.vectors, num_threads, compute_turned, &t, EVENLY | PRODUCTS)
    give_back(t.weight)
    give_back(t.private)
    return True


cdef void turn_filters(
        const Correlation *c, Py_ssize_t first, Py_ssize_t channels, char *filters) noexcept nogil:
    """[tap][lane], then the bias; zero where channels end within the vector."""
    cdef Py_ssize_t size = c.kernels.itemsize, taps = c.taps_h * c.taps_w, lanes = c.kernels.lanes
    memset(filters, 0, (taps + 1) * lanes * size)
    turn_weight(c, first, channels, lanes, filters)
    if c.bias != NULL:
        c.kernels.gather(filters + taps * lanes * size, c.bias + first * size, 1, channels)


cdef Py_ssize_t compute_turned(const void *turned, Py_ssize_t item, int thread) noexcept nogil:
    """A vector's channels of an image."""
    cdef const Turned *t = <const Turned *>turned
    cdef const Correlation *c = t.c
    cdef Py_ssize_t size = c.kernels.itemsize, lanes = c.kernels.lanes, inputs = c.height * c.width
    cdef Py_ssize_t image = item // t.vectors, channel = item % t.vectors * lanes
    cdef Py_ssize_t channels = min(lanes, c.groups - channel)
    cdef char *x = t.private + t.each * thread
    cdef char *out = x + plane_bytes(c, inputs)
    cdef fc_depthwise job = job_of(c)
    if channels < lanes:
        memset(x, 0, plane_bytes(c, inputs))
    c.kernels.transpose(x, lanes, c.x + size * (image * c.x_image + channel * c.x_channel), c.x_channel,
                        channels, inputs)
    job.planes = lanes
    job.x, job.x_row, job.x_pixel = x, c.width * lanes, lanes
    job.out, job.out_row, job.out_pixel = out, c.out_w * lanes, lanes
    job.weight = t.weight + item % t.vectors * t.filter_bytes
    if c.bias != NULL:
        job.bias = <const char *>job.weight + c.taps_h * c.taps_w * lanes * size
    c.kernels.depthwise_pixels(&job)
    c.kernels.transpose(c.out + size * (image * c.out_image + channel * c.out_channel), c.out_channel, out,
                        lanes, c.out_h * c.out_w, channels)
    return 0
