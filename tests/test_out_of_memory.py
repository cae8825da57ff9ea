"""An allocation that fails raises MemoryError, gives back what there was, and leaves everything usable."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import programs
import pytest
from cases import ALGORITHMS

import fastconv as fc
from fastconv import nn
from fastconv._kernels.memory import fail_allocation
from fastconv.functional._sum import plus

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def whole(*shape: int, dtype: Any = F32) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 5 - 2).astype(dtype).reshape(shape)


def frozen(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    return nn.freeze(layer.eval())(x)


def operations() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each with results too large for NumPy's own memory, by every way to compute them."""
    images, channels, high, wide = 2, 12, 17, 19
    ways: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
        *((name, {"algorithm": name, "padding": 1}, (16, 12, 3, 3)) for name in ALGORITHMS),
        ("1x1", {}, (32, 12, 1, 1)),
        ("strided", {"stride": 2, "padding": 1}, (64, 12, 3, 3)),
        ("dilated", {"dilation": 2, "padding": 2}, (16, 12, 3, 3)),
        ("groups", {"groups": 3, "padding": 1}, (24, 4, 3, 3)),
        ("depthwise", {"groups": 12, "padding": 1}, (24, 1, 3, 3)),
        ("depthwise-strided", {"groups": 12, "stride": 2, "padding": 2}, (48, 1, 5, 5)),
        ("reflected", {"padding": 1, "padding_mode": "reflect"}, (16, 12, 3, 3)),
    ]  # fmt: skip
    yield "linear-of-halves", partial(fc.linear, *(whole(n, 900).astype(np.float16) for n in (3, 9000)))
    for dtype in (F32, F64):
        for layout in ("NCHW", "NHWC"):
            shape = (images, channels, high, wide) if layout == "NCHW" else (images, high, wide, channels)
            x = whole(*shape, dtype=dtype)
            for name, arguments, weight_shape in ways:
                weight, key = whole(*weight_shape, dtype=dtype), f"{name}-{layout}-{dtype}"
                arguments = {**arguments, "layout": layout}
                y = fc.conv2d(x, weight, **arguments)
                yield f"conv2d-{key}", partial(fc.conv2d, x, weight, **arguments)
                yield f"conv2d_backward-{key}", partial(fc.conv2d_backward, y, x, weight, **arguments)
            for name, pool in (("max", fc.max_pool2d), ("avg", fc.avg_pool2d)):
                yield f"{name}_pool2d-{layout}-{dtype}", partial(pool, x, 2, 1, layout=layout)
            maxima, indices = fc.max_pool2d(x, 2, 1, return_indices=True, layout=layout)
            yield (
                f"max_pool2d_with_indices-{layout}-{dtype}",
                partial(fc.max_pool2d, x, 2, 1, return_indices=True, layout=layout),
            )
            yield (
                f"max_pool2d_backward-{layout}-{dtype}",
                partial(fc.max_pool2d_backward, maxima, indices, x.shape, layout=layout),
            )
            yield (
                f"avg_pool2d_backward-{layout}-{dtype}",
                partial(fc.avg_pool2d_backward, maxima, x.shape, 2, 1, layout=layout),
            )
            transposed = whole(12, 8, 3, 3, dtype=dtype)
            y = fc.conv_transpose2d(x, transposed, stride=2, layout=layout)
            yield (
                f"conv_transpose2d-{layout}-{dtype}",
                partial(fc.conv_transpose2d, x, transposed, stride=2, layout=layout),
            )
            yield (
                f"conv_transpose2d_backward-{layout}-{dtype}",
                partial(fc.conv_transpose2d_backward, y, x, transposed, stride=2, layout=layout),
            )
        x = whole(images, channels, high, wide, dtype=dtype)
        cols = fc.im2col(x, 3)
        yield f"im2col-{dtype}", partial(fc.im2col, x, 3)
        yield f"col2im-{dtype}", partial(fc.col2im, cols, x.shape, 3)
        rows, matrix = whole(100, 70, dtype=dtype), whole(90, 70, dtype=dtype)
        yield f"linear-{dtype}", partial(fc.linear, rows, matrix)
        yield f"linear-of-one-row-{dtype}", partial(fc.linear, rows[:1], whole(9000, 70, dtype=dtype))
        yield (
            f"linear_backward-{dtype}",
            partial(fc.linear_backward, whole(100, 90, dtype=dtype), rows, matrix),
        )
        long = whole(40, 2100, dtype=dtype)
        yield f"linear-of-long-sums-{dtype}", partial(fc.linear, long, long[:30])
        maps = whole(images, channels, high, wide, dtype=dtype)
        yield f"local_response_norm-{dtype}", partial(fc.local_response_norm, maps, 5)
        yield f"local_response_norm_backward-{dtype}", partial(fc.local_response_norm_backward, maps, maps, 5)
        yield f"mse_loss-{dtype}", partial(fc.mse_loss, maps, maps)
        target = np.zeros((images, high, wide), int)
        yield f"cross_entropy-{dtype}", partial(fc.cross_entropy, maps, target)
        yield f"dropout_backward-{dtype}", partial(fc.dropout_backward, maps, maps > 0)
        yield f"plus-{dtype}", partial(plus, maps, maps)
        for kernel in (1, 3):
            layer = nn.Conv2d(channels, 32, kernel, dtype=dtype, rng=np.random.default_rng(0))
            yield f"frozen-{kernel}-{dtype}", partial(frozen, x, layer)


