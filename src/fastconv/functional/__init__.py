"""Stateless operations on arrays, each beside its backward; all are there as ``fastconv.NAME``, too."""

from fastconv.functional.activation import (
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fastconv.functional.adaptive_pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
)
from fastconv.functional.conv import conv2d, conv2d_algorithm, conv2d_backward, conv_output_size
from fastconv.functional.conv1d import conv1d, conv1d_backward
from fastconv.functional.conv_transpose import conv_transpose2d, conv_transpose2d_backward
from fastconv.functional.dropout import dropout, dropout_backward
from fastconv.functional.im2col import col2im, col2im_backward, im2col, im2col_backward
from fastconv.functional.linear import linear, linear_backward
from fastconv.functional.loss import cross_entropy, mse_loss
from fastconv.functional.normalization import (
    batch_norm,
    batch_norm_backward,
    local_response_norm,
    local_response_norm_backward,
)
from fastconv.functional.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "col2im",
    "col2im_backward",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_algorithm",
    "conv2d_backward",
    "conv_output_size",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "cross_entropy",
    "dropout",
    "dropout_backward",
    "im2col",
    "im2col_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse_loss",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
]
