"""What all optimizers have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv._kernels import optimizer as kernels
from fastconv.nn.parameter import Parameter

__all__ = ["WORK_AN_ELEMENT", "Job", "Optimizer"]

WORK_AN_ELEMENT = 16
"""So many multiply-adds an element that is updated counts as, where threads are handed out."""


Job: TypeAlias = tuple[Callable[..., None], dict[str, Any]]
"""A kernel and its arguments."""


class Optimizer:
    """Changes parameters so that the loss falls, by the gradients that `backward` left in them.

    Every parameter takes part in every step; after `zero_grad`, with a gradient of zero.

    Parameters
    ----------
    params : iterable of Parameter, or iterable of mappings
        What to optimize. A mapping is a group: "params", and options that differ from the others'.
    defaults : mapping
        The options of groups that say nothing else.

    Attributes
    ----------
    param_groups : list of dict
        The groups with all their options, which may be changed between steps, such as ``group["lr"]``.

    Examples
    --------
    Every optimizer has groups of parameters, each with options of its own:

    >>> from fastconv import nn, optim
    >>> weight, bias = nn.Parameter([1.0]), nn.Parameter([0.0])
    >>> optimizer = optim.SGD([{"params": [weight]}, {"params": [bias], "lr": 0.2}], lr=0.1)
    >>> isinstance(optimizer, optim.Optimizer), [group["lr"] for group in optimizer.param_groups]
    (True, [0.1, 0.2])
    """

    _arrays: ClassVar[tuple[str, ...]] = ()
    """The names of the arrays that are kept for each parameter."""

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        if isinstance(params, Parameter | Mapping):
            needs = "an iterable of parameters or of groups of them"
            raise _checks.argument_error("params", type(params).__name__, needs, TypeError)
        given = list(params)
        if not given:
            raise _checks.argument_error("params", "an empty list", "at least one parameter")
        if not all(isinstance(group, Mapping) for group in given):
            given = [{"params": given}]
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Parameter, dict[str, Any]] = {}
        seen: set[int] = set()
        for group in given:
            self.param_groups.append(self._checked_group(group, defaults, seen))

    def _checked_group(
        self, group: Mapping[str, Any], defaults: Mapping[str, Any], seen: set[int]
    ) -> dict[str, Any]:
        if "params" not in group:
            raise _checks.argument_error("params", f"a group of {sorted(group)}", "a group with params")
        members = group["params"]
        members = [members] if isinstance(members, Parameter) else list(members)
        for parameter in members:
            if not isinstance(parameter, Parameter):
                raise _checks.argument_error("params", type(parameter).__name__, "a Parameter", TypeError)
            if id(parameter) in seen:
                raise _checks.argument_error("params", f"{parameter} twice", "each parameter once")
            seen.add(id(parameter))
        unknown = sorted(set(group) - set(defaults) - {"params"})
        if unknown:
            raise _checks.argument_error(
                "params", f"a group with {unknown}", f"options of {sorted(defaults)}"
            )
        options = {**defaults, **{name: value for name, value in group.items() if name != "params"}}
        return {"params": members, **self._checked_options(options)}

    def _checked_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a group, converted; raises where one is not what it must be."""
        raise NotImplementedError(f"{type(self).__name__}._checked_options")

    def _job(self, parameter: Parameter, options: dict[str, Any], state: dict[str, Any]) -> Job:
        """One step of one parameter, to be done later; `state` is its own, empty before the first step."""
        raise NotImplementedError(f"{type(self).__name__}._job")

    def step(self) -> None:
        """Change all parameters by their gradients; all of them, or, if anything raises, none.

        Raises
        ------
        ValueError, TypeError
            A parameter is read-only, or an option or a kept array is not what it must be.
        MemoryError
            There is no room for what is kept for each parameter.
        """
        state, jobs = dict(self.state), []
        for group in self.param_groups:
            options = self._checked_options(group)
            for parameter in group["params"]:
                if not parameter.data.flags.writeable:
                    raise _checks.argument_error("params", "a read-only parameter", "one that can be changed")
                kept = state[parameter] = dict(state.get(parameter, ()))
                jobs.append(self._job(parameter, options, kept))
        # Nothing below can fail, and no handler of a signal runs between these two statements.
        self.state = state
        kernels.run(jobs)

    def _operands(
        self, parameter: Parameter, state: dict[str, Any], names: Iterable[str]
    ) -> list[FloatArray]:
        """The value, the gradient and what is kept by these names, from zeros on: of equal form in memory."""
        data = parameter.data
        operands = {"data": data, "grad": parameter.grad}
        for name in names:
            if name not in state:
                state[name] = np.zeros_like(data)
            operands[name] = state[name]
        for name, array in operands.items():
            if type(array) is not np.ndarray or array.dtype != data.dtype or not array.flags.carray:
                got = f"{name} that is {_form(array)}"
                raise _checks.argument_error("params", got, f"a dense, writeable array of {data.dtype}")
            _checks.shape(f"params: {name}", array, data.shape, "that of the parameter")
        return list(operands.values())

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to zero."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on with later, in PyTorch's form: copies, with numbers in place of the parameters.

        Returns
        -------
        dict
            "state": for the number of each parameter what is kept for it; "param_groups": the options of
            each group, and the numbers of its parameters as "params".
        """
        numbers = {parameter: number for number, parameter in enumerate(self._parameters())}
        state = {
            numbers[parameter]: {name: _copied(value) for name, value in kept.items()}
            for parameter, kept in self.state.items()
        }
        groups = [
            {**group, "params": [numbers[parameter] for parameter in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called, bit for bit; all of it, or, if anything does not fit, none.

        Raises
        ------
        ValueError
            The groups or the shapes are not those of this optimizer, or an option is out of range.
        TypeError
            A value has the wrong type.
        """
        missing = {"state", "param_groups"} - set(state_dict)
        if missing:
            raise _checks.argument_error(
                "state_dict", f"no {sorted(missing)}", "what Optimizer.state_dict gives"
            )
        groups = self._loaded_groups(list(state_dict["param_groups"]))
        parameters = list(self._parameters())
        state = {}
        for number, kept in state_dict["state"].items():
            index = _checks.integer("state_dict", number, 0)
            if index >= len(parameters):
                raise _checks.argument_error(
                    "state_dict", f"parameter {index}", f"only {len(parameters)} of them"
                )
            state[parameters[index]] = self._loaded_state(index, kept, parameters[index])
        self.state = state
        for group, options in zip(self.param_groups, groups, strict=True):
            group.update(options)

    def _parameters(self) -> Iterator[Parameter]:
        for group in self.param_groups:
            yield from group["params"]

    def _loaded_groups(self, groups: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The options of each group."""
        sizes = [len(group["params"]) for group in self.param_groups]
        given = [len(group.get("params", ())) for group in groups]
        if sizes != given:
            raise _checks.argument_error("state_dict", f"groups of {given} parameters", f"groups of {sizes}")
        loaded = []
        for own, group in zip(self.param_groups, groups, strict=True):
            options = {name: value for name, value in group.items() if name != "params"}
            first_rate = {name: options.pop(name) for name in ("initial_lr",) if name in options}
            expected = set(own) - {"params", "initial_lr"}
            if set(options) != expected:
                raise _checks.argument_error(
                    "state_dict",
                    f"a group with the options {sorted(options)}",
                    f"the options {sorted(expected)}",
                )
            loaded.append({**self._checked_options(options), **first_rate})
        return loaded

    def _loaded_state(self, index: int, kept: Mapping[str, Any], parameter: Parameter) -> dict[str, Any]:
        """Converted copies of what is kept for one parameter."""
        loaded: dict[str, Any] = {}
        for name, value in kept.items():
            if name == "step":
                loaded[name] = _checks.integer(f"state_dict: step of parameter {index}", int(value), 0)
            elif name in self._arrays:
                label = f"state_dict: {name} of parameter {index}"
                array = _checks.as_array(label, value)
                _checks.shape(label, array, parameter.shape, "that of the parameter")
                loaded[name] = np.array(array, parameter.dtype, order="C")
            else:
                raise _checks.argument_error(
                    "state_dict", f"{name!r} for parameter {index}", f"what {type(self).__name__} keeps"
                )
        return loaded


def _form(array: Any) -> str:
    if type(array) is not np.ndarray:
        return f"a {type(array).__name__}"
    return f"of {array.dtype}, {'writeable' if array.flags.writeable else 'read-only'}"


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value
