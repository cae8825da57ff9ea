"""Pooling as layers."""

from __future__ import annotations

from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from fastconv import _checks, _spec, functional
from fastconv._checks import FloatArray
from fastconv._pool_spec import adaptive_spec, divisor, pool_spec
from fastconv.functional._pooling import maximum_way, mean_way
from fastconv.functional._ways import Way
from fastconv.nn.module import Layer

__all__ = ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "MaxPool2d"]

OutputSize: TypeAlias = "int | tuple[int | None, int | None] | None"


class _Pool(Layer):
    """A pool with windows of a fixed size."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None,
        padding: _spec.Padding,
        ceil_mode: bool,
        layout: str,
    ) -> None:
        self.kernel_size = _spec.pair("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else _spec.pair("stride", stride, 1)
        self.padding = _spec.sides("padding", padding)
        if isinstance(self.padding, str):
            needs = "an integer, (h, w) or ((top, bottom), (left, right))"
            raise _checks.argument_error("padding", repr(padding), needs, TypeError)
        self.ceil_mode = _checks.boolean("ceil_mode", ceil_mode)
        self.layout = _checks.choice("layout", layout, _spec.LAYOUTS)

    def extra_repr(self) -> str:
        text = f"kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != ((0, 0), (0, 0)):
            text += f", padding={self.padding!r}"
        return text + ", ceil_mode=True" if self.ceil_mode else text


class MaxPool2d(_Pool):
    """The largest value in each window; see `fastconv.max_pool2d`.

    Parameters
    ----------
    kernel_size : int or (h, w)
    stride : int or (h, w), optional
        By default the size of the window.
    padding, dilation, ceil_mode
        As for `fastconv.max_pool2d`.
    layout : {"NCHW", "NHWC"}

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.MaxPool2d(2)(np.arange(16.0).reshape(1, 4, 4))
    array([[[ 5.,  7.],
            [13., 15.]]])
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: _spec.Padding = 0,
        dilation: int | tuple[int, int] = 1,
        *,
        ceil_mode: bool = False,
        layout: str = "NCHW",
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, layout)
        self.dilation = _spec.pair("dilation", dilation, 1)

    def _arguments(self) -> tuple[_spec.Pair, _spec.Pair, Any, _spec.Pair, bool]:
        """What pooling takes beside the array."""
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        images = _checks.as_array("x", x)
        output, indices = functional.max_pool2d(
            images, *self._arguments(), return_indices=True, layout=self.layout
        )
        return output, (indices, images.shape)

    def _infer(self, x: ArrayLike) -> FloatArray:
        output: FloatArray = functional.max_pool2d(x, *self._arguments(), layout=self.layout)
        return output

    def _way(self, shape: tuple[int, ...], char: str) -> Way | None:
        return maximum_way(pool_spec(shape, *self._arguments(), True, None, self.layout), char)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.max_pool2d_backward(grad_output, *saved, layout=self.layout)


class AvgPool2d(_Pool):
    """The mean of each window; see `fastconv.avg_pool2d`.

    Parameters
    ----------
    kernel_size : int or (h, w)
    stride : int or (h, w), optional
        By default the size of the window.
    padding, ceil_mode, count_include_pad, divisor_override
        As for `fastconv.avg_pool2d`.
    layout : {"NCHW", "NHWC"}

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.AvgPool2d(2)(np.arange(16.0).reshape(1, 4, 4))
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: _spec.Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        layout: str = "NCHW",
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, layout)
        self.count_include_pad = _checks.boolean("count_include_pad", count_include_pad)
        self.divisor_override = None if divisor_override is None else divisor(divisor_override)

    def _arguments(self) -> tuple[_spec.Pair, _spec.Pair, Any, bool, bool, int | None]:
        """What pooling and gradient take beside the arrays."""
        return (
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        images = _checks.as_array("x", x)
        return functional.avg_pool2d(images, *self._arguments(), layout=self.layout), images.shape

    def _way(self, shape: tuple[int, ...], char: str) -> Way | None:
        kernel_size, stride, padding, ceil_mode, count, divisor = self._arguments()
        spec = pool_spec(shape, kernel_size, stride, padding, 1, ceil_mode, count, divisor, self.layout)
        return mean_way(spec, char)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.avg_pool2d_backward(grad_output, saved, *self._arguments(), layout=self.layout)


def _output_size(value: Any) -> OutputSize:
    """The number of bins, checked; None stands for the size of the image."""
    if value is None:
        return None
    if isinstance(value, tuple | list) and len(value) == 2 and None in value:
        rows, columns = (n if n is None else _spec.size("output_size", n, 1) for n in value)
        return rows, columns
    return _spec.pair("output_size", value, 1)


class _AdaptivePool(Layer):
    """A pool with a fixed number of bins."""

    def __init__(self, output_size: OutputSize, *, layout: str = "NCHW") -> None:
        self.output_size = _output_size(output_size)
        self.layout = _checks.choice("layout", layout, _spec.LAYOUTS)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_AdaptivePool):
    """The mean of each of a given number of bins; see `fastconv.adaptive_avg_pool2d`.

    Parameters
    ----------
    output_size : int or (h, w)
        The number of bins; None, alone or in the pair, stands for the size of the image.
    layout : {"NCHW", "NHWC"}

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.AdaptiveAvgPool2d(2)(np.arange(16.0).reshape(1, 4, 4))
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        images = _checks.as_array("x", x)
        return functional.adaptive_avg_pool2d(images, self.output_size, layout=self.layout), images.shape

    def _way(self, shape: tuple[int, ...], char: str) -> Way | None:
        return mean_way(adaptive_spec(shape, self.output_size, self.layout), char)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.adaptive_avg_pool2d_backward(grad_output, saved, layout=self.layout)


class AdaptiveMaxPool2d(_AdaptivePool):
    """The largest value in each of a given number of bins; see `fastconv.adaptive_max_pool2d`.

    Parameters
    ----------
    output_size : int or (h, w)
        The number of bins; None, alone or in the pair, stands for the size of the image.
    layout : {"NCHW", "NHWC"}

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.AdaptiveMaxPool2d(1)(np.arange(16.0).reshape(1, 4, 4))
    array([[[15.]]])
    """

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        images = _checks.as_array("x", x)
        output, indices = functional.adaptive_max_pool2d(
            images, self.output_size, return_indices=True, layout=self.layout
        )
        return output, (indices, images.shape)

    def _infer(self, x: ArrayLike) -> FloatArray:
        return functional.adaptive_max_pool2d(x, self.output_size, layout=self.layout)

    def _way(self, shape: tuple[int, ...], char: str) -> Way | None:
        return maximum_way(adaptive_spec(shape, self.output_size, self.layout), char)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.adaptive_max_pool2d_backward(grad_output, *saved, layout=self.layout)
