"""`fastconv.compat.cs231n` against plain NumPy layers with the contracts of the course's."""

import numpy as np
import pytest
import reference

from fastconv.compat import cs231n

CONV = [
    ((3, 2, 7, 9), (4, 2, 3, 3), 2, 1),
    ((2, 3, 6, 5), (2, 3, 2, 3), 1, 0),
    ((1, 1, 5, 5), (1, 1, 5, 5), 4, 2),
]


POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}


def windows(x, height, width, stride):
    """(N, C, P, Q, height * width), the pixels of each window in order."""
    rows, columns = (x.shape[2] - height) // stride + 1, (x.shape[3] - width) // stride + 1
    result = np.zeros((*x.shape[:2], rows, columns, height * width))
    for p, q in np.ndindex(rows, columns):
        part = x[:, :, p * stride : p * stride + height, q * stride : q * stride + width]
        result[:, :, p, q] = part.reshape(*x.shape[:2], -1)
    return result


def pool_backward(dout, x, height, width, stride, share):
    """Each window's gradient times `share` of its pixels, added up."""
    dx = np.zeros(x.shape)
    weights = share(windows(x, height, width, stride))
    for p, q in np.ndindex(dout.shape[2:]):
        part = dout[:, :, p, q, None] * weights[:, :, p, q]
        place = (..., slice(p * stride, p * stride + height), slice(q * stride, q * stride + width))
        dx[place] += part.reshape(*x.shape[:2], height, width)
    return dx


def evenly(pixels):
    largest = pixels == pixels.max(-1, keepdims=True)
    return largest / largest.sum(-1, keepdims=True)


def to_the_first(pixels):
    return np.eye(pixels.shape[-1])[pixels.argmax(-1)]


@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "pad"), CONV, ids=str)
@pytest.mark.parametrize("kind", ["fast", "strides", "im2col"])
def test_convolution(kind, x_shape, w_shape, stride, pad, dtype, rng):
    x, w, b = (rng.integers(-5, 6, shape) for shape in (x_shape, w_shape, w_shape[:1]))
    forward, backward = getattr(cs231n, f"conv_forward_{kind}"), getattr(cs231n, f"conv_backward_{kind}")
    given = [array.astype(dtype) for array in (x, w, b)]
    out, cache = forward(*given, {"stride": stride, "pad": pad})
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, reference.conv2d(x, w, b, stride, pad))
    dout = rng.integers(-5, 6, out.shape)
    for gradient, expected in zip(
        backward(dout.astype(dtype), cache), reference.conv2d_backward(dout, x, w, stride, pad), strict=True
    ):
        np.testing.assert_array_equal(gradient, expected)


def test_only_the_im2col_form_asserts_that_sizes_divide(rng):
    x, w, b = rng.random((2, 3, 6, 6)), rng.random((4, 3, 3, 3)), rng.random(4)
    parameters = {"stride": 2, "pad": 0}
    for forward in (cs231n.conv_forward_fast, cs231n.conv_forward_strides):
        assert forward(x, w, b, parameters)[0].shape == (2, 4, 2, 2)
    with pytest.raises(AssertionError):
        cs231n.conv_forward_im2col(x, w, b, parameters)
    with pytest.raises(AssertionError):
        cs231n.conv_forward_im2col(x[:, :, 1:], w, b, parameters)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["reshape", "fast"])
def test_pools_that_tile_share_among_ties(kind, size, dtype, rng):
    x = rng.integers(0, 3, (2, 3, 6, 12)).astype(dtype)
    parameters = {"pool_height": size, "pool_width": size, "stride": size}
    out, cache = getattr(cs231n, f"max_pool_forward_{kind}")(x, parameters)
    np.testing.assert_array_equal(out, windows(x, size, size, size).max(-1))
    dout = rng.standard_normal(out.shape).astype(dtype)
    dx = getattr(cs231n, f"max_pool_backward_{kind}")(dout, cache)
    assert dx.dtype == dtype
    expected = pool_backward(dout, x, size, size, size, evenly)
    np.testing.assert_allclose(dx, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 8, 9, 15, 16, 17, 35])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_ties_in_every_place_of_a_vector(size, columns, dtype, threads, rng):
    """Beside windows without ties, and windows of NaN, which get nothing."""
    x = rng.integers(0, 3, (2, 3, 2 * size, columns * size)).astype(dtype)
    x[0, 1] = rng.standard_normal(x.shape[2:])
    parameters = {"pool_height": size, "pool_width": size, "stride": size}
    exact = x.astype(np.float64)
    x[1, 2, 0, -1] = np.nan
    out, cache = cs231n.max_pool_forward_fast(x, parameters)
    dout = rng.standard_normal(out.shape).astype(dtype)
    dout[0, 1, 0, 0] = np.inf
    dx = cs231n.max_pool_backward_fast(dout, cache)
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(pool_backward(dout, exact, size, size, size, evenly), nan=0, posinf=np.inf)
    expected[1, 2, :size, -size:] = 0
    np.testing.assert_allclose(dx, expected, rtol=4 * np.finfo(dtype).eps)


