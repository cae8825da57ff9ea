"""What a training shows, and how it is stopped: progress bars and Ctrl-C."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fastconv import _checks

__all__ = ["Bar", "StopTraining", "interruptible", "progress_bars"]


# ---- Ctrl-C ----


class StopTraining(Exception):  # noqa: N818, no error
    """Ctrl-C was pressed; raised between two batches."""


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Gives a function that raises `StopTraining` once Ctrl-C was pressed; a second one is as usual."""
    in_main_thread = threading.current_thread() is threading.main_thread()  # only that one gets signals
    # Who ignores Ctrl-C, as nohup does, or handles it in C, which nobody could set back, is left alone.
    if not in_main_thread or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        yield lambda: None
        return
    pressed = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def between() -> None:
        if pressed:
            raise StopTraining

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield between
    finally:
        signal.signal(signal.SIGINT, before)


# ---- progress ----


class Bar:
    """Shows nothing; the base of what does."""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def advance(self, samples: int, values: Mapping[str, float]) -> None:
        """So many more were learned from; the values so far, NaN where there are none."""

    def done(self, values: Mapping[str, float]) -> None:
        """The epoch is over."""


class TqdmBar(Bar):
    def __init__(self, tqdm: Any, total: int, title: str) -> None:
        self.bar = tqdm(total=total, desc=title, unit=" samples", unit_scale=False, dynamic_ncols=True)

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def advance(self, samples: int, values: Mapping[str, float]) -> None:
        self.done(values)
        self.bar.update(samples)

    def done(self, values: Mapping[str, float]) -> None:
        shown = (f"{name} {value:.4f}" for name, value in values.items() if not math.isnan(value))
        self.bar.set_postfix_str(", ".join(shown), refresh=False)


def progress_bars(wanted: bool | None) -> Callable[[int, str], Bar]:
    """What makes a bar of an epoch's samples and title; None wants one where a terminal and tqdm are."""
    if wanted is None:
        wanted = sys.stderr is not None and sys.stderr.isatty()
        must = False
    else:
        must = wanted = _checks.boolean("progress", wanted)
    if not wanted:
        return lambda total, title: Bar()
    try:
        from tqdm import tqdm
    except ImportError:
        if must:
            raise
        return lambda total, title: Bar()
    return lambda total, title: TqdmBar(tqdm, total, title)
