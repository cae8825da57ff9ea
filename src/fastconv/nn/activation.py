"""Activations as layers."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fastconv import _checks, functional
from fastconv._checks import FloatArray
from fastconv.functional._rectifier import rectified, rectified_backward
from fastconv.nn.module import Layer

__all__ = ["LeakyReLU", "ReLU", "ReLU6", "Sigmoid", "Softmax", "Tanh"]


class ReLU(Layer):
    """max(x, 0); see `fastconv.relu`.

    Parameters
    ----------
    inplace : bool
        Accepted because PyTorch has it. The input is never overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> layer = nn.ReLU()
    >>> layer(np.array([-1.0, 2.0]))
    array([0., 2.])
    >>> layer.backward(np.ones(2))
    array([0., 1.])
    """

    def __init__(self, inplace: bool = False) -> None:
        _checks.boolean("inplace", inplace)

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        return rectified(x)

    def _infer(self, x: ArrayLike) -> FloatArray:
        return functional.relu(x)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return rectified_backward(grad_output, saved)


class ReLU6(Layer):
    """min(max(x, 0), 6); see `fastconv.relu6`.

    Parameters
    ----------
    inplace : bool
        Accepted because PyTorch has it. The input is never overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.ReLU6()(np.array([-1.0, 2.0, 7.0]))
    array([0., 2., 6.])
    """

    def __init__(self, inplace: bool = False) -> None:
        _checks.boolean("inplace", inplace)

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        return rectified(x, 6)

    def _infer(self, x: ArrayLike) -> FloatArray:
        return functional.relu6(x)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return rectified_backward(grad_output, saved)


class LeakyReLU(Layer):
    """x where x > 0, else negative_slope * x; see `fastconv.leaky_relu`.

    Parameters
    ----------
    negative_slope : float
    inplace : bool
        Accepted because PyTorch has it. The input is never overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.LeakyReLU(0.1)(np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = _checks.number("negative_slope", negative_slope)
        _checks.boolean("inplace", inplace)

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        return functional.leaky_relu(x, self.negative_slope), (x, self.negative_slope)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.leaky_relu_backward(grad_output, *saved)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class Sigmoid(Layer):
    """1 / (1 + exp(-x)); see `fastconv.sigmoid`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Sigmoid()(np.array([0.0, 2.0])).round(4)
    array([0.5   , 0.8808])
    """

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        output = functional.sigmoid(x)
        return output, output

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.sigmoid_backward(grad_output, saved)


class Tanh(Layer):
    """The hyperbolic tangent; see `fastconv.tanh`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Tanh()(np.array([0.0, 2.0])).round(4)
    array([0.   , 0.964])
    """

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        output = functional.tanh(x)
        return output, output

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.tanh_backward(grad_output, saved)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along an axis; see `fastconv.softmax`.

    Parameters
    ----------
    dim : int
        The axis of the classes, the last one by default.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.Softmax()(np.array([[0.0, 0.0, 2.0]])).round(4)
    array([[0.1065, 0.1065, 0.787 ]])
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = _checks.integer("dim", dim)

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        output = functional.softmax(x, self.dim)
        return output, (output, self.dim)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.softmax_backward(grad_output, *saved)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
