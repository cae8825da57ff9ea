"""The loop that everyone writes: epochs of minibatches, a progress bar, the best weights, a way to stop.

Examples
--------
>>> import numpy as np
>>> from fastconv import nn, optim
>>> rng = np.random.default_rng(0)
>>> x = rng.normal(size=(64, 2))
>>> y = (x[:, 0] > x[:, 1]).astype(int)
>>> model = nn.Sequential(nn.Linear(2, 2, dtype=np.float64, rng=rng))
>>> optimizer = optim.Adam(model.parameters(), lr=0.1)
>>> history = fit(model, nn.CrossEntropyLoss(), optimizer, (x, y), epochs=20, rng=rng)
>>> history.loss[-1] < 0.3 < history.loss[0]
True
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastconv import _checkpoint, _checks
from fastconv._checkpoint import PathLike
from fastconv._training_session import Bar, StopTraining, interruptible, progress_bars
from fastconv.datasets import minibatches
from fastconv.nn.module import Module, backward_to_parameters, evaluating
from fastconv.optim.lr_scheduler import LRScheduler
from fastconv.optim.optimizer import Optimizer

__all__ = ["Evaluation", "History", "evaluate", "fit"]

Data: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
Transform: TypeAlias = Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]

BATCH_SIZE = 64


class Loss(Protocol):
    """What a loss must do; those of `fastconv.nn` do."""

    def __call__(self, prediction: NDArray[Any], target: NDArray[Any], /) -> float: ...

    def backward(self) -> NDArray[Any]: ...


@dataclasses.dataclass
class Evaluation:
    """What a model makes of a data set.

    Attributes
    ----------
    loss : float
        The mean over all elements.
    accuracy : float
        The share of elements whose largest output is their class, NaN where targets are no classes.
    output : ndarray, (N, ...)
        What the model gave for each.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn, train
    >>> x, y = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    >>> result = train.evaluate(nn.Softmax(), nn.CrossEntropyLoss(), (x, y))
    >>> result.accuracy, result.output.shape
    (1.0, (2, 2))
    """

    loss: float
    accuracy: float
    output: NDArray[Any]


@dataclasses.dataclass
class History:
    """What happened in each epoch so far; lists of one number an epoch.

    Attributes
    ----------
    loss, accuracy : list of float
        Over the epoch's training batches, each as it was when it was learned from.
    validation_loss, validation_accuracy : list of float
        After the epoch, NaN where it had no validation data; empty where no epoch had.
    learning_rate : list of float
        Of the first group, at the epoch's end.
    seconds : list of float
        Of the training alone.
    samples_per_second : list of float
    best_epoch : int or None
        The epoch (from 0) that did best on the validation data; None without such data.
    interrupted : bool
        Whether Ctrl-C ended the training.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn, optim, train
    >>> model, x = nn.Linear(1, 1, dtype=np.float64), np.ones((4, 1))
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> history = train.fit(model, nn.MSELoss(), optimizer, (x, x), epochs=2, batch_size=4)
    >>> len(history.loss), history.learning_rate, history.interrupted
    (2, [0.1, 0.1], False)
    """

    loss: list[float] = dataclasses.field(default_factory=list)
    accuracy: list[float] = dataclasses.field(default_factory=list)
    validation_loss: list[float] = dataclasses.field(default_factory=list)
    validation_accuracy: list[float] = dataclasses.field(default_factory=list)
    learning_rate: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    samples_per_second: list[float] = dataclasses.field(default_factory=list)
    best_epoch: int | None = None
    interrupted: bool = False


class _Running:
    """Mean loss and accuracy over the batches so far."""

    def __init__(self) -> None:
        self.count, self.loss_sum, self.correct = 0, 0.0, 0.0

    def add(self, loss: float, output: NDArray[Any], target: NDArray[Any]) -> None:
        classes = target.ndim == 1 and target.dtype.kind in "iu" and output.ndim == 2
        self.count += len(target)
        self.loss_sum += loss * len(target)
        self.correct += float(np.sum(output.argmax(1) == target)) if classes else np.nan

    @property
    def loss(self) -> float:
        return self.loss_sum / self.count if self.count else np.nan

    @property
    def accuracy(self) -> float:
        return self.correct / self.count if self.count else np.nan


def evaluate(model: Module, loss: Loss, data: Data, batch_size: int = 256) -> Evaluation:
    """The loss, the accuracy and the outputs of `model` over `data`, in `eval()` mode.

    Parameters
    ----------
    model : Module
        Its mode and that of each layer are restored afterwards.
    loss : Loss
        ``loss(output, target)``, a mean over the batch.
    data : (x, y) of ndarray, (N, ...)
        At least one element.
    batch_size : int
        Elements at a time; it does not change the result but for rounding.

    Returns
    -------
    Evaluation

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn, train
    >>> x = np.array([[2.0], [4.0]])
    >>> train.evaluate(nn.ReLU(), nn.MSELoss(), (x, x)).loss
    0.0
    """
    x, y = _pair("data", data)
    return _evaluate(model, loss, x, y, _checks.integer("batch_size", batch_size, 1), lambda: None)


def _evaluate(
    model: Module, loss: Loss, x: NDArray[Any], y: NDArray[Any], batch_size: int, between: Callable[[], None]
) -> Evaluation:
    running, outputs = _Running(), []
    with evaluating(model):
        for x_batch, y_batch in minibatches(x, y, batch_size, shuffle=False):
            between()
            output = model(x_batch)
            running.add(loss(output, y_batch), output, y_batch)
            outputs.append(output)
    return Evaluation(running.loss, running.accuracy, np.concatenate(outputs))


def fit(
    model: Module,
    loss: Loss,
    optimizer: Optimizer,
    train: Data,
    validation: Data | None = None,
    epochs: int = 10,
    *,
    batch_size: int = BATCH_SIZE,
    rng: np.random.Generator | None = None,
    transform: Transform | None = None,
    schedule: LRScheduler | None = None,
    patience: int | None = None,
    keep_best: bool = True,
    checkpoint: PathLike | None = None,
    progress: bool | None = None,
    on_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train `model` until `epochs` are done, nothing improves any more, or Ctrl-C is pressed.

    Ctrl-C ends the training after the batch at hand; the model keeps what it has learned. A second one raises
    KeyboardInterrupt at once.

    Parameters
    ----------
    model : Module
        Every epoch begins with ``model.train()``: layers that were put into `eval` one by one train, too.
    loss : Loss
        ``loss(output, target)``, a mean over the batch, then ``loss.backward()``.
    optimizer : Optimizer
        Of the model's parameters.
    train : (x, y) of ndarray, (N, ...)
        What to learn from.
    validation : (x, y) of ndarray, optional
        What to measure each epoch by. The best epoch is that of the highest accuracy, or of the lowest loss
        where the targets are no classes; of several, the first. One whose loss is NaN is the best only as
        long as no other is.
    epochs : int
        How many, those of the checkpoint included.
    batch_size : int
    rng : numpy.random.Generator, optional
        Decides the order of the batches and is given to `transform`; the same seed gives the same weights.
    transform : callable, optional
        ``transform(x_batch, rng)`` gives what to learn from instead of ``x_batch``.
    schedule : LRScheduler, optional
        Stepped once a batch.
    patience : int, optional
        Stop after so many epochs without a better one. Needs `validation`.
    keep_best : bool
        Whether the model ends with the weights of the best epoch. Without `validation`, and after Ctrl-C, it
        has the latest, always.
    checkpoint : path, optional
        An ``.npz`` file, in a folder that exists, that is written after every epoch. Where it exists,
        training goes on from there, bit for bit as if it had not been interrupted; with `validation` or
        without, whatever it was before.
    progress : bool, optional
        Whether to show a bar, which needs tqdm. By default where there is a terminal and tqdm.
    on_epoch : callable, optional
        Called with the history after each epoch.

    Returns
    -------
    History

    Raises
    ------
    ValueError, TypeError
        An argument or the checkpoint is not what it must be.
    FloatingPointError
        The loss is no finite number any more. The model has the weights that gave it.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn, optim, train
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(64, 3))
    >>> y = x @ [[1.0], [2.0], [3.0]]
    >>> model = nn.Linear(3, 1, dtype=np.float64, rng=rng)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> history = train.fit(model, nn.MSELoss(), optimizer, (x, y), epochs=20, batch_size=8, rng=rng)
    >>> model.weight.data.round(2)
    array([[1., 2., 3.]])
    """
    x, y = _pair("train", train)
    held_out = None if validation is None else _pair("validation", validation)
    epochs = _checks.integer("epochs", epochs, 0)
    batch_size = _checks.integer("batch_size", batch_size, 1)
    keep_best = _checks.boolean("keep_best", keep_best)
    if patience is not None:
        patience = _checks.integer("patience", patience, 1)
        if held_out is None:
            raise _checks.argument_error("patience", patience, "validation data")
    rng = _checks.generator("rng", rng)
    if checkpoint is not None:
        _checkpoint.check(checkpoint)
    show = progress_bars(progress)
    run = _Run(model, optimizer, schedule, rng)
    if checkpoint is not None and Path(checkpoint).exists():
        run.resume(checkpoint)
    history = run.history
    history.interrupted = False
    with interruptible() as between:
        try:
            while len(history.loss) < epochs and not run.exhausted(patience):
                epoch = len(history.loss)
                with show(len(x), f"epoch {epoch + 1}/{epochs}") as bar:
                    running, seconds = _one_epoch(run, loss, x, y, batch_size, transform, bar, between)
                    measured = None
                    if held_out is not None:
                        measured = _evaluate(model, loss, *held_out, batch_size, between)
                    run.record(running, measured, seconds)
                    bar.done(run.summary())
                if checkpoint is not None:
                    run.write(checkpoint)
                if on_epoch is not None:
                    on_epoch(history)
                between()
        except StopTraining:
            history.interrupted = True
            return history
    if keep_best and held_out is not None:
        run.restore_best()
    return history


