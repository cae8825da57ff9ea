"""The gradient of the weight by each of its kernels, whatever the plan chooses, against loops in float64."""

from typing import Any

import numpy as np
import pytest
from cases import ConvCase, around, assert_within, conv_arrays, conv_expected_gradients
from numpy.typing import NDArray

from fastconv import _plan
from fastconv._kernels import conv_direct, conv_rows, conv_winograd

KERNELS = {"direct": conv_direct, "rows": conv_rows, "winograd": conv_winograd}


def _cases() -> list[ConvCase]:
    """Rows that end anywhere in a vector, tiles that end anywhere; chunks, splits, groups."""
    widths = [
        ConvCase(f"width-{width}", (2, 2, 5, width), (5, 2, 3, 3), padding=1)
        for width in sorted({1, 2, 3, *around(4, 8, 16, 32), 41})
    ]
    planes = [ConvCase(f"planes-{k}", (2, 1, 6, 19), (k, 1, 2, 3)) for k in (*range(1, 10), 13, 17)]
    terms = [
        ConvCase(f"terms-{c}x{h}x{w}", (2, c, 9, 23), (3, c, h, w))
        for c in (1, 2, 3)
        for h, w in ((1, 1), (1, 2), (1, 3), (3, 1), (1, 5), (2, 3), (1, 7), (5, 5), (7, 7))
    ]
    others = [
        ConvCase("rows-apart", (2, 3, 13, 11), (4, 3, 3, 3), stride=(2, 1), padding=2, dilation=(2, 3)),
        ConvCase("groups", (3, 6, 9, 10), (9, 2, 3, 3), padding=1, groups=3),
        ConvCase("images-of-a-chunk", (41, 2, 7, 7), (6, 2, 5, 5), padding=2),
        ConvCase("rows-of-a-chunk", (1, 2, 67, 130), (6, 2, 3, 3), padding=1),
        ConvCase("pixels", (2, 5, 37, 41), (7, 5, 1, 1)),
    ]
    return widths + planes + terms + others


def gradient(name: str, case: ConvCase, arrays: tuple[NDArray[Any], ...], threads: int) -> NDArray[Any]:
    x, weight, _, grad_output = arrays
    result = np.full_like(weight, np.nan)
    KERNELS[name].grad_weight(case.geometry(), grad_output, x, result, threads)
    return result


@pytest.mark.parametrize("case", _cases(), ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_values(name: str, case: ConvCase, dtype: type[np.floating[Any]]) -> None:
    if not _plan.able(name, "grad_weight", case.geometry()):
        return
    arrays = conv_arrays(case, dtype)
    result = gradient(name, case, arrays, 1)
    expected = conv_expected_gradients(case, dtype)["weight"]
    assert_within(
        result, expected, case.tolerance(dtype, "winograd" if name == "winograd" else "direct", "weight")
    )
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(gradient(name, case, arrays, threads), result)


def with_bias(case: ConvCase, arrays: tuple[NDArray[Any], ...], threads: int) -> list[NDArray[Any]]:
    """The gradients of weight and bias that conv_rows sums up together."""
    x, weight, _, grad_output = arrays
    results = [np.full_like(weight, np.nan), np.full_like(weight[:, 0, 0, 0], np.nan)]
    conv_rows.grad_weight_and_bias(case.geometry(), grad_output, x, *results, threads)
    return results


@pytest.mark.parametrize("case", _cases(), ids=str)
def test_bias_along_with_the_weight(case: ConvCase, dtype: type[np.floating[Any]]) -> None:
    arrays = conv_arrays(case, dtype)
    weight, bias = with_bias(case, arrays, 1)
    np.testing.assert_array_equal(weight, gradient("rows", case, arrays, 1))
    assert_within(bias, conv_expected_gradients(case, dtype)["bias"], case.tolerance(dtype, "direct", "bias"))
    for threads in (2, 3, 7):
        for again, result in zip(with_bias(case, arrays, threads), (weight, bias), strict=True):
            np.testing.assert_array_equal(again, result)


def test_long_sums_of_a_bias_keep_their_bound(rng: np.random.Generator) -> None:
    """Numbers of one sign, half a million for each channel: partial sums keep the error small."""
    case = ConvCase("long", (9, 1, 241, 251), (3, 1, 2, 2))
    x, weight, bias, _ = conv_arrays(case, np.float32)
    grad_output = rng.uniform(1, 2, case.output_shape).astype(np.float32)
    result = with_bias(case, (x, weight, bias, grad_output), 2)[1]
    np.testing.assert_allclose(result, grad_output.sum((0, 2, 3), dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_channel_of_the_bias(
    value: float, dtype: type[np.floating[Any]]
) -> None:
    case = ConvCase("not-finite", (2, 2, 7, 19), (5, 2, 3, 3))
    x, weight, bias, grad_output = conv_arrays(case, dtype)
    grad_output = grad_output.copy()
    grad_output[1, 3, -1, -1] = value
    result = with_bias(case, (x, weight, bias, grad_output), 2)[1]
    np.testing.assert_array_equal(result[3], value)
    assert np.isfinite(np.delete(result, 3)).all()


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("name", ["direct", "rows"])
def test_what_is_not_finite_stays_in_its_window(
    name: str, value: float, dtype: type[np.floating[Any]]
) -> None:
    """The last column of x meets the last column of taps alone, not what follows a row of grad_output."""
    case = ConvCase("last-column", (1, 1, 6, 21), (2, 1, 3, 3))
    x, weight, bias, grad_output = conv_arrays(case, dtype)
    x = x.copy()
    x[..., -1] = value
    result = gradient(name, case, (x, weight, bias, grad_output), 1)
    assert np.isfinite(result[..., :2]).all()
    assert not np.isfinite(result[..., 2]).any()
