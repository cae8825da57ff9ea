"""Networks that are known by name."""

from fastconv.models.lenet import LeNet

__all__ = ["LeNet"]
