"""The way of `torch_models` into ONNX: what torch.onnx does, without the packages that it asks for."""

from __future__ import annotations

from typing import Any

import torch
from onnx import helper
from onnx_models import model
from torch import nn
from torch_models import Residual


def onnx_model(network: nn.Module, x_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Any:
    """The ONNX model of a network made of the layers of `torch_models`, in eval mode."""
    nodes: list[Any] = []
    constants: dict[str, Any] = {}

    def constant(tensor: torch.Tensor) -> str:
        name = f"constant{len(constants)}"
        constants[name] = tensor.detach().numpy()
        return name

    def node(operation: str, *inputs: str, **attributes: Any) -> str:
        output = f"value{len(nodes)}"
        nodes.append(helper.make_node(operation, list(inputs), [output], **attributes))
        return output

    def pair(value: int | tuple[int, int]) -> tuple[int, int]:
        return (value, value) if isinstance(value, int) else value

    def emit(layer: nn.Module, x: str) -> str:
        match layer:
            case nn.Sequential():
                for child in layer:
                    x = emit(child, x)
                return x
            case Residual():
                return node("Relu", node("Add", emit(layer.body, x), emit(layer.shortcut, x)))
            case nn.Identity() | nn.Dropout():
                return x
            case nn.ZeroPad2d():
                left, right, top, bottom = layer.padding
                return node("Pad", x, constant(torch.tensor([0, 0, top, left, 0, 0, bottom, right])))
            case nn.Conv2d():
                parameters = [constant(layer.weight)] + ([] if layer.bias is None else [constant(layer.bias)])
                return node(
                    "Conv", x, *parameters, strides=layer.stride, pads=(*layer.padding, *layer.padding)
                )
            case nn.BatchNorm2d():
                statistics = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
                return node("BatchNormalization", x, *map(constant, statistics), epsilon=layer.eps)
            case nn.ReLU():
                return node("Relu", x)
            case nn.MaxPool2d():
                padding = pair(layer.padding)
                kernel, stride = pair(layer.kernel_size), pair(layer.stride)
                return node("MaxPool", x, kernel_shape=kernel, strides=stride, pads=(*padding, *padding))
            case nn.AdaptiveAvgPool2d(output_size=1):
                return node("GlobalAveragePool", x)
            case nn.LocalResponseNorm():
                return node("LRN", x, alpha=layer.alpha, beta=layer.beta, bias=layer.k, size=layer.size)
            case nn.Flatten():
                return node("Flatten", x)
            case nn.Linear():
                return node("Gemm", x, constant(layer.weight), constant(layer.bias), transB=1)
        raise NotImplementedError(f"{type(layer).__name__} has no ONNX node here")

    last = emit(network, "x")
    nodes.append(helper.make_node("Identity", [last], ["output"]))
    return model(nodes, x_shape, output_shape, constants)
