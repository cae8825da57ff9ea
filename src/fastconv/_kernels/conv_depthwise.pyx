"""Depthwise convolution: a filter for each channel, which memory bounds, so that each byte is moved once.

NCHW runs planes through kernels that need no padded copy of them; NHWC runs channels in lanes. The gradient
of the input is the same correlation with flipped taps, one for each phase of the stride; in NCHW the columns'
phases are computed side by side in a buffer that stays in cache and merged row by row.

The gradient of the weight keeps a vector of partial sums for each tap. Its parts (images, and bands of rows
where there are few images) are summed in order, in groups whose number depends on the sizes alone.

Workspace: for NCHW a row of zeros and, for strided gradients of the input, PHASE_BYTES (never less than one
row) a thread; for NHWC the weight once more; for the weight's gradient its partial sums, at most SUM_BYTES a
group.
"""

cimport numpy as cnp
from cython.parallel cimport parallel, prange
from libc.string cimport memset

from fastconv._kernels.correlation cimport (
    Correlation, align, ceil_div, forward_correlation, input_correlation,
)
from fastconv._kernels.float_mode cimport fc_float_mode, fc_flush_denormals, fc_restore_float_mode
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_depthwise, fc_kernels, kernels_for
from fastconv._kernels.memory cimport give_back, take
from fastconv._kernels.threads cimport thread_index

cnp.import_array()

cdef enum:
    ITEM_BYTES = 65536        # of outputs that a thread takes at a time, about
    BAND_ROWS = 32            # least rows of outputs in a part, where planes are cut
    PHASE_BYTES = 16384       # of phases that wait to be merged
    SPLITS = 16               # groups of partial sums, at most, and items that make more of them needless
    RANGE_BYTES = 16384       # of partial sums of a range of channels: they stay in the first-level cache
    SUM_BYTES = 1048576       # of partial sums, where their number is a choice


def supports(ConvGeometry g not None) -> bool:
    """Whether each channel has one filter of its own."""
    return g.groups == g.in_channels == g.out_channels and g.groups > 0


# A job cut into items: ranges of channels of one image, or bands of rows of one channel.
ctypedef struct Cut:
    Py_ssize_t channels              # of an item, at most
    Py_ssize_t ranges, bands         # of an image; band i of h rows has rows [h*i/bands, h*(i+1)/bands)
    Py_ssize_t items


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


cdef fc_depthwise job_of(const Correlation *c) noexcept nogil:
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


cdef void take_rows(fc_depthwise *job, Py_ssize_t size, Py_ssize_t row, Py_ssize_t rows) noexcept nogil:
    """Leaves rows [row, row + rows) of the outputs."""
    job.out = <char *>job.out + size * row * job.out_row
    job.top -= row * job.stride_h
    job.out_h = rows


cdef void take_planes(fc_depthwise *job, Py_ssize_t size, Py_ssize_t plane, Py_ssize_t planes) noexcept nogil:
    """Leaves planes [plane, plane + planes)."""
    job.x = <const char *>job.x + size * plane * job.x_plane
    job.out = <char *>job.out + size * plane * job.out_plane
    job.weight = <const char *>job.weight + size * plane * job.weight_plane
    if job.bias != NULL:
        job.bias = <const char *>job.bias + size * plane
    job.planes = planes


cdef void take_image(fc_depthwise *job, const Correlation *c, Py_ssize_t image) noexcept nogil:
    job.x = <const char *>job.x + c.kernels.itemsize * image * c.x_image
    job.out = <char *>job.out + c.kernels.itemsize * image * c.out_image


def forward(ConvGeometry g not None, cnp.ndarray x not None, cnp.ndarray weight not None, bias,
            cnp.ndarray out not None, bint relu, int num_threads):
    """out = x convolved with weight, plus bias (or None), clipped at zero if relu."""
    cdef Correlation c = forward_correlation(kernels_for(cnp.PyArray_TYPE(x)), g, x, weight, bias, out, relu)
    cdef bint done
    with nogil:
        done = correlate_pixels(&c, num_threads) if g.channels_last else correlate_planes(&c, num_threads)
    if not done:
        raise MemoryError("no memory for the workspace of a convolution")


