"""The table that `Module.summary` prints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv.nn.module import Module
from fastconv.nn.parameter import Parameter

__all__ = ["summarize"]


class _Row(NamedTuple):
    layer: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def summarize(module: Module, input_shape: Sequence[int]) -> str:
    """The table for an input of this shape, with or without the batch axis in front."""
    shape = _checks.sizes("input_shape", input_shape, "a tuple of integers")
    try:
        rows = _run(module, shape)
    except (ValueError, TypeError) as error:
        try:
            rows = _run(module, (1, *shape))
        except (ValueError, TypeError):
            raise error from None
    parameters = sum(parameter.size for parameter in module.parameters())
    return _table(rows, parameters, sum(row.multiply_adds for row in rows))


def _run(module: Module, input_shape: tuple[int, ...]) -> list[_Row]:
    """One row for each layer that takes part in a forward, in order: of a copy with the same parameters."""
    rows: list[_Row] = []
    observed = copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()}).eval()
    for name, layer in observed.named_modules():
        own = [value for value in vars(layer).values() if isinstance(value, Parameter)]
        if own or not any(layer.named_children()):
            size = sum(parameter.size for parameter in own)
            vars(layer)["forward"] = _recording(layer, name, size, rows)
            vars(layer)["way"] = lambda shape, char: None  # so that a frozen network calls forward
    dtype = next((parameter.dtype for parameter in module.parameters()), np.dtype(np.float32))
    observed.forward(np.zeros(input_shape, dtype))
    return rows


def _recording(layer: Module, name: str, parameters: int, rows: list[_Row]) -> Callable[[Any], FloatArray]:
    forward = layer.forward
    label = f"{name} {layer._get_name()}".strip()

    def recorded(x: Any) -> FloatArray:
        output = forward(x)
        rows.append(_Row(label, output.shape, parameters, layer.multiply_adds(output.shape)))
        return output

    return recorded


def _table(rows: list[_Row], parameters: int, multiply_adds: int) -> str:
    cells = [("Layer", "Output shape", "Parameters", "Multiply-adds")]
    cells += [
        (row.layer, str(row.output_shape), f"{row.parameters:,}", f"{row.multiply_adds:,}") for row in rows
    ]
    cells.append(("Total", "", f"{parameters:,}", f"{multiply_adds:,}"))
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [
        f"{layer:<{widths[0]}}  {shape:<{widths[1]}}  {size:>{widths[2]}}  {cost:>{widths[3]}}"
        for layer, shape, size, cost in cells
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
