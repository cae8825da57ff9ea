"""What hypothesis draws: convolutions and pools of whole numbers, in any dtype and order in memory."""

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import reference
from memory_orders import MEMORY_ORDERS

LAYOUTS = st.sampled_from(["NCHW", "NHWC"])
ORDERS = st.sampled_from(list(MEMORY_ORDERS))
DTYPES = st.sampled_from([np.float32, np.float64, np.dtype(">f4"), np.int8, np.int64])


def pairs(smallest: int, largest: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(smallest, largest), st.integers(smallest, largest))


def arranged(values: np.ndarray, dtype: Any, order: str) -> np.ndarray:
    return MEMORY_ORDERS[order](values.astype(dtype))


def as_layout(array: np.ndarray, layout: str) -> np.ndarray:
    """A view of (N, C, H, W) in that layout."""
    return np.moveaxis(array, 1, -1) if layout == "NHWC" else array


def from_layout(array: np.ndarray, layout: str) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if layout == "NHWC" else array


# ---- convolution ----


@dataclass(frozen=True)
class Convolution:
    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    grad_output: np.ndarray
    arguments: dict[str, Any]
    layout: str


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    groups = draw(st.integers(1, 4))
    seen, made = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3))
    edges = draw(st.tuples(pairs(0, 3), pairs(0, 3)))
    size = []
    for axis in (0, 1):
        smallest = (kernel[axis] - 1) * dilation[axis] + 1 - sum(edges[axis])
        size.append(max(smallest, 1) + draw(st.integers(0, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = {
        "x": (draw(st.integers(0, 3)), groups * seen, *size),
        "weight": (groups * made, seen, *kernel),
        "bias": (groups * made,),
    }
    arrays = {
        name: arranged(rng.integers(-6, 7, shape), draw(DTYPES), draw(ORDERS))
        for name, shape in shapes.items()
    }
    arguments = {"stride": stride, "padding": edges, "dilation": dilation, "groups": groups}
    output_shape = reference.conv2d(arrays["x"], arrays["weight"], **arguments).shape
    arrays["grad_output"] = arranged(rng.integers(-6, 7, output_shape), draw(DTYPES), draw(ORDERS))
    return Convolution(**arrays, arguments=arguments, layout=draw(LAYOUTS))


# ---- pooling ----


@dataclass(frozen=True)
class Pool:
    x: np.ndarray
    arguments: dict[str, Any]
    layout: str


@st.composite
def pools(draw: st.DrawFn, dilated: bool) -> Pool:
    kernel = draw(pairs(1, 5))
    edges = tuple(draw(pairs(0, taps // 2)) for taps in kernel)
    dilation = draw(pairs(1, 3)) if dilated else (1, 1)
    size = [
        # A window must not fall between the pixels of a tiny image.
        max((kernel[axis] - 1) * dilation[axis] + 1 - sum(edges[axis]), dilation[axis])
        + draw(st.integers(0, 9))
        for axis in (0, 1)
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(0, 2)), draw(st.integers(1, 19)), *size)
    arguments = {
        "kernel_size": kernel,
        "stride": draw(st.none() | pairs(1, 4)),
        "padding": edges,
        "ceil_mode": draw(st.booleans()),
    }
    if dilated:
        arguments["dilation"] = dilation
    values = rng.integers(-20, 21, shape)
    return Pool(arranged(values, draw(DTYPES), draw(ORDERS)), arguments, draw(LAYOUTS))
