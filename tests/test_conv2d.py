"""`conv2d` against the float64 reference: every case, algorithm, dtype, layout and order in memory."""

from itertools import product

import numpy as np
import pytest
import reference
from cases import (
    ALGORITHMS,
    CONV_CASES,
    PLAIN_ALGORITHMS,
    SOME_CONV_CASES,
    ConvCase,
    assert_within,
    conv_arrays,
    conv_expected,
    error_bound,
    runs,
    to_nchw,
    to_nhwc,
)
from memory_orders import HAS_FORBIDDEN_PAGES, MEMORY_ORDERS, between_forbidden_pages
from numpy.testing import assert_array_equal

import fastconv as fc

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_run = pytest.mark.parametrize(("algorithm", "case"), runs(CONV_CASES), ids=str)
some_runs = pytest.mark.parametrize(("algorithm", "case"), runs(SOME_CONV_CASES), ids=str)
some_plain_runs = pytest.mark.parametrize(
    ("algorithm", "case"), [run for run in runs(SOME_CONV_CASES) if run[0] in PLAIN_ALGORITHMS], ids=str
)
# "auto" takes one of the others.
every_named_run = pytest.mark.parametrize(
    ("algorithm", "case"), [run for run in runs(CONV_CASES) if run[0] != "auto"], ids=str
)


def whole_numbers(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Whole numbers from -6 to 6: the sums of their products are exact in float32."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-6, 7, shape) for shape in shapes]


# ---- values ----


@every_named_run
def test_matches_reference(algorithm, case: ConvCase, dtype):
    x, weight, bias, _ = conv_arrays(case, dtype)
    output = fc.conv2d(x, weight, bias, algorithm=algorithm, **case.arguments)
    assert output.dtype == dtype
    assert_within(output, conv_expected(case, dtype), case.tolerance(dtype, algorithm))


@every_named_run
def test_nhwc_matches_reference(algorithm, case: ConvCase):
    x, weight, bias, _ = conv_arrays(case, np.float32)
    output = fc.conv2d(to_nhwc(x), weight, bias, layout="NHWC", algorithm=algorithm, **case.arguments)
    assert_within(to_nchw(output), conv_expected(case, np.float32), case.tolerance(np.float32, algorithm))


@some_runs
def test_without_bias(algorithm, case: ConvCase, dtype):
    x, weight, _, _ = conv_arrays(case, dtype)
    expected = reference.conv2d(x, weight, **case.arguments)
    output = fc.conv2d(x, weight, algorithm=algorithm, **case.arguments)
    assert_within(output, expected, case.tolerance(dtype, algorithm))


@some_runs
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_unbatched(algorithm, case: ConvCase, layout):
    x, weight, bias, _ = conv_arrays(case, np.float32)
    image = to_nhwc(x[0]) if layout == "NHWC" else x[0]
    output = fc.conv2d(image, weight, bias, layout=layout, algorithm=algorithm, **case.arguments)
    output = to_nchw(output) if layout == "NHWC" else output
    assert_within(output, conv_expected(case, np.float32)[0], case.tolerance(np.float32, algorithm))


@some_runs
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_relu_is_fused(algorithm, case: ConvCase, layout, dtype):
    x, weight, bias, _ = conv_arrays(case, dtype)
    arguments = {"algorithm": algorithm, "layout": layout, **case.arguments}
    x = to_nhwc(x) if layout == "NHWC" else x
    plain = fc.conv2d(x, weight, bias, **arguments)
    assert_array_equal(fc.conv2d(x, weight, bias, activation="relu", **arguments), np.maximum(plain, 0))
    assert (plain < 0).any()


@every_algorithm
def test_relu_keeps_nan(algorithm):
    x = np.full((1, 2, 5, 5), np.nan, np.float32)
    output = fc.conv2d(x, np.ones((4, 2, 3, 3), np.float32), activation="relu", algorithm=algorithm)
    assert np.isnan(output).all()


@some_plain_runs
def test_nan_reaches_only_the_windows_that_see_it(algorithm, case: ConvCase, dtype):
    x, weight, bias, _ = conv_arrays(case, dtype)
    x = x.copy()
    x[0, 0, x.shape[2] // 2, x.shape[3] // 2] = np.nan
    expected = reference.conv2d(x, weight, bias, **case.arguments)
    assert 0 < np.isnan(expected).sum() < expected.size
    output = fc.conv2d(x, weight, bias, algorithm=algorithm, **case.arguments)
    assert_array_equal(np.isnan(output), np.isnan(expected))


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "strassen"])
def test_no_channels_give_the_bias(algorithm, dtype):
    x, weight, bias = np.zeros((2, 0, 6, 5), dtype), np.zeros((3, 0, 3, 3), dtype), np.arange(3, dtype=dtype)
    output = fc.conv2d(x, weight, bias, algorithm=algorithm)
    assert_array_equal(output, np.broadcast_to(bias[:, None, None], (2, 3, 4, 3)))


