"""Fast convolution, pooling and neural-network layers, forward and backward, for NumPy arrays."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastconv import functional
from fastconv._config import __version__ as __version__
from fastconv._config import show_config
from fastconv._kernels.memory import memory_info, release_memory
from fastconv._threads import get_num_threads, num_threads, set_num_threads
from fastconv.functional import *  # noqa: F403

if TYPE_CHECKING:
    from fastconv import compat, datasets, models, nn, optim, plot, testing, train
    from fastconv._torch_checkpoint import load_torch
    from fastconv.serialization import load, save

__all__ = [
    "compat",
    "datasets",
    "functional",
    "get_num_threads",
    "load",
    "load_torch",
    "memory_info",
    "models",
    "nn",
    "num_threads",
    "optim",
    "plot",
    "release_memory",
    "save",
    "set_num_threads",
    "show_config",
    "testing",
    "train",
    *functional.__all__,
]

# What comes on first use: modules, and functions with the modules that they are in.
_MODULES = ("compat", "datasets", "models", "nn", "optim", "plot", "testing", "train")
_FUNCTIONS = {
    "load": "fastconv.serialization",
    "load_torch": "fastconv._torch_checkpoint",
    "save": "fastconv.serialization",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"fastconv.{name}")
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
