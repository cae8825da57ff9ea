"""Where the number of threads comes from: read when it is used, in the order that is promised."""

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import programs
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import fastconv as fc
from fastconv import _processors, _threads
from fastconv._kernels import isa

pytestmark = pytest.mark.skipif(isa.build_info()["openmp"] != "yes", reason="built without OpenMP")

VARIABLES = ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable, no number chosen, 7 processors, no quota; each test changes some of it."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_processors, "affinity", lambda: 7)
    monkeypatch.setattr(_threads, "_cpu_quota", lambda: None)
    fc.set_num_threads(None)
    yield
    fc.set_num_threads(None)


def test_order_of_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [(7, "processors this process may use")]
    assert _threads.thread_setting() == expected[-1]
    monkeypatch.setattr(_threads, "_cpu_quota", lambda: 5)
    assert _threads.thread_setting() == (5, "cgroup CPU quota")
    monkeypatch.setattr(_threads, "_cpu_quota", lambda: 9)
    assert _threads.thread_setting() == expected[-1]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert _threads.thread_setting() == (8, "OMP_NUM_THREADS")
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "9")
    assert _threads.thread_setting() == (9, "FASTCONV_NUM_THREADS")
    fc.set_num_threads(10)
    assert _threads.thread_setting() == (10, "set_num_threads")
    with fc.num_threads(11):
        assert _threads.thread_setting() == (11, "num_threads block")
        monkeypatch.delenv("FASTCONV_NUM_THREADS")
        fc.set_num_threads(None)
        assert fc.get_num_threads() == 11
    assert _threads.thread_setting() == (8, "OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("value", "threads"),
    [("3", 3), (" 3 ", 3), ("4,2", 4), ("0", 7), ("-2", 7), ("", 7), ("many", 7), ("1_0", 7), ("\u0663", 7)],
)
def test_values_of_omp_num_threads(value: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable belongs to others: what makes no sense is passed over."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert fc.get_num_threads() == threads


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "4,2", "1025", "1_0", "\u0663", "9" * 5000])
def test_bad_values_of_fastconv_num_threads(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_NUM_THREADS", value)
    with pytest.raises(ValueError, match=rf"FASTCONV_NUM_THREADS: got '{value}', needs an integer"):
        fc.get_num_threads()


@pytest.mark.parametrize("absurd", [1025, 10**6, 2**40])
def test_absurd_numbers_never_reach_openmp(absurd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="at most 1024"):
        fc.set_num_threads(absurd)
    with pytest.raises(ValueError, match="at most 1024"), fc.num_threads(absurd):
        pass
    monkeypatch.setenv("OMP_NUM_THREADS", str(absurd))
    assert fc.get_num_threads() == 1024


def test_the_next_call_uses_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernels are given, not what get_num_threads says of it."""
    x, weight = np.ones((1, 16, 40, 40), np.float32), np.ones((16, 16, 3, 3), np.float32)
    given = []
    monkeypatch.setattr(
        "fastconv.functional.conv.threads_for", lambda work: given.append(_threads.threads_for(work)) or 1
    )
    for value in "352":
        monkeypatch.setenv("FASTCONV_NUM_THREADS", value)
        fc.conv2d(x, weight)
    assert given == [3, 5, 2]


def test_small_work_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "no number")
    assert _threads.threads_for(_threads.WORTH_A_THREAD - 1) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real affinity
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_threads, "_cpu_quota", lambda: None)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert fc.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert fc.get_num_threads() == len(before)


def test_quota_is_read_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    now, quotas = [1000.0], iter([2, 1, None])
    monkeypatch.setattr(_processors, "affinity", lambda: 7)
    monkeypatch.setattr(_processors, "quota", lambda: next(quotas))
    monkeypatch.setattr(_threads, "_quota", (0.0, None))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert fc.get_num_threads() == 2
    assert fc.get_num_threads() == 2
    now[0] += _threads.QUOTA_SECONDS
    assert fc.get_num_threads() == 1
    now[0] += _threads.QUOTA_SECONDS
    assert fc.get_num_threads() == 7


# ---- control groups, as files ----


def groups(folder: Path, membership: str, files: dict[str, str]) -> int | None:
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (folder / "membership").write_text(membership)
    return _processors.quota(str(folder / "cgroup"), str(folder / "membership"))


VERSION_2, VERSION_1 = "0::/slice/service\n", "5:cpuset:/other\n4:cpu,cpuacct:/docker/abc\n"
QUOTAS = {
    "none": (VERSION_2, {}, None),
    "unbounded": (VERSION_2, {"cpu.max": "max 100000"}, None),
    "own group": (VERSION_2, {"slice/service/cpu.max": "200000 100000"}, 2),
    "rounded up": (VERSION_2, {"slice/service/cpu.max": "150000 100000"}, 2),
    "less than one": (VERSION_2, {"slice/service/cpu.max": "1000 100000"}, 1),
    "a group above": (
        VERSION_2,
        {"slice/cpu.max": "300000 100000", "slice/service/cpu.max": "max 100000"},
        3,
    ),
    "the least counts": (
        VERSION_2,
        {"slice/cpu.max": "100000 100000", "slice/service/cpu.max": "400000 100000"},
        1,
    ),
    "not mounted in a container": ("0::/../../elsewhere\n", {"cpu.max": "500000 100000"}, 5),
    "version 1": (
        VERSION_1,
        {"cpu/docker/abc/cpu.cfs_quota_us": "250000", "cpu/docker/abc/cpu.cfs_period_us": "100000"},
        3,
    ),
    "version 1, unbounded": (
        VERSION_1,
        {"cpu/docker/abc/cpu.cfs_quota_us": "-1", "cpu/docker/abc/cpu.cfs_period_us": "100000"},
        None,
    ),
    "version 1 in a container": (
        VERSION_1,
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
        1,
    ),
    "nonsense": (VERSION_2, {"cpu.max": "a b", "slice/cpu.max": "", "slice/service/cpu.max": "1 0"}, None),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_quota_of_control_groups(name: str, tmp_path: Path) -> None:
    membership, files, expected = QUOTAS[name]
    assert groups(tmp_path, membership, files) == expected


def test_quota_without_proc(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert _processors.quota(str(tmp_path), str(tmp_path / "missing")) == 2


# ---- threadpoolctl ----


def test_threadpoolctl_finds_the_openmp_library() -> None:
    assert "openmp" in {library["user_api"] for library in threadpool_info()}


def test_threadpoolctl_limits_are_obeyed() -> None:
    [at_first] = {item["num_threads"] for item in threadpool_info() if item["user_api"] == "openmp"}
    fewer = (
        2 if at_first == 1 else 1
    )  # OpenMP doesn't tell a limit from what it began with, if they are equal
    with fc.num_threads(4):
        with threadpool_limits(fewer, user_api="openmp"):
            assert _threads.thread_setting() == (fewer, "OpenMP's limit, as threadpoolctl sets it")
            with fc.num_threads(3):
                assert fc.get_num_threads() == fewer
        assert fc.get_num_threads() == 4
        with threadpool_limits(3):
            assert fc.get_num_threads() == 3
            elsewhere = []
            thread = threading.Thread(target=lambda: elsewhere.append(fc.get_num_threads()))
            thread.start()
            thread.join()
            assert elsewhere == [7]  # OpenMP's limits, and num_threads blocks, belong to a thread
        assert fc.get_num_threads() == 4


# ---- waiting threads ----

IDLE = """
import time, numpy as np, fastconv as fc
x, weight = np.ones((4, 32, 64, 64), np.float32), np.ones((32, 32, 3, 3), np.float32)
with fc.num_threads(2):
    for _ in range(3):
        fc.conv2d(x, weight)
begin = time.process_time()
time.sleep(0.3)
print(time.process_time() - begin)
"""


def test_no_thread_spins_after_a_call() -> None:
    assert float(programs.run(IDLE)) < 0.01


AFFINITY = """
import os, time
import numpy as np
import fastconv as fc

x = np.ones((8, 64, 30, 30), np.float32)
tasks = "/proc/self/task"
before = set(os.listdir(tasks))
fc.set_num_threads(2)
fc.max_pool2d(x, 3)
[worker] = map(int, set(os.listdir(tasks)) - before)
allowed = os.sched_getaffinity(0)
here = {min(allowed)}
os.sched_setaffinity(0, here)
for _ in range(20):
    os.sched_setaffinity(worker, here)
    time.sleep(0.01)
    os.sched_setaffinity(worker, allowed)  # it sleeps where the caller stays, and may leave
    fc.max_pool2d(x, 3)
    assert os.sched_getaffinity(0) == here
    assert os.sched_getaffinity(worker) == allowed
"""


two_processors = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs /proc and two processors"
)


@two_processors
def test_threads_that_part_may_use_the_same_processors_as_before() -> None:
    programs.run(AFFINITY)


@two_processors
@pytest.mark.parametrize(
    "variable", [("OMP_PROC_BIND", "true"), ("OMP_PROC_BIND", "spread"), ("OMP_PLACES", "cores")]
)
def test_threads_that_openmp_binds_are_as_many_as_ever(variable: tuple[str, str]) -> None:
    number = "import fastconv as fc; print(fc.get_num_threads())"
    assert programs.run(number, **dict([variable])) == programs.run(number)


# As a service may run: the first sched_setaffinity ends it. Threads of three teams meet on two processors.
STAY = """
import ctypes, struct, threading
import numpy as np
import fastconv as fc

instructions = [(0x20, 0, 0, 0), (0x15, 0, 1, 203), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in instructions))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
fc.set_num_threads(2)
x, weight = np.ones((4, 16, 64, 64), np.float32), np.ones((16, 16, 3, 3), np.float32)
calls = [threading.Thread(target=lambda: [fc.conv2d(x, weight) for _ in range(200)]) for _ in range(3)]
for call in calls:
    call.start()
for call in calls:
    call.join()
"""


@two_processors
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call is another one")
def test_threads_that_are_not_to_be_bound_are_left_where_they_are() -> None:
    programs.run(STAY, OMP_PROC_BIND="false")
