"""What all ways to compute a convolution share: its description as correlations of one kind."""

cimport numpy as cnp
from libc.math cimport isfinite
from libc.string cimport memset

from fastconv._kernels.isa cimport kernels_for
from fastconv._kernels.memory cimport give_back, take_workspace
from fastconv._kernels.threads cimport EVENLY, parallel_for
from fastconv._kernels.unchanged cimport still

cnp.import_array()

cdef enum:
    SUMMED = 65536     # elements that all_finite looks at at a time

cdef struct Elements:
    const fc_kernels *kernels
    const char *data
    Py_ssize_t count


cdef int check_arrays(
        ConvGeometry g, int typenum, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out) except -1:
    """Raises ValueError unless these, or what has their shapes, are as the geometry has them; see `still`.

    weight and bias may be None.
    """
    still(x, typenum, g.batch * g.in_channels * g.height * g.width)
    still(out, typenum, g.batch * g.out_channels * g.out_h * g.out_w)
    if weight is not None:
        still(weight, typenum, g.out_channels * (g.in_channels // g.groups) * g.kernel_h * g.kernel_w)
    if bias is not None:
        still(<cnp.ndarray>bias, typenum, g.out_channels)
    return 0


cdef int compute_forward(
        Correlate correlate, ConvGeometry g, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out,
        bint relu, bint packed, int num_threads) except -1:
    """out = x convolved with weight (`packed` or not), plus bias (or None), clipped at zero if relu."""
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(x))
    check_arrays(g, cnp.PyArray_TYPE(x), x, None if packed else weight, bias, out)
    cdef Correlation c = correlation_of(kernels, g, x, weight, bias, out, relu)
    c.packed = packed
    return run(correlate, &c, num_threads)


cdef int compute_grad_input(
        Correlate correlate, ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight, cnp.ndarray grad_x,
        Phases how, int num_threads) except -1:
    """grad_x = gradient of the input."""
    check_arrays(g, cnp.PyArray_TYPE(grad_x), grad_x, weight, None, grad_output)
    cdef const fc_kernels *kernels = kernels_for(cnp.PyArray_TYPE(grad_x))
    cdef Py_ssize_t phases = min(g.stride_h, g.height) * min(g.stride_w, g.width), count, index
    # Each tap belongs to one phase; what has no tap is zero.
    cdef Py_ssize_t most = min(phases, g.kernel_h * g.kernel_w)
    cdef Correlation *parts = <Correlation *>take_workspace(most * <Py_ssize_t>sizeof(Correlation))
    cdef Correlation c
    try:
        count = input_phases(kernels, g, grad_output, weight, grad_x, parts)
        if count > 0 and (how == IN_ROWS or (how == TOGETHER and parts[0].alone)):
            clear_rows(kernels, g, cnp.PyArray_BYTES(grad_x), num_threads)
        elif count < phases:
            memset(cnp.PyArray_DATA(grad_x), 0, cnp.PyArray_NBYTES(grad_x))
        if how != SEPARATELY and count > 1:
            c = united(parts, count)
            run(correlate, &c, num_threads)
        else:
            for index in range(count):
                flatten(&parts[index])
                run(correlate, &parts[index], num_threads)
    finally:
        give_back(parts)
    return 0


# Rows of NCHW planes: row phase + stride * i of each.
cdef struct Rows:
    char *data
    Py_ssize_t height, phase, stride
    Py_ssize_t bytes         # of a row


cdef void clear_rows(const fc_kernels *kernels, ConvGeometry g, char *grad_x, int num_threads) noexcept:
    """Zeroes the rows of the input's gradient that no tap meets."""
    cdef Rows rows
    cdef Py_ssize_t planes = g.batch * g.in_channels, first, step
    rows.data, rows.height, rows.bytes = grad_x, g.height, g.width * kernels.itemsize
    rows.stride = g.stride_h
    num_threads = movers(planes * g.height * rows.bytes, num_threads)
    for rows.phase in range(min(g.stride_h, g.height)):
        if phase_taps(rows.phase + g.top, g.stride_h, g.dilation_h, g.kernel_h, &first, &step) == 0:
            with nogil:
                parallel_for(planes, num_threads, clear_plane, &rows, EVENLY)


cdef Py_ssize_t clear_plane(const void *work, Py_ssize_t plane, int thread) noexcept nogil:
    cdef const Rows *rows = <const Rows *>work
    cdef Py_ssize_t row = rows.phase
    while row < rows.height:
        memset(rows.data + (plane * rows.height + row) * rows.bytes, 0, rows.bytes)
        row += rows.stride
    return 0


cdef Py_ssize_t input_phases(
        const fc_kernels *kernels, ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight,
        cnp.ndarray grad_x, Correlation *parts) noexcept:
    """The parts of the input's gradient that aren't zero; returns how many they are."""
    cdef Py_ssize_t phase_h, phase_w, count = 0, index
    cdef Correlation c
    for phase_h in range(min(g.stride_h, g.height)):
        for phase_w in range(min(g.stride_w, g.width)):
            if input_correlation(kernels, g, grad_output, weight, grad_x, phase_h, phase_w, &c):
                parts[count] = c
                count += 1
    # Those of one row follow each other.
    if not g.channels_last and g.stride_w > 1 and count and parts[0].out_phase == parts[count - 1].out_phase:
        for index in range(count):
            parts[index].alone = True
    return count


cdef Correlation united(const Correlation *parts, Py_ssize_t count) noexcept:
    """Several dense correlations of one image as one, whose bands hold what any of them reads."""
    cdef Correlation c = parts[0]
    cdef Py_ssize_t index
    c.parts, c.part_count, c.part_columns = parts, count, 1
    while c.part_columns < count and parts[c.part_columns].out_phase > c.out_phase:
        c.part_columns += 1
    c.taps_h = c.taps_w = c.dilation_h = c.dilation_w = 1
    for index in range(1, count):
        c.top, c.left = max(c.top, parts[index].top), max(c.left, parts[index].left)
        c.out_h, c.out_w = max(c.out_h, parts[index].out_h), max(c.out_w, parts[index].out_w)
    for index in range(count):
        c.taps_h = max(c.taps_h, c.top - parts[index].top + band_height(&parts[index], 1))
        c.taps_w = max(c.taps_w, c.left - parts[index].left
                       + (parts[index].taps_w - 1) * parts[index].dilation_w + 1)
    return c


cdef int run(Correlate correlate, const Correlation *c, int num_threads) except -1:
    cdef bint done
    with nogil:
        done = correlate(c, num_threads)
    if not done:
        raise MemoryError("no memory for the workspace of a convolution")
    return 0


cdef bint all_finite(const fc_kernels *kernels, cnp.ndarray array, int num_threads) noexcept:
    """Whether no element is NaN or infinite, by sums; where these overflow, finite ones may pass for such."""
    cdef Elements e
    cdef Py_ssize_t spoilt
    e.kernels, e.data, e.count = kernels, cnp.PyArray_BYTES(array), cnp.PyArray_SIZE(array)
    with nogil:
        spoilt = parallel_for(ceil_div(e.count, SUMMED), num_threads, is_spoilt, &e, EVENLY)
    return spoilt == 0


cdef Py_ssize_t is_spoilt(const void *elements, Py_ssize_t item, int thread) noexcept nogil:
    cdef const Elements *e = <const Elements *>elements
    cdef Py_ssize_t first = item * SUMMED
    return not has_finite_sum(
        e.kernels, e.data + first * e.kernels.itemsize, min(<Py_ssize_t>SUMMED, e.count - first))


cdef union Total:
    float float32
    double float64


cdef bint has_finite_sum(const fc_kernels *kernels, const char *data, Py_ssize_t elements) noexcept nogil:
    cdef Total total
    total.float64 = 0  # of either dtype, whose zeros are the same
    kernels.add_sum(&total, data, elements)
    return isfinite(total.float32 if kernels.itemsize == sizeof(float) else total.float64)


cdef Correlation forward_correlation(
        const fc_kernels *kernels, ConvGeometry g, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out,
        bint relu):
    """The forward convolution; bias is an array or None."""
    check_arrays(g, cnp.PyArray_TYPE(x), x, weight, bias, out)
    return correlation_of(kernels, g, x, weight, bias, out, relu)


cdef Correlation correlation_of(
        const fc_kernels *kernels, ConvGeometry g, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out,
        bint relu) noexcept:
    cdef Correlation c
    c.kernels = kernels
    c.batch = g.batch
    c.groups = g.groups
    c.in_channels = g.in_channels // g.groups
    c.out_channels = g.out_channels // g.groups
    c.taps_h, c.taps_w = g.kernel_h, g.kernel_w
    c.stride_h, c.stride_w = g.stride_h, g.stride_w
    c.dilation_h, c.dilation_w = g.dilation_h, g.dilation_w
    c.top, c.left = g.top, g.left
    c.x = <const char *>cnp.PyArray_DATA(x)
    c.height, c.width = g.height, g.width
    image_steps(g.channels_last, g.in_channels, g.height, g.width, &c.x_image, &c.x_channel, &c.x_row,
                &c.x_pixel)
    c.out = <char *>cnp.PyArray_DATA(out)
    c.out_h, c.out_w = g.out_h, g.out_w
    image_steps(g.channels_last, g.out_channels, g.out_h, g.out_w,
                &c.out_image, &c.out_channel, &c.out_row, &c.out_pixel)
    c.out_span, c.out_phase, c.alone = c.out_row, 0, False
    c.weight = <const char *>cnp.PyArray_DATA(weight)
    c.weight_w = 1
    c.weight_h = g.kernel_w
    c.weight_in = g.kernel_h * g.kernel_w
    c.weight_out = c.in_channels * c.weight_in
    c.weight_group = c.out_channels * c.weight_out
    c.packed = False
    c.bias = NULL
    if bias is not None:
        c.bias = <const char *>cnp.PyArray_DATA(<cnp.ndarray>bias)
    c.relu = relu
    c.turned = False
    c.parts, c.part_count, c.part_columns = NULL, 1, 1
    flatten(&c)
    return c


cdef Correlation weight_correlation(const fc_kernels *kernels, ConvGeometry g, cnp.ndarray weight):
    """The forward convolution as packing its weight needs it: without images."""
    cdef Correlation c = correlation_of(kernels, g, weight, weight, None, weight, False)
    c.x = c.out = NULL
    return c


cdef void flatten(Correlation *c) noexcept:
    """Makes one long row of the plane where every pixel meets itself alone: rows have no ends then."""
    if (c.taps_h == 1 and c.taps_w == 1 and c.stride_h == 1 and c.stride_w == 1 and c.top == 0 and c.left == 0
            and c.height == c.out_h and c.width == c.out_w
            and c.x_row == c.width * c.x_pixel and c.out_row == c.out_w * c.out_pixel == c.out_span):
        c.out_w *= c.out_h
        c.out_span *= c.out_h
        c.width = c.out_w
        c.height = c.out_h = 1
        c.x_row = c.width * c.x_pixel
        c.out_row = c.out_w * c.out_pixel


cdef bint input_correlation(
        const fc_kernels *kernels, ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight,
        cnp.ndarray grad_x, Py_ssize_t phase_h, Py_ssize_t phase_w, Correlation *result) noexcept:
    """The part of the input's gradient at rows phase_h + stride_h * o and columns phase_w + stride_w * p.

    Such a row r meets the taps i with r + top - i*dilation_h divisible by stride_h: every
    (stride_h / gcd)-th one from the first. Taken from the last to the first they read rows of grad_output in
    ascending order, (dilation_h / gcd) apart, so the part is a dense correlation again. False where no tap
    meets the phase: that part is zero (grad_x is not written then).
    """
    cdef Correlation c
    cdef Py_ssize_t first_h, first_w, step_h, step_w
    c.kernels = kernels
    c.batch = g.batch
    c.groups = g.groups
    c.in_channels = g.out_channels // g.groups
    c.out_channels = g.in_channels // g.groups
    c.stride_h = c.stride_w = 1
    c.out_h = ceil_div(g.height - phase_h, g.stride_h)
    c.out_w = ceil_div(g.width - phase_w, g.stride_w)
    result[0] = c
    if c.out_h <= 0 or c.out_w <= 0:
        return False
    c.taps_h = phase_taps(phase_h + g.top, g.stride_h, g.dilation_h, g.kernel_h, &first_h, &step_h)
    c.taps_w = phase_taps(phase_w + g.left, g.stride_w, g.dilation_w, g.kernel_w, &first_w, &step_w)
    if c.taps_h == 0 or c.taps_w == 0:
        return False
    c.dilation_h = step_h * g.dilation_h // g.stride_h
    c.dilation_w = step_w * g.dilation_w // g.stride_w
    # The last tap reads the lowest row: (phase + top - last*dilation) / stride for o = 0.
    c.top = -((phase_h + g.top - (first_h + (c.taps_h - 1) * step_h) * g.dilation_h) // g.stride_h)
    c.left = -((phase_w + g.left - (first_w + (c.taps_w - 1) * step_w) * g.dilation_w) // g.stride_w)
    c.x = <const char *>cnp.PyArray_DATA(grad_output)
    c.height, c.width = g.out_h, g.out_w
    image_steps(g.channels_last, g.out_channels, g.out_h, g.out_w, &c.x_image, &c.x_channel, &c.x_row,
                &c.x_pixel)
    image_steps(g.channels_last, g.in_channels, g.height, g.width,
                &c.out_image, &c.out_channel, &c.out_row, &c.out_pixel)
    c.out = <char *>cnp.PyArray_DATA(grad_x)
    c.out_span, c.out_phase, c.alone = c.out_row, phase_w, False
    c.out += kernels.itemsize * (phase_h * c.out_row + phase_w * c.out_pixel)
    c.out_row *= g.stride_h
    c.out_pixel *= g.stride_w
    c.weight_out = g.kernel_h * g.kernel_w
    c.weight_in = c.out_channels * c.weight_out
    c.weight_group = c.in_channels * c.weight_in
    c.weight_h = -step_h * g.kernel_w
    c.weight_w = -step_w
    c.weight = <const char *>cnp.PyArray_DATA(weight) + kernels.itemsize * (
        (first_h + (c.taps_h - 1) * step_h) * g.kernel_w + first_w + (c.taps_w - 1) * step_w)
    c.packed = False
    c.bias = NULL
    c.relu = False
    c.turned = False
    c.parts, c.part_count, c.part_columns = NULL, 1, 1
    result[0] = c
    return True


cdef Py_ssize_t phase_taps(
        Py_ssize_t position, Py_ssize_t stride, Py_ssize_t dilation, Py_ssize_t taps,
        Py_ssize_t *first, Py_ssize_t *step) noexcept:
    """How many taps i have (position - i*dilation) divisible by stride, the first, and their distance."""
    cdef Py_ssize_t i
    step[0] = stride // gcd(stride, dilation)
    for i in range(min(taps, step[0])):
        if (position - i * dilation) % stride == 0:
            first[0] = i
            return ceil_div(taps - i, step[0])
    first[0] = 0
    return 0


cdef Py_ssize_t gcd(Py_ssize_t a, Py_ssize_t b) noexcept:
    while b:
        a, b = b, a % b
    return a


cdef void image_steps(
        bint channels_last, Py_ssize_t channels, Py_ssize_t height, Py_ssize_t width,
        Py_ssize_t *image, Py_ssize_t *channel, Py_ssize_t *row, Py_ssize_t *pixel) noexcept:
    image[0] = channels * height * width
    channel[0] = 1 if channels_last else height * width
    row[0] = width * channels if channels_last else width
    pixel[0] = channels if channels_last else 1


cdef bint channels_last(const Correlation *c) noexcept nogil:
    """Whether the input is NHWC."""
    return c.x_pixel != 1


cdef bint channels_inner(const Correlation *c) noexcept nogil:
    """Whether bands have the channels of a pixel as neighbours: sums then run over (tap row, tap column,
    channel), else channels first."""
    return channels_last(c) or c.turned


cdef Py_ssize_t sum_length(const Correlation *c) noexcept nogil:
    """Terms of a sum; of the longest one where there are several parts."""
    cdef Py_ssize_t taps = 0, index
    for index in range(c.part_count):
        taps = max(taps, part_of(c, index).taps_h * part_of(c, index).taps_w)
    return c.in_channels * taps
