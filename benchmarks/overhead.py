"""What fastconv costs besides arithmetic: a call, its import, workspaces, denormals, a second thread.

python benchmarks/overhead.py
"""

from __future__ import annotations

import compileall
import importlib.util
import statistics
import subprocess
import sys
import textwrap
import timeit
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import environment  # noqa: F401  (before NumPy)
import numpy as np
import peak
import rows
from peers import fastconv as ours
from race import Contender, race

import fastconv as fc

CALLS, REPEATS = 2000, 15
IMPORTS = 15
SCALING_FLOOR_SECONDS = 0.005
# Limits that the project has set itself.
LIMITS = {"conv2d": 4.0, "max_pool2d": 3.0}
IMPORT_LIMIT_MILLISECONDS = 30.0
WORKSPACE_LIMIT_BYTES = 8 << 20
SCALING_LIMIT = 1.85
DENORMALS_LIMIT = 2.0
DENORMALS_ROW = rows.conv("3x3", 1, 32, 56, 32, 3, 1, 1)


def calls() -> None:
    """Microseconds of a call on one image of 8x8 pixels, in turn with PyTorch where it is installed."""
    fc.set_num_threads(1)
    image, kernel = np.ones((1, 1, 8, 8), np.float32), np.ones((1, 1, 3, 3), np.float32)
    candidates: dict[str, dict[str, Callable[[], Any]]] = {
        "conv2d": {"fastconv": lambda: fc.conv2d(image, kernel)},
        "max_pool2d": {"fastconv": lambda: fc.max_pool2d(image, 2)},
    }
    inference = nullcontext()
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        x, weight = torch.tensor(image), torch.tensor(kernel)
        candidates["conv2d"]["torch"] = lambda: torch.conv2d(x, weight)
        candidates["max_pool2d"]["torch"] = lambda: torch.max_pool2d(x, 2)
        inference = torch.inference_mode()
    with inference:
        for operation, runs in candidates.items():
            samples = {label: [] for label in runs}
            for _ in range(REPEATS):
                for label, run in runs.items():
                    samples[label].append(timeit.timeit(run, number=CALLS) / CALLS * 1e6)
            figures = ", ".join(
                f"{label} {statistics.median(values):.2f} (least {min(values):.2f})"
                for label, values in samples.items()
            )
            print(f"call, {operation}: {figures} microseconds (limit {LIMITS[operation]})")


IMPORT = """
import numpy, time
begin, taken = time.perf_counter(), time.process_time()
import fastconv
end, taken = time.perf_counter(), time.process_time() - taken
fastconv.conv2d([[[[1.0]]]], [[[[1.0]]]])
print(1e3 * (end - begin), 1e3 * taken, 1e3 * (time.perf_counter() - end))
"""


def imports() -> None:
    """Milliseconds that `import fastconv` adds to `import numpy`, each time in a new process, and those of
    the first convolution, which loads its kernels.

    The modules are compiled beforehand, as pip does when it installs them.
    """
    compileall.compile_dir(Path(fc.__file__).parent, quiet=1)
    samples = [tuple(map(float, _in_new_process(IMPORT).split())) for _ in range(IMPORTS)]
    clock, processor, first = map(statistics.median, zip(*samples, strict=True))
    print(
        f"import: {clock:.1f} ms beyond numpy, of which {processor:.1f} on the processor "
        f"(limit {IMPORT_LIMIT_MILLISECONDS}); the first convolution: {first:.1f} ms"
    )


# The high-water mark of resident memory, reset before the call, less what was there before and the result.
WORKSPACE = """
import environment, fastconv as fc, numpy as np, rows
row = next(row for row in rows.CONV_ROWS if row.name == {name!r})
def status(key):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))
fc.set_num_threads({threads})
pixel = np.ones((1, 1, 1, 1), np.float32)
fc.conv2d(pixel, pixel)  # loads the kernels
arrays = row.x, row.weight, row.bias
with open("/proc/self/clear_refs", "w") as control:
    control.write("5")
before = status("VmRSS")
output = fc.conv2d(*arrays, row.stride, row.padding, row.dilation, row.groups, algorithm={algorithm!r})
print(status("VmHWM") - before - output.nbytes)
"""


