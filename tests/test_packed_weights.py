"""Weights packed beforehand give the bits that they give when packed on the way."""

import numpy as np
import pytest
from cases import error_bound

from fastconv._kernels import (
    conv_direct,
    conv_im2col,
    conv_rows,
    conv_strassen,
    conv_strassen_columns,
    conv_winograd,
)
from fastconv._spec import conv_spec

PACKING = {
    "direct": conv_direct,
    "rows": conv_rows,
    "im2col": conv_im2col,
    "winograd": conv_winograd,
    "strassen": conv_strassen,
    "strassen_columns": conv_strassen_columns,
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("channels", [(1, 1), (5, 13), (16, 32), (7, 100)])
@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, layout) for name in PACKING for layout in ("NCHW", "NHWC") if (name, layout) != ("rows", "NHWC")],
)
def test_packed_weights_give_the_same_bits(name, channels, groups, layout, dtype, rng):
    kernels, packed = PACKING[name], None
    inputs, outputs = (groups * n for n in channels)
    if name.startswith("strassen"):  # no groups, even numbers
        inputs, outputs, groups = 2 * inputs, 2 * outputs, 1
    weight = rng.standard_normal((outputs, inputs // groups, 3, 3)).astype(dtype)
    bias = rng.standard_normal(outputs).astype(dtype)
    # 512 pixels, up to which im2col may read the weight where it lies, and more.
    for batch, height, width in [(1, 3, 3), (2, 9, 17), (1, 30, 4), (2, 8, 32), (1, 27, 19)]:
        shape = (batch, inputs, height, width) if layout == "NCHW" else (batch, height, width, inputs)
        x = rng.standard_normal(shape).astype(dtype)
        spec = conv_spec(x.shape, weight.shape, 1, 1, 1, groups, "zeros", layout)
        if packed is None:
            packed = kernels.pack_weight(spec.geometry, weight, 1)
            assert packed.ctypes.data % 64 == 0
        for threads in (1, 3):
            plain, got = np.empty(spec.out_shape, dtype), np.empty(spec.out_shape, dtype)
            kernels.forward(spec.geometry, x, weight, bias, plain, True, threads)
            kernels.forward_packed(spec.geometry, x, packed, bias, got, True, threads)
            np.testing.assert_array_equal(got, plain)


@pytest.mark.parametrize(
    ("name", "size", "image"), [*((name, 3, (5, 6)) for name in PACKING), ("im2col", 1, (20, 26))]
)
def test_packed_weights_of_several_passes(name, size, image, rng):
    """More than what is packed at a time without packing before; 4.2 MB where im2col packs for 520 pixels."""
    weight = rng.standard_normal((600 if size == 3 else 1050, 1000, size, size)).astype(np.float32)
    x = rng.standard_normal((1, 1000, *image)).astype(np.float32)
    spec = conv_spec(x.shape, weight.shape, 1, 0, 1, 1, "zeros", "NCHW")
    outputs = []
    for threads in (1, 2):
        plain, got = (np.empty(spec.out_shape, np.float32) for _ in range(2))
        PACKING[name].forward(spec.geometry, x, weight, None, plain, False, threads)
        packed = PACKING[name].pack_weight(spec.geometry, weight, threads)
        PACKING[name].forward_packed(spec.geometry, x, packed, None, got, False, threads)
        np.testing.assert_array_equal(got, plain)
        outputs.append(got)
    np.testing.assert_array_equal(*outputs)
    wanted = np.einsum("ckij,kij->c", weight, x[0, :, :size, :size], dtype=np.float64)
    bound = error_bound(np.float32, weight[0].size, "auto") * np.abs(outputs[0]).max()
    assert np.abs(outputs[0][0, :, 0, 0] - wanted).max() <= bound
