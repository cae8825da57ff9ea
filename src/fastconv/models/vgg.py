"""VGG (Simonyan and Zisserman, 2015)."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from fastconv import _checks
from fastconv.models._building import initialize_convolutions, of_depth
from fastconv.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)

__all__ = ["VGG"]

_CHANNELS = (64, 128, 256, 512, 512)
"""Of the five stages, each of which ends with a pool."""

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Of each stage, by the depth of the network, which counts the three linear layers too."""


class VGG(Sequential):
    """3x3 convolutions only, in five stages with pools between, then three linear layers.

    The images are (N, 3, H, W), 224x224 in the paper, at least 32x32; any size is averaged to 7x7 pixels
    before the linear layers. The state is that of torchvision's ``vgg11`` to ``vgg19_bn``.

    Parameters
    ----------
    depth : {16, 11, 13, 19}
        The number of layers with weights.
    batch_norm : bool
        Whether batch normalization follows each convolution.
    num_classes : int
    hidden_features : int
        The size of the linear layers between. With 4096 they hold 9 of 10 parameters.
    dtype : dtype
        Of the parameters.
    rng : numpy.random.Generator, optional
        Where their first values come from (in convolutions by `fastconv.nn.init.kaiming_normal_`), and what
        is dropped.

    Attributes
    ----------
    features, avgpool, flatten, classifier : Module
        The stages, what lies between, and the linear layers.

    Raises
    ------
    ValueError
        There is no such depth.

    Examples
    --------
    >>> from fastconv.models import VGG
    >>> model = VGG(11, num_classes=10, hidden_features=64).eval()
    >>> model(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 10)
    """

    def __init__(
        self,
        depth: int = 16,
        batch_norm: bool = False,
        num_classes: int = 1000,
        *,
        hidden_features: int = 4096,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        stages = of_depth(depth, _CONVOLUTIONS)
        normalized = _checks.boolean("batch_norm", batch_norm)
        classes = _checks.integer("num_classes", num_classes, 1)
        hidden = _checks.integer("hidden_features", hidden_features, 1)
        generator = _checks.generator("rng", rng)
        features: list[Module] = []
        inputs = 3
        for outputs, convolutions in zip(_CHANNELS, stages, strict=True):
            for _ in range(convolutions):
                features.append(Conv2d(inputs, outputs, 3, padding=1, dtype=dtype, rng=generator))
                if normalized:
                    features.append(BatchNorm2d(outputs, dtype=dtype))
                features.append(ReLU())
                inputs = outputs
            features.append(MaxPool2d(2))
        super().__init__(
            {
                "features": Sequential(*features),
                "avgpool": AdaptiveAvgPool2d(7),
                "flatten": Flatten(),
                "classifier": Sequential(
                    Linear(512 * 7 * 7, hidden, dtype=dtype, rng=generator),
                    ReLU(),
                    Dropout(rng=generator),
                    Linear(hidden, hidden, dtype=dtype, rng=generator),
                    ReLU(),
                    Dropout(rng=generator),
                    Linear(hidden, classes, dtype=dtype, rng=generator),
                ),
            }
        )
        initialize_convolutions(self, generator)
