"""What is installed: version, types, and how little of it a first import loads."""

import importlib.metadata
import importlib.resources
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastconv as fc

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_one_version() -> None:
    assert fc.__version__ == PROJECT["version"]
    assert f"[{fc.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_metadata_of_the_installed_package() -> None:
    try:
        metadata = importlib.metadata.metadata("fastconv")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fastconv runs from the source tree and is not installed")
    assert metadata["Version"] == fc.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    required = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert required == ["numpy>=2.0"]


def test_typed() -> None:
    package = importlib.resources.files("fastconv")
    assert package.joinpath("py.typed").is_file()
    kernels = package.joinpath("_kernels")
    modules = [entry.name for entry in kernels.iterdir() if entry.name.endswith((".so", ".pyd"))]
    assert modules
    for module in modules:
        assert kernels.joinpath(module.split(".")[0] + ".pyi").is_file(), f"{module} has no stub"


def test_import_loads_little_beyond_numpy() -> None:
    code = """
import sys, numpy
before = set(sys.modules)
import fastconv
heavy = {"asyncio", "matplotlib", "mlxtend", "multiprocessing", "safetensors", "scipy", "torch", "zipfile"}
loaded = heavy & (set(sys.modules) - before)
assert not loaded, f"import fastconv loads {loaded}"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    for name in fc.__all__:
        assert getattr(fc, name) is not None
        assert name in dir(fc)
