"""LeNet-5 (LeCun et al., 1998), with today's activations and pools."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from fastconv import _checks
from fastconv.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

__all__ = ["LeNet"]


class LeNet(Sequential):
    """Reads digits: two convolutions with pools, then three linear layers, for images (N, 1, 28, 28).

    The layers are: conv 6 5x5 pad 2, ReLU, max pool 2; conv 16 5x5, ReLU, max pool 2; 120, ReLU, 84, ReLU,
    num_classes.

    Parameters
    ----------
    num_classes : int
    dtype : dtype
        Of the parameters.
    rng : numpy.random.Generator, optional
        Where their first values come from.

    Attributes
    ----------
    features, flatten, classifier : Module
        The convolutions with their pools, what lies between, and the linear layers.

    Examples
    --------
    >>> from fastconv.models import LeNet
    >>> model = LeNet()
    >>> model(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 10)
    >>> sum(parameter.size for parameter in model.parameters())
    61706
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        classes = _checks.integer("num_classes", num_classes, 1)
        generator = _checks.generator("rng", rng)
        super().__init__(
            {
                "features": Sequential(
                    Conv2d(1, 6, 5, padding=2, dtype=dtype, rng=generator),
                    ReLU(),
                    MaxPool2d(2),
                    Conv2d(6, 16, 5, dtype=dtype, rng=generator),
                    ReLU(),
                    MaxPool2d(2),
                ),
                "flatten": Flatten(),
                "classifier": Sequential(
                    Linear(16 * 5 * 5, 120, dtype=dtype, rng=generator),
                    ReLU(),
                    Linear(120, 84, dtype=dtype, rng=generator),
                    ReLU(),
                    Linear(84, classes, dtype=dtype, rng=generator),
                ),
            }
        )
