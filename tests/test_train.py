"""fastconv.train: the same numbers as a loop written out here, resumed or not, and Ctrl-C."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, optim, train

X = np.random.default_rng(1).normal(size=(90, 3))
Y = (X @ [1.0, -2.0, 0.5] > 0.2).astype(np.int64)
LEARN, HELD_OUT = (X[:70], Y[:70]), (X[70:], Y[70:])
NAN, INF = float("nan"), float("inf")


def network(seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Linear(3, 8, dtype=np.float64, rng=rng),
        nn.ReLU(),
        nn.Dropout(0.2, rng=rng),
        nn.Linear(8, 2, dtype=np.float64, rng=rng),
    )


def fit(model: nn.Module, epochs: int = 4, **options: Any) -> train.History:
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    if options.pop("scheduled", False):
        options["schedule"] = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=60)
    rng = np.random.default_rng(9)
    validation = options.pop("validation", HELD_OUT)
    return train.fit(
        model, nn.CrossEntropyLoss(), optimizer, LEARN, validation, epochs, batch_size=16, rng=rng, **options
    )


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    state = other.state_dict()
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_fit_is_the_loop_that_one_would_write() -> None:
    model, other = network(), network()
    history = fit(model, keep_best=False)
    optimizer, loss, rng = (
        optim.Adam(other.parameters(), lr=0.02),
        nn.CrossEntropyLoss(),
        np.random.default_rng(9),
    )
    for epoch in range(4):
        order = rng.permutation(70)
        losses, hits = [], 0
        other.train()
        for start in range(0, 70, 16):
            batch = order[start : start + 16]
            optimizer.zero_grad()
            output = other(X[batch])
            losses += [loss(output, Y[batch])] * len(batch)
            other.backward(loss.backward())
            optimizer.step()
            hits += np.sum(output.argmax(1) == Y[batch])
        assert history.loss[epoch] == pytest.approx(np.mean(losses), rel=1e-12)
        assert history.accuracy[epoch] == hits / 70
        other.eval()
        output = other(X[70:])
        assert history.validation_accuracy[epoch] == np.mean(output.argmax(1) == Y[70:])
        p = np.exp(output) / np.exp(output).sum(1, keepdims=True)
        assert history.validation_loss[epoch] == pytest.approx(
            -np.log(p[range(20), Y[70:]]).mean(), rel=1e-12
        )
    assert_same_state(model, other)
    assert not history.interrupted
    assert history.learning_rate == [0.02] * 4
    assert all(rate > 0 for rate in history.samples_per_second)


def test_fit_ends_with_the_best_weights() -> None:
    model = network()
    states = []
    history = fit(
        model, 8, on_epoch=lambda _: states.append({k: v.copy() for k, v in model.state_dict().items()})
    )
    best = int(np.argmax(history.validation_accuracy))
    assert history.best_epoch == best
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, states[best][name])


def test_fit_by_the_loss_where_targets_are_no_classes() -> None:
    model = nn.Sequential(nn.Linear(3, 1, dtype=np.float64, rng=np.random.default_rng(0)))
    target = X @ [[1.0], [2.0], [3.0]]
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = train.fit(
        model, nn.MSELoss(), optimizer, (X, target), (X, target), 30, rng=np.random.default_rng(0)
    )
    assert np.all(np.isnan(history.validation_accuracy))
    assert history.best_epoch == int(np.argmin(history.validation_loss))
    assert history.validation_loss[-1] < 1e-3


class LossOf:
    """A loss that is what it should be in training, and these numbers on held-out data, one an epoch."""

    def __init__(self, values: list[float], classes: bool) -> None:
        self.values = iter(values)
        self.loss: train.Loss = nn.CrossEntropyLoss() if classes else nn.MSELoss()

    def __call__(self, prediction: Any, target: Any) -> float:
        value = self.loss(prediction, target)
        return next(self.values) if len(target) == len(HELD_OUT[0]) else value

    def backward(self) -> Any:
        return self.loss.backward()


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(
    ("losses", "best", "classes"),
    [
        ([NAN, 3.0, 2.0, 4.0], 2, False),
        ([NAN, NAN, INF, NAN], 2, False),
        ([NAN, INF, 5.0, NAN], 2, False),
        ([5.0, NAN, 6.0, 7.0], 0, False),
        ([NAN, NAN, NAN, NAN], 0, False),
        ([NAN, NAN, 3.0, 2.0], 2, True),  # the accuracy is a number whatever the outputs are
        ([NAN, NAN, NAN, NAN], 0, True),
    ],
)
def test_an_epoch_whose_loss_is_no_number_is_not_the_best(
    losses: list[float], best: int, classes: bool, resumed: bool, tmp_path: Path
) -> None:
    target = Y if classes else X[:, :1]
    states: list[dict[str, Any]] = []
    for epochs in (1, 2, 3, 4) if resumed else (4,):
        model = nn.Linear(3, 2 if classes else 1, dtype=np.float64, rng=np.random.default_rng(0))

        def on_epoch(_: train.History, model: nn.Module = model) -> None:
            states.append(model.state_dict())

        history = train.fit(
            model,
            LossOf(losses[epochs - 1 :] if resumed else losses, classes),
            optim.SGD(model.parameters(), lr=1e-9),
            (X[:70], target[:70]),
            (X[70:], target[70:]),
            epochs,
            batch_size=35,
            checkpoint=tmp_path / "run.npz" if resumed else None,
            on_epoch=on_epoch,
        )
    assert history.best_epoch == best
    np.testing.assert_array_equal(history.validation_loss, losses)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, states[best][name])


def test_patience() -> None:
    history = fit(network(), 200, patience=3)
    assert history.best_epoch is not None
    assert len(history.loss) == history.best_epoch + 4 < 200


def test_patience_counts_from_the_first_epoch_whose_loss_is_a_number() -> None:
    model = nn.Linear(3, 1, dtype=np.float64, rng=np.random.default_rng(0))
    optimizer = optim.SGD(model.parameters(), lr=1e-9)
    data, held_out = (X[:70], X[:70, :1]), (X[70:], X[70:, :1])
    loss = LossOf([NAN, NAN, 3.0, 3.0, NAN, 4.0], classes=False)
    history = train.fit(model, loss, optimizer, data, held_out, 50, batch_size=35, patience=3)
    assert (history.best_epoch, len(history.loss)) == (2, 6)


@pytest.mark.parametrize("scheduled", [False, True])
def test_resumed_training_has_the_same_bits(tmp_path: Path, scheduled: bool) -> None:
    whole, first, second = network(), network(), network(seed=5)
    expected = fit(whole, 7, scheduled=scheduled)
    fit(first, 3, scheduled=scheduled, checkpoint=tmp_path / "run.npz")
    history = fit(second, 7, scheduled=scheduled, checkpoint=tmp_path / "run.npz")
    assert_same_state(second, whole)
    assert history.loss == expected.loss
    assert history.validation_loss == expected.validation_loss
    assert history.learning_rate == expected.learning_rate
    assert history.best_epoch == expected.best_epoch


def test_validation_data_that_come_and_go_when_training_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    fit(network(), 2, validation=None, checkpoint=path)
    added = fit(network(), 4, checkpoint=path)
    assert (len(added.validation_loss), len(added.validation_accuracy)) == (4, 4)
    np.testing.assert_array_equal(np.isnan(added.validation_loss), [True, True, False, False])
    np.testing.assert_array_equal(np.isnan(added.validation_accuracy), [True, True, False, False])
    assert added.best_epoch == 2 + int(np.argmax(added.validation_accuracy[2:]))

    latest = network()
    removed = fit(latest, 6, validation=None, checkpoint=path)
    assert removed.best_epoch == added.best_epoch
    np.testing.assert_array_equal(removed.validation_loss, [*added.validation_loss, NAN, NAN])
    np.testing.assert_array_equal(removed.validation_accuracy, [*added.validation_accuracy, NAN, NAN])
    saved = fc.load(path)
    for name, value in latest.state_dict().items():  # of what was learned now nothing is the best
        np.testing.assert_array_equal(value, saved[f"model.{name}"])

    again = fit(network(), 7, checkpoint=path)
    unknown = [True, True, False, False, True, True, False]
    np.testing.assert_array_equal(np.isnan(again.validation_loss), unknown)
    assert again.best_epoch == int(np.nanargmax(again.validation_accuracy))
    assert len(again.loss) == 7


def test_a_history_of_before_that_lacks_the_epochs_without_validation(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    first = fit(network(), 2, checkpoint=path)
    fit(network(), 4, validation=None, checkpoint=path)
    arrays = fc.load(path)
    rest = json.loads(str(arrays["rest"]))
    for name in ("validation_loss", "validation_accuracy"):
        del rest["history"][name][2:]
    fc.save(path, {**arrays, "rest": np.array(json.dumps(rest))})
    history = fit(network(), 5, checkpoint=path)
    np.testing.assert_array_equal(history.validation_loss[:4], [*first.validation_loss, NAN, NAN])
    assert len(history.validation_loss) == len(history.validation_accuracy) == 5


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    model, again = network(), network(seed=5)
    fit(model, 3, checkpoint=tmp_path / "run.npz")
    fit(again, 3, checkpoint=tmp_path / "run.npz")
    assert_same_state(model, again)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    fc.save(path, network())
    with pytest.raises(ValueError, match=r"run\.npz: not a checkpoint"):
        fit(network(), checkpoint=path)
    path.unlink()
    fit(network(), 1, checkpoint=path)
    with pytest.raises(ValueError, match="another schedule"):
        fit(network(), 2, checkpoint=path, scheduled=True)


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    fit(network(), 1, checkpoint=path)
    # The second generator is of another kind, and is come to after optimizer and first generator.
    rng, dropout = np.random.default_rng(9), np.random.Generator(np.random.MT19937(3))
    model = network()
    model[2].rng = dropout
    optimizer = optim.Adam(model.parameters(), lr=0.5)
    before = [generator.bit_generator.state for generator in (rng, dropout)]
    with pytest.raises(ValueError, match="MT19937"):
        train.fit(model, nn.CrossEntropyLoss(), optimizer, LEARN, epochs=2, rng=rng, checkpoint=path)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert not optimizer.state
    np.testing.assert_equal([generator.bit_generator.state for generator in (rng, dropout)], before)
    assert_same_state(model, network())


def test_the_same_seed_gives_the_same_weights() -> None:
    def noise(x: Any, rng: np.random.Generator) -> Any:
        return x + rng.normal(scale=0.1, size=x.shape)

    one, two = network(), network()
    fit(one, transform=noise)
    fit(two, transform=noise)
    assert_same_state(one, two)
    fit(plain := network())
    assert np.any(plain.state_dict()["0.weight"] != one.state_dict()["0.weight"])


def interrupt_after(batches: int) -> Callable[[Any, Any], Any]:
    """A transform that presses Ctrl-C in that batch."""
    seen = 0

    def transform(x: Any, rng: np.random.Generator) -> Any:
        nonlocal seen
        seen += 1
        if seen == batches:
            signal.raise_signal(signal.SIGINT)
        return x

    return transform


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_what_was_learned() -> None:
    model = network()
    before = signal.getsignal(signal.SIGINT)
    history = fit(model, 50, transform=interrupt_after(12))  # five batches an epoch
    assert signal.getsignal(signal.SIGINT) is before
    assert history.interrupted
    assert len(history.loss) == 2
    assert model.training
    assert np.any(model.state_dict()["0.weight"] != network().state_dict()["0.weight"])


@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_is_an_ordinary_one() -> None:
    def twice(x: Any, rng: np.random.Generator) -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), transform=twice)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = fit(network(), 3, transform=interrupt_after(2))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert not history.interrupted
    assert len(history.loss) == 3


def test_fit_in_another_thread() -> None:
    histories: list[train.History] = []
    thread = threading.Thread(target=lambda: histories.append(fit(network(), 2)))
    thread.start()
    thread.join()
    assert len(histories[0].loss) == 2


def test_evaluate_gives_every_layer_its_mode_back() -> None:
    model = network()
    model[2].eval()
    train.evaluate(model, nn.CrossEntropyLoss(), (X, Y))
    assert [module.training for module in model.modules()] == [True, True, True, False, True]
    with pytest.raises(ValueError, match="x: got shape"):
        train.evaluate(model, nn.CrossEntropyLoss(), (X[:, :2], Y))
    assert [module.training for module in model.modules()] == [True, True, True, False, True]


def test_evaluation_does_not_depend_on_the_batch_size() -> None:
    model, loss = network(), nn.CrossEntropyLoss()
    one = train.evaluate(model, loss, (X, Y), batch_size=7)
    two = train.evaluate(model, loss, (X, Y), batch_size=1000)
    assert one.output.shape == (90, 2)
    np.testing.assert_allclose(one.output, two.output, rtol=1e-12)
    assert one.loss == pytest.approx(two.loss, rel=1e-12)
    assert one.accuracy == two.accuracy == np.mean(two.output.argmax(1) == Y)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    bad = (np.full((8, 3), np.nan), np.zeros(8, np.int64))
    model = network()
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        train.fit(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs: got -1"),
        ({"patience": 0}, "patience: got 0"),
        ({"patience": 3, "validation": None}, "patience: got 3, needs validation data"),
        ({"validation": (X, Y[1:])}, "validation: got 90 inputs and 89 targets"),
        ({"validation": (X[:0], Y[:0])}, "validation: got 0 inputs"),
        ({"keep_best": "no"}, "keep_best: got 'no', needs True or False"),
    ],
)
def test_fit_refuses(options: dict[str, Any], message: str) -> None:
    model = network()
    with pytest.raises((ValueError, TypeError), match=message):
        fit(model, **options)
    assert_same_state(model, network())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_is_no_generator(seed: Any) -> None:
    model = network()
    with pytest.raises(TypeError, match=r"^rng: got int, needs a numpy\.random\.Generator"):
        train.fit(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=1), LEARN, rng=seed)
    assert_same_state(model, network())


def test_a_checkpoint_that_could_not_be_written_is_refused_before_anything_is_learned(tmp_path: Path) -> None:
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "missing" / "run.npz")
    refused: list[tuple[Any, type[Exception], str]] = [
        (tmp_path / "run.pt", ValueError, r"run\.pt, needs a file that ends in \.npz"),
        (str(tmp_path / "run.safetensors"), ValueError, r"run\.safetensors, needs a file that ends in \.npz"),
        (tmp_path / "missing" / "run.npz", ValueError, r"run\.npz, needs a folder that exists"),
        (link, ValueError, r"link\.npz, needs a folder that exists"),
        (3, TypeError, "int, needs a path"),
    ]
    for path, kind, message in refused:
        model = network()
        with pytest.raises(kind, match="^checkpoint: got .*" + message):
            fit(model, 1, checkpoint=path)
        assert_same_state(model, network())
    assert os.listdir(tmp_path) == ["link.npz"]


def test_a_bar_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    history = fit(network(), 2, progress=True)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown
    assert f"loss {history.loss[-1]:.4f}" in shown
    assert f"validation {history.validation_accuracy[-1]:.4f}" in shown
    assert "samples/s" in shown


def test_no_bar_without_a_terminal_and_an_error_without_tqdm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(network(), 1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    fit(network(), 1)
    with pytest.raises(ImportError):
        fit(network(), 1, progress=True)