def grad_input(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray weight not None,
               cnp.ndarray grad_x not None, int num_threads):
    """grad_x = gradient of the input, one correlation for each phase of the stride."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(grad_x))
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
                done = correlate_planes(phases, num_threads)
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


cdef char *take_zeros(size_t bytes) noexcept nogil:
    """NULL where there is no memory."""
    cdef char *zeros = <char *>take(bytes)
    if zeros != NULL:
        memset(zeros, 0, bytes)
    return zeros


# ---- planes ----


cdef bint correlate_planes(const Correlation *c, int num_threads) noexcept nogil:
    """Computes all of c.out. False where there was no memory; nothing is written then."""
    cdef fc_float_mode mode = 0
    cdef Cut cut = cut_planes(c, c.out_h, c.out_w * c.kernels.itemsize,
                              4 * num_threads if num_threads > 1 else 1)
    cdef fc_depthwise job = job_of(c)
    cdef char *zeros = take_zeros(c.width * c.kernels.itemsize)
    cdef Py_ssize_t item
    if zeros == NULL:
        return False
    job.zeros = zeros
    with parallel(num_threads=num_threads):
        mode = fc_flush_denormals()
        for item in prange(cut.items, schedule="static"):
            compute_planes(c, job, &cut, item)
        fc_restore_float_mode(mode)
    give_back(zeros)
    return True


cdef void compute_planes(
        const Correlation *c, fc_depthwise job, const Cut *cut, Py_ssize_t item) noexcept nogil:
    cdef Py_ssize_t band = item % cut.bands, index = item // cut.bands % cut.ranges
    cdef Py_ssize_t channel = index * cut.channels, row = c.out_h * band // cut.bands
    take_image(&job, c, item // cut.bands // cut.ranges)
    take_planes(&job, c.kernels.itemsize, channel, min(cut.channels, c.groups - channel))
    take_rows(&job, c.kernels.itemsize, row, c.out_h * (band + 1) // cut.bands - row)
    c.kernels.depthwise(&job)


cdef bint spreads(ConvGeometry g) noexcept:
    """Whether there is a kernel for the whole gradient of a strided input."""
    return (not g.channels_last and g.stride_h == g.stride_w == 2 and g.dilation_h == g.dilation_w == 1
            and g.kernel_h == g.kernel_w and (g.kernel_h == 3 or g.kernel_h == 5))


cdef void spread(
        const fc_kernels *kernels, ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight,
        cnp.ndarray grad_x, int num_threads) noexcept:
    cdef fc_float_mode mode = 0
    # The forward one, whose x is written and whose out is read.
    cdef Correlation c = forward_correlation(kernels, g, grad_x, weight, None, grad_output, False)
    cdef Cut cut = cut_planes(&c, c.height, c.width * kernels.itemsize,
                              4 * num_threads if num_threads > 1 else 1)
    cdef Py_ssize_t item
    with nogil, parallel(num_threads=num_threads):
        mode = fc_flush_denormals()
        for item in prange(cut.items, schedule="static"):
            spread_planes(&c, &cut, item)
        fc_restore_float_mode(mode)


cdef void spread_planes(const Correlation *c, const Cut *cut, Py_ssize_t item) noexcept nogil:
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


cdef bint merge_phases(
        const Correlation *phases, ConvGeometry g, char *grad_x, int num_threads) noexcept nogil:
    """The gradient of a strided input: phases[h*stride_w + w] with its columns merged into rows."""
    cdef fc_float_mode mode = 0
    cdef const Correlation *c = phases
    cdef Py_ssize_t size = c.kernels.itemsize
    cdef Cut cut = cut_planes(c, c.out_h, g.stride_h * g.width * size,
                              4 * num_threads if num_threads > 1 else 1)
    cdef Py_ssize_t pitch = align(c.out_w * size) // size
    cdef Py_ssize_t in_cache = PHASE_BYTES // (g.stride_w * pitch * size)
    cdef Py_ssize_t rows = max(1, min(ceil_div(c.out_h, cut.bands), in_cache))
    cdef Py_ssize_t each = align(g.stride_w * rows * pitch * size)
    cdef Py_ssize_t item, stride_h = g.stride_h, stride_w = g.stride_w, height = g.height, width = g.width
    cdef char *buffers = <char *>take(each * num_threads)
    cdef char *zeros = take_zeros(g.out_w * size)
    if buffers == NULL or zeros == NULL:
        give_back(buffers)
        give_back(zeros)
        return False
    with parallel(num_threads=num_threads):
        mode = fc_flush_denormals()
        for item in prange(cut.items, schedule="static"):
            merge_item(phases, stride_h, stride_w, height, width, grad_x, &cut, item, rows, pitch, zeros,
                       buffers + each * thread_index())
        fc_restore_float_mode(mode)
    give_back(buffers)
    give_back(zeros)
    return True


cdef void merge_item(
        const Correlation *phases, Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t height,
        Py_ssize_t width,
        char *grad_x, const Cut *cut, Py_ssize_t item, Py_ssize_t rows, Py_ssize_t pitch, const char *zeros,
        char *buffer) noexcept nogil:
    cdef Py_ssize_t size = phases.kernels.itemsize
    cdef Py_ssize_t image = item // cut.bands // cut.ranges
    cdef Py_ssize_t begin = item // cut.bands % cut.ranges * cut.channels
    cdef Py_ssize_t end = min(begin + cut.channels, phases.groups)
    cdef Py_ssize_t first = phases.out_h * (item % cut.bands) // cut.bands
    cdef Py_ssize_t last = phases.out_h * (item % cut.bands + 1) // cut.bands
    cdef Py_ssize_t channel, row, phase_h
    cdef char *plane
    for channel in range(begin, end):
        plane = grad_x + size * (image * phases.groups + channel) * height * width
        row = first
        while row < last:
            for phase_h in range(min(stride_h, height)):
                merge_rows(phases + phase_h * stride_w, image, channel, row, min(rows, last - row), stride_h,
                           stride_w, phase_h, width, plane, pitch, rows, zeros, buffer)
            row += rows


cdef void merge_rows(
        const Correlation *phases, Py_ssize_t image, Py_ssize_t channel, Py_ssize_t row, Py_ssize_t count,
        Py_ssize_t stride_h, Py_ssize_t stride_w, Py_ssize_t phase_h, Py_ssize_t width, char *plane,
        Py_ssize_t pitch, Py_ssize_t rows, const char *zeros, char *buffer) noexcept nogil:
    """Rows phase_h + stride_h * [row, row + count) of one plane."""
    cdef const fc_kernels *kernels = phases.kernels
    cdef Py_ssize_t size = kernels.itemsize, phase_bytes = size * rows * pitch
    cdef Py_ssize_t phase_w, r
    cdef char *to
    cdef const char *from_
    cdef fc_depthwise job
    count = min(count, phases.out_h - row)
    if count <= 0:
        return
    for phase_w in range(min(stride_w, width)):
        if phases[phase_w].taps_h == 0:
            memset(buffer + phase_w * phase_bytes, 0, size * count * pitch)
            continue
        job = job_of(&phases[phase_w])
        take_image(&job, &phases[phase_w], image)
        take_planes(&job, size, channel, 1)
        job.out_row = pitch
        take_rows(&job, size, row, count)
        job.out = buffer + phase_w * phase_bytes
        job.zeros = zeros
        kernels.depthwise(&job)
    for r in range(count):
        to = plane + size * (phase_h + stride_h * (row + r)) * width
        from_ = buffer + size * r * pitch
        if stride_w == 2:
            kernels.zip(to, from_, from_ + phase_bytes, width)
            continue
        for phase_w in range(min(stride_w, width)):
            kernels.scatter(to + size * phase_w, stride_w, from_ + phase_w * phase_bytes,
                            phases[phase_w].out_w)


# ---- pixels ----


cdef bint correlate_pixels(const Correlation *c, int num_threads) noexcept nogil:
    """Computes all of c.out, which is NHWC. False where there was no memory; nothing is written then."""
    cdef fc_float_mode mode = 0
    cdef Py_ssize_t size = c.kernels.itemsize, taps = c.taps_h * c.taps_w
    cdef Py_ssize_t items = c.batch * c.out_h, item
    cdef char *turned = <char *>take(taps * c.groups * size)
    cdef fc_depthwise job = job_of(c)
    if turned == NULL:
        return False
    turn_weight(c, turned)
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


cdef void turn_weight(const Correlation *c, char *turned) noexcept nogil:
    """turned[tap][channel], taps in the order of the correlation."""
    cdef Py_ssize_t size = c.kernels.itemsize, i, j
    for i in range(c.taps_h):
        for j in range(c.taps_w):
            c.kernels.gather(turned + size * (i * c.taps_w + j) * c.groups,
                             c.weight + size * (i * c.weight_h + j * c.weight_w), c.weight_group, c.groups)


# ---- the gradient of the weight ----

ctypedef struct WeightJob:
    Correlation c                    # the forward one; x is read, out is grad_output, weight unused
    Py_ssize_t bands, rows           # of an image; a part is a band of an image
    Py_ssize_t splits                # groups of parts: split s has parts [parts*s/splits, parts*(s+1)/splits)
    Py_ssize_t channels, ranges      # channels that are summed together, at most, and how many such ranges
    Py_ssize_t sums_step             # NHWC: elements from a tap's sums to the next one's
    Py_ssize_t sums_bytes            # of a split
    char *sums
    const char *zeros


def grad_weight(ConvGeometry g not None, cnp.ndarray grad_output not None, cnp.ndarray x not None,
                cnp.ndarray grad not None, int num_threads):
    """grad = gradient of the weight."""
    cdef fc_float_mode mode = 0
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    cdef WeightJob job
    cdef Py_ssize_t taps = g.kernel_h * g.kernel_w, item, items
    cdef char *out = <char *>cnp.PyArray_DATA(grad)
    cdef char *zeros
    # Everything here but the number of threads decides the order of the sums.
    job.c = forward_correlation(kernels, g, x, grad, None, grad_output, False)
    if g.channels_last:
        job.channels = g.groups
        job.sums_step = ceil_div(g.groups, kernels.lanes) * kernels.lanes
        job.sums_bytes = align(taps * job.sums_step * kernels.itemsize)
    else:
        job.channels = max(1, min(g.groups, RANGE_BYTES // (taps * kernels.lanes * kernels.itemsize)))
        job.sums_step = 0
        job.sums_bytes = align(g.groups * taps * kernels.lanes * kernels.itemsize)
    job.ranges = ceil_div(g.groups, job.channels)
    job.bands = max(1, min(ceil_div(SPLITS, g.batch * job.ranges), job.c.out_h // BAND_ROWS))
    job.rows = ceil_div(job.c.out_h, job.bands)
    job.bands = ceil_div(job.c.out_h, job.rows)
    job.splits = max(1, min(ceil_div(SPLITS, job.ranges), g.batch * job.bands, SUM_BYTES // job.sums_bytes))
    job.sums = <char *>take(job.splits * job.sums_bytes)
    zeros = take_zeros(job.c.width * kernels.itemsize)
    if job.sums == NULL or zeros == NULL:
        give_back(job.sums)
        give_back(zeros)
        raise MemoryError("no memory for the workspace of a convolution's gradient")
    job.zeros = zeros
    with nogil:
        memset(job.sums, 0, job.splits * job.sums_bytes)
        items = job.splits * job.ranges
        with parallel(num_threads=num_threads):
            mode = fc_flush_denormals()
            for item in prange(items, schedule="dynamic"):
                sum_parts(&job, item // job.ranges, item % job.ranges)
            fc_restore_float_mode(mode)
        for item in range(1, job.splits):
            kernels.add(job.sums, job.sums + item * job.sums_bytes, job.sums_bytes // kernels.itemsize)
        finish_sums(&job, out)
        give_back(job.sums)
        give_back(zeros)


cdef void sum_parts(const WeightJob *w, Py_ssize_t split, Py_ssize_t index) noexcept nogil:
    """One range of channels of all parts of a split."""
    cdef const Correlation *c = &w.c
    cdef const fc_kernels *kernels = c.kernels
    cdef Py_ssize_t size = kernels.itemsize, parts = c.batch * w.bands
    cdef Py_ssize_t channel = index * w.channels
    cdef Py_ssize_t channels = min(w.channels, c.groups - channel)
    cdef Py_ssize_t part, row
    cdef char *sums = w.sums + split * w.sums_bytes
    cdef fc_depthwise job
    for part in range(parts * split // w.splits, parts * (split + 1) // w.splits):
        row = part % w.bands * w.rows
        job = job_of(c)
        job.zeros = w.zeros
        take_image(&job, c, part // w.bands)
        take_planes(&job, size, channel, channels)
        take_rows(&job, size, row, min(w.rows, c.out_h - row))
        if w.sums_step:
            kernels.depthwise_pixels_weight(&job, sums + size * channel, w.sums_step)
        else:
            kernels.depthwise_weight(&job, sums + size * channel * c.taps_h * c.taps_w * kernels.lanes)


cdef void finish_sums(const WeightJob *w, char *grad) noexcept nogil:
    """Writes the gradient from the sums of the first split."""
    cdef const fc_kernels *kernels = w.c.kernels
    cdef Py_ssize_t size = kernels.itemsize, taps = w.c.taps_h * w.c.taps_w, channel
    if w.sums_step:
        kernels.transpose(grad, taps, w.sums, w.sums_step, taps, w.c.groups)
        return
    for channel in range(w.c.groups):
        kernels.depthwise_weight_finish(grad + size * channel * taps,
                                        w.sums + size * channel * taps * kernels.lanes,
                                        w.c.taps_h, w.c.taps_w)
