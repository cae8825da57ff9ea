"""Fast convolution, pooling and neural-network layers, forward and backward, for NumPy arrays."""

from fastconv import functional
from fastconv.functional import *  # noqa: F403

__version__ = "0.1.0"
__all__ = ["functional", *functional.__all__]
