"""Depthwise convolution: a filter for each channel, which memory bounds, so that each byte is moved once.

NCHW runs planes through kernels that need no padded copy of them, but for narrow ones: those, and NHWC, have
channels in lanes (depthwise_pixels.pyx). The gradient of the input is the same correlation with flipped taps,
one for each phase of the stride; in NCHW the columns' phases are computed side by side in a buffer that stays
in cache and merged row by row.

Workspace, beside that of depthwise_pixels.pyx: a row of zeros and, for strided gradients of the input,
PHASE_BYTES (never less than one row) a thread.
"""

cimport numpy as cnp
from libc.string cimport memset

from fastconv._kernels import conv_depthwise_weight, conv_direct
from fastconv._kernels.correlation cimport (
    Correlation, align, ceil_div, channels_last, check_arrays, forward_correlation, has_finite_sum,
    input_correlation,
)
from fastconv._kernels.depthwise_job cimport BAND_ROWS, job_of, take_image, take_planes, take_rows, take_zeros
from fastconv._kernels.depthwise_pixels cimport correlate_pixels, correlate_turned, turns
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_depthwise, fc_kernels, kernels_for
from fastconv._kernels.memory cimport for_threads, give_back, take
from fastconv._kernels.threads cimport EVENLY, PRODUCTS, parallel_for

cnp.import_array()

cdef enum:
    ITEM_BYTES = 65536        # of outputs that a thread takes at a time, about
    PHASE_BYTES = 16384       # of phases that wait to be merged
    MOST_PHASES = 16          # of rows, or columns; where there are more, most of them see no tap


def supports(ConvGeometry g not None) -> bool:
    """Whether each channel has one filter of its own."""
    return g.groups == g.in_channels == g.out_channels and g.groups > 0


# A job cut into items: ranges of channels of one image, or bands of rows of one channel.
ctypedef struct Cut:
    Py_ssize_t channels              # of an item, at most
    Py_ssize_t ranges, bands         # of an image; band i of h rows has rows [h*i/bands, h*(i+1)/bands)
    Py_ssize_t items

# Planes: of outputs that come from x, or of gradients of x, which `spread_planes` computes.
ctypedef struct Planes:
    const Correlation *c
    Cut cut
    const char *zeros                # a row of them

# Planes of a strided input's gradient, of which c are the phases, [phase_h][phase_w].
ctypedef struct Merging:
    Planes planes
    Py_ssize_t stride_h, stride_w, height, width
    char *grad_x
    Py_ssize_t rows, pitch           # of a phase in a buffer; elements from row to row
    char *buffers                    # for each thread [phase_w][row]
    Py_ssize_t each


