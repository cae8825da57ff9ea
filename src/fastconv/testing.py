"""For people who write layers of their own: is the gradient right?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _checks
from fastconv.nn.module import Module

__all__ = ["ElementReport", "GradcheckReport", "gradcheck"]

Arrays: TypeAlias = dict[str, NDArray[Any]]
Gradients: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ElementReport:
    """The element of an array whose gradient is the furthest from what is allowed.

    Attributes
    ----------
    name : str
        Of the array: "x" and the names of the parameters for a module, "input 0" and so on for a function.
    index : tuple of int
    analytic : float
        The gradient that was checked.
    numerical : float
        The central difference.
    allowed : float
        atol + rtol * abs(numerical).

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> worst = fc.testing.gradcheck(fc.relu, [0.5], backward=fc.relu_backward).worst
    >>> worst.name, worst.index, round(worst.analytic, 4)
    ('input 0', (0,), 1.137)
    """

    name: str
    index: tuple[int, ...]
    analytic: float
    numerical: float
    allowed: float

    @property
    def excess(self) -> float:
        """The difference over what is allowed; up to 1 is right. NaN counts as infinitely far."""
        difference = abs(self.analytic - self.numerical)
        if self.allowed == 0:
            return 0.0 if difference == 0 else math.inf
        ratio = difference / self.allowed
        return math.inf if math.isnan(ratio) else ratio

    def __str__(self) -> str:
        verdict = "ok" if self.excess <= 1 else "WRONG"
        difference = abs(self.analytic - self.numerical)
        return (
            f"{self.name}[{', '.join(map(str, self.index))}]: {verdict}, analytic {self.analytic:.9g}, "
            f"numerical {self.numerical:.9g}, difference {difference:.3g}, allowed {self.allowed:.3g}"
        )


@dataclass(frozen=True)
class GradcheckReport:
    """The worst element of each array. The report is true if all are right.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> report = fc.testing.gradcheck(fc.nn.Linear(3, 2), np.ones((4, 3)))
    >>> bool(report), [element.name for element in report.worst_of_each]
    (True, ['x', 'weight', 'bias'])
    """

    worst_of_each: tuple[ElementReport, ...]

    @property
    def worst(self) -> ElementReport | None:
        """The worst element of all; None where there are no elements."""
        return max(self.worst_of_each, key=lambda element: element.excess, default=None)

    def __bool__(self) -> bool:
        return self.worst is None or self.worst.excess <= 1

    def __str__(self) -> str:
        header = "gradients are right" if self else "gradients are WRONG"
        return "\n  ".join([f"{header}; the worst element of each array:", *map(str, self.worst_of_each)])


def gradcheck(
    function_or_module: Module | Callable[..., Any],
    inputs: ArrayLike | tuple[ArrayLike, ...],
    *,
    backward: Callable[..., Any] | None = None,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    raise_exception: bool = True,
) -> GradcheckReport:
    """Compare gradients with central differences, in float64.

    Parameters
    ----------
    function_or_module : Module or callable
        A module, whose gradients by its input and by all its parameters are checked; it stays as it is,
        since copies in float64 are used, each starting from the same state and random generator. Or
        ``function(*inputs)``, which returns the output, if `backward` is given, else a pair: a number (a
        loss), and its gradients.
    inputs : array_like or tuple of array_like
        What to compute with, converted to float64. For a function, arrays of integers stay what they are,
        and have no gradient. They should lie away from kinks, such as the zero of a rectifier.
    backward : callable, optional
        ``backward(grad_output, *inputs)`` returns the gradient of the first input, or a tuple of the
        gradients of the first ones, where None is not checked.
    eps : float
        The step of the differences. It must be more than rounding loses of the elements.
    atol, rtol : float
        A gradient may be off by atol + rtol * abs(numerical).
    raise_exception : bool
        Whether wrong gradients raise.

    Returns
    -------
    GradcheckReport
        True if the gradients are right. Printed, it tells the worst element of each array.

    Raises
    ------
    AssertionError
        Gradients are wrong, and `raise_exception`; the message is the report.
    ValueError
        A gradient has not the shape of its array, or results differ between two calls, or are not float64; or
        a number is out of range, such as an `eps` that rounding loses.

    Examples
    --------
    >>> import fastconv as fc
    >>> bool(fc.testing.gradcheck(fc.nn.Linear(3, 2), np.ones((4, 3))))
    True
    >>> bool(fc.testing.gradcheck(fc.tanh, [0.5], backward=lambda g, x: fc.tanh_backward(g, fc.tanh(x))))
    True
    >>> def backward(grad_output, x):
    ...     return -grad_output * np.cos(x)
    >>> report = fc.testing.gradcheck(np.sin, [0.0], backward=backward, raise_exception=False)
    >>> print(report)
    gradients are WRONG; the worst element of each array:
      input 0[0]: WRONG, analytic -1.13696169, numerical 1.13696169, difference 2.27, allowed 0.000115
    """
    raise_exception = _checks.boolean("raise_exception", raise_exception)
    step = _checks.number("eps", eps, 0)
    if step == 0:
        raise _checks.argument_error("eps", repr(eps), "a finite number above 0")
    tolerances = _checks.number("atol", atol, 0), _checks.number("rtol", rtol, 0)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if isinstance(function_or_module, Module):
        case: _Case = _ModuleCase(function_or_module, given)
    elif callable(function_or_module):
        case = _FunctionCase(function_or_module, given, backward)
    else:
        got = type(function_or_module).__name__
        raise _checks.argument_error("function_or_module", got, "a Module or a function", TypeError)

    output = case.output(case.arrays)
    if output.dtype != np.float64:
        needs = "float64, as the inputs are"
        raise _checks.argument_error("function_or_module", f"results of dtype {output.dtype}", needs)
    if not np.array_equal(output, case.output(case.arrays), equal_nan=True):
        needs = "the same results for the same inputs"
        raise _checks.argument_error("function_or_module", "two different results", needs)
    grad_output = case.grad_output(output)
    worst = []
    for name, analytic in case.gradients(grad_output).items():
        array = case.arrays[name]
        if analytic.shape != array.shape:
            needs = f"shape {array.shape}, that of the array"
            raise _checks.argument_error(f"the gradient by {name}", f"shape {analytic.shape}", needs)
        _check_step(name, array, step)
        elements = [
            _element(case, name, index, float(analytic[index]), grad_output, step, *tolerances)
            for index in np.ndindex(array.shape)
        ]
        if elements:
            worst.append(max(elements, key=lambda element: element.excess))
    report = GradcheckReport(tuple(worst))
    if raise_exception and not report:
        raise AssertionError(str(report))
    return report


def _check_step(name: str, array: NDArray[Any], step: float) -> None:
    lost = np.isfinite(array) & (array + step == array - step)
    if lost.any():
        index = tuple(int(i) for i in np.argwhere(lost)[0])
        needs = f"a step that changes {name}{list(index)}, which is {array[index]}"
        raise _checks.argument_error("eps", step, needs)


def _element(
    case: _Case,
    name: str,
    index: tuple[int, ...],
    analytic: float,
    grad_output: NDArray[Any],
    step: float,
    atol: float,
    rtol: float,
) -> ElementReport:
    above, below = dict(case.arrays), dict(case.arrays)
    above[name], below[name] = case.arrays[name].copy(), case.arrays[name].copy()
    above[name][index] += step
    below[name][index] -= step
    change = case.output(above) - case.output(below)
    numerical = float(np.vdot(grad_output, change)) / float(above[name][index] - below[name][index])
    return ElementReport(name, index, analytic, numerical, atol + rtol * abs(numerical))


class _Case:
    """A function of named arrays, with the gradients to check."""

    arrays: Arrays

    def output(self, arrays: Arrays) -> NDArray[Any]:
        """The function's value."""
        raise NotImplementedError

    def grad_output(self, output: NDArray[Any]) -> NDArray[Any]:
        """Some gradient by the output; all different, so that no mistake cancels out."""
        signs = np.resize([1.0, -1.0, 1.0], output.shape)
        return np.asarray(np.random.default_rng(0).uniform(0.5, 1.5, output.shape) * signs)

    def gradients(self, grad_output: NDArray[Any]) -> Gradients:
        """The gradients to check, by the names of arrays."""
        raise NotImplementedError


