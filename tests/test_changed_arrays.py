"""Arrays that another thread changes while a call reads them: values are anybody's guess, memory isn't."""

import textwrap

import programs
import pytest

# A process of its own: what is read or written out of bounds ends it, or lies in the pages after the result.
PROGRAM = """
    import threading
    import numpy as np
    import fastconv as fc

    stop = threading.Event()

    def change():
        while not stop.is_set():
            numbers.fill(1 << 40)
            numbers.fill(3)

    {prepare}
    other = threading.Thread(target=change, daemon=True)
    other.start()
    done = refused = 0
    with fc.num_threads({threads}):
        for _ in range(150):
            try:
                {call}
                done += 1
            except ValueError:
                refused += 1
    stop.set()
    other.join()
    assert done + refused == 150 and refused, (done, refused)
"""


def run(prepare: str, call: str, threads: int) -> None:
    programs.run(textwrap.dedent(PROGRAM).format(prepare=prepare, call=call, threads=threads))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_indices_of_a_maximum(layout, threads):
    prepare = "shape = (8, 64, 64, 8); grad, numbers = np.ones(shape, np.float32), np.zeros(shape, np.int64)"
    run(prepare, f"fc.max_pool2d_backward(grad, numbers, (8, 64, 128, 8), layout={layout!r})", threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_classes_of_a_loss(threads):
    prepare = "logits, numbers = np.zeros((200_000, 4), np.float32), np.zeros(200_000, np.int64)"
    run(prepare, "fc.cross_entropy(logits, numbers)", threads)


# The changing thread gives way where it calls a function: between the two dtypes, or shapes, as well.
ANOTHER_KIND = """
    import sys, threading, time
    import numpy as np
    import fastconv as fc

    sys.setswitchinterval(1e-6)
    x, weight = np.ones((2, 8, 32, 32), np.float32), np.ones((8, 8, 3, 3), np.float32)
    indices = fc.max_pool2d(x, 2, return_indices=True)[1]
    large, stop = np.ones((2, 8, 64, 64), np.float32), threading.Event()

    def change():
        while not stop.is_set():
            x.dtype = np.float64
            stop.is_set()
            x.dtype = np.float32
            stop.is_set()
            x.shape = (2 * 8 * 32, 32)
            stop.is_set()
            x.shape = (2, 8, 32, 32)

    calls = {calls}
    other = threading.Thread(target=change, daemon=True)
    other.start()
    done, end = 0, time.monotonic() + 0.4 * len(calls)
    while done <= 100 or time.monotonic() < end:
        try:
            calls[done % len(calls)]()
        except (TypeError, ValueError):
            pass
        done += 1
    stop.set()
    other.join()
"""
CHANGED_KIND = {
    "convolution": (
        "fc.conv2d(x, weight, padding=1, algorithm='direct')",
        "fc.conv2d(x, weight, padding=1, algorithm='im2col')",
        "fc.conv2d(x, weight, padding=1, algorithm='winograd')",
        "fc.conv2d(x, np.ones((8, 8, 7, 7), np.float32), stride=2, algorithm='winograd')",
        "fc.conv2d(x, weight, padding=1, algorithm='strassen')",
        "fc.conv2d_backward(x, x, weight, padding=1)",
        "fc.conv2d(x, weight[:, :1], padding=1, groups=8)",
        "fc.conv2d_backward(x, x, weight[:, :1], padding=1, groups=8)",
    ),
    "pools": (
        "fc.max_pool2d(x, 2)",
        "fc.avg_pool2d(x, 2)",
        "fc.max_pool2d(large, 2, out=x)",
        "fc.max_pool2d_backward(x, indices, (2, 8, 64, 64))",
        "fc.avg_pool2d_backward(x, (2, 8, 64, 64), 2)",
    ),
    "others": (
        "fc.linear(x, weight[0, 0])",
        "fc.relu_backward(x, x)",
        "fc.softmax(x, 3)",
        "fc.mse_loss(x, x)",
        "fc.im2col(x, 3)",
        "fc.batch_norm(x, None, None, training=True)",
        "fc.local_response_norm(x, 3)",
        "fc.cross_entropy(x, np.zeros((2, 32, 32), int))",
    ),
}


@pytest.mark.parametrize("name", CHANGED_KIND)
def test_another_dtype_or_shape(name):
    """Refused, or computed as it was before or after; never with the one's size and the other's dtype."""
    calls = f"[{', '.join(f'lambda: {call}' for call in CHANGED_KIND[name])}]"
    programs.run(textwrap.dedent(ANOTHER_KIND).replace("{calls}", calls))