OPERATIONS = dict(operations())


def arrays_of(result: Any) -> list[np.ndarray]:
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("threads", [1, 2])
def test_every_allocation_may_fail(threads, monkeypatch):
    """Of each operation the first, the second, and so on until all of its allocations have failed once."""
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    failures = 0
    with fc.num_threads(threads):
        for name, operation in OPERATIONS.items():
            expected = arrays_of(operation())
            used, number = fc.memory_info()["used"], 1
            fail_allocation(number)
            while not _ends_first(name, operation):
                assert fc.memory_info()["used"] == used, (
                    f"{name}: a failing allocation, {number}, leaks others"
                )
                _assert_gives(operation, expected, name)
                number += 1
                fail_allocation(number)
            assert number > 1, f"{name}: no allocation failed"
            failures += number - 1
    assert failures > 200


def _assert_gives(operation: Callable[[], Any], expected: list[np.ndarray], name: str) -> None:
    for got, wanted in zip(arrays_of(operation()), expected, strict=True):
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def _ends_first(name: str, operation: Callable[[], Any]) -> bool:
    """Whether the operation ends before the allocation that is to fail; else it must raise MemoryError."""
    raised = False
    try:
        operation()
    except MemoryError:
        raised = True
    pending = fail_allocation(0)
    assert raised != pending, f"{name}: an allocation failed and nothing was raised"
    return pending


