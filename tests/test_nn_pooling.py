"""Pools as layers: their arguments, gradients, and PyTorch's layers beside them."""

import numpy as np
import pytest
import reference
import reference_layers

from fastconv import nn

# (layer, arguments)
CASES = {
    "max": (nn.MaxPool2d, {"kernel_size": 2}),
    "max-overlapping": (nn.MaxPool2d, {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    "max-dilated": (nn.MaxPool2d, {"kernel_size": 2, "stride": 1, "dilation": (1, 2)}),
    "max-ceil": (nn.MaxPool2d, {"kernel_size": 2, "ceil_mode": True}),
    "avg": (nn.AvgPool2d, {"kernel_size": 2}),
    "avg-overlapping": (nn.AvgPool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "avg-inside": (nn.AvgPool2d, {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    "avg-ceil": (nn.AvgPool2d, {"kernel_size": 2, "ceil_mode": True, "divisor_override": 3}),
    "adaptive-avg": (nn.AdaptiveAvgPool2d, {"output_size": (3, 2)}),
    "adaptive-avg-all": (nn.AdaptiveAvgPool2d, {"output_size": 1}),
    "adaptive-max": (nn.AdaptiveMaxPool2d, {"output_size": (None, 2)}),
}


def build(name, rng, layout="NCHW"):
    kind, arguments = CASES[name]
    return kind(**arguments, layout=layout), rng.standard_normal((2, 3, 5, 7))


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("max")])
def test_max_pools_are_those_of_the_reference(name, rng):
    layer, x = build(name, rng)
    expected, _ = reference.max_pool2d(x, **CASES[name][1])
    np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("avg")])
def test_average_pools_are_those_of_the_reference(name, rng):
    layer, x = build(name, rng)
    np.testing.assert_allclose(layer(x), reference.avg_pool2d(x, **CASES[name][1]), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_numerical_ones(name, rng):
    layer, x = build(name, rng)
    grad_output = rng.standard_normal(layer(x).shape)
    gradient = layer.eval().backward(grad_output)
    expected = reference_layers.numerical_gradient(lambda x: float((layer(x) * grad_output).sum()), x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_pytorch(name, rng):
    torch = pytest.importorskip("torch")
    layer, x = build(name, rng)
    kind, arguments = CASES[name]
    x_torch = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn, kind.__name__)(**arguments)(x_torch)
    output = layer(x)
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=1e-13, atol=1e-14)
    grad_output = rng.standard_normal(output.shape)
    expected.backward(torch.tensor(grad_output))
    np.testing.assert_allclose(layer.backward(grad_output), x_torch.grad.numpy(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_the_layout_changes_only_the_axes(name, rng):
    first, x = build(name, rng)
    last, _ = build(name, rng, "NHWC")
    output = first(x)
    np.testing.assert_allclose(last(np.moveaxis(x, 1, 3)), np.moveaxis(output, 1, 3), rtol=1e-13)
    grad_output = rng.standard_normal(output.shape)
    np.testing.assert_allclose(
        last.backward(np.moveaxis(grad_output, 1, 3)),
        np.moveaxis(first.backward(grad_output), 1, 3),
        rtol=1e-13,
        atol=1e-14,
    )


@pytest.mark.parametrize("name", CASES)
def test_single_precision_and_single_images(name, rng):
    layer, x = build(name, rng)
    x = x[0].astype(np.float32)
    output = layer(x)
    assert output.dtype == layer.backward(output).dtype == np.float32
    assert output.ndim == 3
    assert layer.backward(output).shape == x.shape


def test_repr():
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=(2, 2), stride=(2, 2))"
    assert repr(nn.AvgPool2d(3, 2, 1, ceil_mode=True)) == (
        "AvgPool2d(kernel_size=(3, 3), stride=(2, 2), padding=((1, 1), (1, 1)), ceil_mode=True)"
    )
    assert repr(nn.AdaptiveAvgPool2d((None, 3))) == "AdaptiveAvgPool2d(output_size=(None, 3))"


@pytest.mark.parametrize(
    ("build_layer", "kind", "message"),
    [
        (lambda: nn.MaxPool2d(0), ValueError, r"^kernel_size: got 0, needs an integer of at least 1"),
        (lambda: nn.MaxPool2d(2, 0), ValueError, r"^stride: got 0, needs"),
        (
            lambda: nn.MaxPool2d(2, padding="same"),
            TypeError,
            r"^padding: got 'same', needs an integer, \(h, w\)",
        ),
        (lambda: nn.MaxPool2d(2, dilation=1.0), TypeError, r"^dilation: got 1\.0, needs"),
        (lambda: nn.MaxPool2d(2, ceil_mode=0), TypeError, r"^ceil_mode: got 0, needs True or False"),
        (
            lambda: nn.MaxPool2d(2, padding=2)(np.zeros((1, 4, 4))),
            ValueError,
            r"^padding: got 2, needs at most 1",
        ),
        (lambda: nn.AvgPool2d(2, layout="HWC"), ValueError, r"^layout: got 'HWC', needs 'NCHW' or 'NHWC'"),
        (lambda: nn.AvgPool2d(2, divisor_override=0.5), TypeError, r"^divisor_override: got 0\.5"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), ValueError, r"^divisor_override: got 0, needs an"),
        (lambda: nn.AvgPool2d(2, divisor_override=10**400), ValueError, r"^divisor_override: got 10+, needs"),
        (lambda: nn.AdaptiveAvgPool2d(0), ValueError, r"^output_size: got 0, needs"),
        (lambda: nn.AdaptiveMaxPool2d((None, "a")), TypeError, r"^output_size: got 'a', needs"),
        (
            lambda: nn.AdaptiveMaxPool2d(2)(np.zeros((4, 4))),
            ValueError,
            r"^x: got shape \(4, 4\), needs 3 or 4",
        ),
    ],
)
def test_bad_arguments_are_refused(build_layer, kind, message):
    with pytest.raises(kind, match=message):
        build_layer()
