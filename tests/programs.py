"""Programs in processes of their own, so that one that hangs fails its test; and the work that they do."""

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

import fastconv as fc
from fastconv._kernels import isa

TIMEOUT_SECONDS = 120
SETTINGS = ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def run(program: str, **settings: str) -> str:
    """What a Python program prints. It finds this package and the tests' modules, and no other setting."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    path = os.pathsep.join([str(Path(fc.__file__).parents[1]), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**kept, "PYTHONPATH": path, **settings},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def digest(seed: int) -> str:
    """Of the bits of a convolution, its gradients and a pool, with work enough for several threads."""
    rng = np.random.default_rng(seed)
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 16, 24, 20), (24, 16, 3, 3)))
    results = hashlib.sha256()
    for algorithm in ("direct", "im2col", "winograd", "strassen"):
        y = fc.conv2d(x, weight, padding=1, algorithm=algorithm)
        for array in (
            y,
            *fc.conv2d_backward(y, x, weight, padding=1, algorithm=algorithm),
            fc.max_pool2d(y, 2),
        ):
            results.update(array.tobytes())
    return results.hexdigest()


def granted(threads: int) -> int:
    """How many threads a call gets of a number that was asked for: one in a build without OpenMP."""
    return threads if isa.build_info()["openmp"] == "yes" else 1


def child(seed: int) -> tuple[str, int]:
    """A digest, and the threads that a child process may use."""
    return digest(seed), fc.get_num_threads()
