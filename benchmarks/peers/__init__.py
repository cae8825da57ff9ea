"""One module a contender. It has VERSION, and for each operation that it can do a function of that name

    operation(row, threads) -> {label: Contender}

which brings the row's arrays into the contender's best layout, prepacks what it can, and sets its threads.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType

OPERATIONS = ("conv_forward", "conv_backward", "pool_forward", "pool_backward")
# What may be asked for by name, with the modules that it stands for.
PEERS = {
    "numpy": ("numpy_im2col", "numpy_windows"),
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
}
# Engines for inference, which pack weights ahead of the first call.
INFERENCE_ENGINES = ("onnxruntime", "openvino", "ncnn")


def load(names: Iterable[str]) -> tuple[dict[str, ModuleType], dict[str, str]]:
    """The modules of these names, and why the others cannot take part."""
    modules, missing = {}, {}
    for name in names:
        for module in PEERS.get(name, (name,)):
            try:
                modules[module] = importlib.import_module(f"peers.{module}")
            except ImportError as error:
                missing[module] = str(error)
    return modules, missing
