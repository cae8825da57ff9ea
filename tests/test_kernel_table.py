"""Every kernel is there for each instruction set and dtype, and needed by calls that the reference judges."""

import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from fuzzing.call import Call
from fuzzing.calls import draw_call
from fuzzing.session import TOLERATED, Session, limited_memory
from memory_orders import spoil_recycled_memory

import fastconv as fc
from fastconv import _threads
from fastconv._kernels import isa

HEADER = Path(__file__).parents[1] / "src/fastconv/_kernels/csrc/kernels.h"
CALLS = 8000
ONE_DTYPE = {"from_half", "to_half"}  # the same in both tables; that of float32 is used


def names() -> list[str]:
    """Of the kernels, in the order of the table."""
    code = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    members = re.search(r"typedef struct \{([^}]*)\} fc_kernels;", code)
    assert members
    statements = " ".join(members[1].split()).split(";")
    found = []
    for statement in statements:
        if pointer := re.match(r" ?\w+ \(\*(\w+)\)\(", statement):
            found.append(pointer[1])
        elif re.match(r" ?fc_(unary|binary) ", statement):
            found += re.findall(r"\*(\w+)", statement)
    return found


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    yield
    isa.put_out("f", -1)
    isa.was_called()


@pytest.mark.parametrize("dtype_char", ["f", "d"])
@pytest.mark.parametrize("instruction_set", isa.compiled())
def test_no_kernel_is_missing(instruction_set, dtype_char):
    there = isa.slots(instruction_set, dtype_char)
    assert len(there) >= 50
    assert all(there)


def outcome(call: Call) -> str:
    """What comes of a call: the one word of the session, or that the result was wrong."""
    session = Session()
    try:
        session.check(call, keep=False)
    except Exception:
        return "wrong"
    (kind,) = session.outcomes
    return kind


def reaches(call: Call) -> bool:
    """Whether a call, whatever comes of it, asks for the kernel that is put out."""
    isa.was_called()
    try:
        with np.errstate(**TOLERATED):
            call.function(**call.arguments)
    except Exception:  # of garbage
        pass
    return isa.was_called()


def is_needed(dtype_char: str, slot: int, name: str, calls: list[tuple[int, Call]]) -> bool:
    """Whether some call gives a value with the kernel, and something else without it."""
    for place, (seed, call) in enumerate(calls):
        isa.put_out(dtype_char, slot)
        if not reaches(call):
            continue
        spoil_recycled_memory(dtype_char, 1234.5)  # which may hold what the kernel would have written
        without = outcome(draw_call(seed))
        isa.put_out(dtype_char, -1)
        if without != "value" and outcome(draw_call(seed)) == "value":
            calls.insert(0, calls.pop(place))  # it may need the next kernel as well
            return True
    return False


@pytest.fixture(scope="module")
def drawn() -> list[tuple[int, Call]]:
    """Seeds and what they draw, where the reference can judge it."""
    return [(seed, call) for seed in range(CALLS) if not (call := draw_call(seed)).spoiled]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype_char", ["f", "d"])
def test_each_kernel_is_needed_by_a_call_that_is_compared_with_the_reference(dtype_char, drawn):
    if not HEADER.exists():
        pytest.skip("fastconv is installed and its sources aren't here")
    kernels = names()
    assert len(kernels) == len(isa.slots(isa.active(), dtype_char))
    calls = list(drawn)
    unneeded = set()
    with limited_memory(), fc.num_threads(1), patch.object(_threads, "WORTH_A_THREAD", 0):
        for slot, name in enumerate(kernels):
            is_other = dtype_char == "d" and name in ONE_DTYPE
            if not is_other and not is_needed(dtype_char, slot, name, calls):
                unneeded.add(name)
    assert not unneeded