# Of every function, with results and workspaces of megabytes, as room grows; whatever comes of it, what
# follows finds everything in order: results, the floating-point mode, and memory of which none is in use.
EVERY_FUNCTION = """
    import resource
    import numpy as np
    import fastconv as fc

    x, weight = np.ones((1, 4, 1000, 1000), np.float32), np.ones((4, 4, 3, 3), np.float32)
    signal, columns, matrix = x.reshape(1, 4, -1), x.reshape(1, 4, -1), x[0, 0]
    pooled, indices = fc.max_pool2d(x, 2, return_indices=True)
    pooled, indices, target = pooled.copy(), indices.copy(), np.zeros((1, 1000, 1000), np.int64)
    tiny, mask, rng = np.full(100, np.finfo(np.float32).tiny / 2), x > 0, np.random.default_rng(0)
    calls = {
        "adaptive_avg_pool2d": lambda: fc.adaptive_avg_pool2d(x, 700),
        "adaptive_avg_pool2d_backward": lambda: fc.adaptive_avg_pool2d_backward(pooled, x.shape),
        "adaptive_max_pool2d": lambda: fc.adaptive_max_pool2d(x, 700, return_indices=True),
        "adaptive_max_pool2d_backward": lambda: fc.adaptive_max_pool2d_backward(pooled, indices, x.shape),
        "avg_pool2d": lambda: fc.avg_pool2d(x, 2, 1),
        "avg_pool2d_backward": lambda: fc.avg_pool2d_backward(pooled, x.shape, 2),
        "batch_norm": lambda: fc.batch_norm(x, None, None, training=True),
        "batch_norm_backward": lambda: fc.batch_norm_backward(x, x, training=True),
        "col2im": lambda: fc.col2im(columns, x.shape, 1),
        "col2im_backward": lambda: fc.col2im_backward(x, x.shape, 2),
        "conv1d": lambda: fc.conv1d(signal, weight[..., 0]),
        "conv1d_backward": lambda: fc.conv1d_backward(signal, signal, weight[..., 0], padding=1),
        "conv2d": lambda: fc.conv2d(x, weight),
        "conv2d_backward": lambda: fc.conv2d_backward(x, x, weight, padding=1),
        "conv_transpose2d": lambda: fc.conv_transpose2d(x, weight),
        "conv_transpose2d_backward": lambda: fc.conv_transpose2d_backward(x, x, weight, padding=1),
        "cross_entropy": lambda: fc.cross_entropy(x, target),
        "dropout": lambda: fc.dropout(x, rng=rng),
        "dropout_backward": lambda: fc.dropout_backward(x, mask),
        "im2col": lambda: fc.im2col(x, 2),
        "im2col_backward": lambda: fc.im2col_backward(columns, x.shape, 1),
        "linear": lambda: fc.linear(x, matrix[:70]),
        "linear_backward": lambda: fc.linear_backward(x[..., :70], x, matrix[:70]),
        "local_response_norm": lambda: fc.local_response_norm(x, 3),
        "local_response_norm_backward": lambda: fc.local_response_norm_backward(x, x, 3),
        "max_pool2d": lambda: fc.max_pool2d(x, 2, 1, return_indices=True),
        "max_pool2d_backward": lambda: fc.max_pool2d_backward(pooled, indices, x.shape),
        "mse_loss": lambda: fc.mse_loss(x, x),
    }
    for name in ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "softmax", "log_softmax"):
        calls[name] = lambda name=name: getattr(fc, name)(x)
        calls[f"{name}_backward"] = lambda name=name: getattr(fc, f"{name}_backward")(x, x)
    calls = {name: calls[name] for name in calls if hasattr(fc, name)}
    assert set(calls) == set(fc.functional.__all__) - {"conv2d_algorithm", "conv_output_size"}

    def mapped():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()

    done = 0
    with fc.num_threads(2):
        fc.conv2d(x, weight)
        for name, call in calls.items():
            failed = 0
            for room in (0, 10, 20, 30, 40):
                fc.release_memory()
                assert fc.memory_info()["used"] == 0, (name, fc.memory_info())
                resource.setrlimit(resource.RLIMIT_AS, (mapped() + (room << 20), -1))
                try:
                    call()
                    done += 1
                except MemoryError:
                    failed += 1
                resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
                assert np.all(tiny * np.float32(1) == tiny), name
            assert failed, f"{name} needs no memory"
            fc.release_memory()
            call()
            assert np.all(fc.conv2d(x[:, :, :9, :9], weight) == 36)
    assert done > 60, done
"""


# What a machine that is short of memory does. Threads are made beforehand: libgomp ends a process that cannot
# have a thread's stack.
SHORT_OF_MEMORY = """
    import resource
    import numpy as np
    import fastconv as fc

    rng = np.random.default_rng(0)
    def conv(images, size, **options):
        x = np.ones((images, 8, size, size), np.float32)
        weight = np.ones((8, 8, 3, 3), np.float32)
        y = fc.conv2d(x, weight, **options)
        assert np.allclose(y, 72)
        return y

    with fc.num_threads(2):
        conv(4, 64)
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (200 << 20), -1))
        failed = done = 0
        kept = []
        for algorithm in ("direct", "im2col", "winograd", "strassen"):
            for size in (64, 300, 900, 1500, 2500):
                try:
                    kept.append(conv(1, size, algorithm=algorithm))
                    done += 1
                except MemoryError:
                    failed += 1
            kept.clear()
            conv(1, 64, algorithm=algorithm)
        for call in (
            lambda: fc.im2col(np.ones((1, 16, 500, 500), np.float32), 5),
            lambda: fc.max_pool2d(np.broadcast_to(np.float32(1), (1, 64, 2000, 2000)), 2),
            lambda: fc.conv2d(np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 1, 1)), padding=30_000),
            lambda: fc.adaptive_avg_pool2d(np.ones((1, 4, 4), np.float32), 2**31 - 1),
        ):
            try:
                call()
            except MemoryError:
                failed += 1
            else:
                raise AssertionError("there was memory")
        conv(4, 64)
        fc.release_memory()
        assert fc.memory_info()["kept"] == 0 and fc.memory_info()["used"] == 0, fc.memory_info()
    assert failed > 6 and done > 6, (failed, done)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
@pytest.mark.parametrize("program", [EVERY_FUNCTION, SHORT_OF_MEMORY], ids=["every-function", "sizes"])
def test_a_process_short_of_memory(program):
    programs.run(program, MALLOC_MMAP_THRESHOLD_="65536")  # else glibc keeps what is freed, and has room
