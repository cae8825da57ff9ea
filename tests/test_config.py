"""fastconv.show_config."""

import numpy as np
import pytest

import fastconv as fc
from fastconv._kernels import isa


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    with fc.num_threads(3):
        fc.show_config()
    lines = {line[:17].strip(): line[18:] for line in capsys.readouterr().out.splitlines()}
    assert lines["fastconv"] == fc.__version__
    assert lines["NumPy"] == np.__version__
    assert lines["threads"] == "3 (num_threads block)"
    assert lines["OpenMP"] == isa.build_info()["openmp"]
    assert lines["instruction sets"].startswith(f"{isa.active()} in use")
