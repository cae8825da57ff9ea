"""Fast convolution, pooling and neural-network layers, forward and backward, for NumPy arrays."""

from fastconv import functional
from fastconv._kernels.memory import memory_info, release_memory
from fastconv._threads import get_num_threads, num_threads, set_num_threads
from fastconv.functional import *  # noqa: F403

__version__ = "0.1.0"
__all__ = [
    "functional",
    "get_num_threads",
    "memory_info",
    "num_threads",
    "release_memory",
    "set_num_threads",
    *functional.__all__,
]
