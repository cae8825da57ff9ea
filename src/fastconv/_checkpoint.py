"""The file that a training goes on from: of all that takes part, what is not in the program."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastconv import _checks, serialization
from fastconv.nn.module import Module
from fastconv.optim.lr_scheduler import LRScheduler
from fastconv.optim.optimizer import Optimizer

__all__ = ["check", "resume", "write"]

PathLike: TypeAlias = str | os.PathLike[str]
Arrays: TypeAlias = dict[str, NDArray[Any]]
History = TypeVar("History")


def check(path: PathLike) -> None:
    """Raise, before there is anything to be lost, where `write` could not save."""
    try:
        target = Path(path).resolve()  # as `serialization.save` does
    except TypeError:
        raise _checks.argument_error("checkpoint", type(path).__name__, "a path", TypeError) from None
    if Path(path).suffix.lower() != ".npz":
        raise _checks.argument_error("checkpoint", os.fspath(path), "a file that ends in .npz")
    if not target.parent.is_dir():
        raise _checks.argument_error("checkpoint", os.fspath(path), "a folder that exists")


def write(
    path: PathLike,
    model: Module,
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    generators: list[np.random.Generator],
    best: Arrays,
    history: dict[str, Any],
) -> None:
    """Save the state of all of these."""
    kept_by_optimizer = optimizer.state_dict()
    arrays = {f"model.{name}": value for name, value in model.state_dict().items()}
    arrays |= {f"best.{name}": value for name, value in best.items()}
    numbers: dict[str, dict[str, Any]] = {}
    for parameter, kept in kept_by_optimizer["state"].items():
        numbers[str(parameter)] = {}
        for name, value in kept.items():
            if isinstance(value, np.ndarray):
                arrays[f"optimizer.{parameter}.{name}"] = value
            else:
                numbers[str(parameter)][name] = value
    rest = {
        "optimizer": {"state": numbers, "param_groups": kept_by_optimizer["param_groups"]},
        "schedule": None if schedule is None else schedule.state_dict(),
        "generators": [generator.bit_generator.state for generator in generators],
        "history": history,
    }
    arrays["rest"] = np.array(json.dumps(rest, default=lambda value: np.asarray(value).tolist()))
    serialization.save(path, arrays)


def resume(
    path: PathLike,
    model: Module,
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    generators: list[np.random.Generator],
    make_history: Callable[[dict[str, Any]], History],
) -> tuple[Arrays, History]:
    """Load what `write` saved into all of these, or, if anything does not fit, into none of them.

    The best weights and the history are returned.
    """
    arrays = serialization.load(path)
    try:
        rest = json.loads(str(arrays.pop("rest")))
        state = {int(parameter): dict(kept) for parameter, kept in rest["optimizer"]["state"].items()}
        parts: dict[str, Arrays] = {"model": {}, "best": {}}
        for name, array in arrays.items():
            part, _, key = name.partition(".")
            if part == "optimizer":
                parameter, _, key = key.partition(".")
                state[int(parameter)][key] = array
            else:
                parts[part][key] = array
        history = make_history(rest["history"])
        groups = rest["optimizer"]["param_groups"]
        kept_by_schedule, states = rest["schedule"], rest["generators"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: not a checkpoint of fastconv.train.fit ({error!r})") from None
    if (kept_by_schedule is None) != (schedule is None) or len(states) != len(generators):
        raise ValueError(f"{os.fspath(path)}: from a training with other layers or another schedule")
    undo: list[Callable[[], None]] = []
    try:
        undo.append(partial(optimizer.load_state_dict, optimizer.state_dict()))
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        if schedule is not None:
            undo.append(partial(schedule.load_state_dict, schedule.state_dict()))
            schedule.load_state_dict(kept_by_schedule)
        for generator, generator_state in zip(generators, states, strict=True):
            undo.append(partial(setattr, generator.bit_generator, "state", generator.bit_generator.state))
            generator.bit_generator.state = generator_state
        model.load_state_dict(parts["model"])  # all of it or nothing, and so needs no way back
    except Exception:
        for go_back in reversed(undo):
            go_back()
        raise
    return parts["best"], history
