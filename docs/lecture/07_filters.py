"""
Several channels, several filters
=================================

A colour image has three channels. Then the filter has three, too: one table of numbers for each channel.
All products of all channels are added to a single number, so that one filter makes one image, however many
channels went in.
"""

import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.image import imread

import fastconv as fc
from fastconv import plot

rng = np.random.default_rng(7)
image = rng.integers(0, 10, (3, 4, 4))
kernel = rng.integers(-2, 3, (3, 2, 2))
each = [fc.conv2d(image[None, c : c + 1], kernel[None, c : c + 1])[0, 0] for c in range(3)]
marks = [np.s_[0:2, 0:2], None, np.s_[0, 0]]

# %%
# Channel by channel, with the first window marked: red,

plot.numbers([image[0], kernel[0], each[0]], marks=marks, signs=("∗", "="))

# %%
# green,

plot.numbers([image[1], kernel[1], each[1]], marks=marks, signs=("∗", "="))

# %%
# and blue.

plot.numbers([image[2], kernel[2], each[2]], marks=marks, signs=("∗", "="))

# %%
# The sum of the three is the result. `fastconv.conv2d` computes it at once.

output = fc.conv2d(image[None], kernel[None])[0, 0]
assert (output == sum(each)).all()
plot.numbers([*each, output], marks=[np.s_[0, 0]] * 4, signs=("+", "+", "="))

# %%
# Several filters ask several questions, and each answers with an image of its own: a *feature map*. K
# filters make a result of K channels. So the shapes are
#
# .. math:: (N, C, H, W) \ast (K, C, R, S) + (K) \rightarrow (N, K, P, Q)
#
# where C, the channels of the image, must be those of the filters, and P and Q follow from the formula of
# the page before.

x = rng.normal(size=(10, 3, 32, 32)).astype(np.float32)
weight = rng.normal(size=(16, 3, 5, 5)).astype(np.float32)
bias = np.zeros(16, np.float32)
print(x.shape, weight.shape, bias.shape, "→", fc.conv2d(x, weight, bias, padding=2).shape)

# %%
# Such a layer has 16 · 3 · 5 · 5 numbers of filters and 16 biases to learn, whatever the size of the
# images: the same filter is used everywhere.

print(weight.size + bias.size)

# %%
# Four filters made by hand, on the photograph. Each has the same 3x3 table in all three channels: the sum
# of the neighbourhood; what gets brighter to the right; what gets brighter downwards; and what differs from
# its neighbourhood.

photo = (
    np.moveaxis(imread(get_sample_data("grace_hopper.jpg", asfileobj=False)), -1, 0)[:, 40:440, 60:460] / 255
)
tables = np.array(
    [
        [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
        [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
        [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
        [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    ]
)
by_hand = np.repeat(tables[:, None], 3, axis=1)
plot.numbers(list(tables))

# %%
# The photograph and its four feature maps. Training finds such filters by itself, and better ones.

maps = fc.conv2d(photo[None], by_hand)[0]
grey = photo[:, 1:-1, 1:-1].mean(axis=0)
plot.images([grey, maps[0], *maps[1:].clip(-3, 3)], columns=5, size=1.7)
