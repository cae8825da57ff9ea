"""ONNX Runtime (MLAS): models built in memory, weights prepacked, input and output bound so that nothing is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from race import Contender
from rows import ConvRow, PoolRow

VERSION = onnxruntime.__version__
OPSET = 17
IR_VERSION = 8


def session(model: Any, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def model(nodes: list[Any], x_shape: tuple[int, ...], output_shape: tuple[int, ...], constants: dict[str, Any]) -> Any:
    """A model of `nodes` from "x" to "output"; `constants` are its weights by name."""
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _contender(node: Any, row: ConvRow | PoolRow, constants: dict[str, Any], threads: int) -> dict[str, Contender]:
    if row.dtype != np.float32:
        return {}
    ready = session(model([node], row.x_shape, row.output_shape, constants), threads)
    binding = ready.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(row.x))
    output = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(row.output_shape, row.dtype))
    binding.bind_ortvalue_output("output", output)
    return {
        "onnxruntime": Contender(lambda: ready.run_with_iobinding(binding), lambda _: {"output": output.numpy()})
    }


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
