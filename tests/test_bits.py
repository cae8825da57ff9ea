"""The same bits wherever the arrays lie and whatever ran before, on any number of threads."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from memory_orders import spoil_recycled_memory
from numpy.typing import NDArray

import fastconv as fc
from fastconv.compat import cs231n
from fastconv.functional._rectifier import rectified, rectified_backward
from fastconv.functional._sum import plus

Array = NDArray[Any]
Operation = Callable[..., Any]

OFFSETS = (0, 4, 8, 12, 20, 32, 36, 60, 64)  # bytes from a cache line; halves of float64, too
DTYPES = ("float32", "float64")


def _convolution(algorithm: str, **arguments: Any) -> Operation:
    def run(x: Array, weight: Array, bias: Array, grad_output: Array) -> list[Array]:
        y = fc.conv2d(x, weight, bias, algorithm=algorithm, activation="relu", **arguments)
        gradients = fc.conv2d_backward(grad_output, x, weight, algorithm=algorithm, **arguments)
        return [y, *gradients]

    return run


def _transposed(x: Array, weight: Array, bias: Array, grad_output: Array) -> list[Array]:
    y = fc.conv_transpose2d(x, weight, bias, stride=2)
    return [y, *fc.conv_transpose2d_backward(grad_output, x, weight, stride=2)]


def _linear(x: Array, weight: Array, bias: Array, grad_output: Array) -> list[Array]:
    return [fc.linear(x, weight, bias), *fc.linear_backward(grad_output, x, weight)]


def _max_pool(x: Array, grad_output: Array) -> list[Array]:
    y, where = fc.max_pool2d(x, 3, stride=2, return_indices=True)
    return [y, where, fc.max_pool2d(x, 3, stride=2), fc.max_pool2d_backward(grad_output, where, x.shape)]


def _avg_pool(x: Array, grad_output: Array) -> list[Array]:
    return [fc.avg_pool2d(x, 3, stride=2), fc.avg_pool2d_backward(grad_output, x.shape, 3, stride=2)]


def _pairs(x: Array, grad_output: Array) -> list[Array]:
    results = []
    for layout, there in (("NCHW", (0, 1, 2, 3)), ("NHWC", (0, 2, 3, 1))):
        images, grads = (np.ascontiguousarray(array.transpose(there)) for array in (x, grad_output))
        y, where = fc.max_pool2d(images, 2, return_indices=True, layout=layout)
        results += [
            y,
            where,
            fc.max_pool2d(images, 2, layout=layout),
            fc.avg_pool2d(images, 2, layout=layout),
        ]
        results.append(fc.avg_pool2d_backward(grads, images.shape, 2, layout=layout))
    return results


def _halves(x: Array, y: Array) -> list[Array]:
    a, b = x.astype(np.float16), y.astype(np.float16)
    elements = [fc.relu(a), fc.tanh_backward(a, b), fc.softmax_backward(a, fc.softmax(b)), plus(a, b)]
    pools = [fc.max_pool2d(a, 3, 2), fc.avg_pool2d(a, 2), fc.avg_pool2d_backward(a[..., :8, :8], b.shape, 4)]
    return [*elements, *pools, *map(np.asarray, fc.mse_loss(a, b))]


def _whole_planes(x: Array, grad_output: Array) -> list[Array]:
    pooled = fc.adaptive_avg_pool2d(x, 1)
    return [pooled, fc.adaptive_avg_pool2d_backward(grad_output, x.shape)]


def _bins(x: Array, grad_output: Array) -> list[Array]:
    y, where = fc.adaptive_max_pool2d(x, 5, return_indices=True)
    maxima = [y, where, fc.adaptive_max_pool2d_backward(grad_output, where, x.shape)]
    return [
        *maxima,
        fc.adaptive_avg_pool2d(x, 5),
        fc.adaptive_avg_pool2d_backward(grad_output, x.shape),
    ]


def _shared_maxima(x: Array, grad_output: Array) -> list[Array]:
    pool = {"pool_height": 3, "pool_width": 3, "stride": 3}
    y, cache = cs231n.max_pool_forward_reshape(x, pool)
    return [y, cs231n.max_pool_backward_reshape(grad_output, cache)]


def _columns(x: Array, columns: Array) -> list[Array]:
    return [fc.im2col(x, 3), fc.col2im(columns, x.shape, 3)]


def _activations(x: Array, grad_output: Array) -> list[Array]:
    forward = [fc.relu(x), fc.leaky_relu(x), fc.sigmoid(x), fc.tanh(x), fc.softmax(x), fc.log_softmax(x)]
    names = ("relu", "leaky_relu", "sigmoid", "tanh", "softmax", "log_softmax")
    return [*forward, *(getattr(fc, f"{name}_backward")(grad_output, x) for name in names)]


def _normalization(x: Array, weight: Array, bias: Array, grad_output: Array) -> list[Array]:
    y = fc.batch_norm(x, None, None, weight, bias, training=True)
    return [y, *fc.batch_norm_backward(grad_output, x, weight=weight, training=True),
            fc.batch_norm(x.reshape(2, 29, 31, 5), None, None, weight, bias, training=True, layout="NHWC"),
            *(norm for options in ({"beta": 0.75}, {"beta": 0.3}, {"layout": "NHWC"})
              for norm in (fc.local_response_norm(x, 3, **options),
                           fc.local_response_norm_backward(grad_output, x, 3, **options)))]  # fmt: skip


def _losses(x: Array, y: Array) -> list[Array]:
    results = [fc.mse_loss(x, y)]
    for axes in ((0, 1, 2), (0, 2, 1)):  # classes last, and not
        logits = np.ascontiguousarray(x.transpose(axes)).reshape((-1, 41) if axes[1] == 1 else (3, 41, 37))
        target = np.arange(logits.size // 41).reshape(logits.shape[:1] + logits.shape[2:]) % 41
        probability = np.abs(y).reshape(logits.shape)
        for smoothing in (0, 0.1):
            results.append(fc.cross_entropy(logits, target, ignore_index=5, label_smoothing=smoothing))
            results.append(fc.cross_entropy(logits, probability, label_smoothing=smoothing))
    return [np.asarray(part) for result in results for part in result]


def _elements(x: Array, y: Array) -> list[Array]:
    kept = np.arange(x.size).reshape(x.shape) % 3 > 0
    signs = rectified(x)
    through = [signs[0], signs[1].mask(), rectified_backward(y, signs[1])]
    return [*through, fc.dropout_backward(x, kept), plus(x, y), plus(x, y, "ReLU6")]


# What runs, and the shapes of its arrays: large enough for recycled memory and for remainders of every kind.
OPERATIONS: dict[str, tuple[Operation, tuple[tuple[int, ...], ...]]] = {
    **{
        f"conv-{algorithm}": (
            _convolution(algorithm, padding=1),
            ((2, 7, 29, 31), (13, 7, 3, 3), (13,), (2, 13, 29, 31)),
        )
        for algorithm in ("direct", "im2col", "winograd")
    },
    "conv-strassen": (
        _convolution("strassen", padding=1),
        ((2, 6, 29, 31), (14, 6, 3, 3), (14,), (2, 14, 29, 31)),
    ),
    "conv-strassen-1x1": (
        _convolution("strassen"),
        ((1, 64, 47, 53), (130, 64, 1, 1), (130,), (1, 130, 47, 53)),
    ),
    "conv-winograd-few-tiles": (  # threads share out the output channels
        _convolution("winograd", padding=1),
        ((1, 9, 13, 15), (130, 9, 3, 3), (130,), (1, 130, 13, 15)),
    ),
    "conv-winograd-some-tiles": (  # each thread transforms weights for tiles of its own
        _convolution("winograd", padding=1),
        ((5, 9, 25, 27), (98, 9, 3, 3), (98,), (5, 98, 25, 27)),
    ),
    "conv-winograd-of-parts": (
        _convolution("winograd", stride=2, padding=3),
        ((2, 3, 61, 63), (21, 3, 7, 7), (21,), (2, 21, 31, 32)),
    ),
    "conv-1x1": (_convolution("auto"), ((2, 17, 29, 31), (19, 17, 1, 1), (19,), (2, 19, 29, 31))),
    "conv-strided": (
        _convolution("direct", stride=2),
        ((2, 3, 41, 43), (21, 3, 5, 5), (21,), (2, 21, 19, 20)),
    ),
    "conv-5x5": (
        _convolution("auto", padding=2),
        ((2, 19, 29, 31), (17, 19, 5, 5), (17,), (2, 17, 29, 31)),
    ),
    "conv-many": (  # sums by taps
        _convolution("direct", padding=1),
        ((2, 37, 13, 15), (13, 37, 3, 3), (13,), (2, 13, 13, 15)),
    ),
    "conv-many-strided": (
        _convolution("direct", padding=1, stride=2),
        ((2, 37, 25, 27), (33, 37, 3, 3), (33,), (2, 33, 13, 14)),
    ),
    "conv-nhwc": (
        _convolution("auto", padding=1, layout="NHWC"),
        ((2, 29, 31, 7), (13, 7, 3, 3), (13,), (2, 29, 31, 13)),
    ),
    "conv-depthwise": (
        _convolution("auto", padding=1, groups=9),
        ((2, 9, 29, 31), (9, 1, 3, 3), (9,), (2, 9, 29, 31)),
    ),
    "conv-depthwise-nhwc": (
        _convolution("auto", padding=1, groups=9, layout="NHWC"),
        ((2, 29, 31, 9), (9, 1, 3, 3), (9,), (2, 29, 31, 9)),
    ),
    **{
        f"conv-depthwise-{kernel}-{layout}": (
            _convolution("auto", padding=1, groups=9, stride=stride, layout=layout),
            (
                (2, 29, 31, 9) if layout == "NHWC" else (2, 9, 29, 31),
                (9, 1, kernel, kernel),
                (9,),
                (2, *out, 9) if layout == "NHWC" else (2, 9, *out),
            ),
        )
        for kernel, stride, out in ((3, 2, (15, 16)), (5, 2, (14, 15)), (4, 3, (10, 10)))
        for layout in ("NCHW", "NHWC")
    },
    "transposed": (_transposed, ((2, 5, 17, 19), (5, 7, 3, 3), (7,), (2, 7, 35, 39))),
    "linear": (_linear, ((37, 131), (67, 131), (67,), (37, 67))),
    "linear-few": (_linear, ((2, 1031), (67, 1031), (67,), (2, 67))),
    "max-pool": (_max_pool, ((2, 7, 39, 41), (2, 7, 19, 20))),
    "avg-pool": (_avg_pool, ((2, 7, 39, 41), (2, 7, 19, 20))),
    "pools-2x2": (_pairs, ((2, 5, 14, 70), (2, 5, 7, 35))),
    "halves": (_halves, ((2, 3, 32, 32), (2, 3, 32, 32))),
    "avg-pool-whole": (_whole_planes, ((2, 37, 15, 17), (2, 37, 1, 1))),
    "adaptive": (_bins, ((2, 7, 39, 41), (2, 7, 5, 5))),
    "shared-maxima": (_shared_maxima, ((2, 7, 39, 42), (2, 7, 13, 14))),
    "columns": (_columns, ((2, 3, 23, 25), (2, 27, 483))),
    "activations": (_activations, ((2, 3, 37, 41), (2, 3, 37, 41))),
    "losses": (_losses, ((3, 37, 41), (3, 37, 41))),
    "elements": (_elements, ((3, 37, 41), (3, 37, 41))),
    "normalization": (_normalization, ((2, 5, 29, 31), (5,), (5,), (2, 5, 29, 31))),
}


@pytest.fixture(autouse=True)
def threads_for_the_smallest_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    yield
    fc.release_memory()


def spoil_memory(run: Operation, arrays: list[Array]) -> None:
    """NaN in the memory that the next call gets: the operation's own results and workspaces, and blocks."""
    with np.errstate(all="ignore"):
        run(*(np.full_like(array, np.nan) for array in arrays))
    spoil_recycled_memory(arrays[0].dtype)


