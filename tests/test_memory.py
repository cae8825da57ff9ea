"""Recycled memory: never part of two living arrays, bounded, given back when asked; and nothing grows."""

import gc
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import fastconv as fc
from fastconv._kernels.memory import new_array


@pytest.mark.parametrize("axes", [32, 33, 63, 64])
def test_as_many_axes_as_numpy_has(axes):
    x = np.arange(6.0).reshape(*[1] * (axes - 2), 2, 3)
    assert fc.relu(x).shape == x.shape
    np.testing.assert_allclose(fc.softmax(x).sum(-1), 1)
    weight = np.ones((4, 3))
    y = fc.linear(x, weight)
    assert y.shape == (*x.shape[:-1], 4)
    grad_x, grad_weight, grad_bias = fc.linear_backward(y, x, weight)
    np.testing.assert_array_equal(grad_x, (y @ weight))
    np.testing.assert_array_equal(grad_weight, y.reshape(2, 4).T @ x.reshape(2, 3))
    np.testing.assert_array_equal(grad_bias, y.reshape(2, 4).sum(0))


def test_what_is_used_and_kept():
    fc.release_memory()
    before = fc.memory_info()
    assert before["kept"] == 0
    x = np.ones((1, 1, 256, 256), np.float32)
    y = fc.avg_pool2d(x, 1)
    info = fc.memory_info()
    assert info["used"] - before["used"] >= y.nbytes
    view = y[0, 0, 17]
    address = y.ctypes.data
    del y
    assert fc.memory_info()["used"] == info["used"], "a view keeps the memory"
    del view
    info = fc.memory_info()
    assert info["used"] == before["used"]
    assert 0 < info["kept"] <= info["limit"]
    again = fc.avg_pool2d(x, 1)
    assert again.ctypes.data == address, "the same memory again"
    del again
    fc.release_memory()
    assert fc.memory_info()["kept"] == 0


MIB = 1 << 20


@pytest.mark.parametrize(("first", "second", "same"), [(3.1, 3.9, True), (2.1, 3.1, False), (2.6, 2.9, True)])
def test_three_mebibytes_and_more_are_whole_huge_pages(first, second, same):
    fc.release_memory()
    new_array((int(first * MIB) // 4,), np.dtype(np.float32).num)
    kept = fc.memory_info()["kept"]
    new_array((int(second * MIB) // 4,), np.dtype(np.float32).num)
    assert (fc.memory_info()["kept"] == kept) == same
    fc.release_memory()


def test_no_more_is_kept_than_the_limit():
    limit = fc.memory_info()["limit"]
    results = [new_array((10_000, 10_000 + i), 11) for i in range(3)]  # nothing is written to: no pages
    assert sum(result.nbytes for result in results) > limit
    while results:
        results.pop()
        assert fc.memory_info()["kept"] <= limit
    fc.release_memory()


def test_living_arrays_never_share_memory():
    """Threads that make arrays, keep slices of some and drop others: what one wrote, it reads again."""
    stop, wrong = threading.Event(), []

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        living: list[tuple[np.ndarray, float]] = []
        count = 0
        while not stop.is_set():
            size = int(rng.choice([64, 90, 128, 180]))
            y = fc.adaptive_avg_pool2d(np.ones((1, 1, 1), np.float32), size)
            mark = number * 1e6 + count
            y.fill(mark)
            kind = rng.integers(3)
            living.append((y if kind == 0 else y[0, ::2, 1::3] if kind == 1 else y.T[3:], mark))
            if len(living) > 30:
                for index in sorted(rng.choice(30, 12, replace=False))[::-1]:
                    view, mark = living.pop(index)
                    if not (view == np.float32(mark)).all():
                        wrong.append((number, mark))
                        return
            if count % 97 == 0:
                fc.release_memory()
            count += 1
        counts.append(count)

    counts: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sum(counts) > 200
    gc.collect()


# In a process of its own: what other tests left is not what grows here.
GROWTH = """
    import gc, itertools, resource
    import numpy as np
    import fastconv as fc
    from fastconv import nn

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def calls(count):
        x, weight = np.ones((1, 2, 5, 6), np.float32), np.ones((3, 2, 3, 3), np.float32)
        large, bias = np.ones((1, 8, 24, 24), np.float32), np.ones(3, np.float32)
        filters = np.ones((8, 8, 3, 3), np.float32)
        for i in range(count // 10):
            y = fc.conv2d(x, weight, bias, padding=1)
            fc.conv2d_backward(y, x, weight, padding=1)
            y, indices = fc.max_pool2d(x, 2, return_indices=True)
            fc.max_pool2d_backward(y, indices, x.shape)
            fc.avg_pool2d(x, 2, 1)
            fc.conv_transpose2d(x, weight[:2])
            fc.im2col(x, 2)
            fc.relu(x)
            fc.conv2d(large, filters)
            try:
                fc.conv2d(x, weight, stride=-i)
            except ValueError:
                pass

    def shapes(numbers):
        for n in numbers:
            x = np.ones((1, 2, 3 + n % 40, 4 + n // 40), np.float32)
            weight = np.ones((2, 2, 3, 3), np.float32)
            fc.conv2d_backward(fc.conv2d(x, weight, padding=1), x, weight, padding=1)
            y, indices = fc.max_pool2d(x, 2, return_indices=True)
            fc.max_pool2d_backward(y, indices, x.shape)
            fc.avg_pool2d_backward(fc.avg_pool2d(x, 3, 1, 1), x.shape, 3, 1, 1)
            fc.adaptive_avg_pool2d(x, 2)
            fc.conv_transpose2d(x, weight)
            fc.col2im(fc.im2col(x, 2), x.shape, 2)
            frozen(x)
            if n % 5 == 0:
                fc.max_pool2d(np.ones((1, 1, 20_000 + n), np.float32), (1, 3))

    frozen = nn.freeze(nn.Conv2d(2, 3, 3))
    {work}
    print(after - before, fc.memory_info()["used"], fc.memory_info()["kept"])
"""
CALLS = """
    calls(10_000)
    before = resident()
    calls(100_000)
    after = resident()
"""
SHAPES = """
    shapes(range(200))
    before = resident()
    shapes(range(200, 1200))
    after = resident()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("work", "most"), [(CALLS, 2 << 20), (SHAPES, 24 << 20)], ids=["calls", "shapes"])
def test_nothing_grows(work, most):
    program = textwrap.dedent(GROWTH).replace("{work}", textwrap.dedent(work))
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    grown, used, kept = map(int, result.stdout.split())
    assert grown <= most, f"{grown} bytes more"
    assert used == 0 or used < 1 << 16
    assert kept < 64 << 20
