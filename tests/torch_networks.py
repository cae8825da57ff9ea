"""The networks of `fastconv.models` in plain torch.nn, with torchvision's names of parameters."""

from collections import OrderedDict

from torch import nn
from torch.nn import functional


def lenet(classes=10):
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
    )  # fmt: skip
    classifier = nn.Sequential(
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)
    )
    return _features_and_classifier(features, nn.Identity(), classifier)


def alexnet(classes=1000, hidden=4096):
    features = nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5),
        nn.Conv2d(96, 256, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5),
        nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(9216, hidden), nn.ReLU(),
        nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, classes),
    )  # fmt: skip
    model = _features_and_classifier(features, nn.Identity(), classifier)
    model.register_forward_pre_hook(lambda _, inputs: (functional.pad(inputs[0], (1, 2, 1, 2)),))
    return model


def vgg(plan, batch_norm, classes=1000, hidden=4096):
    """`plan` is a letter for each layer: the logarithm of the channels, or P for a pool."""
    layers, inputs = [], 3
    for letter in plan:
        if letter == "P":
            layers.append(nn.MaxPool2d(2))
            continue
        outputs = 2 ** int(letter)
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if batch_norm else [nn.ReLU()]
        inputs = outputs
    classifier = nn.Sequential(
        nn.Linear(25088, hidden), nn.ReLU(), nn.Dropout(),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
        nn.Linear(hidden, classes),
    )  # fmt: skip
    return _features_and_classifier(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(7), classifier)


def _features_and_classifier(features, pool, classifier):
    parts = {"features": features, "avgpool": pool, "flatten": nn.Flatten(), "classifier": classifier}
    return nn.Sequential(OrderedDict(parts))


class ResidualBlock(nn.Module):
    """Convolutions of the given (outputs, kernel, stride), a ReLU between any two."""

    def __init__(self, inputs, convolutions):
        super().__init__()
        first, stride = inputs, 1
        for number, (outputs, kernel, step) in enumerate(convolutions, 1):
            conv = nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
            inputs, stride = outputs, stride * step
        self.depth = len(convolutions)
        self.downsample = None
        if stride != 1 or first != inputs:
            shortcut = nn.Conv2d(first, inputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(inputs))

    def forward(self, x):
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.depth:
                y = y.relu()
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


def resnet(blocks, bottleneck, classes=1000):
    parts = {"conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(64), "relu": nn.ReLU()}
    parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs = 64
    for stage, count in enumerate(blocks):
        width, layers = 64 << stage, []
        for number in range(count):
            stride = 2 if stage and not number else 1
            if bottleneck:
                convolutions = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
            else:
                convolutions = [(width, 3, stride), (width, 3, 1)]
            layers.append(ResidualBlock(inputs, convolutions))
            inputs = convolutions[-1][0]
        parts[f"layer{stage + 1}"] = nn.Sequential(*layers)
    parts |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(inputs, classes)}
    return nn.Sequential(OrderedDict(parts))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, factor):
        super().__init__()
        hidden = factor * inputs
        widen = [_conv_norm_relu6(inputs, hidden, 1)] if factor > 1 else []
        narrow = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*widen, _conv_norm_relu6(hidden, hidden, 3, stride, hidden), *narrow)
        self.straight = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.straight else self.conv(x)


def _conv_norm_relu6(inputs, outputs, kernel, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


def mobilenet_v2(classes=1000):
    widths = [32, 16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
    halving = {2, 4, 7, 14}  # the numbers of the blocks that do
    blocks = [
        InvertedResidual(widths[i - 1], widths[i], 2 if i in halving else 1, 1 if i == 1 else 6)
        for i in range(1, len(widths))
    ]
    features = nn.Sequential(_conv_norm_relu6(3, 32, 3, 2), *blocks, _conv_norm_relu6(320, 1280, 1))
    classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))
    return _features_and_classifier(features, nn.AdaptiveAvgPool2d(1), classifier)
