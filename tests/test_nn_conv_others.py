"""`nn.Conv1d` and `nn.ConvTranspose2d`: forward, gradients and parameters as PyTorch's, bad arguments."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

LAYERS = [
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 11)),
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2, "bias": False}, (2, 4, 11)),
    ("ConvTranspose2d", (4, 6, (3, 2)), {"stride": 2, "padding": 1, "output_padding": (0, 1)}, (2, 4, 5, 6)),
    ("ConvTranspose2d", (4, 6, 3), {"groups": 2, "dilation": 2, "bias": False}, (2, 4, 5, 6)),
]
every_layer = pytest.mark.parametrize(("name", "sizes", "arguments", "x_shape"), LAYERS)


@every_layer
def test_forward_and_backward_are_those_of_the_functions(name, sizes, arguments, x_shape, rng):
    layer = getattr(nn, name)(*sizes, **arguments, dtype=np.float64, rng=rng)
    function = {"Conv1d": "conv1d", "ConvTranspose2d": "conv_transpose2d"}[name]
    others = {key: value for key, value in arguments.items() if key != "bias"}
    x = rng.standard_normal(x_shape)
    bias = None if layer.bias is None else layer.bias.data
    output = layer(x)
    np.testing.assert_array_equal(output, getattr(fc, function)(x, layer.weight.data, bias, **others))
    grad_output = rng.standard_normal(output.shape)
    expected = getattr(fc, f"{function}_backward")(grad_output, x, layer.weight.data, **others)
    np.testing.assert_array_equal(layer.backward(grad_output), expected[0])
    np.testing.assert_array_equal(layer.weight.grad, expected[1])
    if layer.bias is not None:
        np.testing.assert_array_equal(layer.bias.grad, expected[2])


@every_layer
def test_against_torch(name, sizes, arguments, x_shape, rng):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*sizes, **arguments, dtype=torch.float64)
    layer = getattr(nn, name)(*sizes, **arguments, dtype=np.float64)
    layer.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = rng.standard_normal(x_shape)
    np.testing.assert_allclose(layer(x), theirs(torch.from_numpy(x)).detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_multiply_adds_of_a_transposed_convolution(layout):
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, layout=layout)
    x = np.zeros((2, 4, 5, 7) if layout == "NCHW" else (2, 5, 7, 4))
    assert layer.multiply_adds(layer(x).shape) == 2 * 5 * 7 * layer.weight.data.size


@pytest.mark.parametrize(
    ("name", "argument", "bad"),
    [
        *(
            (layer, argument, 0)
            for layer in ("Conv1d", "ConvTranspose2d")
            for argument in ("in_channels", "stride")
        ),
        ("Conv1d", "groups", 4),
        ("Conv1d", "layout", "NCHW"),
        ("Conv1d", "kernel_size", (3, 3)),
        *(("Conv1d", "padding", bad) for bad in ("full", ((1, 1), (2, 2)), (1, 1, 1), (1, -1), 1.0)),
        ("ConvTranspose2d", "padding", "same"),
        ("ConvTranspose2d", "groups", 4),
        ("ConvTranspose2d", "output_padding", -1),
        ("ConvTranspose2d", "dtype", np.int32),
    ],
)
def test_bad_arguments_are_refused(name, argument, bad):
    given = {"in_channels": 4, "out_channels": 6, "kernel_size": 3} | {argument: bad}
    with pytest.raises((ValueError, TypeError), match=rf"^{argument}: got .+, needs .+"):
        getattr(nn, name)(**given)
