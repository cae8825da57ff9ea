"""Interleaved timing of contenders in one process, each checked against the reference before it may start.

Contenders take turns in rounds, so that a disturbance of the machine meets all of them. Worker threads of
one may still spin when the next begins. Forbidding that would make small calls slower than users see them;
so a turn starts when the process has fallen silent, and with a call that is not timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

ROUNDS = 7
TURN_SECONDS = 0.03
QUICK = {"rounds": 3, "turn_seconds": 0.01}
SILENCE_SECONDS = 0.02  # more than a tick of the kernel, which counts then what running threads have taken
SILENCE_LIMIT_SECONDS = 1.0


@dataclass(frozen=True)
class Contender:
    """`run()` is what is timed; `results(run())` are its results by name, in NCHW, for the check.

    Each turn happens inside a `context()`, which costs the calls nothing.
    """

    run: Callable[[], Any]
    results: Callable[[Any], Mapping[str, np.ndarray]]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass(frozen=True)
class Timing:
    """Seconds of a call; `processor` is the median of the processor time that all threads took together."""

    median: float
    minimum: float
    processor: float
    calls: int


class WrongResultError(Exception):
    """A contender's result is not the reference's."""


def check(contender: Contender, expected: Mapping[str, np.ndarray], tolerances: Mapping[str, float]) -> None:
    """Raise WrongResultError unless every result is within its tolerance, relative to the largest value."""
    with contender.context():
        results = contender.results(contender.run())
    if results.keys() != expected.keys():
        raise WrongResultError(f"gives {sorted(results)}, not {sorted(expected)}")
    for name, want in expected.items():
        got = results[name]
        if got.shape != want.shape:
            raise WrongResultError(f"{name} has shape {got.shape}, not {want.shape}")
        error = np.abs(got - want).max() / np.abs(want).max()
        if not error <= tolerances[name]:
            raise WrongResultError(
                f"{name} is off by {error:.1e} of the largest value; {tolerances[name]:.1e} is allowed"
            )


def fall_silent() -> None:
    """Wait until no thread of this process spins."""
    deadline = time.perf_counter() + SILENCE_LIMIT_SECONDS
    while time.perf_counter() < deadline:
        begin = time.process_time()
        time.sleep(SILENCE_SECONDS)
        if time.process_time() - begin < SILENCE_SECONDS / 10:
            return


def _turn(contender: Contender, calls: int) -> list[tuple[float, float]]:
    """Seconds on the clock and of the processors, of each call."""
    clock, processors, run = time.perf_counter, time.process_time, contender.run
    fall_silent()
    seconds = []
    with contender.context():
        run()
        for _ in range(calls):
            taken, begin = processors(), clock()
            run()
            end = clock()
            seconds.append((end - begin, processors() - taken))
    return seconds


def race(
    contenders: Mapping[str, Contender],
    *,
    rounds: int = ROUNDS,
    turn_seconds: float = TURN_SECONDS,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Time all contenders in turn; `progress` is called once a round."""
    calls = {}
    for label, contender in contenders.items():
        warm = min(seconds for seconds, _ in _turn(contender, 2))
        calls[label] = max(1, min(1000, round(turn_seconds / warm)))
    samples: dict[str, list[tuple[float, float]]] = {label: [] for label in contenders}
    labels = list(contenders)
    for turn in range(rounds):
        first = turn % len(labels) if labels else 0
        for label in labels[first:] + labels[:first]:
            samples[label] += _turn(contenders[label], calls[label])
        progress()
    return {label: _timing(*zip(*taken, strict=True)) for label, taken in samples.items()}


def _timing(seconds: tuple[float, ...], processor: tuple[float, ...]) -> Timing:
    return Timing(statistics.median(seconds), min(seconds), statistics.median(processor), len(seconds))
