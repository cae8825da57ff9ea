"""How good the plan is: random layers by every kind of kernels that is able, beside the kind that it picks.

python benchmarks/plan.py [--layers 100] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType

import environment  # noqa: F401  (before NumPy)
import numpy as np
from race import Contender, race

import fastconv as fc
from fastconv import _plan
from fastconv._kernels.geometry import ConvGeometry
from fastconv._kernels.isa import tile_shape
from fastconv._spec import conv_spec

CHANNELS = (1, 3, 6, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512)
SIZES = (2, 4, 5, 7, 8, 10, 13, 14, 16, 17, 20, 24, 28, 32, 40, 56, 64, 80, 112, 150)
KERNELS_AND_STRIDES = ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 1), (3, 2), (4, 2), (5, 1), (5, 2), (7, 2))
IMAGES = (1, 2, 4, 8, 16, 32, 64)
MULTIPLY_ADDS = (10**6, 5 * 10**8)  # of a layer
MOST_ELEMENTS = 10**7  # of an image, or of results
TURNS = {"rounds": 5, "turn_seconds": 0.01}
SHOWN_LOSS = 1.1


def random_layer(rng: np.random.Generator) -> ConvGeometry:
    """A square layer of NCHW images, neither tiny nor huge."""
    while True:
        kernel, stride = map(int, rng.choice(KERNELS_AND_STRIDES))
        images, size = int(rng.choice(IMAGES)), max(int(rng.choice(SIZES)), kernel)
        x_shape = (images, int(rng.choice(CHANNELS)), size, size)
        weight_shape = (int(rng.choice(CHANNELS)), x_shape[1], kernel, kernel)
        padding = kernel // 2 if rng.random() < 0.7 else 0
        g = conv_spec(x_shape, weight_shape, stride, padding, 1, 1, "zeros", "NCHW").geometry
        pixels = g.batch * g.out_h * g.out_w
        least, most = MULTIPLY_ADDS
        if not least <= pixels * int(np.prod(weight_shape)) <= most:
            continue
        if max(int(np.prod(x_shape)), pixels * g.out_channels) <= MOST_ELEMENTS:
            return g


def runs(task: str, g: ConvGeometry, rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """The task by each kind of kernels."""

    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    x = array(g.batch, g.in_channels, g.height, g.width)
    weight = array(g.out_channels, g.in_channels, g.kernel_h, g.kernel_w)
    y = array(g.batch, g.out_channels, g.out_h, g.out_w)
    result = np.empty_like({"forward": y, "grad_input": x, "grad_weight": weight}[task])

    def run(module: ModuleType) -> None:
        if task == "forward":
            module.forward(g, x, weight, None, result, False, 1)
        elif task == "grad_input":
            module.grad_input(g, y, weight, result, 1)
        else:
            module.grad_weight(g, y, x, result, 1)

    able = [name for name in _plan.MODULES if _plan.able(name, task, g)]
    if task == "grad_weight":  # Strassen's is direct, and im2col's is not made for speed.
        able = [name for name in able if name in ("direct", "rows", "depthwise", "winograd")]
    return {name: partial(run, _plan.MODULES[name]) for name in able}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    tile = tile_shape("f")
    fc.set_num_threads(1)
    losses: dict[str, list[float]] = {task: [] for task in _plan.TASKS}
    for _ in range(arguments.layers):
        g = random_layer(rng)
        layer = (
            f"{g.batch}x{g.in_channels}x{g.height}x{g.width}, {g.out_channels} {g.kernel_h}x{g.kernel_w} "
            f"stride {g.stride_h} padding {g.top}"
        )
        for task in _plan.TASKS:
            contenders = {name: Contender(run, dict) for name, run in runs(task, g, rng).items()}
            taken = {name: timing.median for name, timing in race(contenders, **TURNS).items()}
            picked, best = _plan.kernels(task, "auto", g, tile), min(taken, key=taken.__getitem__)
            losses[task].append(taken[picked] / taken[best])
            if losses[task][-1] > SHOWN_LOSS:
                times = ", ".join(f"{name} {1e3 * seconds:.3f}" for name, seconds in taken.items())
                print(f"{task} of {layer}: {picked} takes {losses[task][-1]:.2f} of {best} ({times} ms)")
    for task, values in losses.items():
        print(f"{task}: what is picked takes {np.exp(np.mean(np.log(values))):.3f} of the best")
    return 0


if __name__ == "__main__":
    sys.exit(main())
