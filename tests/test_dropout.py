"""Dropout: its statistics, its mask, and the gradient through it."""

import numpy as np
import pytest

import fastconv as fc


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_keeps_the_expected_share_and_scales_it(p, dtype):
    x = np.full((200, 300), 3, dtype)
    output, mask = fc.dropout(x, p, rng=np.random.default_rng(5))
    assert output.dtype == dtype
    assert mask.dtype == np.bool_
    share = mask.mean()
    assert abs(share - (1 - p)) < 5 * np.sqrt(p * (1 - p) / x.size)
    np.testing.assert_array_equal(output[~mask], 0)
    np.testing.assert_allclose(output[mask], 3 / (1 - p), rtol=2 * np.finfo(dtype).eps)
    gradient = fc.dropout_backward(x, mask, p)
    np.testing.assert_array_equal(gradient, output)


def test_the_generator_decides():
    x = np.ones((20, 20))
    first, mask = fc.dropout(x, rng=np.random.default_rng(5))
    again, _ = fc.dropout(x, rng=np.random.default_rng(5))
    other, _ = fc.dropout(x, rng=np.random.default_rng(6))
    _, single_mask = fc.dropout(x.astype(np.float32), rng=np.random.default_rng(5))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(mask, single_mask)
    assert (first != other).any()
    rng = np.random.default_rng(5)
    assert (fc.dropout(x, rng=rng)[0] != fc.dropout(x, rng=rng)[0]).any()
    assert (fc.dropout(x)[0] != fc.dropout(x)[0]).any()


@pytest.mark.parametrize("arguments", [{"p": 0}, {"p": 0.5, "training": False}])
def test_nothing_is_dropped(arguments, rng):
    x = rng.standard_normal((3, 4))
    state = rng.bit_generator.state
    output, mask = fc.dropout(x, **arguments, rng=rng)
    assert mask is None
    assert not np.shares_memory(output, x)
    assert rng.bit_generator.state == state
    np.testing.assert_array_equal(output, x)
    np.testing.assert_array_equal(fc.dropout_backward(x, mask), x)


def test_everything_is_dropped(rng):
    output, mask = fc.dropout(np.ones(50), 1.0, rng=rng)
    assert not mask.any()
    np.testing.assert_array_equal(output, 0)
    np.testing.assert_array_equal(fc.dropout_backward(np.ones(50), mask, 1.0), 0)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,)])
def test_any_shape(shape, rng):
    output, mask = fc.dropout(np.ones(shape), rng=rng)
    assert output.shape == shape
    assert fc.dropout_backward(output, mask).shape == shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sizes_around_those_of_vectors(dtype, threads, monkeypatch, rng):
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    for size in (*range(1, 35), 2049, 40_009):
        x, mask = rng.standard_normal(size).astype(dtype), rng.random(size) < 0.5
        expected = np.where(mask, (x.astype(np.float64) * np.float64(dtype(4 / 3))).astype(dtype), 0)
        got = fc.dropout_backward(x, mask, 0.25)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, rtol=np.finfo(dtype).eps)
        np.testing.assert_array_equal(got[~mask], 0)


def test_what_is_not_finite_is_multiplied_as_in_pytorch():
    x = np.array([np.nan, np.inf, -np.inf, -1.0] * 2)
    mask = np.repeat([True, False], 4)
    np.testing.assert_array_equal(
        fc.dropout_backward(x, mask), [np.nan, np.inf, -np.inf, -2, np.nan, np.nan, np.nan, 0]
    )


def test_masks_in_any_memory(memory_order, rng):
    x, mask = memory_order(rng.standard_normal((6, 7, 4))), rng.random((6, 14, 4)) < 0.5
    for kept in (mask[:, ::2], mask[:, ::-2], np.broadcast_to(mask[:1, :7], x.shape)):
        np.testing.assert_array_equal(fc.dropout_backward(x, kept), np.array(x) * 2 * kept)
    odd = mask[:, :7].view(np.uint8) * np.uint8(0xFE)  # any byte but 0 is true
    np.testing.assert_array_equal(fc.dropout_backward(x, odd.view(bool)), np.array(x) * 2 * mask[:, :7])


def test_bad_arguments_are_refused():
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(
            ValueError, match=r"^p: got .*, needs a finite number of at least 0 and at most 1"
        ):
            fc.dropout([1.0], p)
    with pytest.raises(TypeError, match=r"^rng: got int, needs a numpy\.random\.Generator"):
        fc.dropout([1.0], rng=3)
    with pytest.raises(TypeError, match=r"^training: got 1, needs True or False"):
        fc.dropout([1.0], training=1)
    with pytest.raises(TypeError, match=r"^x: got dtype complex"):
        fc.dropout([1j])
    with pytest.raises(TypeError, match=r"^mask: got list \(.*inhomogeneous.*\), needs an array$"):
        fc.dropout_backward(np.ones((2, 2)), [[True], [True, False]])
    with pytest.raises(TypeError, match=r"^mask: got dtype float64, needs an array of bool or None"):
        fc.dropout_backward([1.0], [1.0])
    with pytest.raises(ValueError, match=r"^grad_output: got shape \(1,\), needs shape \(2,\), that of mask"):
        fc.dropout_backward([1.0], [True, False])
