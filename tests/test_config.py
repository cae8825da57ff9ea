"""fastconv.show_config, and `python -m fastconv`."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv._kernels import isa
from fastconv._threads import thread_setting


def shown(printed: str) -> dict[str, str]:
    return {line[:17].strip(): line[18:] for line in printed.splitlines()}


def test_show_config(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_DYNAMIC", "false")
    with fc.num_threads(3):
        number, decided_by = thread_setting()
        fc.show_config()
    lines = shown(capsys.readouterr().out)
    build = isa.build_info()
    assert lines["fastconv"].startswith(f"{fc.__version__}, in ")
    assert lines["NumPy"] == np.__version__
    assert platform.python_version() in lines["Python"]
    assert lines["platform"] == platform.platform()
    assert lines["compiler"] == build["compiler"]
    assert lines["flags"] == build["flags"]
    assert lines["threads"] == f"{number}, by {decided_by}"
    assert lines["instruction sets"].startswith(f"{isa.active()} in use")
    assert "OMP_DYNAMIC=false" in lines["environment"]
    for count in fc.memory_info().values():
        assert isinstance(count, int)
    assert re.fullmatch(r"[\d,]+ bytes in use, [\d,]+ kept for reuse, at most [\d,]+", lines["memory"])


@pytest.mark.parametrize(
    ("build", "enabled", "named"),
    [
        ("", True, "with GIL"),
        (" free-threading build", False, "free-threaded"),
        (" free-threading build", True, "free-threaded, but with the GIL enabled"),
    ],
)
def test_the_gil_is_named(
    build: str,
    enabled: bool,
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.version", sys.version + build)
    monkeypatch.setattr("sys._is_gil_enabled", lambda: enabled, raising=False)
    fc.show_config()
    assert shown(capsys.readouterr().out)["Python"].partition(", ")[2] == named


@pytest.mark.skipif(isa.build_info()["openmp"] != "yes", reason="built without OpenMP")
def test_openmp_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    fc.show_config()
    found, version, library = shown(capsys.readouterr().out)["OpenMP"].split(", ", 2)
    assert found == "yes"
    assert int(version) >= 200805  # 3.0
    assert sys.platform == "win32" or Path(library).exists()


def test_the_module_runs() -> None:
    command = [sys.executable, "-m", "fastconv"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert shown(printed)["fastconv"].startswith(fc.__version__)
