"""Modules made of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import ArrayLike

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv.functional._sum import plus
from fastconv.nn.module import Layer, Module, backward_to_parameters

__all__ = ["Residual", "Sequential"]


def _check_module(name: str, value: Any) -> None:
    if not isinstance(value, Module):
        raise _checks.argument_error(name, type(value).__name__, "a Module", TypeError)


class Sequential(Layer):
    """Layers one after the other.

    Parameters
    ----------
    *layers : Module
        Named "0", "1" and so on. Or a single mapping from names to modules.

    Raises
    ------
    ValueError
        The same layer object is there twice.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.ReLU())
    >>> model(np.zeros((5, 3, 4))).shape
    (5, 2)
    >>> list(model.state_dict())
    ['1.weight', '1.bias']
    """

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            named = dict(layers[0])
        else:
            named = {str(i): layer for i, layer in enumerate(layers)}  # type: ignore[misc]
        for name, layer in named.items():
            if not isinstance(name, str) or not name or "." in name or hasattr(self, name):
                needs = "non-empty strings without dots, no attributes of Sequential"
                raise _checks.argument_error("the name of a layer", repr(name), needs)
            _check_module(f"layer {name}", layer)
        self._add_modules(named)

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        output: Any = x
        for layer in self:
            output = layer.forward(output)
        return output, ()

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        gradient: Any = grad_output
        layers = list(self)
        first = None
        if not self._needs_grad_x:  # the way back ends at the first layer that learns
            while layers and first is None:
                layer = layers.pop(0)
                first = layer if layer._learns() else None
        for layer in reversed(layers):
            gradient = layer.backward(gradient)
        if first is not None:
            backward_to_parameters(first, gradient)
        return gradient  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Module]:
        return (layer for _, layer in self.named_children())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int) -> Module:
        """The layer at a position; a negative one counts from the end."""
        return list(self)[_checks.integer("index", index)]


class Residual(Layer):
    """body(x) + shortcut(x), the block of He et al. (2016).

    Parameters
    ----------
    body : Module
    shortcut : Module, optional
        The identity by default. Both must give the same shape.

    Examples
    --------
    >>> from fastconv import nn
    >>> nn.Residual(nn.ReLU())([-1.0, 2.0])
    array([-1.,  4.])
    """

    def __init__(self, body: Module, shortcut: Module | None = None) -> None:
        _check_module("body", body)
        self.body = body
        if shortcut is not None:
            _check_module("shortcut", shortcut)
        self.shortcut = shortcut

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        given = _checks.as_array("x", x)
        output = _checks.as_array("body", self.body.forward(given))
        straight = (
            given if self.shortcut is None else _checks.as_array("shortcut", self.shortcut.forward(given))
        )
        _checks.shape("body", output, straight.shape, "that of the shortcut")
        return plus(output, straight), ()

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        gradient = _checks.as_array("grad_output", grad_output)
        if not self._needs_grad_x:
            for branch in (self.body, self.shortcut):
                if branch is not None:
                    backward_to_parameters(branch, gradient)
            return gradient
        through_body = self.body.backward(gradient)
        return plus(through_body, gradient if self.shortcut is None else self.shortcut.backward(gradient))
