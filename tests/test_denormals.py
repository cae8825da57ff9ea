"""Products count denormals as zeros; what only moves or compares numbers keeps them; nobody else notices."""

import numpy as np
import pytest
import reference
from cases import SOME_CONV_CASES, ConvCase, conv_arrays, runs, to_nchw, to_nhwc

import fastconv as fc


@pytest.fixture(autouse=True)
def threads_for_the_smallest_call(monkeypatch, threads):
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)


def denormals(shape, dtype) -> np.ndarray:
    """Half the least normal number, everywhere."""
    return np.full(shape, np.finfo(dtype).tiny / 2, dtype)


@pytest.mark.parametrize(("algorithm", "case"), runs(SOME_CONV_CASES), ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_products_of_denormals_are_zero(algorithm, case: ConvCase, layout, dtype):
    """Unflushed, the sums of these would be normal numbers."""
    x, weight, _, grad_output = conv_arrays(case, dtype)
    turn = to_nhwc if layout == "NHWC" else np.asarray
    ones = [turn(np.ones_like(x)), np.ones_like(weight), turn(np.ones_like(grad_output))]
    tiny = [denormals(array.shape, dtype) for array in ones]
    arguments = {"algorithm": algorithm, "layout": layout, **case.arguments}
    assert not fc.conv2d(tiny[0], ones[1], **arguments).any()
    assert not fc.conv2d(ones[0], tiny[1], **arguments).any()
    grad_x, grad_weight, _ = fc.conv2d_backward(tiny[2], ones[0], ones[1], **arguments)
    assert not grad_x.any()
    assert not grad_weight.any()


@pytest.mark.parametrize(("algorithm", "case"), runs(SOME_CONV_CASES), ids=str)
def test_error_of_flushing(algorithm, case: ConvCase, dtype):
    """Denormals among normal numbers: a product loses less than the least normal number times its factor."""
    x, weight, bias, _ = (np.array(array) for array in conv_arrays(case, dtype))
    tiny = float(np.finfo(dtype).tiny)
    x.ravel()[::2] *= dtype(tiny)
    weight.ravel()[::3] *= dtype(tiny / 4)
    expected = reference.conv2d(x, weight, bias, **case.arguments)
    error = np.abs(fc.conv2d(x, weight, bias, algorithm=algorithm, **case.arguments) - expected)
    lost = case.products["output"] * tiny * (np.abs(x).max() + np.abs(weight).max() + 1)
    assert error.max() <= case.tolerance(dtype, algorithm) * np.abs(expected).max() + lost


@pytest.mark.parametrize("batch", [1, 3, 70])
def test_linear_and_its_gradients(batch, dtype):
    x, weight, grad_output = (
        np.ones((batch, 90), dtype),
        np.ones((37, 90), dtype),
        np.ones((batch, 37), dtype),
    )
    assert not fc.linear(denormals(x.shape, dtype), weight).any()
    grad_x, grad_weight, _ = fc.linear_backward(denormals(grad_output.shape, dtype), x, weight)
    assert not grad_x.any()
    assert not grad_weight.any()


def test_transposed_convolution(dtype):
    x, weight = denormals((2, 5, 6, 7), dtype), np.ones((5, 4, 3, 3), dtype)
    assert not fc.conv_transpose2d(x, weight, stride=2).any()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_what_moves_or_compares_numbers_keeps_denormals(layout, dtype, rng):
    """Bit by bit; the neighbours differ by denormals, so that a flushed comparison would pick another."""
    x = (rng.normal(size=(2, 6, 12, 14)) * np.finfo(dtype).tiny / 8).astype(dtype)
    assert np.all(np.abs(x) < np.finfo(dtype).tiny)
    value, where = fc.max_pool2d(to_nhwc(x) if layout == "NHWC" else x, 2, return_indices=True, layout=layout)
    windows = x.reshape(2, 6, 6, 2, 7, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 6, 6, 7, 4)
    np.testing.assert_array_equal(to_nchw(value) if layout == "NHWC" else value, windows.max(axis=-1))
    grad = fc.max_pool2d_backward(
        value, where, x.transpose(0, 2, 3, 1).shape if layout == "NHWC" else x.shape, layout=layout
    )
    assert np.count_nonzero(grad) == value.size
    np.testing.assert_array_equal(fc.relu(x), np.maximum(x, 0))
    np.testing.assert_array_equal(fc.im2col(x, 1), x.reshape(2, 6, -1))


# An algorithm, and a case that it can do.
MODES = [("direct", "groups-2"), ("im2col", "groups-2"), ("winograd", "groups-2"), ("strassen", "7x7-1x1")]


def test_the_mode_is_restored_in_every_thread(threads, dtype):
    """Averages of denormals, by the very threads that have just convolved, and NumPy in the calling one."""
    planes = denormals((8 * threads, 3, 16, 16), dtype)
    for algorithm, name in MODES:
        case = next(case for case in SOME_CONV_CASES if case.name == name)
        x, weight, bias, grad_output = conv_arrays(case, dtype)
        fc.conv2d(x, weight, bias, algorithm=algorithm, **case.arguments)
        fc.conv2d_backward(grad_output, x, weight, algorithm=algorithm, **case.arguments)
        with pytest.raises(ValueError, match="bias"):
            fc.conv2d(x, weight, bias[:-1], algorithm=algorithm, **case.arguments)
        np.testing.assert_array_equal(fc.avg_pool2d(planes, 2), planes[:, :, ::2, ::2])
        assert np.all(planes / dtype(2) * dtype(2) == planes)
