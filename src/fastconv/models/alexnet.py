"""AlexNet (Krizhevsky, Sutskever and Hinton, 2012), undivided."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from fastconv import _checks
from fastconv.nn import Conv2d, Dropout, Flatten, Linear, LocalResponseNorm, MaxPool2d, ReLU, Sequential

__all__ = ["AlexNet"]


class AlexNet(Sequential):
    """The network of 2012, for images (N, 3, 224, 224), with all channels in one piece.

    ======================== ===================
    layer                    output
    ======================== ===================
    image                    3 x 224 x 224
    conv 96 11x11 stride 4   96 x 55 x 55
    max pool 3x3 stride 2    96 x 27 x 27
    norm; conv 256 5x5 pad 2 256 x 27 x 27
    max pool 3x3 stride 2    256 x 13 x 13
    norm; conv 384 3x3 pad 1 384 x 13 x 13
    conv 384 3x3 pad 1       384 x 13 x 13
    conv 256 3x3 pad 1       256 x 13 x 13
    max pool 3x3 stride 2    256 x 6 x 6
    linear                   hidden_features
    linear                   hidden_features
    linear                   num_classes
    ======================== ===================

    A ReLU follows every layer with weights but the last; half of what enters the first two linear ones is
    dropped while training.

    Parameters
    ----------
    num_classes : int
    hidden_features : int
        The size of the linear layers between. They hold 9 of 10 parameters.
    dtype : dtype
        Of the parameters.
    rng : numpy.random.Generator, optional
        Where their first values come from, and what is dropped.

    Attributes
    ----------
    features, flatten, classifier : Module
        The convolutions, pools and norms, what lies between, and the linear layers.

    Notes
    -----
    For 55 columns of outputs from 224 the first convolution needs 3 columns of zeros: "padding 1.5", that is
    1 before and 2 after. The norms are ``LocalResponseNorm(5)``, whose other constants are Caffe's. The
    torchvision network of this name is a later one, with 64 filters in the first layer and no norms.

    Examples
    --------
    >>> from fastconv.models import AlexNet
    >>> model = AlexNet(num_classes=10, hidden_features=64).eval()
    >>> model(np.zeros((1, 3, 224, 224), np.float32)).shape
    (1, 10)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        hidden_features: int = 4096,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        classes = _checks.integer("num_classes", num_classes, 1)
        hidden = _checks.integer("hidden_features", hidden_features, 1)
        generator = _checks.generator("rng", rng)
        super().__init__(
            {
                "features": Sequential(
                    Conv2d(3, 96, 11, stride=4, padding=((1, 2), (1, 2)), dtype=dtype, rng=generator),
                    ReLU(),
                    MaxPool2d(3, stride=2),
                    LocalResponseNorm(5),
                    Conv2d(96, 256, 5, padding=2, dtype=dtype, rng=generator),
                    ReLU(),
                    MaxPool2d(3, stride=2),
                    LocalResponseNorm(5),
                    Conv2d(256, 384, 3, padding=1, dtype=dtype, rng=generator),
                    ReLU(),
                    Conv2d(384, 384, 3, padding=1, dtype=dtype, rng=generator),
                    ReLU(),
                    Conv2d(384, 256, 3, padding=1, dtype=dtype, rng=generator),
                    ReLU(),
                    MaxPool2d(3, stride=2),
                ),
                "flatten": Flatten(),
                "classifier": Sequential(
                    Dropout(rng=generator),
                    Linear(256 * 6 * 6, hidden, dtype=dtype, rng=generator),
                    ReLU(),
                    Dropout(rng=generator),
                    Linear(hidden, hidden, dtype=dtype, rng=generator),
                    ReLU(),
                    Linear(hidden, classes, dtype=dtype, rng=generator),
                ),
            }
        )
