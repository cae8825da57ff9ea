"""One-dimensional convolution: that of images one pixel high."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _checks
from fastconv._checks import FloatArray, argument_error, choice
from fastconv._spec import Sides, size
from fastconv.functional.conv import conv2d, conv2d_backward

__all__ = ["conv1d", "conv1d_backward"]

_SHAPE = r"\(\d+(?:, \d+){2,3}\)"

LAYOUTS = {"NCL": "NCHW", "NLC": "NHWC"}


def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCL",
    algorithm: str = "auto",
    activation: str | None = None,
    out: np.ndarray[Any, Any] | None = None,
) -> FloatArray:
    """Convolve signals with a bank of filters.

    Parameters
    ----------
    x : array_like, shape (N, C, L) or (C, L); (N, L, C) or (L, C) with ``layout="NLC"``
        Signals.
    weight : array_like, shape (K, C // groups, R)
        Filters, whatever the layout.
    bias : array_like, shape (K,), optional
        Added to each output channel.
    stride, dilation : int, default 1
        Samples between windows, and between the taps of a filter.
    padding : int, (before, after), "same" or "valid", default 0
        Samples around the signal. "same" gives ceil(L / stride) results; an odd sample goes after.
    groups, padding_mode, algorithm, activation, out
        As for `conv2d`.
    layout : {"NCL", "NLC"}
        The meaning of the axes of `x` and of the result.

    Returns
    -------
    ndarray, shape (N, K, Q) or (K, Q); (N, Q, K) or (Q, K) with ``layout="NLC"``

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.conv1d([[1.0, 2.0, 4.0, 8.0]], [[[-1.0, 1.0]]])
    array([[1., 2., 4.]])
    """
    signals = _signals("x", x, layout)
    if isinstance(out, np.ndarray) and out.ndim != signals.ndim:
        raise argument_error("out", f"shape {out.shape}", f"{signals.ndim} axes, as x has")
    images, filters = _image(signals, layout), _filters(weight)
    try:
        result = conv2d(
            images,
            filters,
            bias,
            *_both(stride, padding, dilation),
            groups,
            padding_mode=padding_mode,
            layout=LAYOUTS[layout],
            algorithm=algorithm,
            activation=activation,
            out=_image(out, layout) if isinstance(out, np.ndarray) else out,
        )
    except (ValueError, TypeError) as error:
        raise _in_one_dimension(error, layout) from None
    return out if out is not None else _signal(result, layout)


def conv1d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCL",
    algorithm: str = "auto",
    need: Sequence[str] = ("x", "weight", "bias"),
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Gradients of a one-dimensional convolution, by the arguments of `conv1d`.

    Parameters
    ----------
    grad_output : array_like
        Gradient of the result, of the result's shape.
    x, weight, stride, padding, dilation, groups, padding_mode, layout, algorithm
        As `conv1d` had them.
    need : sequence of {"x", "weight", "bias"}
        Which gradients to compute.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of `x`, `weight` and (K,), of the inputs' common dtype; None where not needed.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> grad_x, grad_weight, grad_bias = fc.conv1d_backward([[1.0, 0.0]], [[1.0, 2.0, 4.0]], [[[-1.0, 1.0]]])
    >>> grad_x, grad_weight, grad_bias
    (array([[-1.,  1.,  0.]]), array([[[1., 2.]]]), array([1.]))
    """
    images, filters = _image(_signals("x", x, layout), layout), _filters(weight)
    gradient = _image(_signals("grad_output", grad_output, layout), layout)
    try:
        grad_x, grad_weight, grad_bias = conv2d_backward(
            gradient,
            images,
            filters,
            *_both(stride, padding, dilation),
            groups,
            padding_mode=padding_mode,
            layout=LAYOUTS[layout],
            algorithm=algorithm,
            need=need,
        )
    except (ValueError, TypeError) as error:
        raise _in_one_dimension(error, layout) from None
    return (
        None if grad_x is None else _signal(grad_x, layout),
        None if grad_weight is None else grad_weight[:, :, 0],
        grad_bias,
    )


def _in_one_dimension(error: ValueError | TypeError, layout: str) -> ValueError | TypeError:
    """The error of a convolution of images one pixel high, with the shapes that the caller knows."""
    name, _, text = str(error).partition(":")
    if name not in ("weight", "out", "grad_output"):
        return error
    height = -2 if name == "weight" or layout == "NCL" else -3

    def without_height(shape: re.Match[str]) -> str:
        sizes = shape[0].strip("()").split(", ")
        del sizes[height]
        return f"({', '.join(sizes)})"

    return type(error)(f"{name}:{re.sub(_SHAPE, without_height, text)}")


def _signals(name: str, value: ArrayLike, layout: str) -> NDArray[Any]:
    choice("layout", layout, tuple(LAYOUTS))
    array = _checks.as_array(name, value)
    letters = "C, L" if layout == "NCL" else "L, C"
    _checks.axes(name, array, letters, f"N, {letters}")
    return array


def _filters(weight: ArrayLike) -> NDArray[Any]:
    array = _checks.as_array("weight", weight)
    _checks.axes("weight", array, "out_channels, in_channels // groups, kernel")
    return array[:, :, np.newaxis]


def _both(stride: Any, padding: Any, dilation: Any) -> tuple[Any, Any, Any]:
    """The arguments of an image one pixel high."""
    return (1, size("stride", stride, 1)), signal_padding(padding), (1, size("dilation", dilation, 1))


def signal_padding(padding: Any) -> Sides | str:
    """The padding of a signal as that of an image one pixel high."""
    if isinstance(padding, str):
        return choice("padding", padding, ("same", "valid"))
    before_after = padding if isinstance(padding, (tuple, list)) else (padding, padding)
    if len(before_after) != 2:
        raise argument_error("padding", padding, "an integer, (before, after), 'same' or 'valid'")
    return (0, 0), (size("padding", before_after[0], 0), size("padding", before_after[1], 0))


def _image(signal: NDArray[Any], layout: str) -> NDArray[Any]:
    return np.expand_dims(signal, -2 if layout == "NCL" else -3)


def _signal(image: FloatArray, layout: str) -> FloatArray:
    return image[..., 0, :] if layout == "NCL" else image[..., 0, :, :]