def workspaces(threads: int = 1) -> None:
    """Bytes of memory that a convolution takes beyond its inputs and its output (Linux only)."""
    if not sys.platform.startswith("linux"):
        print("workspace: only Linux tells it")
        return
    for algorithm in ("direct", "im2col", "auto"):
        used = {}
        for row in rows.CONV_ROWS:
            program = WORKSPACE.format(name=row.name, threads=threads, algorithm=algorithm)
            used[row.name] = int(_in_new_process(program)) / threads
        most = max(used, key=used.__getitem__)
        limit = f" (limit {WORKSPACE_LIMIT_BYTES / 1e6:.1f})" if algorithm != "auto" else ""
        print(f"workspace, {algorithm}: at most {used[most] / 1e6:.1f} MB a thread{limit}, in {most}")


def _in_new_process(program: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip()


def denormals() -> None:
    """How much slower a convolution with its gradients is where numbers, or products, are denormals."""
    fc.set_num_threads(1)
    for dtype in (np.float32, np.float64):
        tiny = float(np.finfo(dtype).tiny) / 8
        scales = {"normal numbers": 1.0, "denormal numbers": tiny, "denormal products": tiny**0.5}
        for algorithm in ("direct", "im2col", "winograd"):
            contenders = {
                name: Contender(_there_and_back(DENORMALS_ROW, dtype, algorithm, scale), dict)
                for name, scale in scales.items()
            }
            normal, *others = race(contenders).items()
            for name, timing in others:
                ratio = timing.median / normal[1].median
                print(f"{name}, {dtype.__name__}, {algorithm}: {ratio:.2f} (limit {DENORMALS_LIMIT})")


def _there_and_back(row: rows.ConvRow, dtype: type, algorithm: str, scale: float) -> Callable[[], Any]:
    """A convolution and its gradients, of numbers that are `scale` times the usual ones."""
    x, weight, grad_output = ((a * scale).astype(dtype) for a in (row.x, row.weight, row.grad_output))
    how = (row.stride, row.padding, row.dilation, row.groups)

    def run() -> None:
        fc.conv2d(x, weight, None, *how, algorithm=algorithm)
        fc.conv2d_backward(grad_output, x, weight, *how, algorithm=algorithm)

    return run


def scaling() -> None:
    """How much faster two threads are than one, on rows that take long enough for it to matter.

    What the machine has for two threads comes first: depthwise layers and pools have to do with its copies.
    """
    for what, rate in (("multiply-adds alone", peak.gflops), ("copies alone", peak.copy_gbytes)):
        one, two = rate(1), rate(2)
        if one and two:
            print(f"one / two threads, {what}: {two / one:.2f}")
    families = {
        "conv_forward": rows.CONV_ROWS,
        "conv_backward": rows.CONV_ROWS,
        "pool_forward": rows.POOL_ROWS,
        "pool_backward": rows.POOL_ROWS,
    }
    for operation, members in families.items():
        for row in members:
            run = getattr(ours, operation)(row, 1)[ours.PLAIN].run
            contenders = {
                count: Contender(run, dict, lambda count=count: fc.num_threads(count)) for count in (1, 2)
            }
            one, two = (timing.median for timing in race(contenders).values())
            if one >= SCALING_FLOOR_SECONDS:
                figures = f"{one * 1e3:.1f} / {two * 1e3:.1f} ms = {one / two:.2f} (limit {SCALING_LIMIT})"
                print(f"one / two threads, {operation} {row.name}: {figures}")


if __name__ == "__main__":
    scaling()  # before PyTorch is told to use one thread: a limit for all of OpenMP, which fastconv obeys
    calls()
    imports()
    workspaces()
    denormals()
