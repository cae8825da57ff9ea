"""A call that raises leaves a layer's parameters, gradients and running statistics as they were."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastconv import nn
from fastconv._kernels import memory

# Layers that hold arrays, and the shape of an input whose results are too large for NumPy's own memory.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv2d": (lambda: nn.Conv2d(5, 7, 3, padding=1), (3, 5, 40, 40)),
    "Conv2d-strided": (lambda: nn.Conv2d(5, 70, 5, stride=2), (3, 5, 80, 80)),
    "Conv2d-depthwise": (lambda: nn.Conv2d(8, 8, 3, groups=8), (3, 8, 40, 40)),
    "Conv1d": (lambda: nn.Conv1d(5, 7, 3), (3, 5, 1600)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(5, 7, 3, stride=2), (3, 5, 30, 30)),
    "Linear": (lambda: nn.Linear(130, 90), (100, 130)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(5), (3, 5, 40, 40)),
    "BatchNorm2d-NHWC": (lambda: nn.BatchNorm2d(5, layout="NHWC"), (3, 40, 40, 5)),
}


def held(layer: nn.Module) -> list[NDArray[Any]]:
    """Copies of all arrays of the layer."""
    gradients = [parameter.grad for parameter in layer.parameters()]
    return [np.array(array) for array in (*layer.state_dict().values(), *gradients)]


def assert_unchanged(layer: nn.Module, before: list[NDArray[Any]]) -> None:
    for now, then in zip(held(layer), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.fixture(params=LAYERS)
def trained(request: pytest.FixtureRequest, rng: np.random.Generator) -> tuple[nn.Module, NDArray[Any], Any]:
    """A layer that has gradients and running statistics, its input, and the gradient of its output."""
    make, shape = LAYERS[request.param]
    layer, x = make(), rng.normal(size=shape).astype(np.float32)
    grad_output = rng.normal(size=layer(x).shape).astype(np.float32)
    layer.backward(grad_output)
    return layer, x, grad_output


def test_bad_input(trained) -> None:
    layer, x, grad_output = trained
    before = held(layer)
    for bad in (np.ones((2, 3, 2, 3), np.float32), x.astype(complex), x.astype(str), None):
        with pytest.raises((TypeError, ValueError)):
            layer(bad)
        assert_unchanged(layer, before)
    layer.eval()(x)
    for bad in (grad_output[..., :-1], grad_output.astype(complex), None):
        with pytest.raises((TypeError, ValueError)):
            layer.backward(bad)
        assert_unchanged(layer, before)


@pytest.mark.parametrize("operation", ["forward", "backward"])
def test_any_allocation_may_fail(operation: str, trained) -> None:
    layer, x, grad_output = trained
    layer(x)
    before = held(layer)
    failures = 0
    while True:
        memory.fail_allocation(failures + 1)
        try:
            layer(x) if operation == "forward" else layer.backward(grad_output)
        except MemoryError:
            assert_unchanged(layer, before)
            failures += 1
        else:
            break
        finally:
            memory.fail_allocation(0)
    normalizes = isinstance(layer, nn.BatchNorm2d)
    assert failures or normalizes
    changed = any(not np.array_equal(now, then) for now, then in zip(held(layer), before, strict=True))
    assert changed == (normalizes or operation == "backward")
