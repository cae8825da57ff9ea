"""A step that raises has changed nothing: no parameter, nothing that is kept, not the count of steps."""

import gc
import itertools
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, optim

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda params: optim.SGD(params, lr=0.1),
    "sgd-momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: optim.Adam(params, lr=0.1),
    "adam-amsgrad": lambda params: optim.Adam(params, lr=0.1, amsgrad=True),
    "adamw": lambda params: optim.AdamW(params, lr=0.1),
}
KEEPING = [name for name in OPTIMIZERS if name != "sgd"]
DTYPES = [np.float16, np.float32, np.float64]


def members(dtype: Any = np.float64) -> list[nn.Parameter]:
    rng = np.random.default_rng(3)
    parameters = [nn.Parameter(rng.standard_normal(shape), dtype) for shape in ((3, 5), (7,), (), (2, 2))]
    set_gradients(parameters)
    return parameters


def set_gradients(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = np.random.default_rng(parameter.size).standard_normal(parameter.shape)


def copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def everything(optimizer: optim.Optimizer, parameters: list[nn.Parameter]) -> list[Any]:
    """Copies of all values, gradients and what the optimizer keeps."""
    kept = [
        {name: copied(value) for name, value in optimizer.state.get(parameter, {}).items()}
        for parameter in parameters
    ]
    return [[(parameter.data.copy(), parameter.grad.copy()) for parameter in parameters], kept]


def assert_same(now: list[Any], then: list[Any]) -> None:
    for one, other in zip(now[0], then[0], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    for one, other in zip(now[1], then[1], strict=True):
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def read_only(optimizer: optim.Optimizer, last: nn.Parameter) -> None:
    last.make_read_only()
    last.grad = np.ones(last.shape)


def kept_array(change: Callable[[Any], Any]) -> Callable[[optim.Optimizer, nn.Parameter], None]:
    def spoil(optimizer: optim.Optimizer, last: nn.Parameter) -> None:
        state = optimizer.state[last]
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                state[name] = change(value)

    return spoil


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    return raw.view(array.dtype).reshape(array.shape)


def option(name: str, value: Any) -> Callable[[optim.Optimizer, nn.Parameter], None]:
    def spoil(optimizer: optim.Optimizer, last: nn.Parameter) -> None:
        optimizer.param_groups[-1][name] = value

    return spoil


def resized(optimizer: optim.Optimizer, last: nn.Parameter) -> None:
    last.data.resize((5, 5), refcheck=False)


FAULTS: dict[str, tuple[Callable[[optim.Optimizer, nn.Parameter], None], type[Exception], str]] = {
    "read-only": (read_only, ValueError, "^params: got a read-only parameter"),
    "rate-none": (option("lr", None), TypeError, "^lr: got None, needs a finite number"),
    "rate-nan": (option("lr", float("nan")), ValueError, "^lr: got nan, needs a finite number"),
    "decay-negative": (option("weight_decay", -1), ValueError, "^weight_decay: got -1"),
    "maximize-none": (option("maximize", None), TypeError, "^maximize: got None"),
    "resized": (resized, ValueError, "^params: .*needs shape"),
}
FAULTS_OF_WHAT_IS_KEPT = {
    "shape": (kept_array(lambda array: array[:1]), ValueError, r"^params: .*: got shape \(1, 2\), needs"),
    "dtype": (kept_array(lambda array: array.astype(np.int64)), ValueError, "^params: got .* of int64"),
    "list": (kept_array(lambda array: array.tolist()), ValueError, "^params: got .* that is a list"),
    "strides": (kept_array(np.asfortranarray), ValueError, "^params: got .* needs a dense"),
    "unaligned": (kept_array(unaligned), ValueError, "^params: got .* needs a dense"),
}


# Optimizer, dtype, fault, and steps before: what is kept is there after the first.
CASES = [
    *itertools.product(OPTIMIZERS, DTYPES, FAULTS, [0, 2]),
    *itertools.product(KEEPING, [np.float64], FAULTS_OF_WHAT_IS_KEPT, [1]),
]


@pytest.mark.parametrize(("name", "dtype", "fault", "steps"), CASES)
def test_a_fault_of_the_last_parameter(name, dtype, fault, steps):
    parameters = members(dtype)
    optimizer = OPTIMIZERS[name]([{"params": parameters[:2]}, {"params": parameters[2:]}])
    for _ in range(steps):
        optimizer.step()
    spoil, kind, message = (FAULTS | FAULTS_OF_WHAT_IS_KEPT)[fault]
    spoil(optimizer, parameters[-1])
    before = everything(optimizer, parameters)
    with pytest.raises(kind, match=message):
        optimizer.step()
    assert_same(everything(optimizer, parameters), before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_allocation_may_fail(name, dtype, monkeypatch):
    """Each array that a first step makes fails in turn; the next step is as if none had."""
    parameters, others = members(dtype), members(dtype)
    for parameter in (*parameters[:2], *others[:2]):
        parameter.zero_grad()  # these gradients have to be allocated, too
    optimizer, other = OPTIMIZERS[name](parameters), OPTIMIZERS[name](others)
    values = [parameter.data.copy() for parameter in parameters]
    make, failures = np.zeros_like, 0
    while True:
        left = failures + 1

        def zeros_like(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                raise MemoryError
            return make(*arguments, **options)

        monkeypatch.setattr(np, "zeros_like", zeros_like)
        try:
            optimizer.step()
        except MemoryError:
            failures += 1
        else:
            break
        finally:
            monkeypatch.setattr(np, "zeros_like", make)
        for parameter, value in zip(parameters, values, strict=True):
            np.testing.assert_array_equal(parameter.data, value)
        assert not optimizer.state
        for parameter in parameters[:2]:
            parameter.zero_grad()
    kept = {"sgd": 0, "sgd-momentum": 1, "adam-amsgrad": 3}.get(name, 2)
    assert failures == 2 + 4 * kept
    other.step()
    assert_same(everything(optimizer, parameters), everything(other, others))


SHORT_OF_MEMORY = """
    import resource
    import numpy as np
    from fastconv import nn, optim

    parameters = [nn.Parameter(np.ones(size, np.float32)) for size in (1000, 40_000_000)]
    parameters[0].grad = np.ones(1000)
    optimizers = [optim.SGD(parameters, lr=0.5, momentum=0.9), optim.Adam(parameters, lr=0.5)]
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (170 << 20), limit[1]))
    for optimizer in optimizers:
        try:
            optimizer.step()
        except MemoryError:
            pass
        else:
            raise AssertionError("there was memory")
        assert (parameters[0].data == 1).all() and not optimizer.state
    resource.setrlimit(resource.RLIMIT_AS, limit)
    for optimizer, value in zip(optimizers, (0.5, 0.0)):
        optimizer.step()
        np.testing.assert_allclose(parameters[0].data, value, atol=1e-5)
        assert (parameters[1].data == 1).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_a_process_short_of_memory():
    program = textwrap.dedent(SHORT_OF_MEMORY)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
def test_ctrl_c_leaves_a_whole_step_or_none():
    """The signal comes at a hundred different times during steps of many small and some larger parameters."""
    assert threading.current_thread() is threading.main_thread()
    interrupted = 0

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # an exception in what others call at each collection is reported, not raised
    try:
        parameters = [nn.Parameter(np.ones(size)) for size in (*(10,) * 50, 100_000, 300_000, 10)]
        for parameter in parameters:
            parameter.grad = np.ones(parameter.shape)
        optimizer = optim.SGD(parameters, lr=1.0)
        # Without a number, each step would ask for the quota, in a file that the signal might leave open.
        with fc.num_threads(2):
            for i in range(100):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 2e-5 * (i + 1))
                    for _ in range(20):
                        optimizer.step()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    interrupted += 1
                value = parameters[0].data[0]
                assert all((parameter.data == value).all() for parameter in parameters)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        gc.enable()
    assert interrupted > 20


def test_an_unaligned_or_read_only_gradient_becomes_another_array():
    for gradient in (unaligned(np.zeros(3)), np.broadcast_to(1.0, 3), np.frombuffer(bytes(24))):
        weight = nn.Parameter(np.zeros(3))
        weight.accumulate(gradient)
        weight.accumulate(np.ones(3))
        np.testing.assert_array_equal(weight.grad, gradient + 1)
        optim.SGD([weight], lr=1.0).step()
        np.testing.assert_array_equal(weight.data, -gradient - 1)


@pytest.mark.parametrize("size", [1, 7, 1023, 1024, 1025, 16384, 16385, 40_001])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parts_of_half_precision(name, size):
    """Bits on several threads are those of one, and those of a step in single precision, rounded."""
    rng = np.random.default_rng(size)
    value, gradient = rng.standard_normal(size).astype(np.float16), rng.standard_normal(size)
    results = []
    for threads, dtype in ((1, np.float16), (3, np.float16), (1, np.float32)):
        weight = nn.Parameter(value, dtype)
        weight.grad = gradient.astype(np.float16)
        with fc.num_threads(threads):
            OPTIMIZERS[name]([weight]).step()
        results.append(weight.data.astype(np.float16))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def test_half_precision_that_overflows_is_infinite_and_says_nothing():
    weight, other = nn.Parameter([60_000.0], np.float16), nn.Parameter([1.0], np.float16)
    weight.grad, other.grad = [-60_000.0], [1.0]
    with np.errstate(all="raise"):
        optim.SGD([weight, other], lr=1.0).step()
    np.testing.assert_array_equal(weight.data, np.inf)
    np.testing.assert_array_equal(other.data, 0)
