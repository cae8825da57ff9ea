"""How many threads a call may use, and whether it is worth starting them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

from fastconv import _processors
from fastconv._checks import argument_error, integer
from fastconv._kernels import isa, threads

# Less work than this, in multiply-adds (or elements moved, times eight), is done before a thread wakes up.
WORTH_A_THREAD = 1_000_000

# OpenMP ends the process where the system refuses it a thread, so an absurd number must not reach it.
MOST_THREADS = 1024

# The quota's files take fifty microseconds to read; what they said holds for this long.
QUOTA_SECONDS = 0.5

_OPENMP = isa.build_info()["openmp"] == "yes"

_scoped: ContextVar[int | None] = ContextVar("fastconv_num_threads", default=None)
_chosen: int | None = None
_quota: tuple[float, int | None] = (0.0, None)  # when it is to be read again, what it was


def get_num_threads() -> int:
    """The number of threads that a call made now may use.

    The innermost `num_threads` block of this thread decides, else `set_num_threads`, else the environment's
    ``FASTCONV_NUM_THREADS``, else its ``OMP_NUM_THREADS``, else the processors that this process may use: its
    affinity, or the CPU quota of its control groups where that is less. Whichever decides, a limit that
    ``threadpoolctl`` (or another user of the same OpenMP library) has set for this thread is kept as well.
    All of it is read when a call needs it, the quota at most twice a second.

    Without OpenMP, and in a process forked after fastconv was imported, it is 1.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        ``FASTCONV_NUM_THREADS`` is set, and not to a number from 1 to 1024.

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
    if not _OPENMP:
        return 1, "built without OpenMP"
    if threads.forked():
        return 1, "forked process"
    number, source = _wanted()
    limit = threads.openmp_limit()
    return (limit, "OpenMP's limit, as threadpoolctl sets it") if limit < number else (number, source)


def set_num_threads(n: int | None) -> None:
    """Set the number of threads for all later calls in this process.

    Parameters
    ----------
    n : int or None
        From 1 to 1024. None goes back to what the environment and the machine say.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.set_num_threads(2)
    >>> fc.get_num_threads()
    2
    >>> fc.set_num_threads(None)
    """
    global _chosen
    _chosen = None if n is None else _checked("n", n)


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """A block, ``with fc.num_threads(n):``, whose calls use `n` threads; other Python threads go on as ever.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Examples
    --------
    >>> import fastconv as fc
    >>> with fc.num_threads(3):
    ...     fc.get_num_threads()
    3
    """
    token = _scoped.set(_checked("n", n))
    try:
        yield
    finally:
        _scoped.reset(token)


def threads_for(work: int) -> int:
    """Threads for a call of this many multiply-adds."""
    return 1 if work < WORTH_A_THREAD else get_num_threads()


def _checked(name: str, n: object) -> int:
    number = integer(name, n, 1)
    if number > MOST_THREADS:
        raise argument_error(name, number, f"an integer of at least 1 and at most {MOST_THREADS}")
    return number


def _wanted() -> tuple[int, str]:
    scoped, chosen = _scoped.get(), _chosen
    if scoped is not None:
        return scoped, "num_threads block"
    if chosen is not None:
        return chosen, "set_num_threads"
    own = threads.environment(b"FASTCONV_NUM_THREADS").strip()
    if own:
        number = _digits(own)
        if not 1 <= number <= MOST_THREADS:
            needs = f"an integer of at least 1 and at most {MOST_THREADS}"
            raise argument_error("FASTCONV_NUM_THREADS", repr(own), needs)
        return number, "FASTCONV_NUM_THREADS"
    nested = threads.environment(b"OMP_NUM_THREADS")  # such as "4,2", of nested regions
    shared = _digits(nested.partition(",")[0].strip())
    if shared > 0:
        return min(shared, MOST_THREADS), "OMP_NUM_THREADS"
    processors, granted = threads.bound_processors() or _processors.affinity(), _cpu_quota()
    if granted is not None and granted < processors:
        return granted, "cgroup CPU quota"
    return min(processors, MOST_THREADS), "processors this process may use"


def _digits(text: str) -> int:
    """The number that `text` writes in the digits 0 to 9; 0 where it is anything else or absurdly long."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _cpu_quota() -> int | None:
    """The control groups' quota, at most QUOTA_SECONDS old."""
    global _quota
    until, granted = _quota
    now = time.monotonic()
    if now >= until:
        granted = _processors.quota()
        _quota = now + QUOTA_SECONDS, granted
    return granted