class _ModuleCase(_Case):
    def __init__(self, module: Module, inputs: Sequence[ArrayLike]) -> None:
        if len(inputs) != 1:
            raise _checks.argument_error("inputs", f"{len(inputs)} of them", "the one input of a module")
        self._module = module.astype(np.float64)
        self.arrays = {"x": np.array(_checks.as_array("inputs", inputs[0]), np.float64)}
        self.arrays |= {name: parameter.data for name, parameter in self._module.named_parameters()}

    def _run(self, arrays: Arrays) -> tuple[Module, NDArray[Any]]:
        module = copy.deepcopy(self._module)
        for name, parameter in module.named_parameters():
            parameter.data = arrays[name]
        return module, np.asarray(module.forward(arrays["x"].copy()))

    def output(self, arrays: Arrays) -> NDArray[Any]:
        _, output = self._run(arrays)
        return output

    def gradients(self, grad_output: NDArray[Any]) -> Gradients:
        module, _ = self._run(self.arrays)
        module.zero_grad()
        gradient = np.asarray(module.backward(grad_output))
        return {"x": gradient, **{name: parameter.grad for name, parameter in module.named_parameters()}}


class _FunctionCase(_Case):
    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[ArrayLike],
        backward: Callable[..., Any] | None,
    ) -> None:
        self._function, self._backward = function, backward
        self.arrays = {}
        for i, value in enumerate(inputs):
            array = _checks.as_array(f"input {i}", value)
            self.arrays[f"input {i}"] = np.array(array, np.float64 if array.dtype.kind == "f" else None)

    def _call(self, arrays: Arrays) -> Any:
        return self._function(*(array.copy() for array in arrays.values()))

    def output(self, arrays: Arrays) -> NDArray[Any]:
        result = self._call(arrays)
        if self._backward is not None:
            return np.asarray(result)
        if not isinstance(result, tuple) or len(result) != 2 or np.ndim(result[0]) != 0:
            needs = "a number and its gradients, unless backward is given"
            raise _checks.argument_error("function_or_module", type(result).__name__, needs, TypeError)
        return np.asarray(result[0])

    def grad_output(self, output: NDArray[Any]) -> NDArray[Any]:
        return np.ones(()) if self._backward is None else super().grad_output(output)

    def gradients(self, grad_output: NDArray[Any]) -> Gradients:
        if self._backward is None:
            found = self._call(self.arrays)[1]
        else:
            found = self._backward(grad_output, *(array.copy() for array in self.arrays.values()))
        gradients = found if isinstance(found, tuple) else (found,)
        if len(gradients) > len(self.arrays):
            needs = f"at most {len(self.arrays)}, one for each input"
            raise _checks.argument_error("backward", f"{len(gradients)} gradients", needs)
        return {
            name: np.asarray(gradient)
            for (name, array), gradient in zip(self.arrays.items(), gradients, strict=False)
            if gradient is not None and array.dtype == np.float64
        }
