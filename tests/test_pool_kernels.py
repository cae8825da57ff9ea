"""The kernels of pooling where a wrong lane would show: NaN anywhere, ties, tails, positions, shared rows."""

import numpy as np
import pytest
import reference

import fastconv as fc

LAYOUTS = ("NCHW", "NHWC")
WIDTHS = range(1, 36)  # up to two vectors of 16 lanes, and a tail
KERNELS = [
    ((2, 2), (2, 2), 0),
    ((3, 3), (2, 2), 1),
    ((3, 3), (1, 1), 1),
    ((1, 4), (1, 3), (0, 2)),
    ((3, 2), (2, 1), 0),
    ((3, 3), (3, 3), 1),
    ((1, 5), (1, 4), (0, 2)),
]
KERNEL_IDS = ["2x2/2", "3x3/2", "3x3/1", "1x4/3", "3x2/1", "3x3/3", "1x5/4"]


def laid_out(x, layout):
    """NCHW as `layout` has it."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x


def assert_max_pool_is_right(x, layout, *arguments):
    wanted, wanted_indices = reference.max_pool2d(x, *arguments)
    images = laid_out(x, layout)
    maxima, indices = fc.max_pool2d(images, *arguments, return_indices=True, layout=layout)
    np.testing.assert_array_equal(maxima, laid_out(wanted, layout))
    np.testing.assert_array_equal(indices, laid_out(wanted_indices, layout))
    np.testing.assert_array_equal(fc.max_pool2d(images, *arguments, layout=layout), maxima)
    assert maxima.dtype == x.dtype
    assert indices.dtype == np.int64


# ---- maxima ----


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", KERNELS, ids=KERNEL_IDS)
def test_nan_wins_wherever_it_stands(kernel, layout, dtype, rng):
    height, width = 4, 35
    pixels = height * width
    x = rng.integers(-4, 5, (1, pixels, height, width)).astype(dtype)
    x.reshape(pixels, pixels)[np.arange(pixels), np.arange(pixels)] = np.nan
    assert_max_pool_is_right(x, layout, *kernel)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", KERNELS, ids=KERNEL_IDS)
def test_of_several_nans_the_last_wins(kernel, layout, dtype, rng):
    x = rng.standard_normal((2, 5, 9, 35)).astype(dtype)
    x[rng.random(x.shape) < 0.3] = np.nan
    assert_max_pool_is_right(x, layout, *kernel)
    x[...] = np.nan
    assert_max_pool_is_right(x, layout, *kernel)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", KERNELS, ids=KERNEL_IDS)
@pytest.mark.parametrize("values", [(0,), (0, 1), (-0.0, 0.0), (-np.inf,), (-np.inf, np.inf), (-1, -np.inf)])
def test_of_equals_the_first_wins(values, kernel, layout, dtype, rng):
    x = rng.choice(np.array(values, dtype), (2, 5, 9, 35))
    assert_max_pool_is_right(x, layout, *kernel)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", KERNELS, ids=KERNEL_IDS)
def test_tails_of_every_size(kernel, layout, dtype, rng):
    for size in WIDTHS:
        shape = (2, 3, 5, size + 1) if layout == "NCHW" else (2, size, 5, 4)
        x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(dtype)
        assert_max_pool_is_right(x, layout, *kernel)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_narrow_rows(layout, dtype, rng):
    """Rows too narrow for a vector, of more planes than are reduced together."""
    for kernel, width in ((2, 2), (2, 7), (2, 8), (3, 3), (1, 5), ((1, 2), 9), ((4, 1), 6)):
        x = rng.permutation(150 * 6 * 12 * width).reshape(150, 6, 12, width).astype(dtype)
        assert_max_pool_is_right(x, layout, kernel)


@pytest.mark.parametrize("planes", [1, 2, 3, 51, 200])
def test_rows_of_half_a_vector(planes, dtype, rng):
    for width in (2, 4, 8):
        x = rng.standard_normal((1, planes, 6, width)).astype(dtype)
        x[rng.random(x.shape) < 0.05] = np.nan
        np.testing.assert_array_equal(fc.max_pool2d(x, 2), reference.max_pool2d(x, 2)[0])
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(
            fc.avg_pool2d(x, 2), reference.avg_pool2d(x, 2), rtol=4 * eps, atol=4 * eps
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("output_size", [1, 2, 3, (5, 4), (4, 1), (1, 7), (9, 35), 40])
def test_bins(output_size, layout, dtype, rng):
    """Against the bins as PyTorch defines them, one by one."""
    x = rng.integers(-9, 10, (2, 5, 9, 35)).astype(dtype)
    x[rng.random(x.shape) < 0.01] = np.nan
    rows, columns = reference.pair(output_size)
    maxima, indices = np.zeros((2, 2, 5, rows, columns))
    means = np.zeros((2, 5, rows, columns))
    for n, c, i, j in np.ndindex(maxima.shape):
        top, bottom = i * 9 // rows, -(-(i + 1) * 9 // rows)
        left, right = j * 35 // columns, -(-(j + 1) * 35 // columns)
        window = x[n, c, top:bottom, left:right].astype(np.float64)
        best, nans = np.argmax(window), np.flatnonzero(np.isnan(window))
        best = nans[-1] if len(nans) else best
        maxima[n, c, i, j] = window.flat[best]
        indices[n, c, i, j] = (top + best // (right - left)) * 35 + left + best % (right - left)
        means[n, c, i, j] = window.mean()
    images = laid_out(x, layout)
    got, got_indices = fc.adaptive_max_pool2d(images, output_size, return_indices=True, layout=layout)
    np.testing.assert_array_equal(got, laid_out(maxima, layout))
    np.testing.assert_array_equal(got_indices, laid_out(indices, layout))
    np.testing.assert_array_equal(fc.adaptive_max_pool2d(images, output_size, layout=layout), got)
    got = fc.adaptive_avg_pool2d(images, output_size, layout=layout)
    np.testing.assert_allclose(got, laid_out(means, layout), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions_that_float32_cannot_count(layout):
    """Planes of more than 2^24 pixels: windows that span as many, and small ones far down."""
    side, width = 4100, (1 << 23) + 5
    values = np.arange(side * side, dtype=np.int32).view(np.float32)  # all different, none NaN
    x = values[: 2 * width].reshape((1, 2, width, 1) if layout == "NHWC" else (1, 1, 2, width))
    maxima, indices = fc.max_pool2d(x, (2, 1), return_indices=True, layout=layout)
    assert maxima.ravel()[-1] == x.ravel()[-1]
    assert (indices.ravel() == np.arange(width, 2 * width)).all()
    x = values.reshape((1, side, side, 1) if layout == "NHWC" else (1, 1, side, side))
    wanted = np.arange(side * side).reshape(side, side)[1::2, 1::2]
    indices = fc.max_pool2d(x, 2, return_indices=True, layout=layout)[1]
    assert (indices.reshape(wanted.shape) == wanted).all()


# ---- gradients of maxima ----


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 16, 37])
def test_gradients_meet_in_order(channels, layout, dtype, rng, threads):
    """Windows overlap: sums have the bits of adding one output after the other."""
    grad = rng.standard_normal((3, channels, 6, 7)).astype(dtype)
    indices = rng.integers(0, 5 * 4, grad.shape)
    wanted = np.zeros((3, channels, 5 * 4), dtype)
    n, c = np.ogrid[:3, :channels]
    for i in range(6 * 7):
        wanted[n, c, indices.reshape(3, channels, -1)[:, :, i]] += grad.reshape(3, channels, -1)[:, :, i]
    wanted = laid_out(wanted.reshape(3, channels, 5, 4), layout)
    got = fc.max_pool2d_backward(
        laid_out(grad, layout), laid_out(indices, layout), wanted.shape, layout=layout
    )
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("columns", range(1, 36))
@pytest.mark.parametrize("rows", [1, 2, 4, 5])
def test_gradients_of_windows_that_tile_the_image(rows, columns, dtype, rng, threads):
    """Every index in its own window of 2x2, or one of them, anywhere, in another; -0 counts as 0."""
    size = (3, 2, 2 * rows, 2 * columns)
    grad = rng.integers(-9, 9, (3, 2, rows, columns)).astype(dtype)
    grad[grad == 0] = -0.0
    row, column = np.ogrid[:rows, :columns]
    at = (2 * row + rng.integers(0, 2, grad.shape)) * size[3] + 2 * column + rng.integers(0, 2, grad.shape)
    for stray in [None, 0, grad.size // 2, grad.size - 1]:
        indices = at.copy()
        if stray is not None:
            indices.flat[stray] = rng.integers(0, size[2] * size[3])
        got = fc.max_pool2d_backward(grad, indices, size)
        np.testing.assert_array_equal(got, reference.max_pool2d_backward(grad, indices, size))
        assert not np.signbit(got[got == 0]).any()


def test_a_gradient_that_is_written_past_the_cache(dtype, rng, threads):
    """32 MiB in rows of whole cache lines, of which the last vector overlaps the one before."""
    size = (2, 4, 1024, 1040) if dtype == np.float32 else (1, 4, 1024, 1048)
    shape = (*size[:2], size[2] // 2, size[3] // 2)
    grad = rng.integers(1, 9, shape).astype(dtype)
    down, right = rng.integers(0, 2, (2, *shape))
    row, column = np.ogrid[: shape[2], : shape[3]]
    got = fc.max_pool2d_backward(grad, (2 * row + down) * size[3] + 2 * column + right, size)
    for i, j in np.ndindex(2, 2):
        np.testing.assert_array_equal(got[..., i::2, j::2], np.where((down == i) & (right == j), grad, 0))


@pytest.mark.parametrize("columns", [4, 8, 16, 17])
@pytest.mark.parametrize("far", [1 << 24, 1 << 32, -(1 << 32), -(1 << 63), (1 << 63) - 1])
def test_an_index_far_from_its_window_is_refused(far, columns, dtype):
    """Also where a part of its bits is an index of the window."""
    size = (1, 1, 2 * columns, 2 * columns)
    indices = fc.max_pool2d(np.zeros(size, dtype), 2, return_indices=True)[1]
    for place in [0, columns, columns**2 - 1]:
        bad = indices.copy()
        with np.errstate(over="ignore"):
            bad.flat[place] += np.int64(far)
        with pytest.raises(ValueError, match=r"^indices: got values from .*, needs positions from 0 to"):
            fc.max_pool2d_backward(np.ones(indices.shape, dtype), bad, size)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("index", [-1, 20, 1 << 32, -(1 << 63), (1 << 63) - 1, np.uint64((1 << 64) - 1)])
@pytest.mark.parametrize("place", [0, 17, -1])
def test_an_index_outside_is_refused(place, index, layout, dtype):
    grad = np.ones((2, 3, 3, 2), dtype)
    indices = np.zeros(grad.shape, np.asarray(index).dtype)
    indices.flat[place] = index
    size = (2, 3, 5, 4)
    if layout == "NHWC":
        grad, indices, size = laid_out(grad, layout), laid_out(indices, layout), (2, 5, 4, 3)
    with pytest.raises(ValueError, match=r"^indices: got values from .*, needs positions from 0 to 19"):
        fc.max_pool2d_backward(grad, indices, size, layout=layout)


# ---- means ----


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", KERNELS, ids=KERNEL_IDS)
@pytest.mark.parametrize("counted", [True, False])
def test_means_and_their_gradients_with_tails_of_every_size(counted, kernel, layout, dtype, rng):
    tolerance = 16 * np.finfo(dtype).eps
    for size in WIDTHS:
        shape = (2, 3, 5, size + 1) if layout == "NCHW" else (2, size, 5, 4)
        x = rng.random(shape).astype(dtype)
        arguments = (*kernel, size % 2 == 0, counted)
        wanted = reference.avg_pool2d(x, *arguments)
        got = fc.avg_pool2d(laid_out(x, layout), *arguments, layout=layout)
        np.testing.assert_allclose(got, laid_out(wanted, layout), rtol=tolerance)
        grad = rng.random(wanted.shape).astype(dtype)
        wanted = laid_out(reference.avg_pool2d_backward(grad, x.shape, *arguments), layout)
        got = fc.avg_pool2d_backward(laid_out(grad, layout), wanted.shape, *arguments, layout=layout)
        np.testing.assert_allclose(got, wanted, rtol=tolerance)


@pytest.mark.parametrize("padding", [0, 1])
def test_three_by_three_in_planes_of_every_height(padding, dtype, rng):
    """Blocks of rows end with the plane, and see rows above and below it."""
    tolerance = 16 * np.finfo(dtype).eps
    for height in range(3 - 2 * padding, 15):
        x = rng.random((2, 3, height, 19)).astype(dtype)
        assert_max_pool_is_right(x, "NCHW", 3, 1, padding)
        means = reference.avg_pool2d(x, 3, 1, padding)
        np.testing.assert_allclose(fc.avg_pool2d(x, 3, 1, padding), means, rtol=tolerance)
        grad = rng.random(means.shape).astype(dtype)
        wanted = reference.avg_pool2d_backward(grad, x.shape, 3, 1, padding)
        got = fc.avg_pool2d_backward(grad, x.shape, 3, 1, padding)
        np.testing.assert_allclose(got, wanted, rtol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_means_of_many_narrow_rows(layout, dtype, rng):
    for kernel, width in ((2, 2), (2, 7), (2, 8), (3, 3), (7, 7), ((1, 2), 9), ((4, 1), 6)):
        x = rng.integers(-99, 100, (150, 6, 14, width)).astype(dtype)
        wanted = reference.avg_pool2d(x, kernel)
        got = fc.avg_pool2d(laid_out(x, layout), kernel, layout=layout)
        np.testing.assert_allclose(got, laid_out(wanted, layout), rtol=np.finfo(dtype).eps)
        wanted = laid_out(reference.avg_pool2d_backward(wanted, x.shape, kernel), layout)
        got = fc.avg_pool2d_backward(got, wanted.shape, kernel, layout=layout)
        np.testing.assert_allclose(got, wanted, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bits_do_not_depend_on_threads(layout, dtype, threads, rng):
    x = rng.standard_normal((3, 7, 90, 41)).astype(dtype)
    x[rng.random(x.shape) < 0.01] = np.nan
    images = laid_out(x, layout)

    def results():
        maxima, indices = fc.max_pool2d(images, 3, 2, 1, return_indices=True, layout=layout)
        means = fc.avg_pool2d(images, 3, 2, 1, count_include_pad=False, layout=layout)
        bins = fc.adaptive_avg_pool2d(images, (40, 13), layout=layout)
        return [
            maxima,
            indices,
            means,
            bins,
            fc.max_pool2d_backward(maxima, indices, images.shape, layout=layout),
            fc.avg_pool2d_backward(means, images.shape, 3, 2, 1, count_include_pad=False, layout=layout),
            fc.adaptive_avg_pool2d_backward(bins, images.shape, layout=layout),
        ]

    got = results()
    with fc.num_threads(1):
        for parallel, alone in zip(got, results(), strict=True):
            assert parallel.tobytes() == alone.tobytes()


# ---- arguments ----


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": True},
        {"kernel_size": 2.0},
        {"kernel_size": (2, True)},
        {"kernel_size": 2, "stride": True},
        {"kernel_size": 2, "stride": (2, 2.0)},
        {"kernel_size": 2, "padding": False},
        {"kernel_size": 2, "padding": (0, False)},
        {"kernel_size": 2, "dilation": True},
        {"kernel_size": 2, "ceil_mode": 0},
        {"kernel_size": 2, "return_indices": 1},
    ],
)
def test_what_equals_a_cached_argument_is_not_taken_for_it(arguments):
    x = np.zeros((1, 1, 4, 4))
    fc.max_pool2d(x, 2)
    fc.max_pool2d(x, 1)
    fc.max_pool2d(x, (2, 1), (2, 2), (0, 0), 1, True)
    with pytest.raises(TypeError, match=f"^{list(arguments)[-1]}: got"):
        fc.max_pool2d(x, **arguments)
