"""ncnn, one image after the other: packed layouts, Winograd, weights prepacked, float32 throughout."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ncnn
import numpy as np
from race import Contender
from rows import ConvRow, PoolRow

VERSION = ncnn.__version__
MAGIC = 7767517
REDUCED_PRECISION = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic",
    "use_bf16_packed", "use_bf16_storage", "use_int8_inference",
)  # fmt: skip


def _net(layer: str, weights: bytes, threads: int) -> ncnn.Net:
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_packing_layout = True
    net.opt.use_winograd_convolution = True
    for option in REDUCED_PRECISION:
        setattr(net.opt, option, False)
    parameters = f"{MAGIC}\n2 2\nInput input 0 1 x\n{layer}\n"
    # The binding reads parameters from memory, but weights only from a file.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.bin")
        path.write_bytes(weights)
        if net.load_param_mem(parameters) or net.load_model(str(path)):
            raise RuntimeError(f"ncnn refuses {layer}")
    return net


def _contender(net: ncnn.Net, row: ConvRow | PoolRow) -> dict[str, Contender]:
    images = [ncnn.Mat(image) for image in row.x]

    def run() -> list[ncnn.Mat]:
        outputs = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("x", image)
            outputs.append(extractor.extract("output")[1])
        return outputs

    return {
        "ncnn": Contender(run, lambda outputs: {"output": np.stack([np.array(output) for output in outputs])})
    }


def _parameters(numbers: dict[int, int]) -> str:
    return " ".join(f"{key}={value}" for key, value in numbers.items())


def conv_forward(row: ConvRow, threads: int) -> dict[str, Contender]:
    if row.dtype != np.float32:
        return {}
    numbers = {
        0: row.k, 1: row.kernel[1], 11: row.kernel[0], 2: row.dilation[1], 12: row.dilation[0],
        3: row.stride[1], 13: row.stride[0], 4: row.padding[1], 14: row.padding[0], 5: 1, 6: row.weight.size,
    }  # fmt: skip
    kind = "Convolution" if row.groups == 1 else "ConvolutionDepthWise"
    if row.groups > 1:
        numbers[7] = row.groups
    raw_float32 = bytes(4)
    weights = raw_float32 + row.weight.tobytes() + row.bias.tobytes()
    return _contender(_net(f"{kind} conv 1 1 x output {_parameters(numbers)}", weights, threads), row)


def pool_forward(row: PoolRow, threads: int) -> dict[str, Contender]:
    if row.dtype != np.float32:
        return {}
    round_down = 1
    numbers = {
        0: int(row.kind == "avg"), 1: row.kernel[1], 11: row.kernel[0], 2: row.stride[1], 12: row.stride[0],
        3: row.padding[1], 13: row.padding[0], 5: round_down, 6: 1,
    }  # fmt: skip
    return _contender(_net(f"Pooling pool 1 1 x output {_parameters(numbers)}", b"", threads), row)
