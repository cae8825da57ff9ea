"""The oracle itself, against numbers worked out by hand, numerical gradients, and PyTorch if installed."""

import numpy as np
import pytest
import reference
from cases import (
    CONV_CASES,
    POOL_CASES,
    SMALL_CONV_CASES,
    SMALL_POOL_CASES,
    TORCH_POOL_CASES,
    ConvCase,
    PoolCase,
    conv_arrays,
    pool_input,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import numerical_gradient


def test_cases_have_names_of_their_own():
    for cases in (CONV_CASES, POOL_CASES):
        names = [case.name for case in cases]
        assert len(set(names)) == len(names)


RAMP = np.arange(9.0).reshape(1, 1, 3, 3)
ONES = np.ones((1, 1, 2, 2))


# ---- by hand ----


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [[8, 12], [20, 24]]),
        ({"bias": [0.5]}, [[8.5, 12.5], [20.5, 24.5]]),
        ({"stride": 2, "padding": 1}, [[0, 3], [9, 24]]),
        ({"padding": ((1, 0), (0, 2)), "stride": (2, 3)}, [[1, 0], [20, 0]]),
        ({"dilation": 2}, [[16]]),
        ({"padding": "valid"}, [[8, 12], [20, 24]]),
        ({"padding": "same"}, [[8, 12, 7], [20, 24, 13], [13, 15, 8]]),
        ({"padding": "same", "stride": 2}, [[8, 7], [13, 8]]),
        ({"padding": ((1, 0), (0, 0)), "padding_mode": "reflect"}, [[8, 12], [8, 12], [20, 24]]),
        ({"padding": ((1, 0), (0, 0)), "padding_mode": "replicate"}, [[2, 6], [8, 12], [20, 24]]),
        ({"padding": ((1, 0), (0, 0)), "padding_mode": "circular"}, [[14, 18], [8, 12], [20, 24]]),
    ],
)
def test_conv2d_by_hand(arguments, expected):
    assert_array_equal(reference.conv2d(RAMP, ONES, **arguments)[0, 0], expected)


def test_conv2d_is_not_flipped():
    assert_array_equal(reference.conv2d(RAMP, [[[[1, 0], [0, -1]]]])[0, 0], [[-4, -4], [-4, -4]])


def test_grouped_conv2d_by_hand():
    """Two groups, each of one channel in and two out; a column image seen through a 1x1 kernel."""
    x = np.array([1.0, 10.0]).reshape(1, 2, 1, 1)
    weight = np.array([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1)
    assert_array_equal(reference.conv2d(x, weight, groups=2).ravel(), [1, 2, 30, 40])


def test_conv2d_backward_by_hand():
    grad_output = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    grad_x, grad_weight, grad_bias = reference.conv2d_backward(grad_output, RAMP, ONES)
    assert_array_equal(grad_x[0, 0], [[1, 3, 2], [4, 10, 6], [3, 7, 4]])
    assert_array_equal(
        grad_weight[0, 0], [[0 + 2 + 9 + 16, 1 + 4 + 12 + 20], [3 + 8 + 18 + 28, 4 + 10 + 21 + 32]]
    )
    assert_array_equal(grad_bias, [10])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "edges", "dilation", "expected"),
    [
        (227, 11, 4, (0, 0), 1, 55),
        (224, 11, 4, (1, 2), 1, 55),
        (7, 3, 2, (1, 1), 1, 4),
        (5, 3, 1, (0, 0), 2, 1),
        (5, 5, 9, (0, 0), 1, 1),
        (4, 5, 1, (0, 0), 1, 0),
    ],
)
def test_conv_output_size_by_hand(size, kernel, stride, edges, dilation, expected):
    assert reference.conv_output_size(size, kernel, stride, edges, dilation) == expected


def test_max_pool2d_by_hand():
    x = np.array([[[[3, 3, 1], [3, 3, 2], [0, -1, 9]]]])
    output, indices = reference.max_pool2d(x, 2, stride=1)
    assert_array_equal(output[0, 0], [[3, 3], [3, 9]])
    assert_array_equal(indices[0, 0], [[0, 1], [3, 8]])  # ties go to the first
    grad_x = reference.max_pool2d_backward(np.array([[[[1, 2], [3, 4]]]]), indices, x.shape)
    assert_array_equal(grad_x[0, 0], [[1, 2, 0], [3, 0, 0], [0, 0, 4]])