# ---- padding ----


@pytest.mark.parametrize(
    "padding", [0, 2, (1, 2), (0, 3), ((1, 2), (0, 3)), [[2, 0], [1, 1]], "same", "valid"]
)
@pytest.mark.parametrize(
    ("algorithm", "kernel", "stride", "dilation"),
    [
        *((algorithm, (3, 3), 1, 1) for algorithm in ALGORITHMS),
        *((algorithm, (2, 4), (2, 3), 1) for algorithm in PLAIN_ALGORITHMS),
        *((algorithm, (3, 2), 1, 2) for algorithm in PLAIN_ALGORITHMS),
    ],
)
def test_forms_of_padding(padding, algorithm, kernel, stride, dilation):
    x, weight = whole_numbers(1, (2, 4, 8, 9), (4, 4, *kernel))
    arguments = {"stride": stride, "padding": padding, "dilation": dilation}
    expected = reference.conv2d(x, weight, **arguments)
    output = fc.conv2d(x.astype(np.float32), weight.astype(np.float32), algorithm=algorithm, **arguments)
    assert_within(output, expected, error_bound(np.float32, weight[0].size, algorithm))


@every_algorithm
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 3), ((1, 2), (0, 3)), "same", "valid"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_padding_modes(mode, padding, layout, algorithm):
    groups = 1 if algorithm == "strassen" else 2
    x, weight = whole_numbers(2, (2, 4, 5, 6), (4, 4 // groups, 3, 3))
    arguments = {"padding": padding, "groups": groups, "padding_mode": mode}
    expected = reference.conv2d(x, weight, **arguments)
    image = (to_nhwc(x) if layout == "NHWC" else x).astype(np.float32)
    output = fc.conv2d(image, weight.astype(np.float32), layout=layout, algorithm=algorithm, **arguments)
    output = to_nchw(output) if layout == "NHWC" else output
    assert_within(output, expected, error_bound(np.float32, weight[0].size, algorithm))


# ---- dtypes and memory ----


@pytest.mark.parametrize(
    ("x_dtype", "weight_dtype", "result"),
    [
        (np.float32, np.float32, np.float32),
        (np.float64, np.float64, np.float64),
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
        (np.float16, np.float16, np.float16),
        (np.float16, np.float32, np.float32),
        (np.int8, np.float32, np.float32),
        (np.int16, np.int8, np.float32),
        (np.int32, np.int32, np.float64),
        (np.int64, np.int64, np.float64),
        (">f4", "<f4", np.float32),
        (">f8", ">f4", np.float64),
        (">i4", ">f2", np.float64),
    ],
)
@pytest.mark.parametrize("algorithm", PLAIN_ALGORITHMS)
def test_dtypes(x_dtype, weight_dtype, result, algorithm):
    x, weight = whole_numbers(3, (2, 3, 7, 6), (4, 3, 3, 2))
    expected = reference.conv2d(x, weight, stride=2)
    output = fc.conv2d(x.astype(x_dtype), weight.astype(weight_dtype), stride=2, algorithm=algorithm)
    assert output.dtype == result
    assert_array_equal(output, expected.astype(result))


@pytest.mark.parametrize("algorithm", PLAIN_ALGORITHMS)
def test_bool_and_unsigned(algorithm):
    x = np.arange(72).reshape(1, 2, 6, 6) % 3 == 0
    weight = np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3)
    output = fc.conv2d(x, weight, algorithm=algorithm)
    assert output.dtype == np.float32
    assert_array_equal(output, reference.conv2d(x, weight))


@pytest.mark.parametrize("algorithm", PLAIN_ALGORITHMS)
def test_integers_are_exact_below_2_to_53(algorithm):
    x = np.array([[[[2**52, 1, 1]]]])
    assert_array_equal(fc.conv2d(x, np.ones((1, 1, 1, 2), int), algorithm=algorithm), [[[[2**52 + 1, 2]]]])


@pytest.mark.parametrize("dtypes", [(np.uint8, np.int8), (np.int32, np.int32), (np.uint8, np.int64)], ids=str)
@pytest.mark.parametrize(("channels", "size", "kernel"), [(64, 32, 3), (256, 48, 1)])
def test_auto_is_exact_with_integers(channels, size, kernel, dtypes, rng):
    """What "auto" takes for floating-point numbers and 3x3 has sums of fractions in between."""
    x_shape, weight_shape = (1, channels, size, size), (64, channels, kernel, kernel)
    assert kernel == 1 or fc.conv2d_algorithm(x_shape, weight_shape) == "winograd"
    x, weight = (
        rng.integers(0, 100, x_shape).astype(dtypes[0]),
        rng.integers(-9, 10, weight_shape).astype(dtypes[1]),
    )
    expected = reference.conv2d(x, weight)
    assert_array_equal(fc.conv2d(x, weight), expected)
    grad_output = rng.integers(-9, 10, expected.shape).astype(dtypes[1])
    expected_grads = reference.conv2d_backward(grad_output, x, weight)
    for gradient, correct in zip(fc.conv2d_backward(grad_output, x, weight), expected_grads, strict=True):
        assert_array_equal(gradient, correct)
    turned = np.swapaxes(weight, 0, 1)
    assert_array_equal(fc.conv_transpose2d(grad_output, weight), expected_grads[0])
    assert_array_equal(fc.conv_transpose2d_backward(x, grad_output, weight)[0], expected)
    assert_array_equal(fc.conv_transpose2d_backward(x, grad_output, weight)[1], expected_grads[1])
    assert_array_equal(
        fc.conv_transpose2d(x, turned, padding=kernel - 1), reference.conv2d(x, weight[..., ::-1, ::-1])
    )


@pytest.mark.parametrize("algorithm", PLAIN_ALGORITHMS)
def test_lists_are_arrays(algorithm):
    output = fc.conv2d([[[1, 2], [3, 4]]], [[[[1, 1]]]], [10], algorithm=algorithm)
    assert_array_equal(output, [[[13], [17]]])


@some_plain_runs
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_memory_orders(algorithm, case: ConvCase, memory_order, layout, dtype):
    shapes = (case.x_shape, case.weight_shape, case.weight_shape[:1])
    x, weight, bias = (memory_order(array.astype(dtype)) for array in whole_numbers(4, *shapes))
    copies = [array.copy() for array in (x, weight, bias)]
    expected = reference.conv2d(x, weight, bias, **case.arguments)
    arguments = {"algorithm": algorithm, "layout": layout, **case.arguments}
    output = fc.conv2d(np.moveaxis(x, 1, -1) if layout == "NHWC" else x, weight, bias, **arguments)
    assert_array_equal(np.moveaxis(output, -1, 1) if layout == "NHWC" else output, expected)
    for array, copy in zip((x, weight, bias), copies, strict=True):
        assert_array_equal(array, copy)


@some_runs
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_out_receives_the_result(algorithm, case: ConvCase, layout, dtype):
    x, weight, bias, _ = conv_arrays(case, dtype)
    x = to_nhwc(x) if layout == "NHWC" else x
    arguments = {"algorithm": algorithm, "layout": layout, **case.arguments}
    expected = fc.conv2d(x, weight, bias, **arguments)
    out = np.full(expected.shape, np.nan, dtype)
    assert fc.conv2d(x, weight, bias, out=out, **arguments) is out
    assert_array_equal(out, expected)


@pytest.mark.parametrize(
    "order", ["Fortran", "axes-moved", "every-other", "window", "reversed", "unaligned", "byte-swapped"]
)
@pytest.mark.parametrize("case", SOME_CONV_CASES, ids=str)
def test_out_may_be_strided(case: ConvCase, order, dtype):
    x, weight, bias, _ = conv_arrays(case, dtype)
    expected = fc.conv2d(x, weight, bias, **case.arguments)
    out = MEMORY_ORDERS[order](np.full(expected.shape, np.nan, dtype))
    assert fc.conv2d(x, weight, bias, out=out, **case.arguments) is out
    assert_array_equal(out, expected)


def test_out_writes_nothing_around_it(dtype):
    x, weight = (array.astype(dtype) for array in whole_numbers(5, (1, 3, 7, 9), (4, 3, 3, 3)))
    around = np.full((3, 4, 6, 11), 99, dtype)
    out = around[1:2, :, 1:-1, 1:-1]
    fc.conv2d(x, weight, padding=1, stride=(2, 1), out=out)
    assert_array_equal(out, reference.conv2d(x, weight, padding=1, stride=(2, 1)))
    out[...] = 99
    assert (around == 99).all()


@pytest.mark.skipif(not HAS_FORBIDDEN_PAGES, reason="needs mprotect")
@every_named_run
def test_touches_nothing_outside_its_arrays(algorithm, case: ConvCase):
    if case.is_empty:
        return
    x, weight, bias, _ = conv_arrays(case, np.float32)
    for layout, at_end in product(("NCHW", "NHWC"), (True, False)):
        out = np.zeros(case.output_shape, np.float32)
        images = (to_nhwc(x), to_nhwc(out)) if layout == "NHWC" else (x, out)
        arrays = [between_forbidden_pages(array, at_end) for array in (images[0], weight, bias, images[1])]
        fc.conv2d(*arrays[:3], out=arrays[3], layout=layout, algorithm=algorithm, **case.arguments)
        output = to_nchw(arrays[3]) if layout == "NHWC" else arrays[3]
        assert_within(output, conv_expected(case, np.float32), case.tolerance(np.float32, algorithm))


# ---- the choice of the algorithm ----


@pytest.mark.parametrize("case", [case for case in CONV_CASES if not case.suits("winograd")], ids=str)
def test_an_algorithm_that_cannot_refuses(case: ConvCase):
    x, weight, bias, grad_output = conv_arrays(case, np.float32)
    with pytest.raises(ValueError, match=r"^algorithm: got 'winograd'"):
        fc.conv2d(x, weight, bias, algorithm="winograd", **case.arguments)
    with pytest.raises(ValueError, match=r"^algorithm: got 'winograd'"):
        fc.conv2d_backward(grad_output, x, weight, algorithm="winograd", **case.arguments)


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_auto_is_one_of_the_others(case: ConvCase, layout, dtype):
    x, weight, bias, _ = conv_arrays(case, dtype)
    x = to_nhwc(x) if layout == "NHWC" else x
    arguments = {"layout": layout, **case.arguments}
    picked = fc.conv2d_algorithm(x.shape, weight.shape, dtype=dtype, **arguments)
    assert picked in ALGORITHMS
    assert picked != "auto"
    assert_array_equal(
        fc.conv2d(x, weight, bias, **arguments), fc.conv2d(x, weight, bias, algorithm=picked, **arguments)
    )


@pytest.mark.parametrize("size", [1, 5, 6, 28, 224])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv_output_size(size, kernel, stride, dilation):
    expected = reference.conv_output_size(size, kernel, stride, (2, 2), dilation)
    assert fc.conv_output_size(size, kernel, stride, 2, dilation) == expected


@pytest.mark.parametrize(
    ("width", "order"), [(512, "aligned"), (512, "one element on"), (513, "aligned"), (520, "aligned")]
)
def test_results_that_are_written_past_the_cache(dtype, width, order, rng):
    """Those of im2col from 32 MiB on, where they lie on whole cache lines."""
    height = 2**25 // (45 * 512 * np.dtype(dtype).itemsize) + 1
    x = rng.standard_normal((1, 3, height, width)).astype(dtype)
    weight, bias = rng.standard_normal((45, 3, 1, 1)).astype(dtype), rng.standard_normal(45).astype(dtype)
    size = 45 * height * width
    memory = np.full(size + 128, np.nan, dtype)
    begin = -memory.ctypes.data % 64 // memory.itemsize + 32 + (order != "aligned")
    out = memory[begin : begin + size].reshape(1, 45, height, width)
    sums = np.tensordot(weight[:, :, 0, 0].astype(np.float64), x[0].astype(np.float64), 1)
    expected = np.maximum(sums + bias[:, np.newaxis, np.newaxis], 0)
    results = []
    for threads in (1, 2, 3):
        out.fill(np.nan)
        with fc.num_threads(threads):
            fc.conv2d(x, weight, bias, algorithm="im2col", activation="relu", out=out)
        results.append(out.copy())
    assert_within(results[0][0], expected, error_bound(dtype, 3, "im2col"))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    assert np.isnan(memory[:begin]).all()
    assert np.isnan(memory[begin + size :]).all()
