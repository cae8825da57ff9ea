"""Every instruction set of this machine passes the tests of the kernels, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv._kernels import isa

TESTS = Path(__file__).parent
KERNEL_TESTS = [
    f"test_{name}.py"
    for name in (
        *("conv2d", "conv2d_backward", "winograd", "im2col", "conv_transpose2d"),
        *("pool", "pool_kernels", "linear", "depthwise", "guard_pages", "isa"),
        *("activation", "normalization", "optim", "half", "loss", "dropout", "sum"),
    )
]
# What they hold beside the values and the memory that kernels touch is decided above the kernels.
DECIDED_ABOVE = (
    *("numerical", "memory_orders", "dtypes", "forms_of_padding", "padding_modes", "unbatched", "refuse"),
    *("out_receives", "out_may", "what_is_needed", "lists", "torch", "output_size", "supports"),
    *("same_bits", "number_of_threads", "do_not_depend", "threads_do_not", "resumed"),
)
BEST_FIRST = ["avx512", "avx2", "generic"]
others = [name for name in isa.available() if name != isa.active()]


def run_with(instruction_set: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FASTCONV_ISA": instruction_set}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )


def active_with(instruction_set: str) -> str:
    result = run_with(instruction_set, "-c", "from fastconv._kernels import isa; print(isa.active())")
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_generic_is_always_there():
    assert isa.available()[-1] == "generic"
    assert set(isa.available()) <= set(isa.compiled())


def test_active_is_the_best_that_is_allowed():
    cap = os.environ.get("FASTCONV_ISA") or BEST_FIRST[0]
    allowed = BEST_FIRST[BEST_FIRST.index(cap) :]
    assert isa.active() == next(name for name in isa.available() if name in allowed)


@pytest.mark.parametrize("instruction_set", isa.available())
def test_one_can_be_forced(instruction_set):
    assert active_with(instruction_set) == instruction_set


def test_a_cap_that_the_machine_does_not_reach_is_no_error():
    assert active_with("avx512") == isa.available()[0]


def test_an_unknown_name_is_an_error():
    result = run_with("sse9", "-c", "import fastconv._kernels.isa")
    assert result.returncode != 0
    assert "FASTCONV_ISA" in result.stderr
    assert "sse9" in result.stderr
    assert "generic" in result.stderr


@pytest.mark.skipif(bool(os.environ.get("FASTCONV_ISA")), reason="one instruction set was asked for")
@pytest.mark.parametrize("instruction_set", others)
def test_the_tests_of_the_kernels_pass(instruction_set):
    options = ["-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(TESTS.parent)]
    files = [str(TESTS / name) for name in KERNEL_TESTS]
    result = run_with(
        instruction_set, "-m", "pytest", *options, "-k", f"not ({' or '.join(DECIDED_ABOVE)})", *files
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