cdef Cut cut_planes(
        const Correlation *c, Py_ssize_t rows, Py_ssize_t row_bytes, Py_ssize_t at_least) noexcept nogil:
    """Items of about ITEM_BYTES of `rows` rows a plane; at least so many where rows allow it."""
    cdef Cut cut
    cdef Py_ssize_t in_item = ITEM_BYTES // max(rows * row_bytes, 1)
    cut.channels = max(1, min(c.groups, in_item, c.batch * c.groups // max(at_least, 1)))
    cut.ranges = ceil_div(c.groups, cut.channels)
    cut.bands = 1
    if cut.channels == 1 and c.batch * cut.ranges < at_least:
        cut.bands = max(1, min(ceil_div(at_least, c.batch * cut.ranges), rows // BAND_ROWS))
    cut.items = c.batch * cut.ranges * cut.bands
    return cut


def forward(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray weight not None, bias,
            cnp.ndarray out not None, bint relu, int num_threads):
    """out = x convolved with weight, plus bias (or None), clipped at zero if relu."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef Correlation c = forward_correlation(kernels, g, x, weight, bias, out, relu)
    cdef bint done
    if is_padded(g) and not has_finite_sum(kernels, c.weight, cnp.PyArray_SIZE(weight)):
        # Kernels here leave rows of padding out; 0 times such a weight is NaN.
        conv_direct.forward(g, x, weight, bias, out, relu, num_threads)
        return
    with nogil:
        done = correlate(&c, num_threads)
    if not done:
        raise MemoryError("no memory for the workspace of a convolution")


cdef bint is_padded(ConvGeometry g) noexcept:
    return g.top > 0 or g.bottom > 0 or g.left > 0 or g.right > 0


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input, one correlation for each phase of the stride."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(grad_x))
    check_arrays(g, cnp.PyArray_TYPE(grad_x), grad_x, weight, None, grad_output)
    if g.stride_h > MOST_PHASES or g.stride_w > MOST_PHASES:
        conv_direct.grad_input(g, grad_output, weight, grad_x, num_threads)
        return
    if spreads(g):
        spread(kernels, g, grad_output, weight, grad_x, num_threads)
        return
    cdef Py_ssize_t count = g.stride_h * g.stride_w, index
    cdef Correlation *phases = <Correlation *>take(count * sizeof(Correlation))
    cdef bint done = phases != NULL, empty = False
    if done:
        for index in range(count):
            if not input_correlation(kernels, g, grad_output, weight, grad_x, index // g.stride_w,
                                     index % g.stride_w, &phases[index]):
                phases[index].taps_h = 0
                empty = True
        with nogil:
            if not g.channels_last and count == 1:
                done = correlate(phases, num_threads)
            elif not g.channels_last:
                done = merge_phases(phases, g, <char *>cnp.PyArray_DATA(grad_x), num_threads)
            else:
                if empty:
                    memset(cnp.PyArray_DATA(grad_x), 0, cnp.PyArray_NBYTES(grad_x))
                for index in range(count):
                    if done and phases[index].taps_h > 0:
                        done = correlate_pixels(&phases[index], num_threads)
        give_back(phases)
    if not done:
        raise MemoryError("no memory for the workspace of a convolution's gradient")


grad_weight = conv_depthwise_weight.grad_weight
grad_weight_and_bias = conv_depthwise_weight.grad_weight_and_bias


cdef bint correlate(const Correlation *c, int num_threads) noexcept nogil:
    if channels_last(c):
        return correlate_pixels(c, num_threads)
    return correlate_turned(c, num_threads) if turns(c) else correlate_planes(c, num_threads)


cdef bint correlate_planes(const Correlation *c, int num_threads) noexcept nogil:
    """Computes all of c.out. False where there was no memory; nothing is written then."""
    cdef Planes planes
    cdef char *zeros = take_zeros(c.width * c.kernels.itemsize)
    if zeros == NULL:
        return False
    planes.c, planes.zeros = c, zeros
    planes.cut = cut_planes(c, c.out_h, c.out_w * c.kernels.itemsize,
                            4 * num_threads if num_threads > 1 else 1)
    parallel_for(planes.cut.items, num_threads, compute_planes, &planes, EVENLY | PRODUCTS)
    give_back(zeros)
    return True


cdef Py_ssize_t compute_planes(const void *planes, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Correlation *c = (<const Planes *>planes).c
    cdef const Cut *cut = &(<const Planes *>planes).cut
    cdef Py_ssize_t band = item % cut.bands, index = item // cut.bands % cut.ranges
    cdef Py_ssize_t channel = index * cut.channels, row = c.out_h * band // cut.bands
    cdef fc_depthwise job = job_of(c)
    job.zeros = (<const Planes *>planes).zeros
    take_image(&job, c, item // cut.bands // cut.ranges)
    take_planes(&job, c.kernels.itemsize, channel, min(cut.channels, c.groups - channel))
    take_rows(&job, c.kernels.itemsize, row, c.out_h * (band + 1) // cut.bands - row)
    c.kernels.depthwise(&job)
    return 0


cdef bint spreads(ConvGeometry g) noexcept:
    """Whether there is a kernel for the whole gradient of a strided input."""
    return (not g.channels_last and g.stride_h == g.stride_w == 2 and g.dilation_h == g.dilation_w == 1
            and g.kernel_h == g.kernel_w and (g.kernel_h == 3 or g.kernel_h == 5))


cdef void spread(
        const fc_kernels *kernels, ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight,
        cnp.ndarray grad_x, int num_threads) except *:
    # The forward one, whose x is written and whose out is read.
    cdef Correlation c = forward_correlation(kernels, g, grad_x, weight, None, grad_output, False)
    cdef Planes planes
    planes.c = &c
    planes.cut = cut_planes(&c, c.height, c.width * kernels.itemsize,
                            4 * num_threads if num_threads > 1 else 1)
    with nogil:
        parallel_for(planes.cut.items, num_threads, spread_planes, &planes, EVENLY | PRODUCTS)


cdef Py_ssize_t spread_planes(const void *planes, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Correlation *c = (<const Planes *>planes).c
    cdef const Cut *cut = &(<const Planes *>planes).cut
    cdef Py_ssize_t size = c.kernels.itemsize, band = item % cut.bands, index = item // cut.bands % cut.ranges
    cdef Py_ssize_t image = item // cut.bands // cut.ranges, channel = index * cut.channels
    cdef Py_ssize_t row = c.height * band // cut.bands
    cdef fc_depthwise job = job_of(c)
    job.planes = min(cut.channels, c.groups - channel)
    job.height, job.width, job.x_row, job.x_plane = c.out_h, c.out_w, c.out_row, c.out_channel
    job.x = c.out + size * (image * c.out_image + channel * c.out_channel)
    job.out_h, job.out_w = c.height * (band + 1) // cut.bands - row, c.width
    job.out_row, job.out_plane = c.x_row, c.x_channel
    job.out = <char *>c.x + size * (image * c.x_image + channel * c.x_channel + row * c.x_row)
    job.weight = c.weight + size * channel * c.weight_group
    job.top += row
    c.kernels.depthwise_spread(&job)
    return 0


cdef bint merge_phases(
        const Correlation *phases, ConvGeometry g, char *grad_x, int num_threads) noexcept nogil:
    """The gradient of a strided input: phases[h*stride_w + w] with its columns merged into rows."""
    cdef Merging m
    cdef const Correlation *c = phases
    cdef Py_ssize_t size = c.kernels.itemsize, in_cache
    cdef char *zeros = take_zeros(g.out_w * size)
    m.planes.c, m.planes.zeros = phases, zeros
    m.planes.cut = cut_planes(c, c.out_h, g.stride_h * g.width * size,
                              4 * num_threads if num_threads > 1 else 1)
    m.stride_h, m.stride_w, m.height, m.width = g.stride_h, g.stride_w, g.height, g.width
    m.grad_x = grad_x
    m.pitch = align(c.out_w * size) // size
    in_cache = PHASE_BYTES // (g.stride_w * m.pitch * size)
    m.rows = max(1, min(ceil_div(c.out_h, m.planes.cut.bands), in_cache))
    m.each = align(g.stride_w * m.rows * m.pitch * size)
    m.buffers = <char *>take(for_threads(m.each, num_threads))
    if m.buffers != NULL and zeros != NULL:
        parallel_for(m.planes.cut.items, num_threads, merge_item, &m, EVENLY | PRODUCTS)
    give_back(m.buffers)
    give_back(zeros)
    return m.buffers != NULL and zeros != NULL


cdef Py_ssize_t merge_item(const void *merging, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Merging *m = <const Merging *>merging
    cdef const Correlation *phases = m.planes.c
    cdef const Cut *cut = &m.planes.cut
    cdef Py_ssize_t image = item // cut.bands // cut.ranges
    cdef Py_ssize_t begin = item // cut.bands % cut.ranges * cut.channels
    cdef Py_ssize_t end = min(begin + cut.channels, phases.groups)
    cdef Py_ssize_t first = phases.out_h * (item % cut.bands) // cut.bands
    cdef Py_ssize_t last = phases.out_h * (item % cut.bands + 1) // cut.bands
    cdef Py_ssize_t channel, row, phase_h
    for channel in range(begin, end):
        row = first
        while row < last:
            for phase_h in range(min(m.stride_h, m.height)):
                merge_rows(m, phase_h, image, channel, row, min(m.rows, last - row),
                           m.buffers + m.each * thread)
            row += m.rows
    return 0


cdef void merge_rows(
        const Merging *m, Py_ssize_t phase_h, Py_ssize_t image, Py_ssize_t channel, Py_ssize_t row,
        Py_ssize_t count, char *buffer) noexcept nogil:
    """Rows phase_h + stride_h * [row, row + count) of one plane."""
    cdef const Correlation *phases = m.planes.c + phase_h * m.stride_w
    cdef const fc_kernels *kernels = phases.kernels
    cdef Py_ssize_t size = kernels.itemsize, phase_bytes = size * m.rows * m.pitch
    cdef Py_ssize_t phase_w, r
    cdef char *plane = m.grad_x + size * (image * phases.groups + channel) * m.height * m.width
    cdef char *to
    cdef const char *from_
    cdef fc_depthwise job
    count = min(count, phases.out_h - row)
    if count <= 0:
        return
    for phase_w in range(min(m.stride_w, m.width)):
        if phases[phase_w].taps_h == 0:
            memset(buffer + phase_w * phase_bytes, 0, size * count * m.pitch)
            continue
        job = job_of(&phases[phase_w])
        take_image(&job, &phases[phase_w], image)
        take_planes(&job, size, channel, 1)
        job.out_row = m.pitch
        take_rows(&job, size, row, count)
        job.out = buffer + phase_w * phase_bytes
        job.zeros = m.planes.zeros
        kernels.depthwise(&job)
    for r in range(count):
        to = plane + size * (phase_h + m.stride_h * (row + r)) * m.width
        from_ = buffer + size * r * m.pitch
        if m.stride_w == 2:
            kernels.zip(to, from_, from_ + phase_bytes, m.width)
            continue
        for phase_w in range(min(m.stride_w, m.width)):
            kernels.scatter(to + size * phase_w, m.stride_w, from_ + phase_w * phase_bytes,
                            phases[phase_w].out_w)