def test_max_pool2d_of_nan_and_infinity():
    x = np.array([[[[np.nan, 5, -np.inf, -np.inf, 1, np.nan]]]])
    output, indices = reference.max_pool2d(x, (1, 2))
    assert_array_equal(output.ravel(), [np.nan, -np.inf, np.nan])
    assert_array_equal(indices.ravel(), [0, 2, 5])


def test_max_pool2d_padding_never_wins():
    output, indices = reference.max_pool2d(-1.0 - RAMP, 3, stride=2, padding=1)
    assert_array_equal(output[0, 0], [[-1, -2], [-4, -5]])
    assert_array_equal(indices[0, 0], [[0, 1], [3, 4]])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [[2]]),
        ({"ceil_mode": True}, [[2, 3.5], [6.5, 8]]),
        ({"padding": 1}, [[0, 3 / 4], [9 / 4, 24 / 4]]),
        ({"padding": 1, "count_include_pad": False}, [[0, 1.5], [4.5, 6]]),
        ({"padding": 1, "divisor_override": 3}, [[0, 1], [3, 8]]),
        ({"padding": ((1, 0), (0, 1))}, [[1 / 4, 2 / 4], [20 / 4, 13 / 4]]),
    ],
)
def test_avg_pool2d_by_hand(arguments, expected):
    assert_array_equal(reference.avg_pool2d(RAMP, 2, **arguments)[0, 0], expected)


def test_im2col_and_col2im_by_hand():
    columns = reference.im2col(RAMP, 2)
    assert_array_equal(columns[0], [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]])
    times_seen = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    assert_array_equal(reference.col2im(columns, RAMP.shape, 2)[0, 0], RAMP[0, 0] * times_seen)


# ---- numerical gradients ----


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
def test_conv2d_gradients_are_numerical_gradients(padding_mode):
    rng = np.random.default_rng(7)
    x, weight, bias = rng.normal(size=(2, 4, 4, 5)), rng.normal(size=(2, 2, 2, 3)), rng.normal(size=2)
    arguments = {"stride": (1, 2), "padding": ((1, 0), (2, 1)), "dilation": (2, 1), "groups": 2}
    arguments["padding_mode"] = padding_mode
    grad_output = rng.normal(size=reference.conv2d(x, weight, bias, **arguments).shape)
    gradients = reference.conv2d_backward(grad_output, x, weight, **arguments)
    functions = [
        (lambda v: reference.conv2d(v, weight, bias, **arguments), x),
        (lambda v: reference.conv2d(x, v, bias, **arguments), weight),
        (lambda v: reference.conv2d(x, weight, v, **arguments), bias),
    ]
    for gradient, (function, at) in zip(gradients, functions, strict=True):
        assert_allclose(gradient, numerical_gradient(function, at, grad_output), atol=1e-9)


@pytest.mark.parametrize("case", SMALL_POOL_CASES, ids=str)
def test_pool_gradients_are_numerical_gradients(case: PoolCase):
    x = pool_input(case)
    output, indices = reference.max_pool2d(x, **case.max_arguments)
    grad_output = np.random.default_rng(8).normal(size=output.shape)
    assert_allclose(
        reference.max_pool2d_backward(grad_output, indices, x.shape),
        numerical_gradient(
            lambda v: reference.max_pool2d(v, **case.max_arguments)[0], x, grad_output, step=0.25
        ),
        atol=1e-9,
    )
    if not case.can_average:
        return
    assert_allclose(
        reference.avg_pool2d_backward(grad_output, x.shape, **case.avg_arguments),
        numerical_gradient(
            lambda v: reference.avg_pool2d(v, **case.avg_arguments), x, grad_output, step=0.25
        ),
        atol=1e-9,
    )


# ---- PyTorch ----


def torch_conv2d(torch, x, weight, bias, case: ConvCase):
    """PyTorch has no asymmetric padding in conv2d: pad first."""
    (top, bottom), (left, right) = case.edges
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    arguments = {"stride": case.stride, "dilation": case.dilation, "groups": case.groups}
    return torch.nn.functional.conv2d(padded, weight, bias, **arguments)


