"""Normalization as layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv import _checks, _spec, functional
from fastconv._checks import FloatArray
from fastconv.nn.module import Layer, WeightedLayer
from fastconv.nn.parameter import Parameter, value_of

__all__ = ["BatchNorm2d", "LocalResponseNorm"]


class BatchNorm2d(WeightedLayer):
    """Normalizes each channel of images, over the batch while training; see `fastconv.batch_norm`.

    Parameters
    ----------
    num_features : int
        The number of channels.
    eps : float
        Added to the variance.
    momentum : float or None
        The share of a batch in the running statistics; None makes these the plain average over all batches.
    affine : bool
        Whether `weight` and `bias` are learned.
    track_running_stats : bool
        False normalizes by the batch in `eval`, too.
    layout : {"NCHW", "NHWC"}
    dtype : dtype
        Of parameters and running statistics.

    Attributes
    ----------
    weight, bias : Parameter, shape (num_features,), or None
        At first 1 and 0.
    running_mean, running_var : ndarray, shape (num_features,), or None
        At first 0 and 1.
    num_batches_tracked : ndarray of int64, shape (), or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> norm = nn.BatchNorm2d(1)
    >>> norm(np.array([[[[1.0, 3.0]]]])).round(3)
    array([[[[-1.,  1.]]]])
    >>> norm.eval()(np.array([[[[0.2, 1.2]]]])).round(3)
    array([[[[-0.   ,  0.953]]]])
    """

    _buffers = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        layout: str = "NCHW",
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = _checks.integer("num_features", num_features, 1)
        self.eps = _checks.number("eps", eps, 0)
        self.momentum = None if momentum is None else _checks.number("momentum", momentum, 0, 1)
        self.layout = _checks.choice("layout", layout, ("NCHW", "NHWC"))
        kept = _checks.parameter_dtype("dtype", dtype)
        _spec.check_fits("num_features", (self.num_features,))
        learned = _checks.boolean("affine", affine)
        self.weight = Parameter(np.ones(self.num_features, kept)) if learned else None
        self.bias = Parameter(np.zeros(self.num_features, kept)) if learned else None
        tracked = _checks.boolean("track_running_stats", track_running_stats)
        self.running_mean = np.zeros(self.num_features, kept) if tracked else None
        self.running_var = np.ones(self.num_features, kept) if tracked else None
        self.num_batches_tracked = np.zeros((), np.int64) if tracked else None

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        images = _checks.as_array("x", x)
        _checks.axes("x", images, "N, C, H, W" if self.layout == "NCHW" else "N, H, W, C")
        channels = images.shape[1 if self.layout == "NCHW" else 3]
        if channels != self.num_features:
            needs = f"{self.num_features} channels, layout {self.layout}"
            raise _checks.argument_error("x", f"shape {images.shape}", needs)
        by_batch = self.training or self.num_batches_tracked is None
        output, statistics = functional.batch_norm(
            images,
            self.running_mean,
            self.running_var,
            value_of(self.weight),
            value_of(self.bias),
            by_batch,
            self._share(),
            self.eps,
            layout=self.layout,
            return_statistics=True,
        )
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        return output, (images, by_batch, statistics)

    def _share(self) -> float:
        """The share of the coming batch in the running statistics."""
        if self.momentum is not None:
            return self.momentum
        return 0.0 if self.num_batches_tracked is None else 1 / (1 + int(self.num_batches_tracked))

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        images, by_batch, statistics = saved
        gradients = functional.batch_norm_backward(
            grad_output,
            images,
            weight=value_of(self.weight),
            training=by_batch,
            eps=self.eps,
            layout=self.layout,
            statistics=statistics,
            need=self._needed(),
        )
        return self._accumulate(*gradients)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"
        )


class LocalResponseNorm(Layer):
    """Divides by a power of the squares of neighbouring channels; see `fastconv.local_response_norm`.

    Parameters
    ----------
    size : int
        The number of neighbouring channels.
    alpha, beta, k : float
    layout : {"NCHW", "NHWC"}

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> nn.LocalResponseNorm(3)(np.ones((1, 3, 1, 1))).ravel().round(5)
    array([0.99995, 0.99993, 0.99995])
    """

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, layout: str = "NCHW"
    ) -> None:
        self.size = _checks.integer("size", size, 1, _checks.MOST_INTEGER)
        self.alpha = _checks.number("alpha", alpha)
        self.beta = _checks.number("beta", beta)
        self.k = _checks.number("k", k)
        self.layout = _checks.choice("layout", layout, ("NCHW", "NHWC"))

    def _forward(self, x: ArrayLike) -> tuple[FloatArray, Any]:
        arguments = (self.size, self.alpha, self.beta, self.k)
        return functional.local_response_norm(x, *arguments, layout=self.layout), (x, *arguments)

    def _backward(self, grad_output: ArrayLike, saved: Any) -> FloatArray:
        return functional.local_response_norm_backward(grad_output, *saved, layout=self.layout)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