def test_gradients_of_other_dtypes_and_orders_are_shared(memory_order, rng):
    x = rng.integers(0, 3, (2, 3, 4, 6)).astype(np.float32)
    out, cache = cs231n.max_pool_forward_fast(x, POOL)
    dout = memory_order(rng.standard_normal(out.shape))
    dx = cs231n.max_pool_backward_fast(dout, cache)
    assert dx.dtype == np.float64
    np.testing.assert_allclose(dx, pool_backward(dout, x, 2, 2, 2, evenly), rtol=1e-15)
    assert cs231n.max_pool_backward_fast(dout.astype(np.float16), cache).dtype == np.float32
    empty, cache = cs231n.max_pool_forward_fast(x[:0], POOL)
    assert cs231n.max_pool_backward_fast(empty, cache).shape == (0, 3, 4, 6)
    with pytest.raises(ValueError, match=r"^dout: got shape \(2, 3, 2, 3\), needs shape \(0, 3, 2, 3\)"):
        cs231n.max_pool_backward_fast(dout, cache)


@pytest.mark.parametrize(("height", "width", "stride"), [(2, 2, 2), (3, 2, 1), (2, 4, 2), (3, 3, 3)], ids=str)
def test_other_pools_give_to_the_first(height, width, stride, dtype, rng):
    x = rng.integers(0, 3, (2, 3, 6, 12)).astype(dtype)
    parameters = {"pool_height": height, "pool_width": width, "stride": stride}
    out, cache = cs231n.max_pool_forward_im2col(x, parameters)
    np.testing.assert_array_equal(out, windows(x, height, width, stride).max(-1))
    dout = rng.integers(-5, 6, out.shape).astype(dtype)
    expected = pool_backward(dout, x, height, width, stride, to_the_first)
    np.testing.assert_array_equal(cs231n.max_pool_backward_im2col(dout, cache), expected)
    if not height == width == stride:
        out, cache = cs231n.max_pool_forward_fast(x, parameters)
        np.testing.assert_array_equal(cs231n.max_pool_backward_fast(dout, cache), expected)


@pytest.mark.parametrize(
    ("kind", "height", "width", "stride"),
    [
        ("reshape", 2, 3, 2),
        ("reshape", 2, 2, 1),
        ("reshape", 4, 4, 4),
        ("im2col", 2, 2, 3),
        ("fast", 5, 2, 2),
    ],
)
def test_pools_that_leave_pixels_over(kind, height, width, stride, rng):
    parameters = {"pool_height": height, "pool_width": width, "stride": stride}
    with pytest.raises(AssertionError):
        getattr(cs231n, f"max_pool_forward_{kind}")(rng.random((2, 3, 6, 12)), parameters)


@pytest.mark.parametrize(("padding", "stride"), [(0, 1), (1, 2), (2, 3)])
def test_columns(padding, stride, dtype, rng):
    x = rng.integers(-5, 6, (2, 3, 5, 7))
    padded = reference.pad(x, ((padding, padding),) * 2)
    pixels = windows(padded, 3, 2, stride)  # n, c, p, q, taps
    expected = pixels.transpose(1, 4, 2, 3, 0).reshape(18, -1)
    cols = cs231n.im2col_cython(x.astype(dtype), 3, 2, padding, stride)
    assert cols.dtype == dtype
    np.testing.assert_array_equal(cols, expected)
    images = cs231n.col2im_cython(cols, 2, 3, 5, 7, 3, 2, padding, stride)
    by_image = pixels.transpose(0, 1, 4, 2, 3).reshape(2, 18, -1)
    np.testing.assert_array_equal(images, reference.col2im(by_image, x.shape, (3, 2), stride, padding))


def test_inputs_are_not_written_to(rng):
    x, w, b = rng.random((2, 3, 6, 6)), rng.random((4, 3, 3, 3)), rng.random(4)
    for array in (x, w, b):
        array.flags.writeable = False
    out, cache = cs231n.conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    out.flags.writeable = False
    cs231n.conv_backward_fast(out, cache)
    pooled, pool_cache = cs231n.max_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    pooled.flags.writeable = False
    cs231n.max_pool_backward_fast(pooled, pool_cache)


@pytest.mark.parametrize(("name", "bad"), [("x", np.ones((3, 6, 6))), ("w", np.ones((4, 3, 3, 3), complex))])
def test_bad_arguments_are_named(name, bad, rng):
    given = {"x": np.ones((2, 3, 6, 6)), "w": np.ones((4, 3, 3, 3)), "b": np.ones(4)} | {name: bad}
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: got .+, needs .+"):
        cs231n.conv_forward_fast(**given, conv_param={"stride": 1, "pad": 1})
    with pytest.raises(ValueError, match=r"^conv_param\['stride'\]: got 0, needs "):
        cs231n.conv_forward_fast(
            np.ones((2, 3, 6, 6)), np.ones((4, 3, 3, 3)), np.ones(4), {"stride": 0, "pad": 1}
        )
