"""Every kernel between pages that may not be touched, with tails of every size that vectors have.

Inputs and results begin just behind such a page, or end just before one: what is read or written outside ends
the process. Results are those of ordinary memory, to the bit.
"""

import ctypes
import mmap
from collections.abc import Callable, Iterator
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from memory_orders import HAS_FORBIDDEN_PAGES
from numpy.typing import NDArray

import fastconv as fc
from fastconv import _plan, nn, optim
from fastconv._kernels import channel_sum, isa
from fastconv._kernels.geometry import ConvGeometry
from fastconv._kernels.memory import results_from
from fastconv._spec import conv_spec
from fastconv.compat import cs231n
from fastconv.functional._rectifier import rectified, rectified_backward
from fastconv.functional._sum import plus

AnyArray = NDArray[Any]

pytestmark = pytest.mark.skipif(not HAS_FORBIDDEN_PAGES, reason="needs mprotect")

VECTOR = 16 if isa.active() == "avx512" else 8  # of float32, the longest
TAILS = range(1, 2 * VECTOR + 2)
ENDS = pytest.mark.parametrize("at_end", [False, True], ids=["begin", "end"])
LAYOUTS = ("NCHW", "NHWC")


class Arena:
    """Places between forbidden pages, used in turn: each is large enough for any array of these tests."""

    PLACES, ROOM = 64, 1 << 17

    def __init__(self) -> None:
        stride, page = self.ROOM + mmap.PAGESIZE, mmap.PAGESIZE
        self.memory = np.frombuffer(mmap.mmap(-1, self.PLACES * stride + page), np.uint8)
        self.begins = [page + i * stride for i in range(self.PLACES)]
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for begin in (*self.begins, self.PLACES * stride + page):
            address = self.memory.ctypes.data + begin - page
            assert protect(ctypes.c_void_p(address), ctypes.c_size_t(page), 0) == 0, ctypes.get_errno()
        self.used = 0
        self.at_end = True

    def empty(self, shape: tuple[int, ...], dtype: Any) -> AnyArray:
        """Filled with bytes that make NaN, so that what isn't written shows."""
        array_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert array_bytes <= self.ROOM
        begin = self.begins[self.used % self.PLACES] + (self.ROOM - array_bytes if self.at_end else 0)
        self.used += 1
        place = self.memory[begin : begin + array_bytes]
        place.fill(0xFF)
        return place.view(dtype).reshape(shape)

    def result(self, shape: tuple[int, ...], typenum: int) -> AnyArray:
        return self.empty(shape, {11: np.float32, 12: np.float64, 23: np.float16}.get(typenum, np.int64))

    def copy(self, array: Any) -> Any:
        if not isinstance(array, np.ndarray):
            return array
        place = self.empty(array.shape, array.dtype)
        place[...] = array
        return place


@pytest.fixture(scope="module")
def whole_arena() -> Arena:
    return Arena()


@pytest.fixture
def arena(whole_arena: Arena, at_end: bool) -> Iterator[Arena]:
    whole_arena.at_end = at_end
    yield whole_arena
    results_from(None)


def numbers(*shape: int, dtype: Any = np.float32) -> AnyArray:
    """Whole ones, positive and negative, none of them zero."""
    values = np.arange(int(np.prod(shape))) * 7 % 11 - 5
    return np.where(values >= 0, values + 1, values).astype(dtype).reshape(shape)


def results_of(value: Any) -> list[AnyArray]:
    return [np.asarray(part) for part in value] if isinstance(value, tuple) else [np.asarray(value)]


