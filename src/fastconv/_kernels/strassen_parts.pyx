"""Winograd's variant of Strassen's product: seven products of an eighth each, not eight.

Pixels, input channels and output channels are halved. With a and b for the pixels, 0 and 1 for the input's
channels, wij for the weights from input half i to output half j, and sums of images and of weights,

    s1 = b0 + b1    s2 = s1 - a0    s3 = a0 - b0      s4 = a1 - s2
    t1 = w01 - w00  t2 = w11 - t1   t3 = w11 - w01    t4 = w10 - t2

the products, each a convolution by itself, are

    p1 = a0 w00   p2 = a1 w10   p3 = s1 t1   p4 = s2 t2   p5 = s4 w11   p6 = s3 t3   p7 = b1 t4

and the four quarters of the result

    first channels of a:  p1 + p2              last channels of a:  p1 + p4 + p3 + p5
    first channels of b:  p1 + p4 + p6 + p7    last channels of b:  p1 + p4 + p6 + p3

(Winograd, "On multiplication of 2x2 matrices", 1971). Errors are about twice those of direct sums. Halves of
pixels are those of one image, so that images don't meet.

What isn't finite would spread, rounding errors do (see precision.pxd), and numbers near the largest overflow
before their sums do. Results that aren't finite, or are small beside what they are made of, are noticed, and
the direct kernels then compute the call again.
"""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.string cimport memcpy

from fastconv._kernels cimport conv_direct
from fastconv._kernels.correlation cimport Correlation, channels_last, sum_length
from fastconv._kernels.geometry cimport ConvGeometry
from fastconv._kernels.operands cimport pack_weight_panel
from fastconv._kernels.passes cimport Pack, Passes, pack_all
from fastconv._kernels.precision cimport largest_of_some

cnp.import_array()

cdef enum:
    MOST_TIMES_LARGER = 64   # see is_precise; of random numbers, five times as large


cdef bint halves(ConvGeometry g, bint for_grad_input) noexcept:
    """Whether channels have halves; a gradient of the input with a stride is left to others."""
    return (g.groups == 1 and g.in_channels % 2 == g.out_channels % 2 == 0
            and min(g.in_channels, g.out_channels) > 0
            and not (for_grad_input and (g.stride_h > 1 or g.stride_w > 1)))


cdef Correlation halved(const Correlation *whole) noexcept nogil:
    """From half of the channels to half of them."""
    cdef Correlation c = whole[0]
    c.in_channels //= 2
    c.out_channels //= 2
    c.bias = NULL
    c.relu = False
    return c


cdef void pack_products(
        const Correlation *half, Py_ssize_t channel, Py_ssize_t width, Py_ssize_t padded, char *packed,
        Py_ssize_t product_bytes) noexcept nogil:
    """The seven products' weights for `width` output channels of a half, as pack_weight_panel has them."""
    cdef Py_ssize_t last = half.out_channels + channel, count = sum_length(half) * padded
    cdef char *t[PRODUCTS]
    cdef int i
    for i in range(PRODUCTS):
        t[i] = packed + i * product_bytes
    pack_quarter(half, 0, channel, width, padded, t[A0])
    pack_quarter(half, 1, channel, width, padded, t[A1])
    pack_quarter(half, 0, last, width, padded, t[S1])
    pack_quarter(half, 1, last, width, padded, t[S4])
    half.kernels.minus(t[S3], t[S4], t[S1], count, 0)
    half.kernels.minus(t[S1], t[S1], t[A0], count, 0)
    half.kernels.minus(t[S2], t[S4], t[S1], count, 0)
    half.kernels.minus(t[B1], t[A1], t[S2], count, 0)


cdef void pack_quarter(const Correlation *half, int inputs, Py_ssize_t channel, Py_ssize_t width,
                       Py_ssize_t padded, char *packed) noexcept nogil:
    cdef Correlation c = half[0]
    c.weight += inputs * c.in_channels * c.weight_in * c.kernels.itemsize
    pack_weight_panel(&c, 0, channel, width, padded, packed, channels_last(&c))


cdef cnp.ndarray pack_with_weight(
        const Passes *passes, const void *job, Pack pack, cnp.ndarray weight, int num_threads):
    """All packed parts, and behind them the weight, which can't be had from sums again."""
    cdef Py_ssize_t size = cnp.PyArray_NBYTES(weight)
    cdef cnp.ndarray packed = pack_all(passes, job, pack, size, cnp.PyArray_TYPE(weight), num_threads)
    memcpy(<char *>cnp.PyArray_DATA(packed) + passes.parts * passes.part_bytes, cnp.PyArray_DATA(weight),
           size)
    return packed


cdef bint mend(const Correlation *c, const Passes *passes, Py_ssize_t spoilt, int num_threads) noexcept nogil:
    """Computes all of c.out directly, if run_passes has spoilt some. False where there was no memory."""
    cdef Correlation plain = c[0]
    if c.packed:
        plain.weight += passes.parts * passes.part_bytes
        plain.packed = False
    if spoilt == 0 and is_precise(&plain):
        return True
    return spoilt >= 0 and conv_direct.correlate(&plain, num_threads)


cdef bint is_precise(const Correlation *c) noexcept nogil:
    """Whether results are not so small, beside a sum of products of their numbers' size, that the rounding of
    sums of these may exceed what is promised for results; by some of each."""
    cdef Py_ssize_t length = sum_length(c)
    # Where taps are flipped, c.weight is the last one.
    cdef Py_ssize_t first = min(0, (c.taps_h - 1) * c.weight_h) + min(0, (c.taps_w - 1) * c.weight_w)
    cdef const char *weight = c.weight + c.kernels.itemsize * first
    cdef double most = sqrt(<double>length)
    most *= largest_of_some(c.kernels, c.x, c.batch * c.x_image)
    most *= largest_of_some(c.kernels, weight, c.out_channels * length)
    return most <= MOST_TIMES_LARGER * largest_of_some(c.kernels, c.out, c.batch * c.out_image)
