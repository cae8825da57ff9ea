"""How far float32 results are from float64, algorithm by algorithm, on layers of the classic networks.

python benchmarks/accuracy.py > docs/accuracy.md
"""

from __future__ import annotations

import dataclasses

import environment  # noqa: F401  (before NumPy)
import numpy as np
import reference
import report
import rows

import fastconv as fc
from fastconv._kernels import isa

ALGORITHMS = ("direct", "im2col", "winograd", "strassen", "auto")
RESULTS = {"output": "Forward", "grad_x": "Gradient of the input", "grad_weight": "Gradient of the weight"}
IMAGES = 2  # at most: more of them lengthen the reference's time, and no sum but the weight's gradient's

INTRODUCTION = """\
# Accuracy

The error of convolutions in float32 against float64, in units of eps = 2^-23: the largest error of any
element, relative to the largest element, for numbers from -1 to 1. Layers are those of AlexNet, VGG, ResNet,
MobileNet, LeNet and a small network for digits, {images} images each, and at the end some with kernels of one
row or column, as `conv1d` has them. "products" is how many are summed into an element; "promised" is the
bound that `algorithm="auto"` keeps, 16 sqrt(products) + 32; `"direct"` and `"im2col"` keep
4 sqrt(products) + 4. A dash: the algorithm cannot do the layer.

Rounding errors of a plain sum of random numbers grow like the root of its length, those of equal numbers
like the length. So fastconv cuts sums of more than 576 products into pieces, all of which are summed before
they are added up; PyTorch with AVX-512 has smaller ones, but none in most gradients of the weight. Winograd
multiplies transformed numbers, whose rounding weighs more: two to four times as much in 3x3 layers, and
hardly more than that of direct along one axis. Strassen multiplies sums and differences of quarters and adds
the products up again: its errors are two to four times those of direct. The gradient of the weight it leaves
to direct.

By `python benchmarks/accuracy.py` on {processor}, {isa}, fastconv {version}, PyTorch {torch}."""


def errors(results: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest errors, in eps of the largest element."""
    return {
        name: float(np.abs(results[name] - want).max() / np.abs(want).max() / np.finfo(np.float32).eps)
        for name, want in exact.items()
        if name in RESULTS
    }


def ours(row: rows.ConvRow, algorithm: str) -> dict[str, np.ndarray]:
    """The output and the gradients by an algorithm; ValueError where it cannot do the row."""
    how = (row.stride, row.padding, row.dilation, row.groups)
    gradients = fc.conv2d_backward(row.grad_output, row.x, row.weight, *how, algorithm=algorithm)
    output = fc.conv2d(row.x, row.weight, row.bias, *how, algorithm=algorithm)
    return dict(zip(RESULTS, (output, *gradients[:2]), strict=True))


def torchs(row: rows.ConvRow) -> dict[str, np.ndarray]:
    """PyTorch's, in contiguous memory."""
    from peers import torch as peer

    contenders = [family(row, 1)["torch"] for family in (peer.conv_forward, peer.conv_backward)]
    results: dict[str, np.ndarray] = {}
    for contender in contenders:
        with contender.context():
            results |= contender.results(contender.run())
    return results


def measure(row: rows.ConvRow) -> dict[str, dict[str, float]]:
    """Errors by contender, then by result."""
    exact = reference.conv_forward(row) | reference.conv_backward(row)
    measured = {}
    for algorithm in ALGORITHMS:
        try:
            measured[algorithm] = errors(ours(row, algorithm), exact)
        except ValueError:
            continue
    return measured | {"PyTorch": errors(torchs(row), exact)}


def main() -> None:
    import torch

    print(
        INTRODUCTION.format(
            images=IMAGES,
            processor=report.processor_name(),
            isa=isa.active(),
            version=fc.__version__,
            torch=torch.__version__.split("+")[0],
        )
    )
    lines = [row for row in rows.OTHER_CONV_ROWS if min(row.kernel) == 1 < max(row.kernel)]
    layers = [dataclasses.replace(row, n=min(row.n, IMAGES)) for row in (*rows.CONV_ROWS, *lines)]
    measured = [measure(row) for row in layers]
    columns = (*ALGORITHMS, "PyTorch")
    for result, title in RESULTS.items():
        print(f"\n## {title}\n")
        print("| layer | products |", " | ".join(columns), "| promised |")
        print("|---" * (len(columns) + 3) + "|")
        for row, by_contender in zip(layers, measured, strict=True):
            cells = [f"{by_contender[name][result]:.1f}" if name in by_contender else "-" for name in columns]
            promised = row.tolerances[result] / np.finfo(np.float32).eps
            print(f"| {row.name} | {row.products[result]:,} |", " | ".join(cells), f"| {promised:.0f} |")


if __name__ == "__main__":
    main()
