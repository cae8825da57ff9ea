"""The promised bounds of errors hold where large pixels meet taps of zero alone."""

import numpy as np
import pytest
import reference
from cases import assert_within, error_bound
from layouts import conv_and_gradients


# Of a kernel's taps, or of a gradient's pixels, some are zero, and the pixels that only they meet are large.
def masked_columns(x, weight, grad_output):
    x[..., -1], weight[..., -1] = 1e6, 0


def masked_rows(x, weight, grad_output):
    x[..., -1, :], weight[..., -1, :] = -1e5, 0


def masked_channels(x, weight, grad_output):
    half = x.shape[1] // 2
    x[:, :half], weight[:, :half] = 1e6, 0


def masked_gradients(x, weight, grad_output):
    x[..., ::8] *= 1e4
    grad_output[...] = 0
    grad_output[..., 4::8] = 1


MASKS = [masked_columns, masked_rows, masked_channels, masked_gradients]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: mask.__name__)
@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "algorithm"),
    [
        (64, 48, (3, 3), "auto"),
        (64, 48, (3, 3), "winograd"),
        (16, 24, (2, 2), "winograd"),
        (16, 24, (5, 5), "winograd"),
        (16, 24, (1, 4), "winograd"),
        (16, 24, (3, 1), "winograd"),
        (3, 24, (7, 7), "winograd"),
        (64, 64, (1, 1), "strassen"),
    ],
    ids=str,
)
def test_large_pixels_that_meet_zeros_alone(channels, filters, kernel, algorithm, mask, layout, rng):
    x, weight = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((1, channels, 34, 33), (filters, channels, *kernel))
    )
    grad_output = rng.standard_normal(reference.conv2d(x, weight).shape).astype(np.float32)
    mask(x, weight, grad_output)
    expected = reference.conv2d(x, weight), *reference.conv2d_backward(grad_output, x, weight)[:2]
    lengths = (weight[0].size, weight[:, 0].size, grad_output[0, 0].size)
    got = conv_and_gradients(x, weight, grad_output, layout, algorithm=algorithm)[:3]
    for actual, correct, length in zip(got, expected, lengths, strict=True):
        assert_within(actual, correct, error_bound(np.float32, length, algorithm))
