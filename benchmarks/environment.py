"""What has to be settled before NumPy is imported: import this first."""

from __future__ import annotations

import os
import sys

# They make OpenBLAS take kernels or block sizes that are not its own choice, which is not how users have it.
OPENBLAS_OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def clear_overrides() -> None:
    """Unset OpenBLAS's overrides for this process: OpenBLAS reads them once, when NumPy loads it."""
    if any(name in os.environ for name in OPENBLAS_OVERRIDES):
        if "numpy" in sys.modules:
            raise RuntimeError(f"unset {' and '.join(OPENBLAS_OVERRIDES)}: NumPy has been imported already")
        for name in OPENBLAS_OVERRIDES:
            os.environ.pop(name, None)


clear_overrides()
