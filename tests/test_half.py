"""float16: the kernels that convert it (from_half, to_half), and that operations compute in float32."""

import numpy as np
import pytest

import fastconv as fc
from fastconv._kernels import halves

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def test_every_half_becomes_its_value_and_comes_back():
    singles = halves.to_single(ALL, 1)
    assert singles.dtype == np.float32
    number = ~np.isnan(ALL)
    np.testing.assert_array_equal(
        singles.view(np.uint32)[number], ALL[number].astype(np.float32).view(np.uint32)
    )
    back = halves.from_single(singles, 1)
    assert back.dtype == np.float16
    np.testing.assert_array_equal(back.view(np.uint16)[number], ALL.view(np.uint16)[number])
    for result in (singles, back):
        np.testing.assert_array_equal(np.isnan(result), ~number)
        np.testing.assert_array_equal(np.signbit(result), np.signbit(ALL))


def test_to_the_nearest_and_ties_to_even():
    """Between neighbouring halves: a quarter, the tie and its two neighbours, three quarters."""
    finite = np.sort(ALL[np.isfinite(ALL) & ~np.signbit(ALL)]).astype(np.float64)
    low, high = finite[:-1], finite[1:]
    tie = ((low + high) / 2).astype(np.float32)
    between = [
        *(
            low.astype(np.float32),
            tie,
            np.nextafter(tie, np.float32(0)),
            np.nextafter(tie, np.float32(np.inf)),
        ),
        *((low + (high - low) * share).astype(np.float32) for share in (0.25, 0.75)),
    ]
    singles = np.concatenate([*between, *(-part for part in between)])
    assert_rounded_as_numpy(singles)


def test_every_exponent_is_rounded(rng):
    """From what is far below the smallest half to what is far above the largest, infinite and NaN."""
    exponents = np.arange(-149, 128)
    singles = np.ldexp(rng.uniform(1, 2, (50, len(exponents))), exponents).astype(np.float32).ravel()
    edges = [65504, 65519.99, 65520, 65536, 2**-14, 2**-24, 2**-25, 2**-26, np.inf, np.nan, 0, 1e-45, 3.4e38]
    assert_rounded_as_numpy(np.concatenate([singles, -singles, edges, -np.array(edges)]).astype(np.float32))


def assert_rounded_as_numpy(singles):
    with np.errstate(over="ignore", under="ignore"):
        expected = singles.astype(np.float16)
    result = halves.from_single(singles, 1)
    there = ~np.isnan(singles)
    np.testing.assert_array_equal(result.view(np.uint16)[there], expected.view(np.uint16)[there])
    np.testing.assert_array_equal(np.isnan(result), ~there)


@pytest.mark.parametrize("size", [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33])
def test_sizes_and_places(size, rng):
    for start in range(3):
        values = rng.standard_normal(size + start).astype(np.float16)[start:]
        singles = halves.to_single(values, 1)
        np.testing.assert_array_equal(singles, values.astype(np.float32))
        np.testing.assert_array_equal(halves.from_single(singles, 1), values)


def test_threads_do_not_matter(rng):
    values = rng.standard_normal((7, 11, 1301)).astype(np.float16)
    singles = halves.to_single(values, 3)
    np.testing.assert_array_equal(singles, values.astype(np.float32))
    np.testing.assert_array_equal(halves.from_single(singles, 3), values)


def test_operations_take_halves_in_any_memory(memory_order, rng):
    """The result is that of float32, rounded; what is too large becomes infinite without a warning."""
    x = memory_order(rng.standard_normal((2, 3, 9, 7)).astype(np.float16))
    weight = memory_order(rng.standard_normal((4, 3, 3, 3)).astype(np.float16))
    single = np.array(x, np.float32)
    for half, expected in (
        (fc.conv2d(x, weight), fc.conv2d(single, np.array(weight, np.float32))),
        (fc.max_pool2d(x, 2), fc.max_pool2d(single, 2)),
        (fc.relu(x), fc.relu(single)),
        (fc.softmax(x, 1), fc.softmax(single, 1)),
        (fc.batch_norm(x, None, None, training=True), fc.batch_norm(single, None, None, training=True)),
    ):
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, expected.astype(np.float16))
    out = np.empty_like(fc.max_pool2d(x, 2))
    assert fc.max_pool2d(x, 2, out=out) is out
    np.testing.assert_array_equal(out, fc.max_pool2d(x, 2))
    large = np.full((1, 1, 2, 2), 60000, np.float16)
    assert fc.conv2d(large, np.ones((1, 1, 2, 2), np.float16)).item() == np.inf


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", [(1, 2, 5, 7), (5, 7, 31, 29), (3, 2, 150, 170), (2, 3, 40, 500)], ids=str)
def test_pools_convert_some_images_at_a_time(shape, layout, threads, rng):
    x = rng.standard_normal(shape).astype(np.float16)
    single = x.astype(np.float32)
    with fc.num_threads(threads):
        for pool, arguments in (
            (fc.max_pool2d, (3, 2, 1)),
            (fc.avg_pool2d, (2,)),
            (fc.avg_pool2d, (3, 1, 1)),
        ):
            half, expected = pool(x, *arguments, layout=layout), pool(single, *arguments, layout=layout)
            assert half.dtype == np.float16
            np.testing.assert_array_equal(half, expected.astype(np.float16))
        half, indices = fc.max_pool2d(x, 2, return_indices=True, layout=layout)
        expected, positions = fc.max_pool2d(single, 2, return_indices=True, layout=layout)
        np.testing.assert_array_equal(half, expected.astype(np.float16))
        np.testing.assert_array_equal(indices, positions)
        grad = fc.avg_pool2d_backward(half, x.shape, 2, layout=layout)
        expected = fc.avg_pool2d_backward(half.astype(np.float32), x.shape, 2, layout=layout)
        np.testing.assert_array_equal(grad, expected.astype(np.float16))
        grad = fc.max_pool2d_backward(half, indices, x.shape, layout=layout)
        assert grad.dtype == np.float16
