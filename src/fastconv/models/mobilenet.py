"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov and Chen, 2018)."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from fastconv import _checks
from fastconv.models._building import InlinedResidual, initialize_convolutions
from fastconv.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    Module,
    ReLU6,
    Sequential,
)

__all__ = ["MobileNetV2"]

_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, number of blocks and stride of the first of them: table 2 of the paper."""


class MobileNetV2(Sequential):
    """Inverted residual blocks: 1x1 to six times the channels, depthwise 3x3, 1x1 back to few.

    The images are (N, 3, H, W) of any size, 224x224 in the paper. Batch normalization follows every
    convolution, ReLU6 every one but the last of a block. The state is that of torchvision's ``mobilenet_v2``.

    Parameters
    ----------
    num_classes : int
    dtype : dtype
        Of the parameters.
    rng : numpy.random.Generator, optional
        Where their first values come from (in convolutions by `fastconv.nn.init.kaiming_normal_`), and what
        is dropped before the linear layer.

    Attributes
    ----------
    features, avgpool, flatten, classifier : Module
        The blocks, the mean over all pixels, and the linear layer with its dropout.

    Examples
    --------
    >>> from fastconv.models import MobileNetV2
    >>> model = MobileNetV2(num_classes=10).eval()
    >>> model(np.zeros((1, 3, 64, 64), np.float32)).shape
    (1, 10)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        classes = _checks.integer("num_classes", num_classes, 1)
        generator = _checks.generator("rng", rng)

        def conv_norm(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[Module]:
            conv = Conv2d(
                inputs, outputs, size, stride, size // 2, 1, groups, bias=False, dtype=dtype, rng=generator
            )
            return [conv, BatchNorm2d(outputs, dtype=dtype)]

        def block(inputs: int, outputs: int, stride: int, expansion: int) -> Module:
            hidden = expansion * inputs
            layers: list[Module] = []
            if expansion != 1:
                layers.append(Sequential(*conv_norm(inputs, hidden, 1), ReLU6()))
            layers.append(Sequential(*conv_norm(hidden, hidden, 3, stride, hidden), ReLU6()))
            layers += conv_norm(hidden, outputs, 1)
            body = Sequential({"conv": Sequential(*layers)})
            return InlinedResidual(body) if (inputs, stride) == (outputs, 1) else body

        features: list[Module] = [Sequential(*conv_norm(3, 32, 3, 2), ReLU6())]
        inputs = 32
        for expansion, outputs, blocks, stride in _STAGES:
            for number in range(blocks):
                features.append(block(inputs, outputs, stride if number == 0 else 1, expansion))
                inputs = outputs
        features.append(Sequential(*conv_norm(inputs, 1280, 1), ReLU6()))
        super().__init__(
            {
                "features": Sequential(*features),
                "avgpool": AdaptiveAvgPool2d(1),
                "flatten": Flatten(),
                "classifier": Sequential(
                    Dropout(0.2, rng=generator), Linear(1280, classes, dtype=dtype, rng=generator)
                ),
            }
        )
        initialize_convolutions(self, generator)
