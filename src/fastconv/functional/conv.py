"""Two-dimensional convolution (cross-correlation, as in all of the field) and its gradients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv._checks import (
    FloatArray,
    argument_error,
    choice,
    integer,
    parameter_dtype,
    shape,
    sizes,
    subset,
)
from fastconv._kernels import arrays, channel_sum
from fastconv._kernels.isa import tile_shape
from fastconv._kernels.memory import new_array
from fastconv._spec import ConvSpec, Padding, conv_spec, output_size, pair
from fastconv._threads import threads_for
from fastconv._transpose_spec import TransposeSpec
from fastconv.functional import _border
from fastconv.functional._input import exact, promote
from fastconv.functional._output import checked_out, deliver

__all__ = ["conv2d", "conv2d_algorithm", "conv2d_backward", "conv_output_size"]


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    algorithm: str = "auto",
    activation: str | None = None,
    out: np.ndarray[Any, Any] | None = None,
) -> FloatArray:
    r"""Convolve images with a bank of filters.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W); (N, H, W, C) or (H, W, C) with ``layout="NHWC"``
        Images.
    weight : array_like, shape (K, C // groups, R, S)
        Filters, whatever the layout.
    bias : array_like, shape (K,), optional
        Added to each output channel.
    stride, dilation : int or (int, int), default 1
        Pixels between windows, and between the taps of a filter.
    padding : int, (h, w), ((top, bottom), (left, right)), "same" or "valid", default 0
        Pixels around the image. "same" gives ceil(H / stride) rows; an odd pixel goes after.
    groups : int, default 1
        Channels and filters are split into so many groups that don't see each other.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What the padding holds.
    layout : {"NCHW", "NHWC"}
        The meaning of the axes of `x` and of the result.
    algorithm : {"auto", "direct", "im2col", "winograd", "strassen"}
        How to compute it; see `conv2d_algorithm`.
    activation : None or "relu"
        Applied to the result while it is still in cache.
    out : ndarray, optional
        Where to put the result: of its shape and dtype, overlapping no input.

    Returns
    -------
    ndarray, shape (N, K, P, Q) or (K, P, Q); (N, P, Q, K) or (P, Q, K) with ``layout="NHWC"``
        Of the dtype that the inputs promote to (integers: see the notes). P and Q are `conv_output_size`.

    Raises
    ------
    ValueError, TypeError
        An argument that doesn't fit; the message names it, what it got and what it needs.
    MemoryError
        No memory for the result or the workspace.

    Notes
    -----
    With :math:`g` the group of output channel :math:`k` [1]_,

    .. math:: y_{nkpq} = b_k + \sum_{c,r,s} w_{kcrs}\,
              x_{n,\,gC/G + c,\,p\,\mathrm{stride} + r\,\mathrm{dilation} - \mathrm{padding},\,\ldots}

    float32 and float64 are computed as they are, float16 in float32; bool and 8- and 16-bit integers give
    float32, wider integers float64: "auto" is "direct" for them, so that sums below 2^24, or 2^53, are exact.
    Results don't depend on the number of threads.

    References
    ----------
    .. [1] Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    Examples
    --------
    >>> import fastconv as fc
    >>> image = [[[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]]]
    >>> fc.conv2d(image, [[[[11, 4], [5, 2]]]])
    array([[[144.,  66., 160.],
            [247.,  97.,  95.],
            [215., 121., 136.]]])
    """
    given = (x, weight, bias)
    if arrays.native(x, weight, bias):
        dtype = x.dtype  # type: ignore[union-attr]
    else:
        (x, weight, bias), dtype = promote(x=x, weight=weight, bias=bias, optional=["bias"])
        algorithm = exact(algorithm, *given)
    spec = conv_spec(x.shape, weight.shape, stride, padding, dilation, groups, padding_mode, layout)  # type: ignore[union-attr]
    if bias is not None:
        shape("bias", bias, spec.weight_shape[:1], "one number for each output channel")  # type: ignore[arg-type]
    if activation is not None:
        choice("activation", activation, ("relu",))
    kernels = kernels_for("forward", spec, algorithm, x.dtype.char)  # type: ignore[union-attr]
    y = None if out is None else checked_out(out, spec.out_shape, dtype, *given)
    if y is None:
        y = new_array(spec.out_shape, x.dtype.num)  # type: ignore[union-attr]
    if y.size:
        if spec.border is not None:
            x = padded(x, spec)  # type: ignore[arg-type]
        kernels.forward(spec.geometry, x, weight, bias, y, activation is not None, threads_for(spec.flops))
    return deliver(y, dtype, out)


def conv2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    algorithm: str = "auto",
    need: Sequence[str] = ("x", "weight", "bias"),
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Gradients of a convolution, by the arguments of `conv2d`.

    Parameters
    ----------
    grad_output : array_like
        Gradient of the result, of the result's shape.
    x, weight, stride, padding, dilation, groups, padding_mode, layout, algorithm
        As `conv2d` had them.
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

    Notes
    -----
    The gradient of the input is a convolution with flipped filters, one for each phase of the stride; the
    gradient of the weight sums over images and pixels in an order that the number of threads doesn't change.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x, weight = np.arange(9.0).reshape(1, 3, 3), np.ones((1, 1, 2, 2))
    >>> grad_x, grad_weight, grad_bias = fc.conv2d_backward(np.ones((1, 2, 2)), x, weight)
    >>> grad_x
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    >>> grad_weight, grad_bias
    (array([[[[ 8., 12.],
             [20., 24.]]]]), array([4.]))
    """
    if weight is not None and arrays.native(grad_output, x, weight):
        dtype = x.dtype  # type: ignore[union-attr]
    else:
        given = (grad_output, x, weight)
        (grad_output, x, weight), dtype = promote(grad_output=grad_output, x=x, weight=weight)
        algorithm = exact(algorithm, *given)
    spec = conv_spec(x.shape, weight.shape, stride, padding, dilation, groups, padding_mode, layout)  # type: ignore[union-attr]
    shape("grad_output", grad_output, spec.out_shape, "the shape of the convolution's result")  # type: ignore[arg-type]
    needed = subset("need", need, ("x", "weight", "bias"))
    char, num = x.dtype.char, x.dtype.num  # type: ignore[union-attr]
    # Asked for whatever is needed, since this checks the algorithm.
    by_input, by_weight = (kernels_for(task, spec, algorithm, char) for task in ("grad_input", "grad_weight"))
    g, threads, empty = spec.geometry, threads_for(spec.flops), not grad_output.size  # type: ignore[union-attr]

    grad_x = grad_weight = grad_bias = None
    if "x" in needed:
        padded_shape = spec.x_shape if spec.border is None else _geometry_shape(spec)
        grad_x = new_array(padded_shape, num)
        if empty or not grad_x.size:
            grad_x.fill(0)
        else:
            by_input.grad_input(g, grad_output, weight, grad_x, threads)
        if spec.border is not None:
            grad_x = _border.pad_backward(grad_x, spec.border, padding_mode, g.channels_last).reshape(
                spec.x_shape
            )
    if "bias" in needed:
        grad_bias = new_array(spec.weight_shape[:1], num)
    summed = False
    if "weight" in needed:
        grad_weight = new_array(spec.weight_shape, num)
        if empty or not grad_weight.size:
            grad_weight.fill(0)
        else:
            images = x if spec.border is None else padded(x, spec)  # type: ignore[arg-type]
            if hasattr(by_weight, "grad_weight_and_bias"):  # sums both while what it reads is in the cache
                by_weight.grad_weight_and_bias(g, grad_output, images, grad_weight, grad_bias, threads)
                summed = True
            else:
                by_weight.grad_weight(g, grad_output, images, grad_weight, threads)
    if grad_bias is not None and not summed:
        channel_sum.grad_bias(g, grad_output, grad_bias, threads_for(grad_output.size))  # type: ignore[arg-type, union-attr]
    return tuple(
        None if grad is None else deliver(grad, dtype, None) for grad in (grad_x, grad_weight, grad_bias)
    )  # type: ignore[return-value]


def conv2d_algorithm(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    dtype: Any = np.float32,
    task: str = "forward",
) -> str:
    """What ``algorithm="auto"`` stands for.

    Parameters
    ----------
    x_shape, weight_shape : sequence of int
        Shapes of `conv2d`'s arguments.
    stride, padding, dilation, groups, padding_mode, layout
        As `conv2d` has them.
    dtype : dtype, default float32
        float32 or float64, in which it is computed.
    task : {"forward", "grad_input", "grad_weight"}
        What is computed.

    Returns
    -------
    {"direct", "im2col", "winograd", "strassen"}

    Raises
    ------
    ValueError, TypeError
        As `conv2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.conv2d_algorithm((16, 64, 56, 56), (256, 64, 1, 1))
    'im2col'
    """
    x_sizes = sizes("x_shape", x_shape, "a sequence of integers, the shape of x")
    weight_sizes = sizes("weight_shape", weight_shape, "a sequence of integers, the shape of weight")
    try:
        spec = conv_spec(x_sizes, weight_sizes, stride, padding, dilation, groups, padding_mode, layout)
    except (ValueError, MemoryError) as error:  # x and weight are not its arguments
        raise type(error)(re.sub("^(x|weight):", r"\1_shape:", str(error))) from None
    from fastconv import _plan

    choice("task", task, _plan.TASKS)
    char = parameter_dtype("dtype", dtype, halves=False).char
    return _plan.choose(task, spec.geometry, tile_shape(char))


def conv_output_size(
    input_size: int,
    kernel_size: int,
    stride: int = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int = 1,
) -> int:
    """Number of windows along one axis, by the textbook's formula.

    Parameters
    ----------
    input_size, kernel_size, stride, dilation : int
        Pixels.
    padding : int or (before, after)
        Pixels on each side.

    Returns
    -------
    int
        floor((input_size + before + after - dilation * (kernel_size - 1) - 1) / stride) + 1

    Raises
    ------
    ValueError
        The kernel is larger than the padded input, or a size is out of range.
    TypeError
        A size is not an integer.

    Examples
    --------
    AlexNet's first layer:

    >>> import fastconv as fc
    >>> fc.conv_output_size(224, 11, stride=4, padding=(1, 2))
    55
    """
    extent, kernel = integer("input_size", input_size, 0), integer("kernel_size", kernel_size, 1)
    step, spread = integer("stride", stride, 1), integer("dilation", dilation, 1)
    if isinstance(padding, str):
        raise argument_error("padding", repr(padding), "an integer or (before, after)", TypeError)
    before_after = pair("padding", padding, 0)
    result = output_size(extent, kernel, step, before_after, spread)
    if result < 1:
        room = extent + sum(before_after)
        raise argument_error(
            "kernel_size", kernel, f"at most {room} pixels with dilation, the input with its padding"
        )
    return result


def kernels_for(task: str, spec: ConvSpec | TransposeSpec, algorithm: str, dtype_char: str) -> ModuleType:
    """The module of kernels for a task of `_plan.TASKS`, by the algorithm's name."""
    try:
        return spec.algorithms[task, algorithm, dtype_char]
    except (KeyError, TypeError):  # not chosen yet; no name
        pass
    from fastconv import _plan  # with the kernels, which are not loaded before they are needed

    choice("algorithm", algorithm, _plan.ALGORITHMS)
    if not _plan.can(algorithm, spec.geometry):
        raise argument_error("algorithm", repr(algorithm), _plan.needs(algorithm))
    kernels = _plan.MODULES[_plan.kernels(task, algorithm, spec.geometry, tile_shape(dtype_char))]
    spec.algorithms[task, algorithm, dtype_char] = kernels
    return kernels


def _geometry_shape(spec: ConvSpec) -> tuple[int, ...]:
    """Shape of the padded image that the geometry speaks of, batched."""
    g = spec.geometry
    return (
        (g.batch, g.height, g.width, g.in_channels)
        if g.channels_last
        else (g.batch, g.in_channels, g.height, g.width)
    )


def padded(x: FloatArray, spec: ConvSpec) -> FloatArray:
    """The image with the border that the kernels don't make."""
    assert spec.border is not None
    batched = x if spec.batched else x[np.newaxis]
    return _border.pad(batched, spec.border, spec.padding_mode, spec.geometry.channels_last)
