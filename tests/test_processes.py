"""Calls inside of other people's threads and processes."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import programs
import pytest

import fastconv as fc

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# What each way to run children does with `programs.child` and the numbers 0 to 3.
POOLS = {
    "fork": "results = multiprocessing.get_context('fork').Pool(2).map(child, range(4))",
    "spawn": "results = multiprocessing.get_context('spawn').Pool(2).map(child, range(4))",
    "forkserver": "results = multiprocessing.get_context('forkserver').Pool(2).map(child, range(4))",
    "futures-processes": "results = list(futures.ProcessPoolExecutor(2).map(child, range(4)))",
    "futures-threads": "results = list(futures.ThreadPoolExecutor(4).map(child, range(4)))",
    "joblib-loky": "results = Parallel(2, backend='loky')(delayed(child)(i) for i in range(4))",
    "joblib-threading": "results = Parallel(4, backend='threading')(delayed(child)(i) for i in range(4))",
}

# The parent has run parallel regions before, with threads of its own, and runs one again afterwards.
POOL_PROGRAM = """
import multiprocessing, sys
from concurrent import futures
from programs import child, digest
{imports}
import fastconv as fc
if __name__ == "__main__":
    fc.set_num_threads(2)
    expected = [digest(i) for i in range(4)]
    {pool}
    assert [bits for bits, _ in results] == expected
    assert digest(0) == expected[0]
    print(sorted({{threads for _, threads in results}}))
"""


@pytest.mark.parametrize("name", POOLS)
def test_children_compute_the_same_bits(name: str) -> None:
    if "fork" in name and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    imports = ""
    if name.startswith("joblib"):
        pytest.importorskip("joblib")
        imports = "from joblib import Parallel, delayed"
    printed = programs.run(POOL_PROGRAM.format(pool=POOLS[name], imports=imports))
    if name == "fork":
        assert printed == "[1]"
    if name.endswith(("threads", "threading")):
        assert printed == f"[{programs.granted(2)}]"


FORK_OF_A_FORK = """
import os, programs
import fastconv as fc
fc.set_num_threads(3)
expected = programs.digest(0)
child = os.fork()
if not child:
    grandchild = os.fork()
    assert programs.digest(0) == expected
    fc.set_num_threads(3)
    assert fc.get_num_threads() == 1
    status = 0 if not grandchild else os.waitpid(grandchild, 0)[1]
    os._exit(status != 0)
assert programs.digest(0) == expected
assert fc.get_num_threads() == programs.granted(3)
print(os.waitpid(child, 0)[1])
"""


@needs_fork
def test_children_of_children() -> None:
    assert programs.run(FORK_OF_A_FORK) == "0"


# Unless the lock around the recycled memory is held over a fork, a child in two hundred waits for it forever.
FORKS_MEANWHILE = """
import os, signal, sys, threading
import numpy as np, fastconv as fc
sys.setswitchinterval(1e-5)
x, weight = np.ones({shape}, np.float32), np.ones((2, {shape}[1], 3, 3), np.float32)
fc.set_num_threads({threads})
expected = fc.conv2d(x, weight, algorithm="im2col")
running = True
def convolve():
    while running:
        fc.conv2d(x, weight, algorithm="im2col")
thread = threading.Thread(target=convolve)
thread.start()
failed = 0
for _ in range({forks}):
    child = os.fork()
    if not child:
        signal.alarm(10)
        os._exit(not np.array_equal(fc.conv2d(x, weight, algorithm="im2col"), expected))
    failed += os.waitpid(child, 0)[1] != 0
running = False
thread.join()
print(failed)
"""


@needs_fork
@pytest.mark.parametrize(
    ("shape", "threads", "forks"),
    [((1, 2, 6, 6), 1, 120), ((2, 64, 96, 96), 2, 20)],
    ids=["takes-memory", "computes"],
)
def test_forks_while_another_thread(shape: tuple[int, ...], threads: int, forks: int) -> None:
    assert programs.run(FORKS_MEANWHILE.format(shape=shape, threads=threads, forks=forks)) == "0"


def test_sixteen_threads_share_inputs_while_others_change_the_number() -> None:
    expected = programs.digest(0)
    running = True

    def change(count: int) -> None:
        while running:
            fc.set_num_threads(count)
            with fc.num_threads(count):
                fc.get_num_threads()

    changers = [threading.Thread(target=change, args=(count,)) for count in (1, 3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        for thread in changers:
            thread.start()
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(lambda _: programs.digest(0), range(64)))
    finally:
        running = False
        for thread in changers:
            thread.join()
        sys.setswitchinterval(interval)
        fc.set_num_threads(None)
    assert set(results) == {expected}


def test_all_kinds_of_kernels_from_sixteen_threads() -> None:
    program = "import sys, stress; sys.argv[1:] = ['--threads', '16', '--rounds', '5']; stress.main()"
    assert programs.run(program).endswith("16 threads; other bits: none")


# ---- Ctrl-C ----

INTERRUPTED = """
import os, signal, threading, time
import numpy as np, fastconv as fc
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
x, weight = np.ones((8, 64, 64, 64), np.float32), np.ones((64, 64, 3, 3), np.float32)
fc.conv2d(x, weight, algorithm="direct")
begin = time.perf_counter()
fc.conv2d(x, weight, algorithm="direct")
call = time.perf_counter() - begin
sent = []
def interrupt():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(call / 3, interrupt).start()
calls = 0
try:
    while calls < 1000:
        fc.conv2d(x, weight, algorithm="direct")
        calls += 1
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0] < 5 * call + 0.2, calls < 1000)
again = fc.conv2d(x, weight, algorithm="direct")
print(again[0, 0, 0, 0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to oneself on Windows")
def test_ctrl_c_is_honoured_when_the_call_returns() -> None:
    assert programs.run(INTERRUPTED).split() == ["True", "True", "576.0"]


SECOND_INTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:  # before Python 3.13
    import _xxsubinterpreters as interpreters
import stress
from fastconv import _threads
_threads.WORTH_A_THREAD = 0
work = stress.Work()  # all kinds of kernels
second = interpreters.create()
interpreters.run_string(second, "numbers = [1, 2]")
assert all(work.run(task) is None for task in range(len(work.names)))
try:
    error = interpreters.run_string(second, "import fastconv")
except Exception as raised:
    error = raised
print("ImportError" in str(error))
interpreters.destroy(second)
assert all(work.run(task) is None for task in range(len(work.names)))
"""


def test_a_second_interpreter_disturbs_nothing() -> None:
    """NumPy can't be in two of them, so neither can this package; that is said, and the first goes on."""
    assert programs.run(SECOND_INTERPRETER) == "True"
