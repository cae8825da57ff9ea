"""The SimpleConvNet of "Deep Learning from Scratch", trained twice on 5,000 digits of MNIST.

Once all layers and the optimizer are plain NumPy, once fastconv's drop-ins; the network, the first weights
and the order of the images are the same. The drop-in's first layer is told that nobody needs the gradient of
the images, which the book's layer always computes; with --all-gradients it computes it, too. Prints the
losses of the first epoch side by side, and how much faster the epoch was.
"""

import argparse
import time
from types import ModuleType
from typing import Any

import numpy as np
import plain_layers
from mnist import natural, positive

from fastconv import datasets
from fastconv.compat import dlfs

Array = np.ndarray[Any, Any]

SETTLE_SECONDS = 0.5  # in which the threads of NumPy's BLAS, which wait awake for more work, fall asleep


class SimpleConvNet:
    """conv 30 5x5 - relu - pool - affine 100 - relu - affine 10 - softmax, learning as Adam does."""

    def __init__(self, layers: ModuleType, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.weighted = [
            layers.Convolution(0.01 * rng.standard_normal((30, 1, 5, 5)), np.zeros(30)),
            layers.Affine(0.01 * rng.standard_normal((30 * 12 * 12, 100)), np.zeros(100)),
            layers.Affine(0.01 * rng.standard_normal((100, 10)), np.zeros(10)),
        ]
        convolution, hidden, output = self.weighted
        self.layers = [convolution, layers.Relu(), layers.Pooling(2, 2), hidden, layers.Relu(), output]
        self.last = layers.SoftmaxWithLoss()
        self.optimizer = layers.Adam()
        self.params = {
            f"{name}{i}": getattr(layer, name) for i, layer in enumerate(self.weighted) for name in "Wb"
        }

    def loss(self, x: Array, t: Array) -> float:
        for layer in self.layers:
            x = layer.forward(x)
        return float(self.last.forward(x, t))

    def update(self) -> None:
        """One step, by the gradients of the latest loss."""
        gradient = self.last.backward()
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        grads = {
            f"{name}{i}": getattr(layer, f"d{name}") for i, layer in enumerate(self.weighted) for name in "Wb"
        }
        self.optimizer.update(self.params, grads)


def train(network: SimpleConvNet, x: Array, t: Array, batch: int, seed: int) -> tuple[Array, float]:
    """The losses of an epoch, and its seconds."""
    order = np.random.default_rng(seed).permutation(len(x))
    losses = []
    start = time.perf_counter()
    for i in range(0, len(x), batch):
        chosen = order[i : i + batch]
        losses.append(network.loss(x[chosen], t[chosen]))
        network.update()
    return np.array(losses), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=positive, default=100)
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--all-gradients", action="store_true")
    options = parser.parse_args()

    images, labels = datasets.mnist5k()
    x = images[:, np.newaxis] / 255.0
    results = {}
    for name, layers in (("NumPy", plain_layers), ("fastconv", dlfs)):
        network = SimpleConvNet(layers, options.seed)
        if layers is dlfs:
            network.layers[0].needs_dx = options.all_gradients
        time.sleep(SETTLE_SECONDS)
        results[name] = train(network, x, labels, options.batch_size, options.seed)
    (plain, plain_time), (fast, fast_time) = results["NumPy"], results["fastconv"]
    print(f"{'step':>5} {'NumPy':>18} {'fastconv':>18}")
    for step in range(0, len(plain), 5):
        print(f"{step:5} {plain[step]:18.12f} {fast[step]:18.12f}")
    print(f"largest relative difference of a loss: {np.max(np.abs(fast - plain) / plain):.1e}")
    print(
        f"an epoch takes {plain_time:.2f} s and {fast_time:.2f} s: {plain_time / fast_time:.1f} times faster"
    )


if __name__ == "__main__":
    main()
