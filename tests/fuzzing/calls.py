"""All kinds of calls: `draw_call(seed)` gives one, and spoils its arguments now and then."""

from collections.abc import Callable
from functools import partial

import numpy as np

import fastconv as fc

from .call import Call
from .convolution import (
    col2im_backward,
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    im2col,
    im2col_backward,
)
from .drawing import NO_NUMBERS, Draw
from .layers import (
    activation_layer,
    adaptive_layer,
    batch_norm_layer,
    conv1d_layer,
    conv_layer,
    linear_layer,
    network,
    norm_layer,
    pool_layer,
    softmax_layer,
    transpose_layer,
)
from .optimizers import optimizer
from .others import (
    ELEMENTWISE,
    batch_norm,
    batch_norm_backward,
    conv_output_size,
    cross_entropy,
    dropout,
    elementwise,
    linear,
    local_response_norm,
    mse_loss,
    softmax,
)
from .pooling import (
    adaptive,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    expected_adaptive_avg,
    expected_adaptive_max,
    max_pool2d,
    max_pool2d_backward,
    max_pool_shared,
)

CALLS: list[Callable[[Draw], Call]] = [
    *(conv2d, conv2d, conv2d_backward, conv2d_backward, conv1d, conv1d_backward),
    *(conv_transpose2d, conv_transpose2d_backward, im2col, im2col_backward),
    *(partial(im2col_backward, function=fc.col2im, name="cols"), col2im_backward),
    *(max_pool2d, max_pool2d_backward, avg_pool2d, avg_pool2d_backward),
    *(partial(max_pool2d_backward, function=fc.adaptive_max_pool2d_backward), max_pool_shared),
    partial(adaptive, fc.adaptive_avg_pool2d, expected_adaptive_avg),
    partial(adaptive, fc.adaptive_max_pool2d, expected_adaptive_max),
    *(adaptive_avg_pool2d_backward, linear, partial(linear, backward=True)),
    *(partial(elementwise, name) for name in ELEMENTWISE),
    *(partial(softmax, f"{log}softmax{way}") for log in ("", "log_") for way in ("", "_backward")),
    *(
        dropout,
        batch_norm,
        batch_norm_backward,
        local_response_norm,
        partial(local_response_norm, backward=True),
    ),
    *(cross_entropy, mse_loss, conv_output_size),
    *(conv_layer, conv_layer, conv1d_layer, transpose_layer, linear_layer, pool_layer, adaptive_layer),
    *(norm_layer, activation_layer, softmax_layer, batch_norm_layer, network, network, optimizer, optimizer),
]


def draw_call(seed: int) -> Call:
    """The call of that number: always the same."""
    draw = Draw(seed)
    call = draw.one(CALLS)(draw)
    if draw.chance(0.35):
        for name in draw.rng.permutation(list(call.arguments))[: draw.integer(1, 2)]:
            value = call.arguments[str(name)]
            spoiled = draw.no_array(value) if isinstance(value, np.ndarray) else draw.one(NO_NUMBERS)
            call.arguments[str(name)] = spoiled
        call.spoiled = True
    return call
