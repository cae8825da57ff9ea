"""Kernels in Cython and C; they trust their arguments."""

import os

# GCC's OpenMP lets threads that wait spin for up to 300,000 rounds, milliseconds, between calls too: where
# others need the processor, that takes it from the very thread that is waited for. Some microseconds bridge
# calls that follow each other. The library reads this once, when the first module that needs it is loaded.
_set_here = not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ)
if _set_here:
    os.environ["GOMP_SPINCOUNT"] = "500"
from fastconv._kernels import threads as threads  # noqa: E402

if _set_here:
    del os.environ["GOMP_SPINCOUNT"]