def same(arena: Arena, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """The function's results in ordinary memory; between forbidden pages they must be the same."""
    results_from(None)
    expected = function(*given, **options)
    guarded = [arena.copy(value) for value in given]
    results_from(arena.result)
    got = function(*guarded, **{key: arena.copy(value) for key, value in options.items()})
    results_from(None)
    for a, b in zip(results_of(got), results_of(expected), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return expected


# ---- convolution: each module of kernels that is able to, not only the one that would be chosen ----


def convolutions() -> Iterator[tuple[int, int, tuple[int, int, int, int], dict[str, Any]]]:
    """channels, filters, (height, width, kernel height, kernel width), options"""
    for n in TAILS:
        yield 3, 5, (3, n + 2, 3, 3), {}  # widths
        yield 2, 3, (4, n, 3, 3), {"padding": 1}
        yield 3, 2, (5, 2 * n + 1, 3, 3), {"stride": 2, "padding": 1}
        yield 2, 3, (5, 4 * n + 1, 5, 5), {"stride": 4, "padding": 2}
        yield 3, 2, (4, 4 * n, 4, 4), {"stride": 4}
        yield 4, 3, (1, n, 1, 1), {}
        yield 2, 2, (5, n + 4, 5, 5), {"padding": 1}
        yield n, 3, (3, 5, 3, 3), {"padding": 1}  # channels
        yield 3, n, (4, 3, 3, 3), {"padding": 1}  # filters
        yield n, n, (2, 3, 1, 1), {}
        yield n, n, (4, 5, 3, 3), {"padding": 1, "groups": n}  # depthwise
        yield 2, 4, (3, n + 2, 3, 3), {"groups": 2}
        yield n, n, (5, 6, 3, 3), {"padding": 1, "groups": n, "stride": 2}
        yield 2, 2, (5, n + 2, 3, 3), {"padding": 1, "groups": 2}  # widths of depthwise ones
        yield 2, 2, (6, n + 3, 5, 5), {"padding": 2, "groups": 2, "stride": 2}
        yield 2, 2, (6, n + 3, 3, 4), {"padding": 1, "groups": 2, "stride": 2}
        yield 2, 2, (7, n + 4, 3, 3), {"padding": 1, "groups": 2, "stride": (1, 2), "dilation": (1, 2)}
        yield 2, 2, (7, n + 4, 2, 3), {"padding": 2, "groups": 2, "stride": 3}
    yield 3, 4, (7, 9, 3, 2), {"dilation": 2, "padding": 1}
    yield 3, 4, (9, 8, 4, 5), {"stride": (3, 2), "padding": ((1, 0), (2, 1))}
    yield 40, 40, (6, 6, 3, 3), {"padding": 1}
    yield 40, 40, (7, 9, 3, 3), {"padding": 1, "stride": 2}
    yield 3, 5, (9, 70, 3, 3), {"padding": 1, "stride": 2}


def able_kernels(geometry: ConvGeometry, task: str) -> Iterator[ModuleType]:
    for name in (name for names in _plan.KERNELS.values() for name in names):
        if _plan.able(name, task, geometry):
            yield _plan.MODULES[name]


def run_all(
    geometry: ConvGeometry, arrays: list[AnyArray], make: Callable[..., AnyArray], threads: int
) -> list[AnyArray]:
    """The results of every kernel there is for this geometry."""
    x, weight, bias, grad_output = arrays
    results = []
    for kernels in able_kernels(geometry, "forward"):
        for relu, offset in ((True, bias), (False, None)):
            results.append(make(grad_output.shape, x.dtype))
            kernels.forward(geometry, x, weight, offset, results[-1], relu, threads)
        if hasattr(kernels, "forward_packed"):
            results.append(make(grad_output.shape, x.dtype))
            packed = kernels.pack_weight(geometry, weight, threads)
            kernels.forward_packed(geometry, x, packed, bias, results[-1], False, threads)
    for kernels in able_kernels(geometry, "grad_input"):
        results.append(make(x.shape, x.dtype))
        kernels.grad_input(geometry, grad_output, weight, results[-1], threads)
    for kernels in able_kernels(geometry, "grad_weight"):
        results.append(make(weight.shape, x.dtype))
        kernels.grad_weight(geometry, grad_output, x, results[-1], threads)
    results.append(make(bias.shape, x.dtype))
    channel_sum.grad_bias(geometry, grad_output, results[-1], threads)
    return results


@ENDS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolution(arena, layout, dtype):
    seen = set()
    for channels, filters, (high, wide, kernel_h, kernel_w), options in convolutions():
        images = 2
        size = (images, high, wide, channels) if layout == "NHWC" else (images, channels, high, wide)
        weight_shape = (filters, channels // options.get("groups", 1), kernel_h, kernel_w)
        arguments = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **options}
        spec = conv_spec(size, weight_shape, *arguments.values(), "zeros", layout)
        shapes = (size, weight_shape, (filters,), spec.out_shape)
        arrays = [numbers(*shape, dtype=dtype) for shape in shapes]
        expected = run_all(spec.geometry, arrays, np.empty, 1)
        guarded = [arena.copy(array) for array in arrays]
        got = run_all(spec.geometry, guarded, arena.empty, 1)
        seen |= {kernels.__name__ for task in _plan.TASKS for kernels in able_kernels(spec.geometry, task)}
        for a, b in zip(got, expected, strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    planes = ("rows", "strassen_columns") if layout == "NHWC" else ()  # what is for NCHW alone
    assert seen == {module.__name__ for name, module in _plan.MODULES.items() if name not in planes}


# ---- all else, by the public functions ----


@ENDS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pools(arena, layout, dtype):
    for n in TAILS:
        for channels, high, wide, kernel, stride, padding in (
            (2, 3, n + 2, 3, 1, 1),
            (3, 5, 2 * n, 2, 2, 0),
            (1 + n % 3, 6, 2 * n, 2, 2, 0),
            (2, 5, 3 * n, 3, 2, 1),
            (n, 4, 5, 2, 1, 0),
            (n, 3, 3, 3, 3, 1),
            (5, n, 3, (2, 3), (1, 2), 1),
        ):
            size = (2, high, wide, channels) if layout == "NHWC" else (2, channels, high, wide)
            x, how = numbers(*size, dtype=dtype), (kernel, stride, padding)
            where = {"layout": layout}
            same(arena, fc.max_pool2d, x, *how, **where)
            y, indices = same(arena, fc.max_pool2d, x, *how, return_indices=True, **where)
            same(arena, fc.max_pool2d_backward, y, indices, x.shape, **where)
            same(arena, fc.avg_pool2d, x, *how, **where)
            same(arena, fc.avg_pool2d_backward, y, x.shape, *how, **where)
            same(arena, fc.avg_pool2d, x, *how, count_include_pad=False, **where)
            same(arena, fc.avg_pool2d_backward, y, x.shape, *how, count_include_pad=False, **where)
            same(arena, fc.max_pool2d, x, *how, out=np.zeros(y.shape, dtype), **where)
        size = (2, 3, n, 5) if layout == "NHWC" else (2, 5, 3, n)
        x, bins = numbers(*size, dtype=dtype), (2, min(n, 3))
        y, indices = same(arena, fc.adaptive_max_pool2d, x, bins, return_indices=True, **where)
        same(arena, fc.adaptive_max_pool2d_backward, y, indices, x.shape, **where)
        same(arena, fc.adaptive_avg_pool2d, x, bins, **where)
        same(arena, fc.adaptive_avg_pool2d_backward, y, x.shape, **where)
    for n, plane in product(TAILS, ((1, 1), (2, 3), (5, 7))):  # of whole planes
        size = (2, *plane, n) if layout == "NHWC" else (2, n, *plane)
        x = numbers(*size, dtype=dtype)
        y = same(arena, fc.adaptive_avg_pool2d, x, 1, **where)
        same(arena, fc.adaptive_avg_pool2d_backward, y, x.shape, **where)
    x = numbers(1, 5, 17, 3, dtype=dtype)
    same(arena, fc.max_pool2d, x, 2, 1, 0, 2, return_indices=True, layout=layout)


@ENDS
def test_shared_maxima(arena, dtype):
    def shared(x: AnyArray, grad: AnyArray, size: int) -> AnyArray:
        pool = {"pool_height": size, "pool_width": size, "stride": size}
        return cs231n.max_pool_backward_reshape(grad, cs231n.max_pool_forward_reshape(x, pool)[1])

    for n, size in product(TAILS, (1, 2, 3)):
        x, grad = numbers(1, 2, 2 * size, n * size, dtype=dtype), numbers(1, 2, 2, n, dtype=dtype)
        same(arena, shared, x, grad, size)


@ENDS
def test_columns(arena, dtype):
    for n in TAILS:
        for size, kernel, how in (
            ((1, 2, 4, n + 1), (2, 2), (1, 0)),
            ((2, n, 5, 7), 3, (2, 1)),
            ((3, 3, n + 2), 3, (1, 1)),
        ):
            x = numbers(*size, dtype=dtype)
            cols = same(arena, fc.im2col, x, kernel, *how)
            same(arena, fc.col2im, cols, x.shape, kernel, *how)


@ENDS
def test_linear(arena, dtype):
    for n, (rows, others) in product(TAILS, ((1, 5), (3, 17), (16, 3))):
        for seen, made in ((n, others), (others, n), (n + 100, others)):
            x, weight = numbers(rows, seen, dtype=dtype), numbers(made, seen, dtype=dtype)
            y = same(arena, fc.linear, x, weight, numbers(made, dtype=dtype))
            same(arena, fc.linear_backward, y, x, weight)


@ENDS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_transposed_and_one_dimensional(arena, layout, dtype):
    for n in TAILS:
        size = (1, 3, n, 4) if layout == "NHWC" else (1, 4, 3, n)
        x, weight = numbers(*size, dtype=dtype), numbers(4, 3, 3, 3, dtype=dtype)
        y = same(arena, fc.conv_transpose2d, x, weight, numbers(3, dtype=dtype), 2, 1, layout=layout)
        same(arena, fc.conv_transpose2d_backward, y, x, weight, 2, 1, layout=layout)
        one = {"layout": "NLC" if layout == "NHWC" else "NCL"}
        x = numbers(*((2, n + 2, 3) if layout == "NHWC" else (2, 3, n + 2)), dtype=dtype)
        weight = numbers(n, 3, 3, dtype=dtype)
        y = same(arena, fc.conv1d, x, weight, numbers(n, dtype=dtype), **one)
        same(arena, fc.conv1d_backward, y, x, weight, **one)


@ENDS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frozen(arena, layout, dtype):
    for n in TAILS[::3]:
        for channels, kernel, groups in ((3, 3, 1), (n, 1, 1), (n, 3, n), (40, 3, 1)):
            layer = nn.Conv2d(
                channels, channels, kernel, padding=kernel // 2, groups=groups, layout=layout, dtype=dtype
            )
            network = nn.freeze(nn.Sequential(layer, nn.ReLU()))
            size = (2, 5, n, channels) if layout == "NHWC" else (2, channels, 5, n)
            same(arena, network, numbers(*size, dtype=dtype))


@ENDS
@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64])
def test_elements(arena, given):
    """One after another, of half precision by conversion, too; and along an axis."""
    for n in (*TAILS, 4 * VECTOR + 3):
        x, grad = numbers(n, dtype=given), numbers(n, dtype=given)[::-1].copy()
        for name in ("relu", "relu6", "leaky_relu", "sigmoid", "tanh"):
            y = same(arena, getattr(fc, name), x)
            second = y if name in ("sigmoid", "tanh") else x
            same(arena, getattr(fc, f"{name}_backward"), grad, second)
        _, signs = rectified(x, 4)
        same(arena, lambda x: rectified(x, 4)[0], x)
        same(arena, rectified_backward, grad, signs)
        same(arena, fc.mse_loss, x, grad)
        same(arena, fc.dropout_backward, x, grad > 0)
        same(arena, plus, x, grad)
        same(arena, plus, x, grad, "ReLU6")
        for size, axis in (((3, n), -1), ((2, 3, n), 1), ((n, 3), 0)):
            x, grad = numbers(*size, dtype=given), numbers(*size[::-1], dtype=given).reshape(size)
            target = np.arange(x.size // size[axis]).reshape(np.delete(size, axis)) % (size[axis] + 1) - 1
            if axis == 1 or (len(size) == 2 and axis == -1):
                for smoothing in (0, 0.5):
                    same(arena, fc.cross_entropy, x, target, ignore_index=-1, label_smoothing=smoothing)
                    same(arena, fc.cross_entropy, x, np.abs(grad), label_smoothing=smoothing)
            for name in ("softmax", "log_softmax"):
                y = same(arena, getattr(fc, name), x, axis)
                same(arena, getattr(fc, f"{name}_backward"), grad, y, axis)
        for layout, size in product(LAYOUTS, ((2, 3, n), (2, n, 3), (n + 1, 3))):
            x, channels = numbers(*size, dtype=given), size[-1] if layout == "NHWC" else size[1]
            scale = numbers(channels, dtype=given)
            same(arena, fc.batch_norm, x, None, None, scale, scale, True, layout=layout)
            same(arena, fc.batch_norm, x, scale, np.abs(scale), scale, scale, layout=layout)
            same(arena, fc.batch_norm_backward, x, x, None, None, scale, True, layout=layout)
            if x.ndim > 2:
                for window, beta in ((3, 0.75), (4, 0.3), (n + 2, 1)):
                    options = {"size": window, "beta": beta, "layout": layout}
                    same(arena, fc.local_response_norm, x, **options)
                    same(arena, fc.local_response_norm_backward, x, x, **options)


@ENDS
def test_optimizers(arena, dtype):
    """A step writes to the parameter, and to what the optimizer keeps of it."""
    kinds: list[Callable[..., optim.Optimizer]] = [optim.SGD, optim.Adam, optim.AdamW]
    for n, kind in product(TAILS, kinds):

        def stepped(data: AnyArray, grad: AnyArray, kind: Any = kind) -> AnyArray:
            parameter = nn.Parameter(data)
            options = {"momentum": 0.9} if kind is optim.SGD else {}
            optimizer = kind([parameter], lr=0.1, **options)
            for _ in range(2):
                parameter.grad = grad
                optimizer.step()
            return parameter.data

        same(arena, stepped, numbers(n, dtype=dtype), numbers(n, dtype=dtype)[::-1].copy())
