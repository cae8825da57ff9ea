"""OpenVINO's CPU plugin in float32: compiled models that share input and output with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops
from race import Contender
from rows import ConvRow, PoolRow

VERSION = openvino.get_version().split("-")[0]
LABEL = "openvino"


def network(
    onnx_model: Any, x: np.ndarray, output_shape: tuple[int, ...], threads: int
) -> dict[str, Contender]:
    return _contender(openvino.Core().read_model(onnx_model.SerializeToString()), x, threads)


def _contender(model: openvino.Model, x: np.ndarray, threads: int) -> dict[str, Contender]:
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def results(_: Any) -> dict[str, np.ndarray]:
        return {"output": request.get_output_tensor().data}

    return {LABEL: Contender(lambda: request.infer(share_outputs=True), results)}


def conv_forward(row: ConvRow, threads: int) -> dict[str, Contender]:
    if row.dtype != np.float32:
        return {}
    x = ops.parameter(row.x_shape, np.float32)
    geometry = (list(row.stride), list(row.padding), list(row.padding), list(row.dilation))
    if row.groups == 1:
        product = ops.convolution(x, ops.constant(row.weight), *geometry)
    else:
        grouped = row.weight.reshape(row.groups, row.k // row.groups, *row.weight_shape[1:])
        product = ops.group_convolution(x, ops.constant(grouped), *geometry)
    node = ops.add(product, ops.constant(row.bias.reshape(1, row.k, 1, 1)))
    return _contender(openvino.Model([node.output(0)], [x]), row.x, threads)


def pool_forward(row: PoolRow, threads: int) -> dict[str, Contender]:
    if row.dtype != np.float32:
        return {}
    x = ops.parameter(row.x_shape, np.float32)
    stride, padding, kernel = list(row.stride), list(row.padding), list(row.kernel)
    if row.kind == "max":
        node = ops.max_pool(x, stride, list(row.dilation), padding, padding, kernel)
    else:
        node = ops.avg_pool(x, stride, padding, padding, kernel, exclude_pad=False)
    return _contender(openvino.Model([node.output(0)], [x]), row.x, threads)
