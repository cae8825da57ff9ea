"""The benchmarks' races: each contender has the processors for itself."""

import os
import runpy
import zlib
from pathlib import Path
from threading import Thread

import pytest

RACE = Path(__file__).parent.parent / "benchmarks" / "race.py"


@pytest.mark.skipif(not RACE.exists(), reason="the benchmarks aren't here")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs a second processor")
def test_silence_begins_when_threads_without_the_gil_have_ended():
    fall_silent = runpy.run_path(str(RACE))["fall_silent"]
    data = bytes(10_000_000)
    for _ in range(5):
        busy = Thread(target=lambda: [zlib.crc32(data) for _ in range(20)])
        busy.start()
        fall_silent()
        assert not busy.is_alive()
