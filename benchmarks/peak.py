"""What one core can do at most: float32 fused multiply-adds a second, and bytes copied a second.

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
from functools import cache
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
COPY_BYTES = 1 << 28


@cache
def gflops() -> float | None:
    """float32 GFLOP/s of one core, or None where there is no C compiler."""
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
    best, deadline = 0.0, time.perf_counter() + SECONDS
    while time.perf_counter() < deadline:
        begin = time.perf_counter()
        operations = multiply_adds(200_000)
        best = max(best, operations / (time.perf_counter() - begin))
    return best / 1e9


@cache
def copy_gbytes(threads: int = 1) -> float:
    """GB/s read and written together by `threads` copies of arrays far larger than the caches."""
    pairs = [
        (np.ones(COPY_BYTES // threads, np.uint8), np.ones(COPY_BYTES // threads, np.uint8))
        for _ in range(threads)
    ]
    best = 0.0
    for _ in range(5):
        workers = [threading.Thread(target=np.copyto, args=pair) for pair in pairs]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, 2 * COPY_BYTES / (time.perf_counter() - begin))
    return best / 1e9


if __name__ == "__main__":
    peak = gflops()
    print("FMA peak of one core, float32:", f"{peak:.0f} GFLOP/s" if peak else "unknown")
    for count in range(1, (os.cpu_count() or 1) + 1):
        print(f"copy, {count} threads: {copy_gbytes(count):.1f} GB/s")
