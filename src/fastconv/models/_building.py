"""What the networks have in common: residual blocks with torchvision's names, He's first values, depths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from fastconv import _checks
from fastconv.nn import Conv2d, Module, Residual, Sequential, init

__all__ = ["InlinedResidual", "InlinedSequential", "initialize_convolutions", "of_depth"]

T = TypeVar("T")


class InlinedResidual(Residual):
    """A residual block whose parameters are named as its own: without "body." and "shortcut."."""

    _inlined = ("body", "shortcut")


class InlinedSequential(Sequential):
    """Layers one after the other, the first of which lends its names to the whole."""

    _inlined = ("0",)


def initialize_convolutions(model: Module, generator: np.random.Generator) -> None:
    """He's rule for convolutions, scaled so that gradients keep their variance; biases become 0."""
    for layer in model.modules():
        if isinstance(layer, Conv2d):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", rng=generator)
            if layer.bias is not None:
                init.constant_(layer.bias, 0)


def of_depth(depth: int, plans: Mapping[int, T]) -> T:
    """The plan of the network with so many layers."""
    number = _checks.integer("depth", depth)
    if number not in plans:
        *others, last = map(str, plans)
        raise _checks.argument_error("depth", number, f"{', '.join(others)} or {last}")
    return plans[number]
