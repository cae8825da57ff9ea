"""Layers: parameters, and what backward needs of forward. The arithmetic is in `fastconv.functional`."""

from fastconv.nn import init
from fastconv.nn.activation import LeakyReLU, ReLU, ReLU6, Sigmoid, Softmax, Tanh
from fastconv.nn.container import Residual, Sequential
from fastconv.nn.conv import Conv2d
from fastconv.nn.conv1d import Conv1d
from fastconv.nn.conv_transpose import ConvTranspose2d
from fastconv.nn.dropout import Dropout
from fastconv.nn.freeze import freeze
from fastconv.nn.linear import Flatten, Linear
from fastconv.nn.loss import CrossEntropyLoss, MSELoss
from fastconv.nn.module import Module
from fastconv.nn.normalization import BatchNorm2d, LocalResponseNorm
from fastconv.nn.parameter import Parameter
from fastconv.nn.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "freeze",
    "init",
]
