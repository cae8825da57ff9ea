"""Every public name has an example, and every example runs; those in README.md too, from top to bottom."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import fastconv
from fastconv._kernels import isa

ROOT = Path(__file__).parents[1]
MODULES = [module.name for module in pkgutil.walk_packages(fastconv.__path__, "fastconv.")]
README = (ROOT / "README.md").read_text(encoding="utf-8")


# What examples of these modules need beside NumPy.
EXAMPLES_NEED = {"fastconv.datasets": "mlxtend", "fastconv.plot": "matplotlib"}

# Where users import names from; what they import by another path is the same.
PUBLIC = [
    *("fastconv", "fastconv.compat.cs231n", "fastconv.compat.dlfs", "fastconv.nn.init"),
    *(
        "fastconv.optim.lr_scheduler",
        *(f"fastconv.{n}" for n in fastconv.__all__ if f"fastconv.{n}" in MODULES),
    ),
]


def public_names() -> list[tuple[str, str]]:
    """(module, name) of every public function and class."""
    return [
        (module, name)
        for module in PUBLIC
        for name in importlib.import_module(module).__all__
        if not inspect.ismodule(getattr(importlib.import_module(module), name))
    ]


@pytest.mark.parametrize(("module", "name"), public_names())
def test_public_names_are_documented_with_an_example(module: str, name: str) -> None:
    """In numpydoc's form: a line that says what it is, then all else, an example last."""
    documented = getattr(importlib.import_module(module), name)
    text = inspect.getdoc(documented) or ""
    assert text.splitlines()[:1] == text.split("\n\n")[0].splitlines(), "the summary must be one line"
    assert "\nExamples\n--------\n" in text
    assert doctest.DocTestParser().get_examples(text)


@pytest.mark.parametrize("name", ["fastconv", *(name for name in MODULES if not name.endswith("__main__"))])
def test_doctests(name: str) -> None:
    if name in EXAMPLES_NEED:
        pytest.importorskip(EXAMPLES_NEED[name])
    if name == "fastconv._threads" and isa.build_info()["openmp"] != "yes":
        pytest.skip("its examples need OpenMP")
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
