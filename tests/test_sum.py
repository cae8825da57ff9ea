"""The sum of a residual block's branches, with the activation that may follow it."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.functional._sum import activated, plus

DTYPES = [np.float16, np.float32, np.float64]


def rectified(values, activation):
    return np.clip(values, 0, {"": np.inf, "ReLU": np.inf, "ReLU6": 6}[activation]) if activation else values


@pytest.mark.parametrize("activation", ["", "ReLU", "ReLU6"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_around_those_of_vectors(dtype, activation, threads, monkeypatch, rng):
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    for size in (*range(35), 2049, 40_009):
        a, b = (4 * rng.standard_normal((2, size))).astype(dtype)
        expected = rectified(a + b, activation)
        kept = a.copy(), b.copy()
        result = plus(a, b, activation)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(a, kept[0])
        assert plus(a, b, activation, overwrite=True) is a
        np.testing.assert_array_equal(a, expected)
        np.testing.assert_array_equal(b, kept[1])
        assert activated(b, activation) is b
        np.testing.assert_array_equal(b, rectified(kept[1], activation))


def test_any_memory(memory_order, rng):
    a, b = (memory_order(array) for array in rng.standard_normal((2, 3, 5, 4)))
    before = np.array(a)
    for overwrite in (False, True):
        result = plus(a if not overwrite else a[...], b, "ReLU", overwrite=overwrite)
        np.testing.assert_array_equal(result, np.maximum(before + np.array(b), 0))
        if not overwrite:
            np.testing.assert_array_equal(a, before)


def test_dtypes_promote_as_in_numpy(rng):
    for first in (*DTYPES, np.int8, np.int64):
        for second in DTYPES:
            a, b = (
                (10 * rng.standard_normal((2, 6))).astype(first),
                rng.standard_normal((2, 6)).astype(second),
            )
            for overwrite in (False, True):
                result = plus(a, b, overwrite=overwrite)
                assert result.dtype == np.result_type(a, b)
                assert result.dtype == first or not np.shares_memory(result, a)


def test_not_a_number_and_infinities(dtype):
    a, b = np.array([np.nan, 1, np.inf, np.inf, -np.inf], dtype), np.array([1, np.nan, -np.inf, 1, 1], dtype)
    np.testing.assert_array_equal(plus(a, b), [np.nan, np.nan, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(plus(a, b, "ReLU"), [np.nan, np.nan, np.nan, np.inf, 0])
    np.testing.assert_array_equal(plus(a, b, "ReLU6"), [np.nan, np.nan, np.nan, 6, 0])


@pytest.mark.parametrize("frozen", [False, True])
def test_residual_writes_to_nothing_that_it_was_given(frozen, dtype, rng):
    x = rng.standard_normal((2, 3, 5, 5)).astype(dtype)
    kept = x.copy()
    for body, expected in (
        (nn.Sequential(), 2 * x),
        (nn.Flatten(1, 1), 2 * x),
        (nn.ReLU(), np.maximum(x, 0) + x),
    ):
        network = nn.Sequential(nn.Residual(body), nn.ReLU()).eval()
        network = nn.freeze(network) if frozen else network
        np.testing.assert_array_equal(network(x), np.maximum(expected, 0))
        np.testing.assert_array_equal(x, kept)
