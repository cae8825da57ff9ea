"""ONNX Runtime (MLAS): weights prepacked, input and output bound so that nothing is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import helper
from onnx_models import model
from race import Contender
from rows import ConvRow, PoolRow

VERSION = onnxruntime.__version__
LABEL = "onnxruntime"


def network(
    onnx_model: Any, x: np.ndarray, output_shape: tuple[int, ...], threads: int
) -> dict[str, Contender]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        onnx_model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    output = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(output_shape, x.dtype))
    binding.bind_ortvalue_output("output", output)
    return {
        LABEL: Contender(lambda: session.run_with_iobinding(binding), lambda _: {"output": output.numpy()})
    }


def _contender(
    node: Any, row: ConvRow | PoolRow, constants: dict[str, Any], threads: int
) -> dict[str, Contender]:
    if row.dtype != np.float32:
        return {}
    onnx_model = model([node], row.x_shape, row.output_shape, constants)
    return network(onnx_model, row.x, row.output_shape, threads)


def conv_forward(row: ConvRow, threads: int) -> dict[str, Contender]:
    node = helper.make_node(
        "Conv",
        ["x", "weight", "bias"],
        ["output"],
        kernel_shape=row.kernel,
        strides=row.stride,
        pads=(*row.padding, *row.padding),
        dilations=row.dilation,
        group=row.groups,
    )
    return _contender(node, row, {"weight": row.weight, "bias": row.bias}, threads)


def pool_forward(row: PoolRow, threads: int) -> dict[str, Contender]:
    attributes = {"kernel_shape": row.kernel, "strides": row.stride, "pads": (*row.padding, *row.padding)}
    if row.kind == "max":
        node = helper.make_node("MaxPool", ["x"], ["output"], **attributes)
    else:
        node = helper.make_node("AveragePool", ["x"], ["output"], count_include_pad=1, **attributes)
    return _contender(node, row, {}, threads)
