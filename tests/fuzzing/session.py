"""One call after another: each gives what the reference gives, or ValueError, TypeError or MemoryError."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

import fastconv as fc
from fastconv import _threads

from .call import Call, Expected, fc_dtype
from .calls import draw_call
from .drawing import AnyArray

REFUSALS = (ValueError, TypeError, MemoryError)
TOO_LARGE = "value, too large for the reference"
TOLERATED: Any = {"over": "ignore", "divide": "ignore", "invalid": "ignore"}
MOST_KEPT = 40
SPACE = 3 << 30  # bytes that a session may ask for beyond what the process has


class WrongOutcomeError(AssertionError):
    """What no call may do; the message tells how to see it again."""


class Session:
    """Calls by number, and results of earlier ones that are kept alive: nothing may change them."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.kept: list[tuple[AnyArray, AnyArray]] = []

    def step(self, seed: int) -> None:
        """The call of that number, on one or two threads, perhaps after giving memory back."""
        call = draw_call(seed)
        threads = 2 if seed % 16 == 1 else 1
        try:
            # Two threads whatever the work.
            with (
                warnings.catch_warnings(),
                fc.num_threads(threads),
                patch.object(_threads, "WORTH_A_THREAD", 0),
            ):
                warnings.simplefilter("error")
                self.check(call, keep=seed % 5 == 0)
        except Exception as error:
            hint = f"python tests/fuzz.py --seed {seed} --calls 1"
            raise WrongOutcomeError(f"{call}\n  {type(error).__name__}: {error}\n  again: {hint}") from error
        if seed % 1009 == 0:
            fc.release_memory()
        self.check_kept(seed)

    def check(self, call: Call, keep: bool) -> None:
        used = fc.memory_info()["used"]
        before = {
            name: value.tobytes()
            for name, value in call.arguments.items()
            if isinstance(value, np.ndarray) and 0 < value.size <= 100_000 and value.dtype != object
        }
        try:
            with np.errstate(**TOLERATED if call.spoiled else {}):
                result = call.function(**call.arguments)
        except REFUSALS as error:
            self.outcomes[type(error).__name__] += 1
            written: tuple[str, ...] = ()
            result = None
        else:
            written = call.may_write
            self.outcomes[compare(call, result)] += 1
        for name, content in before.items():
            assert name in written or call.arguments[name].tobytes() == content, f"{name} was written to"
        if keep and isinstance(result, np.ndarray) and result.size < 100_000:
            self.keep(result)
        elif call.function in vars(fc).values():
            del result
            assert fc.memory_info()["used"] == used, "memory was not given back"

    # ---- what is kept ----

    def keep(self, result: AnyArray) -> None:
        assert not any(np.may_share_memory(result, kept) for kept, _ in self.kept), (
            "memory in use was given out"
        )
        view = result[..., ::2] if result.ndim else result
        self.kept.append((view, view.copy()))

    def check_kept(self, seed: int) -> None:
        """One of those, and drop one of too many."""
        if self.kept:
            kept, copy = self.kept[seed % len(self.kept)]
            assert np.array_equal(kept, copy, equal_nan=kept.dtype.kind == "f"), "a living result changed"
        if len(self.kept) > MOST_KEPT:
            del self.kept[seed % MOST_KEPT]


def compare(call: Call, result: Any) -> str:
    """Values, shapes and dtypes of a call's results against the reference's."""
    given = {name: plain(value) for name, value in call.arguments.items()}
    try:
        with np.errstate(all="ignore"):
            expected = call.expected(**given)
    except (MemoryError, ValueError) as error:  # it makes tables of axes, and images with their padding
        if isinstance(error, MemoryError) or "array is too big" in str(error):
            return TOO_LARGE
        raise
    results = result if isinstance(result, tuple) and len(expected) > 1 else (result,)
    assert len(results) == len(expected), f"{len(results)} results, not {len(expected)}"
    inputs = [value for value in call.arguments.values() if isinstance(value, np.ndarray)]
    for i, (actual, wanted) in enumerate(zip(results, expected, strict=True)):
        if wanted.values is None:
            assert actual is None, f"result {i} was not asked for"
            continue
        if call.arguments.get("out") is not None and i == 0:
            assert actual is call.arguments["out"], "the result is not out"
        elif isinstance(actual, np.ndarray):
            assert not any(np.may_share_memory(actual, array) for array in inputs), (
                "the result is part of an input"
            )
        try:
            check_values(i, actual, wanted, call)
        except MemoryError:  # of the comparison in float64
            return TOO_LARGE
    return "value"


def check_values(i: int, given: Any, wanted: Expected, call: Call) -> None:
    if isinstance(wanted.values, int):
        assert type(given) is int, f"{type(given).__name__}, no int"
        assert given == wanted.values, f"{given}, not {wanted.values}"
        return
    actual = np.asarray(given)
    operands = [call.arguments[name] for name in wanted.dtype_of if call.arguments.get(name) is not None]
    if wanted.kept_in is not None:
        operands = [np.empty(0, wanted.kept_in)]
    values = np.asarray(wanted.values)
    assert actual.shape == values.shape, f"result {i} has shape {actual.shape}, not {values.shape}"
    if values.dtype.kind == "i":
        assert actual.dtype == np.int64
        assert np.array_equal(actual, values), f"result {i} differs"
        return
    result, compute = fc_dtype(*operands)
    if isinstance(given, np.ndarray) and call.function in vars(fc).values():
        assert actual.dtype.newbyteorder("=") == result, f"result {i} is {actual.dtype}, not {result}"
    with np.errstate(all="ignore"):
        error = np.abs(np.asarray(actual, np.float64) - values)
        allowed = wanted.allowed(compute, result)
        right = (error <= allowed) | (actual == values) | (np.isnan(actual) & np.isnan(values))
        if call.spoiled and (any(map(huge, call.arguments.values())) or not np.all(np.isfinite(allowed))):
            right |= ~(np.isfinite(actual) & np.isfinite(values))
        if result == np.float16:
            right |= np.isinf(actual) & (np.abs(values) > 65_000)
    wrong = np.argwhere(~right)
    if len(wrong):
        at = tuple(wrong[0])
        raise AssertionError(
            f"result {i} is {actual[at]} at {list(map(int, at))} and {len(wrong) - 1} more, "
            f"not {values[at]}; allowed {np.broadcast_to(allowed, values.shape)[at]:.3g}"
        )


def huge(value: Any) -> bool:
    """A factor that overflows float32 with what it meets."""
    return isinstance(value, (int, float)) and abs(value) > 1e15


def plain(value: Any) -> Any:
    """Numbers of NumPy and arrays of one number as Python's, sequences as tuples: for the reference."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, (list, range)) and not any(
        isinstance(item, (list, tuple, np.ndarray)) for item in value
    ):
        return tuple(map(plain, value))
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return value


@contextmanager
def limited_memory(space: int = SPACE) -> Iterator[None]:
    """So that what is too large for this machine is so for every machine; where the system can do it."""
    try:
        import resource
    except ImportError:  # Windows
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux" and not sanitized():
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + space, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def sanitized() -> bool:
    """AddressSanitizer maps terabytes."""
    with open("/proc/self/maps") as file:
        return "libasan" in file.read()
