"""Layers of a frozen network: they compute, and nothing about them can be changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv import _checks, functional
from fastconv._checks import FloatArray
from fastconv._kernels import arrays
from fastconv.functional._packed import PackedConv2d
from fastconv.functional._sum import activated, plus
from fastconv.functional._ways import MOST_WAYS, Settled, Way
from fastconv.functional.linear import linear_way
from fastconv.nn.conv import Conv2d
from fastconv.nn.linear import Linear
from fastconv.nn.module import IncompatibleKeys, Layer, Module
from fastconv.nn.parameter import Parameter, read_only, value_of

__all__ = ["Frozen", "FrozenConv2d", "FrozenLayer", "FrozenLinear", "FrozenResidual", "FrozenSequential"]


class Frozen(Module):
    """A module for inference alone. Constructors set attributes, then `_seal`; from there on none can be set.

    Attributes
    ----------
    owns_output : bool
        Whether the output of each forward is an array that nothing else refers to.
    """

    training = False
    owns_output = False
    _sealed = False

    def way(self, shape: tuple[int, ...], char: str) -> Way | None:
        """What `forward` does to arrays of a shape and dtype, not empty; None where only that knows."""
        return None

    def _seal(self) -> None:
        for value in vars(self).values():
            if isinstance(value, Parameter):
                value.make_read_only()
        vars(self)["_sealed"] = True

    def _learning_modules(self) -> Iterator[Module]:
        return iter(())

    def _refuse(self, what: str) -> NoReturn:
        raise RuntimeError(
            f"{what}: got a frozen network, needs the network that it was made from; freeze that again"
        )

    def backward(self, grad_output: ArrayLike) -> FloatArray:
        """Raises RuntimeError: a frozen network has no gradients."""
        self._refuse("backward")

    def train(self, mode: bool = True) -> Self:
        """Raises RuntimeError with ``mode=True``: a frozen network is always as after `eval`."""
        if _checks.boolean("mode", mode):
            self._refuse("train")
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Raises RuntimeError: a frozen network stays as it is."""
        self._refuse("load_state_dict")

    def astype(self, dtype: DTypeLike) -> Self:
        """Raises RuntimeError: a frozen network stays as it is."""
        self._refuse("astype")

    def __setattr__(self, name: str, value: Any) -> None:
        if self._sealed and not (name == "training" and value is False):
            self._refuse(f"setting {name}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if self._sealed:
            self._refuse(f"deleting {name}")
        super().__delattr__(name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """For copies and pickles, whose arrays are writeable at first."""
        vars(self).update(state)
        self._seal()


class Chain:
    """Frozen layers one after the other.

    What they do to arrays of a shape and dtype is settled once, as far as they have a way; what comes out of
    a layer that has none is looked at again.
    """

    def __init__(self, layers: Iterable[Frozen]) -> None:
        self.layers = tuple(layers)
        self.owns_output = bool(self.layers) and self.layers[-1].owns_output
        self._settled = Settled(self._settle, MOST_WAYS * len(self.layers))

    def __call__(self, x: ArrayLike) -> FloatArray:
        output: Any = x
        done = 0
        while done < len(self.layers):
            if arrays.native(output, output) and output.size:
                steps, done = self._settled[done, output.shape, output.dtype.char]
                for step in steps:
                    output = step(output)
            else:
                output = self.layers[done].forward(output)
                done += 1
        return output  # type: ignore[no-any-return]

    def _settle(
        self, first: int, shape: tuple[int, ...], char: str
    ) -> tuple[list[Callable[[Any], FloatArray]], int]:
        """What to do from one layer on up to the next whose result isn't known, and the layer after that."""
        steps: list[Callable[[Any], FloatArray]] = []
        for i, layer in enumerate(self.layers[first:], first):
            way = layer.way(shape, char)
            if way is None:
                return [*steps, layer.forward], i + 1
            steps.append(way.run)
            shape = way.out_shape
        return steps, len(self.layers)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles settle everything for themselves."""
        return Chain, (self.layers,)


def _clamped(way: Way | None, activation: str) -> Way | None:
    """The way with the ceiling of a ReLU6, if that is the activation; ways themselves know of ReLU alone."""
    if way is None or activation != "ReLU6":
        return way
    return Way(lambda x: activated(way.run(x), activation), way.out_shape)


class FrozenConv2d(Frozen):
    """A convolution with what followed it: batch normalization, folded into its weight, and an activation.

    Parameters
    ----------
    layer : Conv2d
    weight, bias : ndarray, or None for the bias
        What `layer` convolves with, batch normalization included.
    dtype : dtype
        What takes part in the result's dtype for weight and bias: theirs, or float16.
    activation : {"", "ReLU", "ReLU6"}
    name : str
        The names of all layers that this one stands for.
    """

    owns_output = True
    weight: Parameter
    _convolve: PackedConv2d

    def __init__(
        self,
        layer: Conv2d,
        weight: FloatArray,
        bias: FloatArray | None,
        dtype: np.dtype[Any],
        activation: str,
        name: str,
    ) -> None:
        compute = _checks.compute_dtype(dtype)
        self.weight = Parameter(weight, compute)
        self.bias = None if bias is None else Parameter(bias, compute)
        self._arguments = layer._arguments()
        self._description = layer.extra_repr()
        self._dtype, self._activation, self._name = dtype, activation, name
        self._seal()

    def _seal(self) -> None:
        super()._seal()
        vars(self)["_convolve"] = PackedConv2d(
            self.weight.data, value_of(self.bias), self._dtype, bool(self._activation), **self._arguments
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_convolve"}

    def forward(self, x: ArrayLike) -> FloatArray:
        output = self._convolve(x)
        return activated(output, "ReLU6") if self._activation == "ReLU6" else output

    def way(self, shape: tuple[int, ...], char: str) -> Way | None:
        return _clamped(self._convolve.way(shape, char), self._activation)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * math.prod(self.weight.shape[1:])

    def _get_name(self) -> str:
        return self._name

    def extra_repr(self) -> str:
        return self._description


class FrozenLinear(Frozen):
    """A fully connected layer, with the activation that followed it."""

    owns_output = True
    weight: Parameter

    def __init__(self, layer: Linear, activation: str) -> None:
        self.weight = Parameter(layer.weight.data)
        self.bias = None if layer.bias is None else Parameter(layer.bias.data)
        self._activation = activation
        self._description = layer.extra_repr()
        self._seal()

    def forward(self, x: ArrayLike) -> FloatArray:
        return activated(functional.linear(x, self.weight.data, value_of(self.bias)), self._activation)

    def way(self, shape: tuple[int, ...], char: str) -> Way | None:
        rectified = bool(self._activation)
        way = linear_way(shape, char, self.weight.data, value_of(self.bias), rectified)
        return _clamped(way, self._activation)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.weight.shape[1]

    def _get_name(self) -> str:
        return "Linear+" + self._activation if self._activation else "Linear"

    def extra_repr(self) -> str:
        return self._description


class FrozenLayer(Frozen):
    """A copy of any other module, in `eval` mode. Its parameters, buffers and children keep their names."""

    _inner: Module
    _compute: Callable[[ArrayLike], FloatArray]

    def __init__(self, module: Module) -> None:
        self._copy_of(copy.deepcopy(module).eval())

    def _copy_of(self, inner: Module) -> None:
        for module in inner.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Parameter):
                    value.make_read_only()
                elif name in module._buffers and value is not None:
                    vars(module)[name] = read_only(value)
        own = {name: value for name, value in vars(inner).items() if isinstance(value, Parameter)}
        buffers = {name: getattr(inner, name) for name in inner._buffers}
        vars(self).update(own | buffers, _inner=inner, _sealed=True)
        vars(self).update(_buffers=inner._buffers, _inlined=inner._inlined)
        keeps_nothing = isinstance(inner, Layer) and type(inner).forward is Layer.forward
        vars(self)["_compute"] = inner._infer if keeps_nothing else inner.forward  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        return {"_inner": self._inner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._copy_of(state["_inner"])

    def forward(self, x: ArrayLike) -> FloatArray:
        return self._compute(x)

    def way(self, shape: tuple[int, ...], char: str) -> Way | None:
        own = vars(type(self._inner)).get("_way") if isinstance(self._inner, Layer) else None
        return None if own is None else own(self._inner, shape, char)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return self._inner.named_children()

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return self._inner.multiply_adds(output_shape)

    def _get_name(self) -> str:
        return self._inner._get_name()

    def extra_repr(self) -> str:
        return self._inner.extra_repr()


class FrozenSequential(Frozen):
    """Frozen layers one after the other."""

    def __init__(self, layers: Mapping[str, Frozen]) -> None:
        self._add_modules(layers)
        self._chain = Chain(layers.values())
        self.owns_output = self._chain.owns_output
        self._seal()

    def forward(self, x: ArrayLike) -> FloatArray:
        return self._chain(x)

    def _get_name(self) -> str:
        return "Frozen"


class FrozenResidual(Frozen):
    """The sum of two frozen chains, the identity where one is empty, with the activation that followed."""

    owns_output = True

    def __init__(self, body: Mapping[str, Frozen], shortcut: Mapping[str, Frozen], activation: str) -> None:
        self._add_modules({**body, **shortcut})
        self._body, self._shortcut = Chain(body.values()), Chain(shortcut.values())
        self._activation = activation
        self._seal()

    def forward(self, x: ArrayLike) -> FloatArray:
        given: Any = _checks.as_array("x", x)
        output = _checks.as_array("body", self._body(given))
        straight = _checks.as_array("shortcut", self._shortcut(given))
        _checks.shape("body", output, straight.shape, "that of the shortcut")
        return plus(output, straight, self._activation, overwrite=self._body.owns_output)

    def _get_name(self) -> str:
        return "Residual+" + self._activation if self._activation else "Residual"
