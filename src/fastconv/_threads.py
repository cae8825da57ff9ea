"""How many threads a call may use, and whether it is worth starting them."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from contextvars import ContextVar

from fastconv._checks import integer
from fastconv._kernels import isa, threads

# Less work than this, in multiply-adds (or elements moved, times eight), is done before a thread wakes up.
WORTH_A_THREAD = 1_000_000

_scoped: ContextVar[int | None] = ContextVar("fastconv_num_threads", default=None)
_chosen: int | None = None


def get_num_threads() -> int:
    """The number of threads that a call made now may use.

    The innermost `num_threads` block of this thread decides, else `set_num_threads`, else the environment's
    ``FASTCONV_NUM_THREADS``, else its ``OMP_NUM_THREADS``, else the processors that this process may use.
    Without OpenMP, and in a process forked after fastconv was imported, it is 1.

    Returns
    -------
    int

    Examples
    --------
    >>> import fastconv as fc
    >>> with fc.num_threads(1):
    ...     fc.get_num_threads()
    1
    """
    return thread_setting()[0]


def thread_setting() -> tuple[int, str]:
    """The number of threads, and where that number comes from."""
    if isa.build_info()["openmp"] != "yes":
        return 1, "built without OpenMP"
    if threads.forked():
        return 1, "forked process"
    scoped = _scoped.get()
    if scoped is not None:
        return scoped, "num_threads block"
    if _chosen is not None:
        return _chosen, "set_num_threads"
    return _default()


def set_num_threads(n: int | None) -> None:
    """Set the number of threads for all later calls in this process.

    Parameters
    ----------
    n : int or None
        At least 1. None goes back to what the environment and the machine say, read anew.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.set_num_threads(2)
    >>> fc.get_num_threads()
    2
    >>> fc.set_num_threads(None)
    """
    global _chosen
    _chosen = None if n is None else integer("n", n, 1)
    _default.cache_clear()


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """A block, ``with fc.num_threads(n):``, whose calls use `n` threads; other Python threads go on as ever.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import fastconv as fc
    >>> with fc.num_threads(3):
    ...     fc.get_num_threads()
    3
    """
    token = _scoped.set(integer("n", n, 1))
    try:
        yield
    finally:
        _scoped.reset(token)


def threads_for(work: int) -> int:
    """Threads for a call of this many multiply-adds."""
    return 1 if work < WORTH_A_THREAD else get_num_threads()


@functools.cache
def _default() -> tuple[int, str]:
    for variable in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "").split(",")[0].strip()
        if value.isdecimal() and int(value) > 0:
            return int(value), variable
    processors = _affinity()
    quota = _cgroup_quota()
    if quota is not None and quota < processors:
        return quota, "cgroup CPU quota"
    return processors, "processors this process may use"


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_quota(root: str = "/sys/fs/cgroup") -> int | None:
    """Whole processors that the control group grants, rounded up; None where it sets no bound."""
    try:
        quota, period = _text(f"{root}/cpu.max").split()  # version 2
    except (OSError, ValueError):
        try:  # version 1
            quota = _text(f"{root}/cpu/cpu.cfs_quota_us")
            period = _text(f"{root}/cpu/cpu.cfs_period_us")
        except OSError:
            return None
    try:
        share = -(-int(quota) // int(period))
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return share if share > 0 else None


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:  # pathlib would be a quarter of what `import fastconv` takes
        return file.read()