def placed(array: Array, offset: int) -> Array:
    """A copy that begins `offset` bytes after a cache line, with NaN before and after it."""
    room = np.full(array.nbytes // array.itemsize + 64, np.nan, array.dtype).view(np.uint8)
    begin = -room.ctypes.data % 64 + offset
    where = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    where[...] = array
    return where


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_depend_on_the_numbers_alone(name: str, dtype: str, rng: np.random.Generator) -> None:
    run, shapes = OPERATIONS[name]
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    with fc.num_threads(1):
        expected = [np.array(result) for result in run(*arrays)]
    assert not any(np.isnan(result).any() for result in expected)
    for step, offset in enumerate(OFFSETS):
        # Another alignment for each array, and another number of threads, each time.
        moved = [placed(array, (offset + 20 * i) % 68) for i, array in enumerate(arrays)]
        spoil_memory(run, moved)
        with fc.num_threads(1 + step % 3):
            results = run(*moved)
        for result, want in zip(results, expected, strict=True):
            assert result.tobytes() == want.tobytes()


@pytest.mark.parametrize("algorithm", ["direct", "im2col", "winograd", "strassen"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_alignment_of_out(algorithm: str, dtype: str, rng: np.random.Generator) -> None:
    x, weight = (rng.normal(size=shape).astype(dtype) for shape in ((2, 8, 29, 31), (14, 8, 3, 3)))
    expected = fc.conv2d(x, weight, algorithm=algorithm)
    pooled = fc.max_pool2d(x, 2)
    for offset in range(0, 65, expected.itemsize):
        out = placed(np.full_like(expected, np.nan), offset)
        assert fc.conv2d(x, weight, algorithm=algorithm, out=out) is out
        assert out.tobytes() == expected.tobytes()
        out = placed(np.full_like(pooled, np.nan), offset)
        assert fc.max_pool2d(x, 2, out=out).tobytes() == pooled.tobytes()
