"""Drop-ins for code that exists: of the course CS231n, and of the book "Deep Learning from Scratch"."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastconv.compat import cs231n, dlfs

__all__ = ["cs231n", "dlfs"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"fastconv.compat.{name}")
    raise AttributeError(f"module 'fastconv.compat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
