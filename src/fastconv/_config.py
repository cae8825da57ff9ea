"""What this build is and what it uses here, for people and for bug reports."""

from __future__ import annotations

import os
import platform
import re
import sys

import numpy as np

from fastconv._kernels import isa
from fastconv._kernels.memory import memory_info
from fastconv._threads import thread_setting

__all__ = ["__version__", "show_config"]

__version__ = "0.1.0"

# Variables of the environment that change what fastconv does, or how fast.
_VARIABLES = re.compile("FASTCONV_|OMP_|GOMP_|KMP_")


def show_config() -> None:
    """Print all that a bug report needs; ``python -m fastconv`` does the same.

    Versions and the machine; the compiler and its flags; the instruction set in use, those that this machine
    has and those that were compiled in; the OpenMP library; the number of threads and what decided it; the
    memory in use and kept for reuse; the environment's variables that matter.

    Raises
    ------
    ValueError
        ``FASTCONV_NUM_THREADS`` is not a number of threads.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastconv          ...
    """
    build, memory = isa.build_info(), memory_info()
    threads, decided_by = thread_setting()
    openmp = (build["openmp"], build["openmp_version"], build["openmp_library"])
    variables = (f"{name}={value}" for name, value in sorted(os.environ.items()) if _VARIABLES.match(name))
    lines = {
        "fastconv": f"{__version__}, in {os.path.dirname(__file__)}",
        "Python": _python(),
        "NumPy": np.__version__,
        "platform": platform.platform(),
        "processor": f"{_processor()}, {os.cpu_count()} logical",
        "compiler": build["compiler"],
        "flags": build["flags"],
        "instruction sets": f"{isa.active()} in use; here {', '.join(isa.available())}; "
        f"compiled in {', '.join(isa.compiled())}",
        "OpenMP": ", ".join(filter(None, openmp)),
        "threads": f"{threads}, by {decided_by}",
        "memory": f"{memory['used']:,} bytes in use, {memory['kept']:,} kept for reuse, "
        f"at most {memory['limit']:,}",
        "environment": " ".join(variables) or "nothing set",
    }
    for name, value in lines.items():
        print(f"{name:<17} {value}")


def _python() -> str:
    gil = "with GIL"
    if "free-threading" in sys.version:
        enabled: bool = getattr(sys, "_is_gil_enabled", bool)()  # from 3.13 on
        gil = "free-threaded, but with the GIL enabled" if enabled else "free-threaded"
    return f"{platform.python_implementation()} {platform.python_version()}, {gil}"


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        name = None
    return name[1] if name else platform.processor() or platform.machine()
