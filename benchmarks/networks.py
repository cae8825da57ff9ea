"""Whole networks: training steps beside PyTorch's, frozen inference of one image beside inference engines.

All contenders get the same weights, and must give the same scores, before they are timed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import environment  # noqa: F401  (before NumPy)
import numpy as np
import peers
import torch
import torch_models
from peers.torch import FORMATS
from race import QUICK, Contender, check, race
from report import FROZEN, PLAIN, Result
from threadpoolctl import threadpool_limits
from torch_to_onnx import onnx_model

import fastconv as fc

LEARNING_RATE, MOMENTUM = 1e-3, 0.9
# Rounding adds up over the layers of a network; scores are compared relative to the largest of them.
TOLERANCES = {"output": 1e-4}


@dataclass(frozen=True)
class Network:
    """A network of `fastconv.models`, its counterpart in plain torch.nn, and the batch it is trained on."""

    name: str
    ours: Callable[[Any], fc.nn.Module]
    torchs: Callable[[], torch.nn.Module]
    batch: int
    image: tuple[int, int, int]
    classes: int
    dtype = np.dtype("float32")

    @cached_property
    def x(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((self.batch, *self.image), np.float32)

    @cached_property
    def target(self) -> np.ndarray:
        return np.random.default_rng(1).integers(0, self.classes, self.batch)

    @cached_property
    def _state(self) -> dict[str, np.ndarray]:
        return {name: np.array(array) for name, array in self.ours(fc.models).state_dict().items()}

    def pair(self) -> tuple[fc.nn.Module, torch.nn.Module]:
        """The network twice, with the same weights and running statistics, in each call the same."""
        mine, theirs = self.ours(fc.models), self.torchs()
        mine.load_state_dict(self._state)
        tensors = map(torch.tensor, self._state.values())
        theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
        return mine, theirs


NETWORKS = (
    Network("LeNet", lambda models: models.LeNet(), torch_models.lenet, 64, (1, 28, 28), 10),
    Network("AlexNet", lambda models: models.AlexNet(), torch_models.alexnet, 16, (3, 224, 224), 1000),
    Network("ResNet18", lambda models: models.ResNet(18), torch_models.resnet18, 8, (3, 224, 224), 1000),
)


def _set_threads(threads: int) -> None:
    """NumPy's BLAS, which may be behind fastconv's linear layers, has a number of threads of its own."""
    threadpool_limits(threads)
    fc.set_num_threads(threads)
    torch.set_num_threads(threads)


def training_step(network: Network, threads: int, *, training: bool = True) -> dict[str, Contender]:
    """One step of gradient descent, from images to changed weights; in eval mode unless `training`."""
    _set_threads(threads)
    mine, _ = network.pair()
    mine.train() if training else mine.eval()
    optimizer = fc.optim.SGD(mine.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    loss = fc.nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss(mine(network.x), network.target)
        mine.backward(loss.backward())
        optimizer.step()

    contenders = {PLAIN: Contender(step, lambda _: {"output": mine(network.x)})}
    for label, memory_format in FORMATS.items():
        contenders[label] = _torch_step(network, torch.float32, memory_format, training=training)
    return contenders


def _torch_step(
    network: Network, dtype: torch.dtype, memory_format: torch.memory_format, *, training: bool
) -> Contender:
    _, theirs = network.pair()
    theirs = theirs.train(training).to(dtype=dtype, memory_format=memory_format)
    x = torch.tensor(network.x, dtype=dtype).contiguous(memory_format=memory_format)
    target = torch.tensor(network.target)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(theirs(x), target).backward()
        optimizer.step()

    return Contender(step, lambda _: {"output": theirs(x).detach().numpy()})


def check_training_step(network: Network, threads: int) -> None:
    """Raise unless one step, without the randomness of dropout, leads all contenders to the same scores."""
    exact = _torch_step(network, torch.float64, torch.contiguous_format, training=False)
    expected = exact.results(exact.run())
    for contender in training_step(network, threads, training=False).values():
        check(contender, expected, TOLERANCES)


def inference(network: Network, threads: int) -> dict[str, Contender]:
    """The scores of one image."""
    _set_threads(threads)
    mine, theirs = network.pair()
    theirs.eval()
    x = network.x[:1]
    frozen = fc.nn.freeze(mine.eval())
    contenders = {FROZEN: Contender(lambda: frozen(x), _output)}
    for label, memory_format in FORMATS.items():
        model = copy.deepcopy(theirs).to(memory_format=memory_format)
        put = torch.tensor(x).contiguous(memory_format=memory_format)
        contenders[label] = Contender(partial(model, put), _output, torch.inference_mode)
    output_shape = (1, network.classes)
    model = onnx_model(theirs, x.shape, output_shape)
    for module in peers.load(["onnxruntime", "openvino"])[0].values():
        contenders |= module.network(model, x, output_shape, threads)
    return contenders


def _output(value: Any) -> dict[str, np.ndarray]:
    return {"output": np.asarray(value)}


def check_inference(network: Network, threads: int) -> None:
    """Raise unless all contenders give the scores that the network has in float64."""
    _, theirs = network.pair()
    with torch.inference_mode():
        expected = _output(theirs.double().eval()(torch.tensor(network.x[:1], dtype=torch.float64)))
    for contender in inference(network, threads).values():
        check(contender, expected, TOLERANCES)


OPERATIONS = {
    "training_step": (check_training_step, training_step),
    "inference": (check_inference, inference),
}


def heat(network: Network, operation: str, threads: int, *, quick: bool) -> Result:
    verify, prepare = OPERATIONS[operation]
    verify(network, threads)
    timings = race(prepare(network, threads), **(QUICK if quick else {}))
    return Result("networks", operation, network, threads, timings, {})
