"""Transposed convolution and its gradients against the reference, numerical gradients and PyTorch."""

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import reference
from cases import assert_within, error_bound, to_nchw, to_nhwc
from numpy.testing import assert_array_equal

import fastconv as fc


@dataclass(frozen=True)
class Case:
    name: str
    x_shape: tuple[int, int, int, int]
    weight_shape: tuple[int, int, int, int]
    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    groups: int = 1
    dilation: Any = 1

    def __str__(self) -> str:
        return self.name

    @property
    def arguments(self) -> dict[str, Any]:
        names = ("stride", "padding", "output_padding", "groups", "dilation")
        return {name: getattr(self, name) for name in names}


CASES = [
    Case("plain", (2, 3, 5, 6), (3, 4, 3, 3)),
    Case("one-pixel", (1, 1, 1, 1), (1, 1, 1, 1)),
    Case("padded", (2, 3, 5, 6), (3, 4, 3, 2), padding=(2, 1)),
    Case("cropped-unevenly", (2, 3, 5, 6), (3, 4, 3, 3), stride=2, padding=((1, 0), (0, 2))),
    Case("upsampling", (2, 8, 7, 7), (8, 5, 4, 4), stride=2, padding=1),
    Case("output-padding", (2, 3, 5, 4), (3, 4, 3, 3), stride=(2, 3), padding=1, output_padding=(1, 2)),
    Case("gaps", (1, 3, 4, 5), (3, 2, 1, 2), stride=3, output_padding=2),
    Case("dilated", (2, 3, 5, 4), (3, 4, 3, 2), dilation=(2, 3)),
    Case("dilated-output-padding", (1, 2, 4, 3), (2, 3, 2, 2), dilation=3, output_padding=(2, 1)),
    Case("strided-dilated", (1, 2, 4, 3), (2, 3, 3, 2), stride=2, dilation=3, output_padding=2, padding=1),
    Case("groups", (2, 6, 5, 4), (6, 2, 3, 3), stride=2, padding=1, groups=3),
    Case("depthwise", (2, 17, 5, 4), (17, 1, 3, 3), stride=2, padding=1, output_padding=1, groups=17),
    Case("tiles", (1, 33, 3, 17), (33, 31, 3, 3), padding=1),
    Case("work", (3, 24, 17, 15), (24, 33, 4, 4), stride=2, padding=1),
    Case("no-images", (0, 3, 5, 4), (3, 4, 3, 3)),
    Case("no-channels", (2, 0, 5, 4), (0, 4, 3, 3)),
    Case("no-filters", (2, 3, 5, 4), (3, 0, 3, 3)),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
layouts = pytest.mark.parametrize("layout", ["NCHW", "NHWC"])


def in_layout(array: np.ndarray, layout: str) -> np.ndarray:
    return to_nhwc(array) if layout == "NHWC" else array


def from_layout(array: np.ndarray, layout: str) -> np.ndarray:
    return to_nchw(array) if layout == "NHWC" else array


@cache
def whole_numbers(case: Case) -> tuple[np.ndarray, ...]:
    """x, weight, bias and the reference's result: whole numbers, so that every sum is exact."""
    rng = np.random.default_rng(crc32(case.name.encode()))
    channels = case.weight_shape[1] * case.groups
    x, weight, bias = (rng.integers(-5, 6, shape) for shape in (case.x_shape, case.weight_shape, (channels,)))
    return x, weight, bias, reference.conv_transpose2d(x, weight, bias, **case.arguments)


@every_case
@layouts
def test_values(case, layout, dtype):
    x, weight, bias, expected = whole_numbers(case)
    given = (in_layout(x, layout).astype(dtype), weight.astype(dtype))
    output = fc.conv_transpose2d(*given, bias.astype(dtype), **case.arguments, layout=layout)
    assert output.dtype == dtype
    bound = error_bound(dtype, case.weight_shape[0] // case.groups * prod(case.weight_shape[2:]), "auto")
    assert_within(from_layout(output, layout), expected, bound)
    without = fc.conv_transpose2d(*given, **case.arguments, layout=layout)
    assert_within(from_layout(without, layout), expected - bias[:, None, None], bound)


@every_case
@layouts
def test_gradients(case, layout, dtype):
    x, weight, _, expected = whole_numbers(case)
    grad_output = np.random.default_rng(3).integers(-5, 6, expected.shape)
    grad_x, grad_weight, grad_bias = fc.conv_transpose2d_backward(
        in_layout(grad_output, layout).astype(dtype),
        in_layout(x, layout).astype(dtype),
        weight.astype(dtype),
        **case.arguments,
        layout=layout,
    )
    expected_x, expected_weight, expected_bias = reference.conv_transpose2d_backward(
        grad_output, x, weight, **case.arguments
    )
    assert grad_x.dtype == grad_weight.dtype == grad_bias.dtype == dtype
    assert_within(
        from_layout(grad_x, layout), expected_x, error_bound(dtype, prod(case.weight_shape[1:]), "auto")
    )
    assert_within(
        grad_weight, expected_weight, error_bound(dtype, case.x_shape[0] * prod(case.x_shape[2:]), "auto")
    )
    assert_array_equal(grad_bias, expected_bias)


@pytest.mark.parametrize("case", [case for case in CASES if 0 < np.prod(case.x_shape) < 130], ids=str)
def test_gradients_are_the_numerical_ones(case, rng):
    given = {
        "x": rng.standard_normal(case.x_shape),
        "weight": rng.standard_normal(case.weight_shape),
        "bias": rng.standard_normal(case.weight_shape[1] * case.groups),
    }
    grad_output = rng.standard_normal(whole_numbers(case)[3].shape)
    gradients = fc.conv_transpose2d_backward(grad_output, given["x"], given["weight"], **case.arguments)
    for name, gradient in zip(given, gradients, strict=True):
        expected = reference.numerical_gradient(
            lambda array, name=name: fc.conv_transpose2d(**{**given, name: array}, **case.arguments),
            given[name],
            grad_output,
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


# Those whose padding of the output a convolution's windows don't reach.
OF_A_CONVOLUTION = [
    case
    for case in CASES
    if all(np.less(reference.pair(case.output_padding), reference.pair(case.stride)))
    and not case.name.startswith("no-")
]


@pytest.mark.parametrize("case", OF_A_CONVOLUTION, ids=str)
def test_it_is_the_gradient_of_a_convolution(case, dtype):
    x, weight, _, expected = whole_numbers(case)
    arguments = {name: value for name, value in case.arguments.items() if name != "output_padding"}
    grad_x = fc.conv2d_backward(x, np.zeros(expected.shape), weight, need=("x",), **arguments)[0]
    assert_array_equal(fc.conv_transpose2d(x, weight, **case.arguments), grad_x)


def test_unbatched_mixed_dtypes_and_memory_orders(memory_order):
    x, weight, bias, expected = whole_numbers(CASES[5])
    arguments = CASES[5].arguments
    given = [memory_order(array.astype(np.float32)) for array in (x, weight)]
    expected = reference.conv_transpose2d(*given, bias, **arguments)
    output = fc.conv_transpose2d(*given, bias, **arguments)
    assert output.dtype == np.float64
    assert_array_equal(output, expected)
    assert_array_equal(fc.conv_transpose2d(given[0][1], given[1], bias, **arguments), expected[1])
    half = fc.conv_transpose2d(x.astype(np.float16), weight.astype(np.float16), **arguments)
    assert half.dtype == np.float16


@pytest.mark.parametrize("name", ["upsampling", "work", "depthwise"])
def test_same_bits_on_any_number_of_threads(name, dtype, rng):
    case = next(case for case in CASES if case.name == name)
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (case.x_shape, case.weight_shape))
    grad_output = rng.standard_normal(whole_numbers(case)[3].shape).astype(dtype)
    results = []
    for threads in (1, 2, 3, 5):
        with fc.num_threads(threads):
            output = fc.conv_transpose2d(x, weight, **case.arguments)
            gradients = fc.conv_transpose2d_backward(grad_output, x, weight, **case.arguments)
        results.append([array.tobytes() for array in (output, *gradients)])
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("x", np.ones((5, 4))),
        ("x", np.ones((2, 3, 0, 4))),
        ("x", np.ones((2, 3, 5, 4), complex)),
        ("weight", np.ones((4, 4, 3, 3))),
        ("weight", np.ones((3, 4, 3))),
        ("weight", np.ones((3, 4, 0, 3))),
        ("bias", np.ones(3)),
        ("stride", 0),
        ("stride", 1.0),
        ("padding", "same"),
        ("padding", -1),
        ("padding", 5),
        ("output_padding", 2),
        ("output_padding", -1),
        ("groups", 2),
        ("groups", True),
        ("dilation", 0),
        ("layout", "NCWH"),
    ],
)
def test_bad_arguments_are_refused(name, bad):
    given = {"x": np.ones((2, 3, 5, 4)), "weight": np.ones((3, 4, 3, 3)), "stride": 2} | {name: bad}
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: got .+, needs .+"):
        fc.conv_transpose2d(**given)
    if name != "bias":
        with pytest.raises((ValueError, TypeError), match=rf"^{name}: got .+, needs .+"):
            fc.conv_transpose2d_backward(np.ones((2, 4, 11, 9)), **given)


