"""Random calls, memory given back, results kept and dropped in between, as fuzz.py does for hours."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from fuzzing.call import Call, Expected, f64
from fuzzing.calls import CALLS, draw_call
from fuzzing.session import Session, limited_memory
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule

import fastconv as fc
from fastconv import nn
from fastconv.nn.module import Layer


class Calls(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.session = Session()

    @rule(seed=st.integers(0, 2**40))
    def call(self, seed: int) -> None:
        self.session.step(seed)

    @rule(seeds=st.lists(st.integers(0, 2**40), min_size=5, max_size=10))
    def several(self, seeds: list[int]) -> None:
        for seed in seeds:
            self.session.step(seed)

    @rule()
    def release(self) -> None:
        fc.release_memory()
        assert fc.memory_info()["kept"] == 0

    @rule(first=st.integers(0, 3))
    def drop(self, first: int) -> None:
        del self.session.kept[first::4]

    def teardown(self) -> None:
        for i in range(len(self.session.kept)):
            self.session.check_kept(i)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=8, stateful_step_count=12)


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    with limited_memory():
        yield


def test_a_call_is_the_same_again():
    for seed in range(50):
        first, second = (re.sub("at 0x[0-9a-f]+", "", str(draw_call(seed))) for _ in range(2))
        assert first == second


def test_the_whole_public_surface_is_called():
    drawn = {draw_call(seed).function for seed in range(20 * len(CALLS))}
    public = {getattr(fc, name): name for name in fc.functional.__all__}
    assert {name for function, name in public.items() if function not in drawn} <= {
        *("dropout", "dropout_backward"),  # called together, by a function that seeds them
        "conv2d_algorithm",  # computes nothing
    }


def test_every_layer_is_called(monkeypatch):
    forward, used = Layer.forward, set()

    def recording(self: Layer, x: Any) -> Any:
        used.add(type(self))
        return forward(self, x)

    monkeypatch.setattr(Layer, "forward", recording)
    session = Session()
    for seed in range(25 * len(CALLS)):
        session.step(seed)
    layers = {
        kind for kind in map(vars(nn).get, nn.__all__) if isinstance(kind, type) and issubclass(kind, Layer)
    }
    assert len(layers) > 15
    assert layers <= used


def check_relu(function: Callable[[Any], Any], x: Any) -> None:
    """One call by the session's checks, of a function that stands in for relu."""
    Session().check(Call(function, {"x": x}, lambda x: [Expected(np.maximum(f64(x), 0), 4)]), keep=False)


def raises(x: Any) -> Any:
    return [][0]


def test_a_session_finds_what_is_wrong(monkeypatch):
    x = np.array([1, -2, 3.5], np.float32)
    check_relu(fc.relu, x)
    for function, message in (
        (lambda x: fc.relu(x) + np.float32(0.5), "allowed"),
        (lambda x: fc.relu(x)[:2], "has shape"),
        (lambda x: x, "is part of an input"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_relu(function, x.copy())
    with pytest.raises(IndexError):
        check_relu(raises, x)

    kept = []

    def keeps(x: Any) -> Any:
        kept.append(fc.conv2d(np.ones((1, 64, 64)), np.ones((8, 1, 1, 1))))
        return fc.relu(x)

    monkeypatch.setattr(fc, "leaky_relu", keeps)
    with pytest.raises(AssertionError, match="not given back"):
        check_relu(fc.leaky_relu, x)


def test_a_session_finds_an_input_that_is_written_to():
    def refuses(x: Any) -> Any:
        x += 1
        raise ValueError("x: got it, needs something else")

    with pytest.raises(AssertionError, match="was written to"):
        check_relu(refuses, np.zeros(3))


def test_the_driver():
    fuzz = Path(__file__).with_name("fuzz.py")
    command = [sys.executable, str(fuzz), "--seed", "3", "--calls", "20"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("20 calls from 3 on, no other outcome")
