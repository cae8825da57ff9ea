"""All kinds of kernels from many Python threads at once, each on several OpenMP threads, compared bit by bit.

python tests/stress.py --threads 16 --rounds 100

Meanwhile the number of threads changes, recycled memory is given back, shapes are forgotten, a frozen network
that all share is frozen anew, and Python switches threads as often as it can. docs/threading.md says how this
is run under ThreadSanitizer.
"""

from __future__ import annotations

import argparse
import functools
import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from test_bits import OPERATIONS

import fastconv as fc
from fastconv import _threads, nn


class Work:
    """The operations, their arrays, and the bits of their results on one thread."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.network = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, rng=rng),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, rng=rng),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 8, 1, rng=rng),
            nn.Flatten(),
            nn.Linear(8 * 9 * 9, 10, rng=rng),
        ).eval()
        self.freeze()
        operations = OPERATIONS | {"frozen": (lambda x: [self.frozen(x)], ((2, 3, 19, 19),))}
        self.operations = {name: run for name, (run, _) in operations.items()}
        self.names = list(operations)
        self.arrays = {
            name: [rng.normal(size=shape).astype(np.float32) for shape in shapes]
            for name, (_, shapes) in operations.items()
        }
        self.caches = [
            cache
            for cache in gc.get_objects()
            if isinstance(cache, functools._lru_cache_wrapper) and cache.__module__.startswith("fastconv.")
        ]
        self.expected = {name: self.bits(name) for name in self.names}

    def freeze(self) -> None:
        self.frozen = nn.freeze(self.network)

    def bits(self, name: str) -> list[bytes]:
        return [result.tobytes() for result in self.operations[name](*self.arrays[name])]

    def run(self, task: int) -> str | None:
        """The name of an operation whose bits differ."""
        name = self.names[task % len(self.names)]
        fc.set_num_threads(1 + task % 4)
        if task % 5 == 0:
            self.freeze()
        if task % 7 == 0:
            fc.memory_info()
        if task % 11 == 0:
            self.caches[task // 11 % len(self.caches)].cache_clear()
        if task % 29 == 0:
            fc.release_memory()
        return None if self.bits(name) == self.expected[name] else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=16, help="Python threads")
    parser.add_argument("--rounds", type=int, default=100, help="of all operations")
    arguments = parser.parse_args()
    _threads.WORTH_A_THREAD = 0
    sys.setswitchinterval(1e-6)
    work = Work()
    with ThreadPoolExecutor(arguments.threads) as pool:
        results = list(pool.map(work.run, range(arguments.rounds * len(work.names))))
    wrong = sorted({name for name in results if name is not None})
    print(f"{len(results)} calls from {arguments.threads} threads; other bits: {wrong or 'none'}")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
