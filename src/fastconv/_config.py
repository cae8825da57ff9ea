"""What this build is and what it uses here, for people and for bug reports."""

from __future__ import annotations

import platform

import numpy as np

from fastconv._kernels import isa
from fastconv._threads import thread_setting

__all__ = ["__version__", "show_config"]

__version__ = "0.1.0"


def show_config() -> None:
    """Print versions, compiler, instruction sets, OpenMP and threads.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastconv          ...
    """
    build = isa.build_info()
    lines = {
        "fastconv": __version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "NumPy": np.__version__,
        "compiler": f"{build['compiler']}, {build['flags']}",
        "instruction sets": f"{isa.active()} in use; here {', '.join(isa.available())}; "
        f"compiled in {', '.join(isa.compiled())}",
        "OpenMP": build["openmp"],
        "threads": "{} ({})".format(*thread_setting()),
    }
    for name, value in lines.items():
        print(f"{name:<17} {value}")