def test_bad_gradients_are_refused():
    x, weight = np.ones((2, 3, 5, 4)), np.ones((3, 4, 3, 3))
    with pytest.raises(ValueError, match=r"^grad_output: got shape .*, needs shape \(2, 4, 7, 6\)"):
        fc.conv_transpose2d_backward(np.ones((2, 4, 7, 7)), x, weight)
    with pytest.raises(ValueError, match=r"^need: got "):
        fc.conv_transpose2d_backward(np.ones((2, 4, 7, 6)), x, weight, need=("input",))
    with pytest.raises(MemoryError):
        fc.conv_transpose2d(np.ones((1, 3, 2, 2)), weight, stride=2**30)
    with pytest.raises(
        MemoryError, match=r"^stride: a result of 1073741827 x 1073741827 pixels with its padding"
    ):
        fc.conv_transpose2d(np.ones((1, 3, 2, 2)), weight, stride=2**30, padding=2**29)


TORCH_CASES = [
    case for case in CASES if np.ndim(case.padding) < 2 and 0 not in case.x_shape + case.weight_shape
]


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_against_torch(case, dtype, rng):
    torch = pytest.importorskip("torch")
    shapes = (case.x_shape, case.weight_shape, (case.weight_shape[1] * case.groups,))
    given = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    tensors = [torch.from_numpy(array).requires_grad_() for array in given]
    expected = torch.nn.functional.conv_transpose2d(*tensors, **case.arguments)
    output = fc.conv_transpose2d(*given, **case.arguments)
    grad_output = rng.standard_normal(output.shape).astype(dtype)
    expected.backward(torch.from_numpy(grad_output))
    gradients = fc.conv_transpose2d_backward(grad_output, *given[:2], **case.arguments)
    for actual, tensor in zip(
        (output, *gradients), (expected.detach(), *(t.grad for t in tensors)), strict=True
    ):
        bound = 64 * np.finfo(dtype).eps * max(1, float(tensor.abs().max()))
        np.testing.assert_allclose(actual, tensor, rtol=0, atol=bound)
