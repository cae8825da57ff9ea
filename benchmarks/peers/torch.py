"""PyTorch (oneDNN) in both of its memory formats; backwards are called directly, without autograd's graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from race import Contender
from rows import ConvRow, PoolRow

VERSION = torch.__version__
FORMATS = {"torch": torch.contiguous_format, "torch channels_last": torch.channels_last}


def _formats(threads: int) -> Iterator[tuple[str, Callable[[Any], torch.Tensor]]]:
    """Each memory format's label, with the way to bring an array into it."""
    torch.set_num_threads(threads)
    for label, memory_format in FORMATS.items():
        yield label, lambda array, to=memory_format: torch.tensor(array).contiguous(memory_format=to)


def _contender(
    operation: Callable[..., Any], arguments: tuple[Any, ...], names: tuple[str, ...]
) -> Contender:
    def results(value: Any) -> dict[str, Any]:
        tensors = value if isinstance(value, tuple) else (value,)
        return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}

    return Contender(lambda: operation(*arguments), results, torch.inference_mode)


def conv_forward(row: ConvRow, threads: int) -> dict[str, Contender]:
    bias = torch.tensor(row.bias)
    return {
        label: _contender(
            torch.conv2d,
            (put(row.x), put(row.weight), bias, row.stride, row.padding, row.dilation, row.groups),
            ("output",),
        )
        for label, put in _formats(threads)
    }


def conv_backward(row: ConvRow, threads: int) -> dict[str, Contender]:
    geometry = ([row.k], row.stride, row.padding, row.dilation, False, (0, 0), row.groups, (True, True, True))
    return {
        label: _contender(
            torch.ops.aten.convolution_backward,
            (put(row.grad_output), put(row.x), put(row.weight), *geometry),
            ("grad_x", "grad_weight", "grad_bias"),
        )
        for label, put in _formats(threads)
    }


def pool_forward(row: PoolRow, threads: int) -> dict[str, Contender]:
    operation = torch.max_pool2d if row.kind == "max" else torch.nn.functional.avg_pool2d
    return {
        label: _contender(operation, (put(row.x), row.kernel, row.stride, row.padding), ("output",))
        for label, put in _formats(threads)
    }


def pool_backward(row: PoolRow, threads: int) -> dict[str, Contender]:
    geometry = (row.kernel, row.stride, row.padding)
    contenders = {}
    for label, put in _formats(threads):
        x, grad_output = put(row.x), put(row.grad_output)
        if row.kind == "max":
            operation = torch.ops.aten.max_pool2d_with_indices_backward
            _, indices = torch.ops.aten.max_pool2d_with_indices(x, *geometry)
            arguments = (grad_output, x, *geometry, row.dilation, False, indices)
        else:
            operation = torch.ops.aten.avg_pool2d_backward
            arguments = (grad_output, x, *geometry, False, True, None)
        contenders[label] = _contender(operation, arguments, ("grad_x",))
    return contenders
