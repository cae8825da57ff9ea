"""All kinds of kernels from many Python threads at once, each on several OpenMP threads, compared bit by bit.

python tests/stress.py --threads 16 --rounds 100

docs/threading.md says how it is run under ThreadSanitizer.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from test_bits import OPERATIONS

import fastconv as fc
from fastconv import _threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=16, help="Python threads")
    parser.add_argument("--rounds", type=int, default=100, help="of all operations")
    arguments = parser.parse_args()
    _threads.WORTH_A_THREAD = 0
    rng = np.random.default_rng(0)
    arrays = {
        name: [rng.normal(size=shape).astype(np.float32) for shape in shapes]
        for name, (_, shapes) in OPERATIONS.items()
    }

    def bits(name: str) -> list[bytes]:
        return [result.tobytes() for result in OPERATIONS[name][0](*arrays[name])]

    expected = {name: bits(name) for name in OPERATIONS}

    def run(task: int) -> str | None:
        """The name of an operation whose bits differ; meanwhile threads and memory change for all."""
        name = list(OPERATIONS)[task % len(OPERATIONS)]
        fc.set_num_threads(1 + task % 4)
        if task % 7 == 0:
            fc.memory_info()
        if task % 29 == 0:
            fc.release_memory()
        return None if bits(name) == expected[name] else name

    with ThreadPoolExecutor(arguments.threads) as pool:
        results = list(pool.map(run, range(arguments.rounds * len(OPERATIONS))))
    wrong = sorted({name for name in results if name is not None})
    print(f"{len(results)} calls from {arguments.threads} threads; other bits: {wrong or 'none'}")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
