"""One-dimensional convolution against the reference, numerical gradients and PyTorch."""

import re

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal

import fastconv as fc

ARGUMENTS = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": (2, 0), "dilation": 2},
    {"padding": "same", "stride": 3},
    {"padding": "same", "dilation": 3},
    {"padding": "valid", "groups": 2},
    {"padding": 2, "padding_mode": "reflect"},
    {"padding": (1, 3), "padding_mode": "circular", "stride": 2},
    {"padding": 3, "padding_mode": "replicate", "groups": 2},
]
every_argument = pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)


def two_dimensional(arguments):
    """The same for an image one pixel high."""
    result = dict(arguments)
    for name, usual in (("stride", 1), ("dilation", 1)):
        result[name] = (1, result.get(name, usual))
    padding = result.get("padding", 0)
    if isinstance(padding, int):
        padding = (padding, padding)
    if not isinstance(padding, str):
        result["padding"] = ((0, 0), padding)
    return result


def arrays(arguments, seed=7):
    rng = np.random.default_rng(seed)
    groups = arguments.get("groups", 1)
    x, weight, bias = (rng.integers(-6, 7, shape) for shape in ((2, 4, 19), (6, 4 // groups, 3), (6,)))
    expected = reference.conv2d(x[:, :, None], weight[:, :, None], bias, **two_dimensional(arguments))
    return x, weight, bias, expected[:, :, 0]


@every_argument
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_values_and_gradients(arguments, layout, dtype):
    x, weight, bias, expected = arrays(arguments)

    def laid(array):
        return np.swapaxes(array, 1, 2) if layout == "NLC" else array

    given = laid(x).astype(dtype), weight.astype(dtype)
    output = fc.conv1d(*given, bias.astype(dtype), **arguments, layout=layout)
    assert output.dtype == dtype
    assert_array_equal(laid(output), expected)
    clipped = fc.conv1d(*given, bias.astype(dtype), **arguments, layout=layout, activation="relu")
    assert_array_equal(laid(clipped), np.maximum(expected, 0))
    grad_output = np.random.default_rng(8).integers(-6, 7, expected.shape)
    gradients = fc.conv1d_backward(laid(grad_output).astype(dtype), *given, **arguments, layout=layout)
    expected_gradients = reference.conv2d_backward(
        grad_output[:, :, None], x[:, :, None], weight[:, :, None], **two_dimensional(arguments)
    )
    assert_array_equal(laid(gradients[0]), expected_gradients[0][:, :, 0])
    assert_array_equal(gradients[1], expected_gradients[1][:, :, 0])
    assert_array_equal(gradients[2], expected_gradients[2])


@every_argument
def test_gradients_are_the_numerical_ones(arguments, rng):
    x, weight, bias, expected = (array.astype(np.float64) for array in arrays(arguments))
    grad_output = rng.standard_normal(expected.shape)
    given = {"x": x, "weight": weight, "bias": bias}
    gradients = fc.conv1d_backward(grad_output, x, weight, **arguments)
    for name, gradient in zip(given, gradients, strict=True):
        numerical = reference.numerical_gradient(
            lambda array, name=name: fc.conv1d(**{**given, name: array}, **arguments),
            given[name],
            grad_output,
        )
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-6)


def test_unbatched_memory_orders_and_out(memory_order, dtype):
    x, weight, bias, _ = arrays({})
    x = memory_order(x.astype(dtype))
    expected = reference.conv2d(x[:, :, None], weight[:, :, None], bias)[:, :, 0]
    weight, bias = weight.astype(dtype), bias.astype(dtype)
    assert_array_equal(fc.conv1d(x[1], weight, bias), expected[1])
    out = np.empty(expected.shape, dtype)
    assert fc.conv1d(x, weight, bias, out=out) is out
    assert_array_equal(out, expected)
    strided = np.empty((*expected.shape, 2), dtype)[..., 0]
    assert fc.conv1d(x, weight, bias, out=strided) is strided
    assert_array_equal(strided, expected)


def test_only_what_is_needed():
    x, weight, _, expected = arrays({})
    for i, name in enumerate(("x", "weight", "bias")):
        gradients = fc.conv1d_backward(expected, x, weight, need=(name,))
        assert [gradient is None for gradient in gradients] == [j != i for j in range(3)]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("x", np.ones(4)),
        ("x", np.ones((2, 4, 5, 6))),
        ("x", None),
        ("weight", np.ones((6, 4))),
        ("weight", np.ones((6, 3, 3))),
        ("weight", np.ones((6, 4, 20))),
        ("bias", np.ones(5)),
        ("stride", (1, 1)),
        ("stride", 0),
        ("padding", (1, 1, 1)),
        ("padding", (1, -1)),
        ("padding", 1.5),
        ("padding", "reflect"),
        ("dilation", (1, 2)),
        ("groups", 3),
        ("padding_mode", "mirror"),
        ("layout", "NCHW"),
        ("algorithm", "fft"),
        ("activation", "tanh"),
        ("out", np.ones((2, 6, 1, 17))),
        ("out", np.ones((2, 6, 16))),
    ],
)
def test_bad_arguments_are_refused(name, bad):
    given = {"x": np.ones((2, 4, 19)), "weight": np.ones((6, 4, 3))} | {name: bad}
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: got .+, needs .+"):
        fc.conv1d(**given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": np.ones((2, 6, 16))}, r"out: got shape \(2, 6, 16\), needs shape \(2, 6, 17\)"),
        ({"out": [1.0]}, r"out: got list, needs an array of shape \(2, 6, 17\) and dtype float64"),
        ({"weight": np.ones((6, 3, 3))}, r"weight: got shape \(6, 3, 3\), needs 4 input channels \(axis 1\)"),
        ({"weight": np.ones((6, 4, 0))}, r"weight: got shape \(6, 4, 0\), needs a kernel of at least 1"),
        ({"bias": np.ones(5)}, r"bias: got shape \(5,\), needs shape \(6,\), one number for each"),
        ({"weight": np.ones((6, 4, 20))}, r"weight: got a kernel 20 wide .*, needs at most 19, the image"),
        (
            {"weight": np.ones((6, 4, 3, 2))},
            r"weight: got shape \(6, 4, 3, 2\), needs 3 axes: \(out_channels",
        ),
        ({"grad_output": np.ones((2, 1, 1, 2))}, r"grad_output: got shape \(2, 1, 1, 2\), needs 2 or 3 axes"),
        (
            {"grad_output": np.ones((2, 6, 18))},
            r"grad_output: got shape \(2, 6, 18\), needs shape \(2, 6, 17\)",
        ),
    ],
)
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_messages_know_of_one_dimension(layout, change, message):
    given = {"x": np.ones((2, 4, 19)), "weight": np.ones((6, 4, 3))} | change
    if layout == "NLC":
        for name, array in given.items():
            if name in ("x", "out", "grad_output") and np.ndim(array) == 3:
                given[name] = array.swapaxes(1, 2)
        message = re.sub(r"\(2, 6, (\d+)\\\)", r"(2, \1, 6\\)", message)
    with pytest.raises((ValueError, TypeError), match=f"^{message}") as caught:
        (fc.conv1d_backward if "grad_output" in change else fc.conv1d)(**given, layout=layout)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "arguments",
    [a for a in ARGUMENTS if "padding_mode" not in a and np.ndim(a.get("padding", 0)) == 0],
    ids=str,
)
def test_against_torch(arguments, dtype, rng):
    torch = pytest.importorskip("torch")
    if arguments.get("padding") == "same" and "stride" in arguments:
        arguments = {"padding": "same"}  # PyTorch refuses a stride with it
    x, weight, bias, _ = (array.astype(dtype) for array in arrays(arguments))
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
    expected = torch.nn.functional.conv1d(*tensors, **arguments)
    output = fc.conv1d(x, weight, bias, **arguments)
    grad_output = rng.integers(-6, 7, output.shape).astype(dtype)
    expected.backward(torch.from_numpy(grad_output))
    assert_array_equal(output, expected.detach())
    for gradient, tensor in zip(
        fc.conv1d_backward(grad_output, x, weight, **arguments), tensors, strict=True
    ):
        assert_array_equal(gradient, tensor.grad)
