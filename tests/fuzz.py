"""Calls the whole public surface at random, for as long as it is told.

    python tests/fuzz.py --minutes 10 [--seed N]      from that number on, or from one drawn by the clock
    python tests/fuzz.py --seed N --calls 1           the call of that number again

Every call gives the values of the float64 reference or raises ValueError, TypeError or MemoryError. The
first that does anything else is printed, with its number, and ends the run; so does a crash. FASTCONV_ISA
chooses the instruction set; every sixteenth runs on two threads.
"""

import argparse
import faulthandler
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPORT = 60.0  # seconds between reports
LONGEST = 300.0  # seconds for a call: then it hangs


def work(seed: int, calls: int, minutes: float, progress: Path) -> int:
    """Runs in a process of its own; the number of the current call stands in `progress`."""
    from fuzzing.session import Session, WrongOutcomeError, limited_memory

    faulthandler.enable()
    session, start = Session(), time.monotonic()
    reported, end = start, start + 60 * minutes
    done = 0
    with open(progress, "w") as file, limited_memory():
        while done < calls and (now := time.monotonic()) < end:
            if done % 100 == 0:
                faulthandler.dump_traceback_later(LONGEST, exit=True)
            os.pwrite(file.fileno(), b"%20d" % (seed + done), 0)
            try:
                session.step(seed + done)
            except WrongOutcomeError as error:
                print(error, flush=True)
                return 1
            done += 1
            if now - reported > REPORT:
                reported = now
                print(f"{done} calls from {seed} on: {dict(session.outcomes)}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    print(f"{done} calls from {seed} on, no other outcome: {dict(session.outcomes)}", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--calls", type=int, default=sys.maxsize)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9 * 1000)
    parser.add_argument("--progress", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.progress:
        return work(options.seed, options.calls, options.minutes, options.progress)
    if options.minutes == float("inf") and options.calls == sys.maxsize:
        parser.error("--minutes or --calls is needed")
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder, "progress")
        command = [
            sys.executable,
            __file__,
            *sys.argv[1:],
            "--seed",
            str(options.seed),
            "--progress",
            str(progress),
        ]
        status = subprocess.run(command, check=False).returncode
        if status not in (0, 1):
            seed = int(progress.read_text())
            print(f"the process ended with {status} in the call of number {seed}:")
            from fuzzing.calls import draw_call

            print(f"{draw_call(seed)}\n  again: python tests/fuzz.py --seed {seed} --calls 1")
    return status


if __name__ == "__main__":
    sys.exit(main())
