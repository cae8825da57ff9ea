"""Convolution as a layer: its arguments, gradients, and PyTorch's layer beside it."""

import numpy as np
import pytest
import reference
import reference_layers

from fastconv import nn

# (arguments, size of the image)
CASES = {
    "plain": ({"kernel_size": 3}, (5, 6)),
    "strided": ({"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}, (7, 5)),
    "dilated": ({"kernel_size": 2, "dilation": (1, 2), "padding": 1}, (4, 5)),
    "grouped": ({"kernel_size": 3, "groups": 2, "padding": 1, "bias": False}, (4, 4)),
    "same": ({"kernel_size": (4, 3), "padding": "same"}, (5, 5)),
    "reflect": ({"kernel_size": 3, "padding": 2, "padding_mode": "reflect"}, (4, 5)),
    "circular": ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, (4, 5)),
    "replicate": ({"kernel_size": 3, "padding": 1, "padding_mode": "replicate"}, (3, 5)),
}


def build(name, rng, **more):
    arguments, size = CASES[name]
    layer = nn.Conv2d(4, 6, **arguments, dtype=np.float64, rng=rng, **more)
    return layer, rng.standard_normal((2, 4, *size))


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_reference(name, rng):
    layer, x = build(name, rng)
    arguments = {key: value for key, value in CASES[name][0].items() if key not in ("kernel_size", "bias")}
    bias = None if layer.bias is None else layer.bias.data
    expected = reference.conv2d(x, layer.weight.data, bias, **arguments)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12, atol=1e-13)
    assert layer.multiply_adds(expected.shape) == expected.size * layer.weight.data[0].size


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["strided", "grouped"])
def test_gradients_are_the_numerical_ones(name, training, rng):
    layer, x = build(name, rng)
    layer.train(training)
    grad_output = rng.standard_normal(layer(x).shape)
    gradient = layer.backward(grad_output)

    def loss(x):
        return float((layer(x) * grad_output).sum())

    expected = reference_layers.numerical_gradient(loss, x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)
    for parameter in layer.parameters():
        value = parameter.data.copy()

        def loss_by(data, parameter=parameter):
            parameter.data = data
            return loss(x)

        expected = reference_layers.numerical_gradient(loss_by, value)
        np.testing.assert_allclose(parameter.grad, expected, rtol=1e-6, atol=1e-8)
        parameter.data = value


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_pytorch(name, rng):
    torch = pytest.importorskip("torch")
    layer, x = build(name, rng)
    theirs = torch.nn.Conv2d(4, 6, **CASES[name][0]).double()
    state = layer.state_dict()
    assert {key: array.shape for key, array in state.items()} == {
        key: tuple(tensor.shape) for key, tensor in theirs.state_dict().items()
    }
    theirs.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    x_torch = torch.tensor(x, requires_grad=True)
    expected = theirs(x_torch)
    output = layer(x)
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    grad_output = rng.standard_normal(output.shape)
    expected.backward(torch.tensor(grad_output))
    np.testing.assert_allclose(layer.backward(grad_output), x_torch.grad.numpy(), rtol=1e-11, atol=1e-12)
    for key, parameter in layer.named_parameters():
        np.testing.assert_allclose(parameter.grad, getattr(theirs, key).grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_layout_changes_only_the_axes(name, rng):
    layer, x = build(name, rng)
    last = nn.Conv2d(4, 6, **CASES[name][0], layout="NHWC", dtype=np.float64)
    last.load_state_dict(layer.state_dict())
    output, grad_output = layer(x), rng.standard_normal(layer(x).shape)
    np.testing.assert_allclose(last(np.moveaxis(x, 1, 3)), np.moveaxis(output, 1, 3), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
        last.backward(np.moveaxis(grad_output, 1, 3)),
        np.moveaxis(layer.backward(grad_output), 1, 3),
        rtol=1e-11,
        atol=1e-12,
    )
    np.testing.assert_allclose(last.weight.grad, layer.weight.grad, rtol=1e-11, atol=1e-12)


def test_single_precision_stays(rng):
    layer = nn.Conv2d(3, 4, 3, rng=rng)
    x = rng.standard_normal((2, 3, 5, 5)).astype(np.float32)
    assert layer(x).dtype == layer.backward(layer(x)).dtype == layer.weight.grad.dtype == np.float32
    assert layer(x[0]).shape == (4, 3, 3)
    assert layer.backward(layer(x[0])).shape == x[0].shape


def test_first_values_are_distributed_as_in_pytorch():
    layer = nn.Conv2d(32, 64, 5, groups=2, rng=np.random.default_rng(1))
    bound = (16 * 25) ** -0.5
    for parameter in layer.parameters():
        assert np.abs(parameter.data).max() <= bound * (1 + 1e-6)
    assert layer.weight.data.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    again = nn.Conv2d(32, 64, 5, groups=2, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again.weight.data, layer.weight.data)


def test_repr():
    assert repr(nn.Conv2d(3, 4, 3)) == "Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))"
    layer = nn.Conv2d(4, 4, (1, 2), 2, 1, groups=2, bias=False, layout="NHWC")
    assert repr(layer) == (
        "Conv2d(4, 4, kernel_size=(1, 2), stride=(2, 2), padding=((1, 1), (1, 1)), groups=2, "
        "layout='NHWC', bias=False)"
    )


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"in_channels": 0}, ValueError, r"^in_channels: got 0, needs an integer of at least 1"),
        ({"out_channels": 2.0}, TypeError, r"^out_channels: got 2\.0, needs an integer"),
        ({"kernel_size": 0}, ValueError, r"^kernel_size: got 0, needs an integer of at least 1"),
        ({"kernel_size": (1, 2, 3)}, ValueError, r"^kernel_size: got \(1, 2, 3\), needs"),
        ({"stride": (1, 0)}, ValueError, r"^stride: got 0, needs"),
        ({"padding": -1}, ValueError, r"^padding: got -1, needs"),
        ({"padding": "full"}, ValueError, r"^padding: got 'full', needs 'same' or 'valid'"),
        ({"dilation": True}, TypeError, r"^dilation: got True, needs"),
        ({"groups": 3}, ValueError, r"^groups: got 3, needs a divisor of in_channels = 4"),
        ({"groups": 4}, ValueError, r"^groups: got 4, needs a divisor of out_channels = 6"),
        ({"padding_mode": "edge"}, ValueError, r"^padding_mode: got 'edge', needs 'zeros' or"),
        ({"layout": "HWC"}, ValueError, r"^layout: got 'HWC', needs 'NCHW' or 'NHWC'"),
        ({"dtype": "i4"}, TypeError, r"^dtype: got 'i4', needs float16"),
        ({"rng": 3}, TypeError, r"^rng: got int, needs a numpy"),
    ],
)
def test_bad_arguments_are_refused(change, kind, message):
    with pytest.raises(kind, match=message):
        nn.Conv2d(**({"in_channels": 4, "out_channels": 6, "kernel_size": 3} | change))


def test_a_failed_image_leaves_the_layer_as_it_was(rng):
    layer = nn.Conv2d(3, 4, 3, rng=rng)
    layer(np.ones((1, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"^weight: got shape "):
        layer(np.ones((1, 2, 4, 4), np.float32))
    with pytest.raises(RuntimeError, match="got no forward before it"):
        layer.backward(np.ones((1, 4, 2, 2), np.float32))
    np.testing.assert_array_equal(layer.weight.grad, 0)
