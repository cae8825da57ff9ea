"""Transposed convolution: the gradient of a convolution's input, used forwards."""

from __future__ import annotations

from collections.abc import Iterable

from numpy.typing import ArrayLike

from fastconv._checks import FloatArray, shape, subset
from fastconv._kernels import channel_sum
from fastconv._kernels.memory import new_array
from fastconv._spec import Padding
from fastconv._threads import threads_for
from fastconv._transpose_spec import transpose_spec
from fastconv.functional._input import exact, promote
from fastconv.functional._output import deliver
from fastconv.functional._sum import add_bias
from fastconv.functional.conv import kernels_for

__all__ = ["conv_transpose2d", "conv_transpose2d_backward"]


def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
    *,
    layout: str = "NCHW",
) -> FloatArray:
    r"""Spread each pixel of images over a window, by a bank of filters.

    It is the gradient of `conv2d` by its input, and so turns the shape of a convolution's result back into
    that of its images.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W); (N, H, W, C) or (H, W, C) with ``layout="NHWC"``
        Images.
    weight : array_like, shape (C, K // groups, R, S)
        Filters, whatever the layout.
    bias : array_like, shape (K,), optional
        Added to each output channel.
    stride, dilation : int or (int, int), default 1
        Pixels of the result between the windows of neighbours, and between the taps of a filter.
    padding : int, (h, w) or ((top, bottom), (left, right)), default 0
        Pixels that are cut off around the result.
    output_padding : int or (int, int), default 0
        Pixels that are added to the result below and on the right; less than stride or dilation.
    groups : int, default 1
        Channels and filters are split into so many groups that don't see each other.
    layout : {"NCHW", "NHWC"}
        The meaning of the axes of `x` and of the result.

    Returns
    -------
    ndarray, shape (N, K, P, Q) or (K, P, Q); (N, P, Q, K) or (P, Q, K) with ``layout="NHWC"``
        P = (H - 1) * stride - top - bottom + dilation * (R - 1) + output_padding + 1.

    Raises
    ------
    ValueError, TypeError
        An argument that doesn't fit; the message names it, what it got and what it needs.
    MemoryError
        No memory for the result or the workspace.

    Notes
    -----
    With :math:`g` the group of output channel :math:`k` [1]_,

    .. math:: y_{nkpq} = b_k + \sum x_{ncij}\, w_{c,\,k \bmod K/G,\,r,\,s} \quad\text{over}\quad
              i\,\mathrm{stride} + r\,\mathrm{dilation} - \mathrm{padding} = p, \ldots

    References
    ----------
    .. [1] Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.conv_transpose2d([[[1.0, 2.0]]], [[[[1.0, 10.0, 100.0]]]], stride=2)
    array([[[  1.,  10., 102.,  20., 200.]]])
    """
    (images, filters, offset), dtype = promote(x=x, weight=weight, bias=bias, optional=["bias"])
    spec = transpose_spec(
        images.shape, filters.shape, stride, padding, output_padding, groups, dilation, layout
    )
    if offset is not None:
        shape("bias", offset, (spec.out_channels,), "one number for each output channel")
    y = new_array(spec.out_shape, images.dtype.num)
    if not images.size or not y.size:
        y.fill(0)
    else:
        kernels = kernels_for("grad_input", spec, exact("auto", x, weight, bias), images.dtype.char)
        kernels.grad_input(spec.geometry, images, filters, y, threads_for(spec.flops))
    if offset is not None:
        add_bias(y, offset, layout)
    return deliver(y, dtype, None)


def conv_transpose2d_backward(
    grad_output: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
    *,
    layout: str = "NCHW",
    need: Iterable[str] = ("x", "weight", "bias"),
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Gradients of a transposed convolution, by the arguments of `conv_transpose2d`.

    Parameters
    ----------
    grad_output : array_like
        Gradient of the result, of the result's shape.
    x, weight, stride, padding, output_padding, groups, dilation, layout
        As `conv_transpose2d` had them.
    need : iterable of {"x", "weight", "bias"}
        Which gradients to compute.

    Returns
    -------
    grad_x, grad_weight, grad_bias : ndarray or None
        In the shapes of `x`, `weight` and (K,), of the inputs' common dtype; None where not needed.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv_transpose2d`.

    Notes
    -----
    The gradient of the input is the convolution of `grad_output`; that of the weight is the gradient of the
    weight of this convolution.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x, weight = [[[1.0, 2.0]]], np.ones((1, 1, 1, 3))
    >>> grads = fc.conv_transpose2d_backward(np.ones((1, 1, 5)), x, weight, stride=2)
    >>> [grad.ravel() for grad in grads]
    [array([3., 3.]), array([3., 3., 3.]), array([5.])]
    """
    needed = subset("need", need, ("x", "weight", "bias"))
    (grad, images, filters), dtype = promote(grad_output=grad_output, x=x, weight=weight)
    spec = transpose_spec(
        images.shape, filters.shape, stride, padding, output_padding, groups, dilation, layout
    )
    shape("grad_output", grad, spec.out_shape, "the shape of the transposed convolution's result")
    char, num, threads = images.dtype.char, images.dtype.num, threads_for(spec.flops)
    algorithm = exact("auto", grad_output, x, weight)

    grad_x = grad_weight = grad_bias = None
    if "x" in needed:
        grad_x = new_array(images.shape, num)
        if not grad.size:
            grad_x.fill(0)
        elif grad_x.size:
            kernels = kernels_for("forward", spec, algorithm, char)
            kernels.forward(spec.geometry, grad, filters, None, grad_x, False, threads)
    if "weight" in needed:
        grad_weight = new_array(spec.weight_shape, num)
        if not images.size or not grad.size:
            grad_weight.fill(0)
        else:
            kernels = kernels_for("grad_weight", spec, algorithm, char)
            kernels.grad_weight(spec.geometry, images, grad, grad_weight, threads)
    if "bias" in needed:
        grad_bias = new_array((spec.out_channels,), num)
        channel_sum.grad_bias(spec.result_geometry, grad, grad_bias, threads_for(grad.size))
    return tuple(
        None if result is None else deliver(result, dtype, None)
        for result in (grad_x, grad_weight, grad_bias)
    )  # type: ignore[return-value]
