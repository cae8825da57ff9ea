"""What all layers and networks have in common."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Self, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv.functional._ways import Way
from fastconv.nn.parameter import Parameter

__all__ = ["IncompatibleKeys", "Layer", "Module", "WeightedLayer"]


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` did without, with ``strict=False``."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A layer, or a network of layers.

    Layers of your own derive from it and define `forward` and `backward`; every `Parameter` and every
    `Module` among the attributes belongs to the module. The same layer object cannot be in a network twice:
    its backward belongs to its latest forward, so it could not tell the two places apart.

    Attributes
    ----------
    training : bool
        Whether layers such as dropout and batch normalization train or are used.

    Examples
    --------
    >>> import numpy as np
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Parameter(2.0)
    ...
    ...     def forward(self, x):
    ...         self.x = np.asarray(x)
    ...         return self.x * self.factor.data
    ...
    ...     def backward(self, grad_output):
    ...         self.factor.grad += (grad_output * self.x).sum()
    ...         return grad_output * self.factor.data
    >>> scale = Scale()
    >>> scale([1.0, 2.0])
    array([2., 4.])
    >>> scale.backward(np.array([1.0, 0.5]))
    array([2., 1.])
    >>> scale.state_dict()
    {'factor': array(2.)}
    """

    training: bool = True
    _buffers: tuple[str, ...] = ()
    """The names of the attributes that are no parameters, but part of the state: arrays or None."""
    _inlined: tuple[str, ...] = ()
    """The names of the children that dotted names leave out: what these hold is named as the module's own."""

    # ---- what a module computes ----

    def forward(self, x: ArrayLike) -> FloatArray:
        """The output for the input `x`."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, grad_output: ArrayLike) -> FloatArray:
        """The gradient of the loss by the input of the latest `forward`.

        Parameters
        ----------
        grad_output : array_like
            The gradient of the loss by the output of the latest `forward`, which has its shape. The
            gradients by the parameters are added to their `grad`.

        Returns
        -------
        ndarray of the shape of the input
        """
        raise NotImplementedError(f"{type(self).__name__}.backward")

    def __call__(self, x: ArrayLike) -> FloatArray:
        """The same as `forward`."""
        return self.forward(x)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        """How many multiplications with an addition an output of this shape costs; 0 by default."""
        return 0

    # ---- what a module consists of ----

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self._refuse_what_is_here({name: value})
        elif isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter | None):
            raise _checks.argument_error(
                name, type(value).__name__, f"a Parameter; assign arrays to {name}.data", TypeError
            )
        elif name in self._buffers and value is not None and not isinstance(value, np.ndarray):
            needs = f"an ndarray; assign numbers to {name}[...]"
            raise _checks.argument_error(name, type(value).__name__, needs, TypeError)
        super().__setattr__(name, value)

    def _refuse_what_is_here(self, new: Mapping[str, Module]) -> None:
        """Raises ValueError where modules that are to be attributes of these names would be here twice."""
        here = {id(self)}
        for name, child in self.named_children():
            if name not in new:
                here.update(id(module) for module in child.modules())
        for name, child in new.items():
            modules = list(child.modules())
            for module in modules:
                if id(module) in here:
                    got = f"a {type(module).__name__} that is in this {type(self).__name__} already"
                    raise _checks.argument_error(name, got, "a layer object for each place")
            here.update(id(module) for module in modules)

    def _add_modules(self, new: Mapping[str, Module]) -> None:
        """Sets attributes, all in one go: one by one takes as long as the square of their number."""
        self._refuse_what_is_here(new)
        vars(self).update(new)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that this one holds itself, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their dotted names, in the order they were made part of it."""
        yield prefix, self
        for name, child in self.named_children():
            inner = f"{prefix}.{name}" if prefix else name
            yield from child.named_modules(prefix if name in self._inlined else inner)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def _learning_modules(self) -> Iterator[Module]:
        """This module and all below it, without frozen ones and what these hold."""
        yield self
        for _, child in self.named_children():
            yield from child._learning_modules()

    def _learns(self) -> bool:
        """Whether there is a parameter that is not frozen."""
        return any(
            isinstance(value, Parameter)
            for module in self._learning_modules()
            for value in vars(module).values()
        )

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; one that is in several places, by the first."""
        seen = set()
        for name, parameter in self._named_parameters_everywhere():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def _named_parameters_everywhere(self) -> Iterator[tuple[str, Parameter]]:
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield f"{prefix}.{name}" if prefix else name, value

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        for _, parameter in self.named_parameters():
            yield parameter

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to zero."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def train(self, mode: bool = True) -> Self:
        """Let this module and all below it train, or be used (``mode=False``); returns the module.

        Frozen parts stay as they are, as after `eval`.
        """
        mode = _checks.boolean("mode", mode)
        for module in self._learning_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """The same as ``train(False)``."""
        return self.train(False)

    def astype(self, dtype: DTypeLike) -> Self:
        """A copy of the module whose parameters and floating-point buffers have another dtype.

        Raises
        ------
        TypeError
            `dtype` is none of float16, float32 and float64.
        RuntimeError
            A part is frozen; the message tells which.
        """
        kept = _checks.parameter_dtype("dtype", dtype)
        learning = {id(module) for module in self._learning_modules()}
        for name, module in self.named_modules():
            if id(module) not in learning:
                got = f"a network whose part {name} is frozen"
                raise RuntimeError(f"astype: got {got}, needs one that is not; freeze afterwards")
        other = copy.deepcopy(self)
        converted: dict[Parameter, Parameter] = {}
        for module in other.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Parameter):
                    setattr(module, name, converted.setdefault(value, value.astype(kept)))
                elif name in module._buffers and value is not None and value.dtype.kind == "f":
                    setattr(module, name, value.astype(kept))
        return other

    # ---- the state ----

    def _state(self) -> dict[str, NDArray[Any]]:
        """The arrays of the state themselves, in PyTorch's order: of each module parameters, then buffers."""
        state: dict[str, NDArray[Any]] = {}
        for prefix, module in self.named_modules():
            dot = f"{prefix}." if prefix else ""
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    state[dot + name] = value.data
            for name in module._buffers:
                buffer = getattr(module, name)
                if buffer is not None:
                    state[dot + name] = buffer
        return state

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all parameters and buffers, by the names of a PyTorch module of the same build.

        So ``numpy.savez(path, **module.state_dict())`` saves a network, and
        ``module.load_state_dict(numpy.load(path))`` loads it.
        """
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into all parameters and buffers; all of them, or, if anything does not fit, none.

        Parameters
        ----------
        state_dict : mapping from names to array_like
            As `state_dict` gives it; PyTorch's will do. The values are converted to the dtype of the
            parameter. The ``num_batches_tracked`` of batch normalization may be missing, as in old
            checkpoints. What is read-only, as in a frozen part, must have its value already.
        strict : bool
            False ignores names that are missing or unexpected.

        Returns
        -------
        IncompatibleKeys
            The missing and the unexpected names, both none with ``strict=True``.

        Raises
        ------
        ValueError
            Names are missing or unexpected, shapes differ, what counts is no count, or what is read-only
            would change; the message lists all of them.
        TypeError
            This is no mapping, a name is no string, or a value is no array of real numbers.
        """
        strict = _checks.boolean("strict", strict)
        if not isinstance(state_dict, Mapping):
            needs = "a mapping from names to arrays"
            raise _checks.argument_error("state_dict", type(state_dict).__name__, needs, TypeError)
        state = self._state()
        given = {name: state_dict[name] for name in state_dict}
        for name in given:
            if not isinstance(name, str):
                got = f"the name {name!r}"
                raise _checks.argument_error("state_dict", got, "names that are strings", TypeError)
        missing = [n for n in state if n not in given and n.rpartition(".")[2] != "num_batches_tracked"]
        unexpected = [name for name in given if name not in state]
        complaints = []
        if strict and missing:
            complaints.append("missing " + ", ".join(missing))
        if strict and unexpected:
            complaints.append("unexpected " + ", ".join(unexpected))
        converted = {}
        for name, target in state.items():
            if name not in given:
                continue
            value = _checks.as_array(name, given[name])
            if value.shape != target.shape:
                complaints.append(f"{name} of shape {value.shape} instead of {target.shape}")
            elif target.dtype.kind == "i" and not _are_counts(value):
                complaints.append(f"{name} = {value}, which is no count")
            elif not target.flags.writeable:
                if np.array_equal(value.astype(target.dtype), target, equal_nan=True):
                    continue
                complaints.append(f"{name}, which is read-only here")
            else:
                converted[name] = value.astype(target.dtype)
        if complaints:
            needs = f"the parameters and buffers of this {type(self).__name__}"
            raise _checks.argument_error("state_dict", "; ".join(complaints), needs)
        for name, value in converted.items():
            state[name][...] = value
        return IncompatibleKeys(missing, unexpected)

    # ---- descriptions ----

    def _get_name(self) -> str:
        """What descriptions call it."""
        return type(self).__name__

    def summary(self, input_shape: tuple[int, ...]) -> None:
        """Print a table of the layers: output shape, parameters and multiply-adds of each.

        Parameters
        ----------
        input_shape : tuple of int
            The shape of the input `x`, with or without the batch axis in front. The network runs once, on
            zeros, as in `eval`, and is left as it was.

        Raises
        ------
        ValueError
            The network does not take such an input.
        """
        from fastconv.nn.summary import summarize

        print(summarize(self, input_shape))

    def extra_repr(self) -> str:
        """The arguments to show between the parentheses of ``repr(module)``."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not lines:
            return f"{self._get_name()}({self.extra_repr()})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _are_counts(numbers: NDArray[Any]) -> bool:
    wide = numbers.astype(np.float64)
    return bool(np.all((wide >= 0) & (wide < 2.0**63) & (wide == np.floor(wide))))


class Layer(Module):
    """A module that keeps what its backward needs from its latest forward.

    It defines `_forward`, which returns the output and what to keep (anything but None), and `_backward`,
    which gets the latter back. After a forward that failed there is nothing to go backward from.
    """

    _saved: Any = None
    _needs_grad_x: bool = True

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        raise NotImplementedError(f"{type(self).__name__}._forward")

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        raise NotImplementedError(f"{type(self).__name__}._backward")

    def _infer(self, x: ArrayLike) -> FloatArray:
        """The output alone, of a layer in `eval` mode; nothing is kept, so threads may share the layer."""
        return self._forward(x)[0]

    def _way(self, shape: tuple[int, ...], char: str) -> Way | None:
        """What `_infer` does to arrays of a shape and dtype, not empty; None where only that knows.

        Only objects of the very class that defines it are asked: one derived from that may compute otherwise.
        """
        return None

    def forward(self, x: ArrayLike) -> FloatArray:
        """The output for the input `x`; neither may be changed in place before `backward`."""
        self._saved = None
        output, self._saved = self._forward(x)
        return output

    @overload
    def backward(self, grad_output: ArrayLike, *, need_x: Literal[True] = True) -> FloatArray: ...

    @overload
    def backward(self, grad_output: ArrayLike, *, need_x: bool) -> FloatArray | None: ...

    def backward(self, grad_output: ArrayLike, *, need_x: bool = True) -> FloatArray | None:
        """The gradient of the loss by the input of the latest `forward`.

        Parameters
        ----------
        grad_output : array_like
            The gradient of the loss by the output of the latest `forward`, which has its shape. The
            gradients by the parameters are added to their `grad`.
        need_x : bool
            False where nothing asks for the gradient by the input, as of a whole network in training: the
            first layer is spared its computation then.

        Returns
        -------
        ndarray of the shape of the input, or None without `need_x`
        """
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward: got no forward before it, needs one")
        if _checks.boolean("need_x", need_x):
            return self._backward(grad_output, self._saved)
        self._needs_grad_x = False
        try:
            self._backward(grad_output, self._saved)
        finally:
            del self._needs_grad_x
        return None

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which don't carry along what the latest forward left."""
        return {name: value for name, value in vars(self).items() if name != "_saved"}


class WeightedLayer(Layer):
    """A layer with a weight and a bias, either of which may be None."""

    weight: Parameter | None
    bias: Parameter | None

    def _needed(self) -> tuple[str, ...]:
        """The gradients that backward computes."""
        present = {"x": self._needs_grad_x, "weight": self.weight is not None, "bias": self.bias is not None}
        return tuple(name for name, there in present.items() if there)

    def _accumulate(self, grad_x: Any, grad_weight: Any, grad_bias: Any) -> FloatArray:
        """Add the gradients to those of the parameters; the one by the input is returned."""
        if self.weight is not None:
            self.weight.accumulate(grad_weight)
        if self.bias is not None:
            self.bias.accumulate(grad_bias)
        return grad_x  # type: ignore[no-any-return]


def backward_to_parameters(module: Module, grad_output: ArrayLike) -> None:
    """`module.backward` for the gradients by its parameters alone, if any are not frozen; of any module."""
    if not module._learns():
        return
    if isinstance(module, Layer) and type(module).backward is Layer.backward:
        module.backward(grad_output, need_x=False)
    else:
        module.backward(grad_output)


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """A block in `eval` mode; afterwards `module` and all below it are each in the mode that they were in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
