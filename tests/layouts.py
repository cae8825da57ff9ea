"""A convolution with its gradients by way of either layout."""

from typing import Any

import numpy as np
from cases import to_nchw, to_nhwc
from numpy.typing import NDArray

import fastconv as fc


def conv_and_gradients(
    x: NDArray[Any], weight: NDArray[Any], grad_output: NDArray[Any], layout: str, **how: Any
) -> tuple[NDArray[Any], ...]:
    """The output and the gradients by the input, the weight and the bias, of NCHW arrays, in NCHW."""
    there, back = (to_nhwc, to_nchw) if layout == "NHWC" else (np.asarray, np.asarray)
    output = fc.conv2d(there(x), weight, layout=layout, **how)
    grad_x, grad_weight, grad_bias = fc.conv2d_backward(
        there(grad_output), there(x), weight, layout=layout, **how
    )
    assert grad_x is not None
    assert grad_weight is not None
    assert grad_bias is not None
    return back(output), back(grad_x), grad_weight, grad_bias
