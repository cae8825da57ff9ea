cimport numpy as cnp

from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.isa cimport fc_kernels, vectors_for

# A dense correlation: what a forward convolution is, and each of the stride_h * stride_w parts of the
# gradient of its input. All steps count elements; those of the weight may be negative (flipped taps).
#     out[n, k, o, p] = sum over c, i, j of weight[k, c, i, j]
#                       * x[n, c, o*stride_h + i*dilation_h - top, p*stride_w + j*dilation_w - left]
# where x is zero outside its bounds. Sizes in_channels and out_channels are those of one group.
cdef struct Correlation:
    const fc_kernels *kernels
    Py_ssize_t batch, groups, in_channels, out_channels
    Py_ssize_t taps_h, taps_w
    Py_ssize_t stride_h, stride_w, dilation_h, dilation_w, top, left
    const char *x
    Py_ssize_t height, width
    Py_ssize_t x_image, x_channel, x_row, x_pixel
    char *out
    Py_ssize_t out_h, out_w
    Py_ssize_t out_image, out_channel, out_row, out_pixel
    # Of a phase of a stride: elements of a row of the result, those of other phases included, the first pixel
    # of its own, and, of NCHW, whether what lies between its pixels is zero: no other phase has taps there.
    Py_ssize_t out_span, out_phase
    bint alone
    const char *weight
    bint packed               # weight is what the kernels' pack_weight made, without the steps below
    Py_ssize_t weight_group, weight_out, weight_in, weight_h, weight_w
    const char *bias          # out_channels * groups elements, or NULL
    bint relu
    bint turned               # bands of planes are to have the channels of a pixel as neighbours
    # Several correlations of one x that are computed together (see united), each with a weight and results of
    # its own: taps, top and left above tell what their windows span. part_columns of them, which follow each
    # other, have their results in the same rows. Both counts are 1 where parts is NULL.
    const Correlation *parts
    Py_ssize_t part_count, part_columns

cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b

cdef inline Py_ssize_t align(Py_ssize_t bytes) noexcept nogil:
    return (bytes + 63) & ~<Py_ssize_t>63

cdef enum:
    IN_CACHE = 524288   # bytes of images that needn't be fetched ahead: they may well be in cache

cdef inline bint beyond_cache(const Correlation *c, Py_ssize_t image) noexcept nogil:
    """Whether all images of so many elements each are too large to be in cache."""
    return c.batch * image * c.kernels.itemsize > IN_CACHE

# Threads for moving so many bytes from cache to cache: to wake another one takes as long as 64 KB do.
cdef inline int movers(Py_ssize_t bytes, int num_threads) noexcept nogil:
    return num_threads if bytes > 65536 else 1

cdef inline const Correlation *part_of(const Correlation *c, Py_ssize_t index) noexcept nogil:
    return c if c.parts == NULL else &c.parts[index]

cdef inline int panel_vectors(const Correlation *c, Py_ssize_t panel) noexcept nogil:
    """Of a tile of this panel, counted over all groups."""
    cdef Py_ssize_t panels = ceil_div(c.out_channels, c.kernels.nr)
    return vectors_for(c.kernels, c.out_channels - panel % panels * c.kernels.nr)

cdef inline Py_ssize_t strip_height(const Correlation *c) noexcept nogil:
    """Output channels of a strip, where these are rows of tiles: 13 and 12 of 25 rather than 14 and 11."""
    return max(1, ceil_div(c.out_channels, max(1, ceil_div(c.out_channels, c.kernels.mr))))

cdef inline Py_ssize_t band_height(const Correlation *c, Py_ssize_t rows) noexcept nogil:
    return (rows - 1) * c.stride_h + (c.taps_h - 1) * c.dilation_h + 1

cdef inline Py_ssize_t band_width(const Correlation *c) noexcept nogil:
    return (c.out_w - 1) * c.stride_w + (c.taps_w - 1) * c.dilation_w + 1

# How the phases of a strided input are computed: one by one; in one go, of those alone in their rows with the
# zeros between; or, of NCHW, whole rows of results in one go.
cdef enum Phases:
    SEPARATELY, TOGETHER, IN_ROWS

# Computes all of c.out; False where there was no memory, and nothing is written then.
ctypedef bint (*Correlate)(const Correlation *c, int num_threads) noexcept nogil

cdef int check_arrays(
    ConvGeometry g, int typenum, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out) except -1
cdef int compute_forward(
    Correlate correlate, ConvGeometry g, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out, bint relu,
    bint packed, int num_threads) except -1
cdef int compute_grad_input(
    Correlate correlate, ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight, cnp.ndarray grad_x,
    Phases how, int num_threads) except -1
cdef bint has_finite_sum(
    const fc_kernels *kernels, const char *data, Py_ssize_t elements) noexcept nogil
cdef bint all_finite(const fc_kernels *kernels, cnp.ndarray array, int num_threads) noexcept
cdef Correlation forward_correlation(
    const fc_kernels *kernels, ConvGeometry g, cnp.ndarray x, cnp.ndarray weight, bias, cnp.ndarray out,
    bint relu)
cdef bint input_correlation(
    const fc_kernels *kernels, ConvGeometry g, cnp.ndarray grad_output, cnp.ndarray weight,
    cnp.ndarray grad_x, Py_ssize_t phase_h, Py_ssize_t phase_w, Correlation *result) noexcept
cdef bint channels_last(const Correlation *c) noexcept nogil
cdef bint channels_inner(const Correlation *c) noexcept nogil
cdef void flatten(Correlation *c) noexcept
cdef Correlation weight_correlation(const fc_kernels *kernels, ConvGeometry g, cnp.ndarray weight)
cdef Py_ssize_t sum_length(const Correlation *c) noexcept nogil
