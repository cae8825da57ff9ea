"""Averages of whole planes and their gradients: sizes around the vectors, planes around groups of them."""

import numpy as np
import pytest
import reference

import fastconv as fc

PLANES = [(1, 1), (1, 2), (3, 5), (4, 4), (7, 7), (1, 31), (8, 4), (33, 1), (56, 57)]
CHANNELS = [1, 3, 4, 7, 8, 9, 15, 16, 17, 35]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("plane", PLANES, ids="{0[0]}x{0[1]}".format)
def test_average_and_gradient(
    plane: tuple[int, int], threads: int, dtype: type[np.floating], rng: np.random.Generator
) -> None:
    eps = np.finfo(dtype).eps
    for channels in CHANNELS:
        x = rng.normal(size=(2, channels, *plane)).astype(dtype)
        grad = rng.normal(size=(2, channels, 1, 1)).astype(dtype)
        with fc.num_threads(threads):
            out = fc.avg_pool2d(x, plane)
            grad_x = fc.avg_pool2d_backward(grad, x.shape, plane)
            adaptive = fc.adaptive_avg_pool2d(x, 1)
            adaptive_grad = fc.adaptive_avg_pool2d_backward(grad, x.shape)
        expected = reference.avg_pool2d(x, plane)
        np.testing.assert_allclose(out, expected, rtol=0, atol=8 * eps * np.abs(x).max())
        np.testing.assert_array_equal(adaptive, out)
        np.testing.assert_allclose(grad_x, np.broadcast_to(grad / np.prod(plane), x.shape), rtol=4 * eps)
        np.testing.assert_array_equal(adaptive_grad, grad_x)


def test_divisor_override(dtype: type[np.floating], rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 5, 6)).astype(dtype)
    out = fc.avg_pool2d(x, (5, 6), divisor_override=7)
    np.testing.assert_allclose(out[:, 0, 0], x.sum((1, 2), dtype=np.float64) / 7, rtol=1e-5)
    grad_x = fc.avg_pool2d_backward(np.ones_like(out), x.shape, (5, 6), divisor_override=7)
    np.testing.assert_allclose(grad_x, np.full(x.shape, 1 / 7), rtol=1e-6)


def test_padding_counts(dtype: type[np.floating], rng: np.random.Generator) -> None:
    """One window that reaches past all sides of the plane."""
    x = rng.normal(size=(2, 20, 4, 4)).astype(dtype)
    for include in (False, True):
        options = {"kernel_size": 6, "stride": 6, "padding": 1, "count_include_pad": include}
        out = fc.avg_pool2d(x, **options)
        assert out.shape == (2, 20, 1, 1)
        np.testing.assert_allclose(
            out, reference.avg_pool2d(x, 6, 6, 1, count_include_pad=include), rtol=1e-5
        )
        grad_x = fc.avg_pool2d_backward(out, x.shape, **options)
        np.testing.assert_allclose(grad_x, np.broadcast_to(out / (36 if include else 16), x.shape), rtol=1e-5)


def test_large_planes_are_summed_in_runs() -> None:
    """Of a million equal numbers: one long sum would lose two digits more."""
    x = np.full((1, 1, 1024, 1024), 0.1, np.float32)
    assert abs(float(fc.avg_pool2d(x, 1024)[0, 0, 0, 0]) / float(np.float32(0.1)) - 1) < 3e-5


def test_infinities_stay_in_their_plane(dtype: type[np.floating]) -> None:
    x = np.ones((1, 18, 3, 7), dtype)
    x[0, 4, 2, 6] = np.inf
    out = fc.avg_pool2d(x, (3, 7))
    assert np.isinf(out[0, 4, 0, 0])
    np.testing.assert_allclose(np.delete(out[0, :, 0, 0], 4), 1)
