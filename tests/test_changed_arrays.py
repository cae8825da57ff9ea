"""Arrays that another thread changes while a call reads them: values are anybody's guess, memory isn't."""

import subprocess
import sys
import textwrap

import pytest

# A process of its own: what is written out of bounds ends it, or lies in the pages after the result.
SCATTER = """
    import threading
    import numpy as np
    import fastconv as fc

    layout, num_threads = {layout!r}, {threads}
    shape = (8, 64, 64, 8)
    grad_output = np.ones(shape, np.float32)
    indices = np.zeros(shape, np.int64)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            indices.fill(1 << 40)
            indices.fill(3)

    other = threading.Thread(target=change)
    other.start()
    done = refused = 0
    with fc.num_threads(num_threads):
        for _ in range(150):
            try:
                fc.max_pool2d_backward(grad_output, indices, (8, 64, 128, 8), layout=layout)
                done += 1
            except ValueError:
                refused += 1
    stop.set()
    other.join()
    assert done + refused == 150 and refused, (done, refused)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_indices_of_a_maximum(layout, threads):
    program = textwrap.dedent(SCATTER.format(layout=layout, threads=threads))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.returncode}: {result.stderr[-2000:]}"
