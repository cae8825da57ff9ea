"""conv_rows forward, whatever the plan would choose: strides along rows, whose columns are sorted first."""

import numpy as np
import pytest
from cases import ConvCase, assert_within, conv_arrays, conv_expected

from fastconv._kernels import conv_rows


def _cases() -> list[ConvCase]:
    widths = [
        ConvCase(f"width-{width}-stride-{stride}", (2, 3, 6, width), (5, 3, 3, 3), stride=stride, padding=1)
        for width in (1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 34, 63, 65, 67, 130)
        for stride in (1, 2, 3, 4)
    ]
    kernels = [
        ConvCase(
            f"kernel-{kernel}-stride-{stride}-dilation-{dilation}",
            (2, 2, 23, 25),
            (17, 2, *kernel),
            stride=stride,
            padding=2,
            dilation=dilation,
        )
        for kernel in ((1, 1), (1, 2), (2, 4), (5, 5), (1, 7))
        for stride in ((1, 2), (2, 1), (2, 2), (3, 5))
        for dilation in (1, (1, 2), (2, 3))
    ]
    others = [
        ConvCase("groups", (3, 6, 9, 20), (9, 2, 3, 3), stride=2, padding=1, groups=3),
        ConvCase("chunks", (2, 3, 131, 270), (16, 3, 3, 3), stride=2, padding=1),
        ConvCase("columns-fewer-than-the-stride", (1, 2, 5, 3), (4, 2, 2, 2), stride=5),
        ConvCase("wide-padding", (1, 2, 5, 9), (4, 2, 3, 3), stride=2, padding=((0, 9), (11, 3))),
    ]
    return widths + kernels + others


@pytest.mark.parametrize("case", _cases(), ids=str)
def test_forward(case: ConvCase, dtype: type[np.floating]) -> None:
    x, weight, bias, _ = conv_arrays(case, dtype)
    out = np.full(case.output_shape, np.nan, dtype)
    conv_rows.forward(case.geometry(), x, weight, bias, out, False, 1)
    assert_within(out, conv_expected(case, dtype), case.tolerance(dtype, "direct"))
    for threads in (2, 5):
        again = np.full_like(out, np.nan)
        conv_rows.forward(case.geometry(), x, weight, bias, again, False, threads)
        np.testing.assert_array_equal(again, out)
