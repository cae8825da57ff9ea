"""Imports go strictly down: a module may import what is on lower floors of the house."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastconv

PACKAGE = Path(fastconv.__file__).parent
CSRC = Path(__file__).parents[1] / "src" / "fastconv" / "_kernels" / "csrc"

needs_sources = pytest.mark.skipif(
    not CSRC.is_dir(), reason="fastconv is installed and its sources aren't here"
)

PLAN = ["_plan", "_work", "_costs", "_costs_wide"]
SPECS = ["_spec", "_pool_spec", "_columns_spec", "_transpose_spec", "_threads", *PLAN]

# From the ground up. A module belongs to the longest name here that begins its own.
FLOORS = [
    ["_checks", "_file_content", "_processors"],
    ["_kernels"],
    [*SPECS, "_npz", "_safetensors"],
    ["functional", "serialization", "datasets", "_config", "_training_session"],
    ["_torch_checkpoint"],
    ["nn"],
    ["optim"],
    ["_checkpoint"],
    ["models", "compat", "testing", "train", "plot"],
    ["", "__main__"],  # the package itself
]

# Modules of a floor that may import from one another, since they are one part in several files.
PARTS = {"functional", "nn", "optim", "models", "compat", "_kernels", "specs"}
PART_OF = dict.fromkeys(SPECS, "specs")


def unit(module: str) -> str:
    """The entry of FLOORS that `module`, without the leading "fastconv.", belongs to."""
    return module.split(".")[0]


FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    """What a file imports of fastconv when it runs, without "fastconv."; what is for types alone left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "fastconv":
                    yield alias.name.removeprefix("fastconv").removeprefix(".")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "fastconv":
                yield from (alias.name if alias.name in FLOOR else "" for alias in node.names)
            elif node.module and node.module.startswith("fastconv."):
                yield node.module.removeprefix("fastconv.")


MODULES = dict(modules())


def test_every_module_has_a_floor() -> None:
    assert {unit(module) for module in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    here = unit(module)
    for imported in imports(MODULES[module]):
        there = unit(imported)
        same_part = PART_OF.get(here, here) == PART_OF.get(there, there) and PART_OF.get(here, here) in PARTS
        assert same_part or FLOOR[there] < FLOOR[here], (
            f"fastconv.{module} imports fastconv.{imported}, above it"
        )


def test_the_walk_sees_imports() -> None:
    assert "nn.module" in set(imports(MODULES["train"]))
    assert "_checks" in set(imports(MODULES["datasets"]))


@needs_sources
def test_c_code_knows_nothing_of_python_or_openmp() -> None:
    sources = [*CSRC.glob("*.[ch]")]
    assert sources
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert "Python.h" not in text, path
        assert "omp.h" not in text, path
        assert "#pragma omp" not in text, path


@needs_sources
def test_all_of_openmp_is_in_one_module() -> None:
    """Whose loop has one thread go without it; what tells of OpenMP alone has its flag besides."""
    sources = [*CSRC.parent.glob("*.pyx"), *CSRC.parent.glob("*.pxd")]
    assert [path.name for path in sources if "cython.parallel" in path.read_text()] == ["threads.pyx"]
