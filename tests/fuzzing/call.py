"""A call of the public surface, what must come of it, and what all kinds of calls need to say so."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import error_bound
from numpy.typing import NDArray

from .drawing import Draw

Array = NDArray[np.float64]
BOTH = ("x", "weight", "bias")
OPERANDS = (*BOTH, "grad_output", "cols", "logits", "prediction", "output", "running_mean", "running_var")


@dataclass
class Expected:
    """One result: values (None: not asked for), how many products each sums, and by which algorithm."""

    values: Any
    products: int = 0
    algorithm: str = "auto"
    scale: float = 0.0
    dtype_of: tuple[str, ...] = OPERANDS  # the arguments whose common dtype it has
    kept_in: Any = None  # or the dtype of a parameter, whatever the arguments are

    def allowed(self, compute: np.dtype[Any], result: np.dtype[Any]) -> Array:
        values = np.abs(self.values)
        finite = values[np.isfinite(values)]
        scale = max(float(finite.max(initial=0.0)), self.scale)
        allowed = error_bound(compute, self.products, self.algorithm) * scale
        return allowed + (values * 2.0**-11 + 2.0**-24 if result == np.float16 else np.zeros(()))


@dataclass
class Call:
    function: Callable[..., Any]
    arguments: dict[str, Any]
    expected: Callable[..., list[Expected]]
    may_write: tuple[str, ...] = ("out",)
    spoiled: bool = False  # may overflow, divide by zero and all that

    def __str__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"{name}({', '.join(f'{key}={described(value)}' for key, value in self.arguments.items())})"


def described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        flags = value.flags
        words = f"{value.dtype.str}{list(value.shape)} strides {list(value.strides)}"
        return f"<{words}{'' if flags.aligned else ' unaligned'}{'' if flags.writeable else ' read-only'}>"
    return repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]}..."


def typical(products: int, *arrays: Any) -> float:
    """How large a sum of so many products of these arrays' elements is at random."""
    sizes = [math.sqrt(np.mean(np.square(f64(a)))) if np.size(a) else 0.0 for a in arrays]
    return math.sqrt(products) * math.prod(sizes)


def f64(array: Any) -> Array:
    return np.asarray(array, np.float64)


def nchw(array: Any, layout: str) -> Array:
    """Images in float64, batched, channels first."""
    images = f64(array)
    images = images if images.ndim == 4 else images[None]
    return np.moveaxis(images, -1, 1) if layout == "NHWC" else images


def as_given(images: Array, like: Any, layout: str) -> Array:
    images = np.moveaxis(images, 1, -1) if layout == "NHWC" else images
    return images if np.ndim(like) == 4 else images[0]


def fc_dtype(*arrays: Any) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """By API.md: the dtype of a result, and that of its computation."""
    dtypes = [np.asarray(array).dtype for array in arrays]
    result = np.result_type(*dtypes).newbyteorder("=")
    if result.kind != "f":
        result = np.dtype(np.float32 if all(dtype.itemsize <= 2 for dtype in dtypes) else np.float64)
    return result, np.dtype(np.float64 if result == np.float64 else np.float32)


def chosen(need: Any, grads: list[Expected]) -> list[Expected]:
    return [grad if name in need else Expected(None) for name, grad in zip(BOTH, grads, strict=True)]


def draw_need(draw: Draw) -> dict[str, Any]:
    return {"need": [name for name in BOTH if draw.chance(0.6)]} if draw.chance(0.3) else {}


def result_shape(
    expected: Callable[..., list[Expected]], arguments: dict[str, Any]
) -> tuple[int, ...] | None:
    """Of the forward; None where the reference cannot do it either."""
    try:
        return np.shape(expected(**arguments)[0].values)
    except (ValueError, IndexError, AssertionError, ZeroDivisionError):
        return None


def draw_out(
    draw: Draw, expected: Callable[..., list[Expected]], arguments: dict[str, Any]
) -> dict[str, Any]:
    """An `out`, most often one that fits; now and then one that overlaps an input."""
    shape = result_shape(expected, arguments) if draw.chance(0.2) else None
    if shape is None:
        return {}
    arrays = [value for value in arguments.values() if isinstance(value, np.ndarray)]
    if draw.chance(0.2):
        raw = draw.one(arrays)
        base = raw.base if isinstance(raw.base, np.ndarray) else raw
        if base.ndim and base.flags.writeable and base.flags.c_contiguous:
            around = base.reshape(-1).view(np.uint8)
            bytes_ = math.prod(shape) * 4
            if around.size >= bytes_ and base.itemsize >= 4:
                return {"out": around[:bytes_].view(np.float32).reshape(shape)}
    dtype = fc_dtype(*arrays)[0] if draw.chance(0.9) else np.float64
    out = draw.array(shape, dtype)
    return {"out": out}
