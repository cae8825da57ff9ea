"""What cores can do at most: float32 fused multiply-adds a second, and bytes copied a second.

python benchmarks/peak.py
"""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

# Twelve independent chains of multiply-adds hide a latency of up to six cycles on two ports. The asm
# statements hide the values from the compiler, so that it can neither merge nor drop any of the chains.
SOURCE = """
#define CHAINS 12
#define LOOP(NAME, LANES, TARGET)                                                        \\
    typedef float NAME##_t __attribute__((vector_size(4 * LANES)));                      \\
    TARGET static double NAME(long rounds) {                                             \\
        NAME##_t sums[CHAINS], a = {0}, b = {0};                                         \\
        for (int i = 0; i < CHAINS; i++) sums[i] = a;                                    \\
        for (long round = 0; round < rounds; round++) {                                  \\
            __asm__ volatile("" : "+" REGISTER(a), "+" REGISTER(b));                     \\
            for (int i = 0; i < CHAINS; i++) sums[i] += a * b;                           \\
        }                                                                                \\
        for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+" REGISTER(sums[i]));   \\
        return 2.0 * LANES * CHAINS * (double)rounds;                                    \\
    }
#if defined(__x86_64__)
#define REGISTER(value) "v"(value)
LOOP(baseline, 4, )
#undef REGISTER
#define REGISTER(value) "x"(value)
LOOP(avx2, 8, __attribute__((target("avx2,fma"))))
#undef REGISTER
#define REGISTER(value) "v"(value)
LOOP(avx512, 16, __attribute__((target("avx512f"))))
double multiply_adds(long rounds) {
    if (__builtin_cpu_supports("avx512f")) return avx512(rounds);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2(rounds);
    return baseline(rounds);
}
#else
#define REGISTER(value) "w"(value)
LOOP(baseline, 4, )
double multiply_adds(long rounds) { return baseline(rounds); }
#endif
"""
SECONDS = 0.5
ROUNDS = 5_000_000
COPY_BYTES = 1 << 28


@cache
def _multiply_adds() -> Callable[[int], float] | None:
    """The loop, which returns the number of its operations, or None where there is no C compiler."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "peak.c"), Path(folder, "peak.so")
        source.write_text(SOURCE)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        flags = ["-O2", "-funroll-loops", "-ffp-contract=fast", "-shared", "-fPIC"]
        try:
            subprocess.run(
                [*compiler, *flags, "-o", library, source], check=True, capture_output=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no FMA peak: {getattr(error, 'stderr', '') or error}", file=sys.stderr)
            return None
        multiply_adds = ctypes.CDLL(str(library)).multiply_adds
    multiply_adds.argtypes, multiply_adds.restype = [ctypes.c_long], ctypes.c_double
    return multiply_adds


def _seconds_at_once(calls: list[Callable[[], object]]) -> float:
    """Of all calls, each by a thread of its own: the first by this one, since to start one takes its time."""
    here, *others = calls
    workers = [threading.Thread(target=call) for call in others]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    here()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begin


@cache
def gflops(threads: int = 1) -> float | None:
    """float32 GFLOP/s of `threads` threads together, or None where there is no C compiler."""
    multiply_adds = _multiply_adds()
    if multiply_adds is None:
        return None
    operations, best = threads * multiply_adds(1) * ROUNDS, 0.0
    deadline = time.perf_counter() + SECONDS
    while time.perf_counter() < deadline:
        best = max(best, operations / _seconds_at_once([partial(multiply_adds, ROUNDS)] * threads))
    return best / 1e9


@cache
def copy_gbytes(threads: int = 1) -> float:
    """GB/s read and written together by `threads` copies of arrays far larger than the caches."""
    pairs = [np.ones((2, COPY_BYTES // threads), np.uint8) for _ in range(threads)]
    best = 0.0
    for _ in range(5):
        seconds = _seconds_at_once([partial(np.copyto, *pair) for pair in pairs])
        best = max(best, 2 * COPY_BYTES / seconds)
    return best / 1e9


if __name__ == "__main__":
    for count in range(1, (os.cpu_count() or 1) + 1):
        peak = gflops(count)
        print(f"FMA peak, float32, {count} threads:", f"{peak:.0f} GFLOP/s" if peak else "unknown")
        print(f"copy, {count} threads: {copy_gbytes(count):.1f} GB/s")
