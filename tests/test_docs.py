"""Every example runs: the doctests of all modules, and the Python in README.md, from top to bottom."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import fastconv

ROOT = Path(__file__).parents[1]
MODULES = [module.name for module in pkgutil.walk_packages(fastconv.__path__, "fastconv.")]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["fastconv", *(name for name in MODULES if not name.endswith("__main__"))])
def test_doctests(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_readme() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert snippets
    exec("\n".join(snippets), {"__name__": "readme"})


def test_readme_holds_the_two_commands() -> None:
    lines = README.splitlines()
    assert "pip install '.[examples]' && python examples/mnist.py" in lines
    assert "pip install '.[test]' && pytest" in lines


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_files_that_pages_name_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