def _one_epoch(
    run: _Run,
    loss: Loss,
    x: NDArray[Any],
    y: NDArray[Any],
    batch_size: int,
    transform: Transform | None,
    bar: Bar,
    between: Callable[[], None],
) -> tuple[_Running, float]:
    running = _Running()
    run.model.train()
    start = time.perf_counter()
    for x_batch, y_batch in minibatches(x, y, batch_size, run.rng):
        between()
        if transform is not None:
            x_batch = transform(x_batch, run.rng)
        run.optimizer.zero_grad()
        output = run.model(x_batch)
        value = loss(output, y_batch)
        if not np.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} in epoch {len(run.history.loss) + 1}; try a lower rate"
            )
        backward_to_parameters(run.model, loss.backward())
        run.optimizer.step()
        if run.schedule is not None:
            run.schedule.step()
        running.add(value, output, y_batch)
        bar.advance(len(x_batch), {"loss": running.loss, "accuracy": running.accuracy})
    return running, time.perf_counter() - start


def _pair(name: str, data: Data) -> Data:
    x, y = (np.asarray(part) for part in data)
    if not len(x) or len(x) != len(y):
        got = f"{len(x)} inputs and {len(y)} targets"
        raise _checks.argument_error(name, got, "as many of one as of the other, at least 1")
    return x, y


