"""
AlexNet, shape by shape
=======================

In 2012 AlexNet won the ImageNet competition by a wide margin: of a million photographs it had learned to
tell a thousand kinds of things apart. It consists of nothing but the parts of this lecture, and of two
more. *Local response normalization* divides each number by a measure of those at the same place in
neighbouring channels; today batch normalization has taken its place. *Dropout* sets half of the numbers to
zero at random while training, against overfitting.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import fastconv as fc
from fastconv import models, nn

model = models.AlexNet(rng=np.random.default_rng(0)).eval()
photo = np.zeros((1, 3, 224, 224), np.float32)

shapes = [photo.shape]
layers = [*model.features, model.flatten, *model.classifier]
x = photo
for layer in layers:
    x = layer(x)
    shapes.append(x.shape)
    if not isinstance(layer, nn.ReLU | nn.Dropout):
        print(f"{type(layer).__name__:18} {' × '.join(map(str, x.shape[1:]))}")

# %%
# Check the first layer with the formula: filters of 11x11, stride 4. The paper's 55 columns from 224 need
# three columns of zeros, often written as "padding 1.5": one before and two after.

print((224 + 1 + 2 - 11) // 4 + 1)
print(fc.conv_output_size(55, 3, 2), fc.conv_output_size(27, 5, 1, 2), fc.conv_output_size(27, 3, 2))
print(fc.conv_output_size(13, 3, 1, 1), fc.conv_output_size(13, 3, 2))

# %%
# All results of layers that change the shape. The height is that of the image, the width grows with each
# doubling of the number of channels. The further to the right, the less of "where" and the more of "what".

changes = [shape for before, shape in zip([None, *shapes], shapes, strict=False) if shape != before]
figure = Figure(figsize=(9, 4), layout="constrained")
axes = figure.subplots()
left = 0.0
for shape in changes:
    _, channels, height, *_ = (*shape, 1)
    width = 5 * np.log2(channels)
    axes.add_patch(Rectangle((left, -height / 2), width, height, facecolor="C0", alpha=0.5))
    label = "×".join(map(str, shape[1:]))
    axes.text(left + width / 2, -120, label, rotation=45, ha="right", va="top", fontsize=9)
    left += width + 12
axes.set(xlim=(-50, left), ylim=(-175, 115), aspect="equal")
axes.set_axis_off()
figure

# %%
# Where are its parameters, and where is the work? For each layer with weights: the number of parameters,
# and of multiplications for one image, both in millions. Convolutions have few parameters and do most of
# the work, since each weight is used at every place; fully connected layers have most of the parameters.

for layer, shape in zip(layers, shapes[1:], strict=True):
    if isinstance(layer, nn.Conv2d | nn.Linear):
        parameters = sum(parameter.size for parameter in layer.parameters())
        products = layer.weight.size * int(np.prod(shape[2:]))
        print(f"{type(layer).__name__:7} {parameters / 1e6:7.2f} {products / 1e6:7.1f}")
print(f"{sum(parameter.size for parameter in model.parameters()) / 1e6:.1f}")

# %%
# `fastconv.models` also has the networks that came after: VGG, ResNet and MobileNet. They are deeper, and
# have smaller filters; but you know all that they are made of. That is the end of the lecture.
