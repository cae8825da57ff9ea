"""The reference: a directive for groups of entries, and a warning for each public name that has none.

``.. entries::`` takes names of the current module, one a line, and puts a table above their docstrings. (A
page for each, as autosummary makes them, would take the build more than twice the time.)
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

ROOTS = ("fastconv", "fastconv.compat.cs231n", "fastconv.compat.dlfs")


class Entries(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        names = list(self.content)
        module = import_module(self.env.ref_context["py:module"])
        table = [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names)]
        entries = [line for name in names for line in ("", *self._entry(name, getattr(module, name)))]
        return self.parse_text_to_nodes("\n".join([*table, *entries]))

    @staticmethod
    def _entry(name: str, value: Any) -> list[str]:
        if inspect.isclass(value):
            return [f".. autoclass:: {name}", "   :members:"]
        return [f".. autofunction:: {name}"]


def public_names(module: ModuleType) -> Iterator[str]:
    """What ``__all__`` of a module and of the modules it lists promises, functions as ``fastconv.NAME``."""
    home = module.__name__.removesuffix(".functional")
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            yield from public_names(value)
        else:
            yield f"{home}.{name}"


def check(app: Sphinx, env: BuildEnvironment) -> None:
    documented = env.domains.python_domain.objects
    for root in ROOTS:
        for name in public_names(import_module(root)):
            if name not in documented:
                logger.warning("%s is public, but not in the reference", name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("entries", Entries)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
