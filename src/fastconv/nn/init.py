"""Rules for the first values of parameters, as in ``torch.nn.init``, each with an explicit random generator.

The rule of He et al. (2015) is PyTorch's ``kaiming``, that of Glorot and Bengio (2010) its ``xavier``. Each
function fills a `Parameter` or an array in place. The numbers are drawn in float64, so that parameters of
another dtype get the same ones, rounded.

The fans of a weight (out, in, ...) are the numbers of inputs that an output depends on, and the other way
round: ``fan_in`` = in * the size of the kernel, ``fan_out`` = out * the size of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fastconv import _checks
from fastconv._checks import FloatArray
from fastconv.nn.parameter import Parameter

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
]

Fillable: TypeAlias = "Parameter | FloatArray"

_CHUNK = 1 << 16
"""How many numbers are drawn at a time, so that a large parameter needs no float64 array of its size."""


def _array(tensor: Fillable) -> FloatArray:
    array = tensor.data if isinstance(tensor, Parameter) else tensor
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        got = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise _checks.argument_error("tensor", got, "a Parameter or a floating-point ndarray", TypeError)
    if not array.flags.writeable:
        raise _checks.argument_error("tensor", "a read-only array", "a writable one")
    return array


def _fill(tensor: Fillable, draw: Callable[[int], FloatArray]) -> None:
    array = _array(tensor)
    flat = array.reshape(-1) if array.flags.c_contiguous else np.empty(array.size, array.dtype)
    for start in range(0, array.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        part[...] = draw(part.size)
    if not array.flags.c_contiguous:
        array[...] = flat.reshape(array.shape)


def fans(tensor: Fillable) -> tuple[int, int]:
    """``fan_in`` and ``fan_out`` of a weight with at least two axes."""
    shape = tensor.shape
    if len(shape) < 2:
        raise _checks.argument_error("tensor", f"shape {shape}", "at least 2 axes: (out, in, ...)")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a standard deviation grows to make up for the layer's nonlinearity.

    Parameters
    ----------
    nonlinearity : {"linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu"}
    param : float, optional
        The negative slope of "leaky_relu", 0.01 by default.

    Examples
    --------
    >>> calculate_gain("relu") ** 2
    2.0000000000000004
    """
    gains = {"linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}
    _checks.choice("nonlinearity", nonlinearity, (*gains, "leaky_relu"))
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else _checks.number("param", param)
        return math.sqrt(2 / (1 + slope**2))
    return gains[nonlinearity]


def constant_(tensor: Fillable, val: float) -> None:
    """Every element is `val`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> a = np.empty(3)
    >>> nn.init.constant_(a, 0.5)
    >>> a
    array([0.5, 0.5, 0.5])
    """
    _array(tensor)[...] = _checks.number("val", val)


def uniform_(tensor: Fillable, a: float = 0.0, b: float = 1.0, *, rng: np.random.Generator) -> None:
    """Numbers that are evenly distributed from `a` to `b`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> a = np.empty(1000)
    >>> nn.init.uniform_(a, -1, 1, rng=np.random.default_rng(0))
    >>> bool(abs(a).max() < 1), round(float(a.std()), 2)
    (True, 0.57)
    """
    a, b = _checks.number("a", a), _checks.number("b", b, minimum=a)
    generator = _checks.generator("rng", rng)
    _fill(tensor, lambda count: generator.uniform(a, b, count))


def normal_(tensor: Fillable, mean: float = 0.0, std: float = 1.0, *, rng: np.random.Generator) -> None:
    """Normally distributed numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> a = np.empty(1000)
    >>> nn.init.normal_(a, 0.0, 0.1, rng=np.random.default_rng(0))
    >>> round(float(a.std()), 2)
    0.1
    """
    mean, std = _checks.number("mean", mean), _checks.number("std", std, minimum=0)
    generator = _checks.generator("rng", rng)
    _fill(tensor, lambda count: generator.normal(mean, std, count))


def _kaiming_std(tensor: Fillable, a: float, mode: str, nonlinearity: str) -> float:
    _checks.choice("mode", mode, ("fan_in", "fan_out"))
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: Fillable,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    rng: np.random.Generator,
) -> None:
    """The rule of He et al.: evenly distributed, with the standard deviation gain / sqrt(fan).

    Parameters
    ----------
    tensor : Parameter or ndarray, shape (out, in, ...)
    a : float
        The negative slope, if the `nonlinearity` is "leaky_relu".
    mode : {"fan_in", "fan_out"}
        Keeps the variance of the outputs, or of the gradients.
    nonlinearity : str
        As for `calculate_gain`.
    rng : numpy.random.Generator

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> a = np.empty((64, 8, 3, 3))
    >>> nn.init.kaiming_uniform_(a, nonlinearity="relu", rng=np.random.default_rng(0))
    >>> round(float(a.std()), 2), round((2 / (8 * 3 * 3)) ** 0.5, 2)
    (0.17, 0.17)
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    uniform_(tensor, -bound, bound, rng=rng)


def kaiming_normal_(
    tensor: Fillable,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    rng: np.random.Generator,
) -> None:
    """The rule of He et al.: normally distributed; the parameters are those of `kaiming_uniform_`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> a = np.empty((64, 8, 3, 3))
    >>> nn.init.kaiming_normal_(a, nonlinearity="relu", rng=np.random.default_rng(0))
    >>> round(float(a.std()), 2), round((2 / (8 * 3 * 3)) ** 0.5, 2)
    (0.17, 0.17)
    """
    normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), rng=rng)


def _xavier_std(tensor: Fillable, gain: float) -> float:
    return _checks.number("gain", gain, minimum=0) * math.sqrt(2 / max(sum(fans(tensor)), 1))


def xavier_uniform_(tensor: Fillable, gain: float = 1.0, *, rng: np.random.Generator) -> None:
    """The rule of Glorot and Bengio: evenly distributed, variance gain^2 2 / (fan_in + fan_out).

    Parameters
    ----------
    tensor : Parameter or ndarray, shape (out, in, ...)
    gain : float
        See `calculate_gain`.
    rng : numpy.random.Generator

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> a = np.empty((60, 40))
    >>> nn.init.xavier_uniform_(a, rng=np.random.default_rng(0))
    >>> round(float(a.std()), 2), round((2 / (60 + 40)) ** 0.5, 2)
    (0.14, 0.14)
    """
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    uniform_(tensor, -bound, bound, rng=rng)


def xavier_normal_(tensor: Fillable, gain: float = 1.0, *, rng: np.random.Generator) -> None:
    """The rule of Glorot and Bengio: normally distributed; the parameters are those of `xavier_uniform_`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> a = np.empty((60, 40))
    >>> nn.init.xavier_normal_(a, rng=np.random.default_rng(0))
    >>> round(float(a.std()), 2), round((2 / (60 + 40)) ** 0.5, 2)
    (0.14, 0.14)
    """
    normal_(tensor, 0.0, _xavier_std(tensor, gain), rng=rng)


def default_(weight: Parameter, bias: Parameter | None, rng: np.random.Generator) -> None:
    """PyTorch's rule for convolutions and linear layers: evenly distributed within 1 / sqrt(fan_in) of 0."""
    bound = 1 / math.sqrt(max(fans(weight)[0], 1))
    uniform_(weight, -bound, bound, rng=rng)
    if bias is not None:
        uniform_(bias, -bound, bound, rng=rng)
