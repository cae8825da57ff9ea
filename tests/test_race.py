"""The benchmarks' races: each contender has the processors for itself."""

import runpy
from pathlib import Path

import pytest

RACE = Path(__file__).parent.parent / "benchmarks" / "race.py"
TICK = 0.01  # seconds, the longest that Linux is built with: a running thread's time is counted so often


class Clock:
    """Time that passes while somebody sleeps; another thread of the process runs until `busy_until`."""

    def __init__(self, busy_until: float) -> None:
        self.now, self.busy_until = 0.0, busy_until

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return min(self.now // TICK * TICK, self.busy_until)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("busy_until", [0.055, 0.8])
def test_a_turn_begins_when_other_threads_have_ended(busy_until):
    fall_silent = runpy.run_path(str(RACE))["fall_silent"]
    fall_silent.__globals__["time"] = clock = Clock(busy_until)
    fall_silent()
    assert busy_until <= clock.now < busy_until + 0.1
