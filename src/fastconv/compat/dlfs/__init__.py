"""The layers of the book "Deep Learning from Scratch" (K. Saitoh), for its networks as they stand.

In place of ``from common.layers import *`` write ``from fastconv.compat.dlfs import *``; of ``common.util``
there are `im2col` and `col2im`, of ``common.optimizer`` there is `Adam`. Layers don't write to the arrays
that they are given; float32 stays float32.
"""

from fastconv.compat.dlfs.layers import (
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    Pooling,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
)
from fastconv.compat.dlfs.optimizer import Adam
from fastconv.compat.dlfs.util import col2im, im2col

__all__ = [
    "Adam",
    "Affine",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "Pooling",
    "Relu",
    "Sigmoid",
    "SoftmaxWithLoss",
    "col2im",
    "im2col",
]
