"""The same calls to fastconv and to PyTorch, in float32, where PyTorch is installed."""

import numpy as np
import pytest
from cases import CONV_CASES, TORCH_POOL_CASES, ConvCase, PoolCase, conv_arrays, error_bound, pool_input

import fastconv as fc

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def assert_close(ours, theirs, bound):
    """Each may be off the truth by `bound`, relative to the largest result."""
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert np.max(np.abs(ours - theirs)) <= 2 * bound * np.max(np.abs(theirs))


def is_worthwhile(case: ConvCase) -> bool:
    """PyTorch cannot do the others, or does them as it does these."""
    is_one_of_many = case.name.startswith(("tile", "depth-"))
    return case.has_symmetric_padding and not case.is_empty and not is_one_of_many


@pytest.mark.parametrize("case", [case for case in CONV_CASES if is_worthwhile(case)], ids=str)
def test_conv2d(case: ConvCase):
    x, weight, bias, grad_output = conv_arrays(case, np.float32)
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
    output = functional.conv2d(*leaves, **torch_arguments(case))
    assert_close(fc.conv2d(x, weight, bias, **case.arguments), output, case.tolerance(np.float32, "auto"))
    output.backward(torch.tensor(grad_output))
    gradients = fc.conv2d_backward(grad_output, x, weight, **case.arguments)
    for of, gradient, leaf in zip(("x", "weight", "bias"), gradients, leaves, strict=True):
        assert_close(gradient, leaf.grad, case.tolerance(np.float32, "auto", of))


def torch_arguments(case: ConvCase) -> dict:
    return {**case.arguments, "padding": tuple(before for before, _ in case.edges)}


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [2, (1, 3), "same", "valid"])
def test_module_with_padding_mode(mode, padding):
    module = torch.nn.Conv2d(4, 6, 3, padding=padding, groups=2, padding_mode=mode)
    x = torch.tensor(
        np.random.default_rng(1).normal(size=(2, 4, 7, 8)).astype(np.float32), requires_grad=True
    )
    output = module(x)
    arrays = [tensor.detach().numpy() for tensor in (x, module.weight, module.bias)]
    arguments = {"padding": padding, "groups": 2, "padding_mode": mode}
    bound = error_bound(np.float32, 8 * 7 * 2 * 9, "auto")
    assert_close(fc.conv2d(*arrays, **arguments), output, bound)
    grad_output = np.random.default_rng(2).normal(size=output.shape).astype(np.float32)
    output.backward(torch.tensor(grad_output))
    gradients = fc.conv2d_backward(grad_output, *arrays[:2], **arguments)
    for gradient, leaf in zip(gradients, (x, module.weight, module.bias), strict=True):
        assert_close(gradient, leaf.grad, bound)


@pytest.mark.parametrize("case", TORCH_POOL_CASES, ids=str)
def test_pools(case: PoolCase):
    x = pool_input(case, np.float32)
    leaf = torch.tensor(x, requires_grad=True)
    theirs, their_indices = functional.max_pool2d(leaf, **case.max_arguments, return_indices=True)
    output, indices = fc.max_pool2d(x, **case.max_arguments, return_indices=True)
    assert_close(output, theirs, 0)
    assert_close(indices, their_indices, 0)
    theirs.backward(torch.tensor(output))
    bound = error_bound(np.float32, case.window, "direct")
    assert_close(fc.max_pool2d_backward(output, indices, x.shape), leaf.grad, bound)
    if case.can_average:
        leaf.grad = None
        theirs = functional.avg_pool2d(leaf, **case.avg_arguments)
        assert_close(fc.avg_pool2d(x, **case.avg_arguments), theirs, bound)
        theirs.backward(torch.tensor(output))
        assert_close(fc.avg_pool2d_backward(output, x.shape, **case.avg_arguments), leaf.grad, bound)


@pytest.mark.parametrize(
    "arguments", [{}, {"stride": 2, "padding": 1}, {"dilation": (2, 1), "padding": (0, 2)}]
)
def test_unfold_and_fold(arguments):
    x = np.random.default_rng(3).normal(size=(2, 3, 8, 9)).astype(np.float32)
    theirs = functional.unfold(torch.tensor(x), (3, 2), **arguments)
    columns = fc.im2col(x, (3, 2), **arguments)
    assert_close(columns, theirs, 0)
    images = fc.col2im(columns, x.shape, (3, 2), **arguments)
    assert_close(
        images, functional.fold(theirs, (8, 9), (3, 2), **arguments), error_bound(np.float32, 6, "direct")
    )
