"""ResNet (He, Zhang, Ren and Sun, 2016)."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from fastconv import _checks
from fastconv.models._building import (
    InlinedResidual,
    InlinedSequential,
    initialize_convolutions,
    of_depth,
)
from fastconv.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)

__all__ = ["ResNet"]

_CHANNELS = (64, 128, 256, 512)
"""Of the four stages, each but the first of which halves height and width."""

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Of each stage, by the depth of the network: basic blocks up to 34, bottlenecks from 50."""


class ResNet(Sequential):
    """A 7x7 convolution, four stages of residual blocks, the mean over all pixels, and one linear layer.

    The images are (N, 3, H, W) of any size, 224x224 in the paper. A block is relu(body(x) + x), where the
    body is two 3x3 convolutions or, in ResNet-50, a bottleneck of 1x1, 3x3 and 1x1; where the shape changes,
    a 1x1 convolution takes the place of x. The state is that of torchvision's ``resnet18`` to ``resnet50``,
    which has the stride of a bottleneck in its 3x3 convolution.

    Parameters
    ----------
    depth : {18, 34, 50}
        The number of layers with weights.
    num_classes : int
    dtype : dtype
        Of the parameters.
    rng : numpy.random.Generator, optional
        Where their first values come from, in convolutions by `fastconv.nn.init.kaiming_normal_`.

    Attributes
    ----------
    conv1, bn1, relu, maxpool : Module
        What stands before the stages.
    layer1, layer2, layer3, layer4 : Module
        The stages.
    avgpool, flatten, fc : Module
        What stands after them.

    Raises
    ------
    ValueError
        There is no such depth.

    Examples
    --------
    >>> from fastconv.models import ResNet
    >>> model = ResNet(18, num_classes=10).eval()
    >>> model(np.zeros((1, 3, 64, 64), np.float32)).shape
    (1, 10)
    >>> [name for name in model.state_dict() if name.startswith("layer2.0.downsample")][:2]
    ['layer2.0.downsample.0.weight', 'layer2.0.downsample.1.weight']
    """

    def __init__(
        self,
        depth: int = 18,
        num_classes: int = 1000,
        *,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        stages = of_depth(depth, _BLOCKS)
        classes = _checks.integer("num_classes", num_classes, 1)
        generator = _checks.generator("rng", rng)
        conv = partial(Conv2d, bias=False, dtype=dtype, rng=generator)
        norm = partial(BatchNorm2d, dtype=dtype)
        expansion = 1 if depth < 50 else 4

        def body(inputs: int, channels: int, stride: int) -> Sequential:
            if expansion == 1:
                return Sequential(
                    {
                        "conv1": conv(inputs, channels, 3, stride, 1),
                        "bn1": norm(channels),
                        "relu1": ReLU(),
                        "conv2": conv(channels, channels, 3, 1, 1),
                        "bn2": norm(channels),
                    }
                )
            return Sequential(
                {
                    "conv1": conv(inputs, channels, 1),
                    "bn1": norm(channels),
                    "relu1": ReLU(),
                    "conv2": conv(channels, channels, 3, stride, 1),
                    "bn2": norm(channels),
                    "relu2": ReLU(),
                    "conv3": conv(channels, expansion * channels, 1),
                    "bn3": norm(expansion * channels),
                }
            )

        def block(inputs: int, channels: int, stride: int) -> Module:
            outputs, shortcut = expansion * channels, None
            if (inputs, stride) != (outputs, 1):
                shortcut = Sequential(
                    {"downsample": Sequential(conv(inputs, outputs, 1, stride), norm(outputs))}
                )
            residual = InlinedResidual(body(inputs, channels, stride), shortcut)
            return InlinedSequential({"0": residual, "relu": ReLU()})

        layers: dict[str, Module] = {
            "conv1": conv(3, 64, 7, 2, 3),
            "bn1": norm(64),
            "relu": ReLU(),
            "maxpool": MaxPool2d(3, 2, 1),
        }
        inputs = 64
        for stage, (channels, blocks) in enumerate(zip(_CHANNELS, stages, strict=True), 1):
            outputs = expansion * channels
            layers[f"layer{stage}"] = Sequential(
                block(inputs, channels, 1 if stage == 1 else 2),
                *(block(outputs, channels, 1) for _ in range(blocks - 1)),
            )
            inputs = outputs
        layers["avgpool"] = AdaptiveAvgPool2d(1)
        layers["flatten"] = Flatten()
        layers["fc"] = Linear(inputs, classes, dtype=dtype, rng=generator)
        super().__init__(layers)
        initialize_convolutions(self, generator)
