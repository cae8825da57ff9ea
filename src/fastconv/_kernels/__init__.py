"""Kernels in Cython and C; they trust their arguments."""

import os

# OpenMP's threads spin while they wait, between calls too: GCC's for up to 300,000 rounds, milliseconds,
# LLVM's for 200 ms. Where others need the processor, that takes it from the very thread that is waited for.
# To sleep and be woken takes 25 to 100 microseconds, so to spin for as long pays within a call, where threads
# wait for each other: 3,000 rounds of GCC's. LLVM's counts milliseconds, so there it is none at all.
# The libraries read this once, when the first module that needs them is loaded.
_PATIENCE = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "0"}
_set_here = {} if {"OMP_WAIT_POLICY", *_PATIENCE} & set(os.environ) else _PATIENCE
os.environ.update(_set_here)
from fastconv._kernels import threads as threads  # noqa: E402

for _name in _set_here:
    del os.environ[_name]
