"""The gradient of a strided input by each of its kernels, whatever the plan chooses, against a reference."""

from typing import Any

import numpy as np
import pytest
from cases import ConvCase, around, assert_within, conv_arrays, conv_expected_gradients
from numpy.typing import NDArray

from fastconv import _plan
from fastconv._kernels import conv_direct, conv_im2col, conv_rows, conv_winograd

KERNELS = {"direct": conv_direct, "rows": conv_rows, "im2col": conv_im2col, "winograd": conv_winograd}


def _cases() -> list[ConvCase]:
    """Phases that end anywhere in a vector, with taps and without; rows without; strips, chunks, groups."""
    phases = [
        ConvCase(f"stride-{stride}-{k}x{k}-width-{width}", (2, 3, 5, width), (4, 3, k, k), stride, k // 2)
        for stride in (2, 3, 4)
        for k in (1, 2, 3)
        for width in sorted({1, 2, *(stride * n + more for n in (8, 17) for more in (-1, 0, 1))})
        if width + k // 2 * 2 >= k
    ]
    strips = [
        ConvCase(f"channels-{c}", (2, c, 6, 19), (3, c, 3, 3), stride=2, padding=1)
        for c in sorted({1, 2, 3, *around(6, 8, 14, 16), 33})
    ]
    others = [
        ConvCase("one-long-row", (2, 3, 4, 6), (4, 3, 1, 1), stride=(1, 2)),
        ConvCase("two-columns-far-apart", (2, 3, 6, 2), (4, 3, 1, 1), stride=(2, 4)),
        ConvCase("zeros-behind-a-vector", (1, 3, 3, 33), (4, 3, 1, 1), stride=(1, 2), padding=(0, 1)),
        ConvCase("rows-apart", (2, 3, 13, 11), (4, 3, 3, 3), stride=(3, 1), padding=2, dilation=(2, 3)),
        ConvCase("columns-apart", (2, 3, 7, 23), (4, 3, 2, 3), stride=(1, 4), padding=2, dilation=(1, 2)),
        ConvCase("padding-on-one-side", (1, 2, 9, 14), (3, 2, 3, 3), stride=2, padding=((0, 1), (0, 1))),
        ConvCase("columns-that-no-window-sees", (1, 2, 10, 13), (3, 2, 3, 4), stride=3),
        ConvCase("groups", (3, 6, 9, 10), (9, 2, 3, 3), stride=2, padding=1, groups=3),
        ConvCase("images-of-a-chunk", (41, 2, 7, 7), (6, 2, 5, 5), stride=2, padding=2),
        ConvCase("rows-of-a-chunk", (1, 2, 131, 261), (6, 2, 3, 3), stride=2, padding=1),
    ]
    return phases + strips + others


def gradient(name: str, case: ConvCase, arrays: tuple[NDArray[Any], ...], threads: int) -> NDArray[Any]:
    x, weight, _, grad_output = arrays
    result = np.full_like(x, np.nan)
    KERNELS[name].grad_input(case.geometry(), grad_output, weight, result, threads)
    return result


RUNS = [
    (name, case) for case in _cases() for name in KERNELS if _plan.able(name, "grad_input", case.geometry())
]


@pytest.mark.parametrize(("name", "case"), RUNS, ids=str)
def test_values(name: str, case: ConvCase, dtype: type[np.floating[Any]]) -> None:
    arrays = conv_arrays(case, dtype)
    result = gradient(name, case, arrays, 1)
    expected = conv_expected_gradients(case, dtype)["x"]
    algorithm = "winograd" if name == "winograd" else "direct"
    assert_within(result, expected, case.tolerance(dtype, algorithm, "x"))
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(gradient(name, case, arrays, threads), result)