@pytest.mark.parametrize("case", [case for case in CONV_CASES if not case.is_empty], ids=str)
def test_conv2d_against_torch(case: ConvCase):
    torch = pytest.importorskip("torch")
    x, weight, bias, grad_output = conv_arrays(case, np.float64)
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
    output = torch_conv2d(torch, *leaves, case)
    assert_allclose(reference.conv2d(x, weight, bias, **case.arguments), output.detach(), rtol=0, atol=1e-10)
    output.backward(torch.tensor(grad_output))
    for ours, leaf in zip(
        reference.conv2d_backward(grad_output, x, weight, **case.arguments), leaves, strict=True
    ):
        assert_allclose(ours, leaf.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
def test_padding_modes_against_torch(padding_mode):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    x = torch.tensor(rng.normal(size=(2, 3, 5, 6)), requires_grad=True)
    module = torch.nn.Conv2d(
        3, 4, 3, stride=2, padding=(2, 3), padding_mode=padding_mode, dtype=torch.float64
    )
    output = module(x)
    weight = module.weight.detach().numpy()
    arguments = {"stride": 2, "padding": (2, 3), "padding_mode": padding_mode}
    ours = reference.conv2d(x.detach().numpy(), weight, module.bias.detach().numpy(), **arguments)
    assert_allclose(ours, output.detach(), atol=1e-12)
    grad_output = rng.normal(size=output.shape)
    output.backward(torch.tensor(grad_output))
    grad_x, grad_weight, grad_bias = reference.conv2d_backward(
        grad_output, x.detach().numpy(), weight, **arguments
    )
    assert_allclose(grad_x, x.grad, atol=1e-12)
    assert_allclose(grad_weight, module.weight.grad, atol=1e-12)
    assert_allclose(grad_bias, module.bias.grad, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("kernel", [(2, 3), (3, 4), (1, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_against_torch(kernel, dilation):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    x, weight = rng.normal(size=(1, 2, 7, 8)), rng.normal(size=(3, 2, *kernel))
    theirs = torch.nn.functional.conv2d(
        torch.tensor(x), torch.tensor(weight), padding="same", dilation=dilation
    )
    assert_allclose(reference.conv2d(x, weight, padding="same", dilation=dilation), theirs, atol=1e-12)


@pytest.mark.parametrize("case", TORCH_POOL_CASES, ids=str)
def test_pool_against_torch(case: PoolCase):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = pool_input(case)
    leaf = torch.tensor(x, requires_grad=True)
    output, indices = reference.max_pool2d(x, **case.max_arguments)
    grad_output = np.random.default_rng(9).normal(size=output.shape)
    theirs, their_indices = functional.max_pool2d(leaf, return_indices=True, **case.max_arguments)
    assert_array_equal(output, theirs.detach())
    assert_array_equal(indices, their_indices)
    theirs.backward(torch.tensor(grad_output))
    assert_allclose(reference.max_pool2d_backward(grad_output, indices, x.shape), leaf.grad, atol=1e-12)
    if not case.can_average:
        return
    leaf.grad = None
    theirs = functional.avg_pool2d(leaf, **case.avg_arguments)
    assert_allclose(reference.avg_pool2d(x, **case.avg_arguments), theirs.detach(), atol=1e-12)
    theirs.backward(torch.tensor(grad_output))
    assert_allclose(
        reference.avg_pool2d_backward(grad_output, x.shape, **case.avg_arguments), leaf.grad, atol=1e-12
    )


def test_nan_and_ties_against_torch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(10).choice([np.nan, -np.inf, 0.0, 1.0], size=(2, 3, 9, 9))
    output, indices = reference.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    theirs, their_indices = torch.nn.functional.max_pool2d(
        torch.tensor(x), 3, 2, 1, ceil_mode=True, return_indices=True
    )
    assert_array_equal(output, theirs)
    assert_array_equal(indices, their_indices)


@pytest.mark.parametrize("case", [case for case in SMALL_CONV_CASES if case.has_symmetric_padding], ids=str)
def test_im2col_against_torch(case: ConvCase):
    torch = pytest.importorskip("torch")
    x = conv_arrays(case, np.float64)[0]
    kernel = case.weight_shape[2:]
    geometry = {
        "stride": case.stride,
        "dilation": case.dilation,
        "padding": tuple(top for top, _ in case.edges),
    }
    theirs = torch.nn.functional.unfold(torch.tensor(x), kernel, **geometry)
    columns = reference.im2col(x, kernel, **geometry)
    assert_array_equal(columns, theirs)
    theirs = torch.nn.functional.fold(theirs, x.shape[2:], kernel, **geometry)
    assert_allclose(reference.col2im(columns, x.shape, kernel, **geometry), theirs, atol=1e-12)