# ---- the state of a training: what a checkpoint holds ----


class _Run:
    def __init__(
        self, model: Module, optimizer: Optimizer, schedule: LRScheduler | None, rng: np.random.Generator
    ) -> None:
        self.model, self.optimizer, self.schedule, self.rng = model, optimizer, schedule, rng
        self.history = History()
        self.best: dict[str, NDArray[Any]] = {}

    def record(self, running: _Running, measured: Evaluation | None, seconds: float) -> None:
        """Add an epoch to the history, and keep the weights if they are the best so far."""
        history = self.history
        history.loss.append(running.loss)
        history.accuracy.append(running.accuracy)
        history.learning_rate.append(float(self.optimizer.param_groups[0]["lr"]))
        history.seconds.append(seconds)
        history.samples_per_second.append(running.count / seconds)
        epoch = len(history.loss) - 1
        if measured is None and not history.validation_loss:
            return
        for numbers in (history.validation_loss, history.validation_accuracy):
            numbers += [np.nan] * (epoch + 1 - len(numbers))
        if measured is None:
            return
        history.validation_loss[epoch], history.validation_accuracy[epoch] = measured.loss, measured.accuracy
        if history.best_epoch is None or self._merit(epoch) > self._merit(history.best_epoch):
            history.best_epoch = epoch
            self.best = {name: np.array(value) for name, value in self.model.state_dict().items()}

    def _merit(self, epoch: int) -> tuple[bool, float]:
        """What the best epoch has most of. NaN outputs have an accuracy, too, but it says nothing."""
        loss, accuracy = self.history.validation_loss[epoch], self.history.validation_accuracy[epoch]
        if np.isnan(loss):
            return False, 0.0
        return True, -loss if np.isnan(accuracy) else accuracy

    def exhausted(self, patience: int | None) -> bool:
        best = self.history.best_epoch
        return patience is not None and best is not None and len(self.history.loss) - 1 - best >= patience

    def restore_best(self) -> None:
        if self.best:
            self.model.load_state_dict(self.best)

    def generators(self) -> list[np.random.Generator]:
        """Every source of chance, each once: that of the order, and those of layers such as dropout."""
        found = {id(self.rng): self.rng}
        for module in self.model.modules():
            found.update((id(v), v) for v in vars(module).values() if isinstance(v, np.random.Generator))
        return list(found.values())

    def summary(self) -> dict[str, float]:
        """What a progress bar shows of the latest epoch."""
        history = self.history
        values = {"loss": history.loss[-1], "accuracy": history.accuracy[-1]}
        if history.validation_loss:
            accuracy = history.validation_accuracy[-1]
            values["validation"] = history.validation_loss[-1] if np.isnan(accuracy) else accuracy
        return values

    def write(self, path: PathLike) -> None:
        _checkpoint.write(
            path,
            self.model,
            self.optimizer,
            self.schedule,
            self.generators(),
            self.best,
            dataclasses.asdict(self.history),
        )

    def resume(self, path: PathLike) -> None:
        self.best, self.history = _checkpoint.resume(
            path, self.model, self.optimizer, self.schedule, self.generators(), lambda kept: History(**kept)
        )
