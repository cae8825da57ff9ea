"""Networks that are known by name."""

from fastconv.models.alexnet import AlexNet
from fastconv.models.lenet import LeNet
from fastconv.models.mobilenet import MobileNetV2
from fastconv.models.resnet import ResNet
from fastconv.models.vgg import VGG

__all__ = ["VGG", "AlexNet", "LeNet", "MobileNetV2", "ResNet"]
