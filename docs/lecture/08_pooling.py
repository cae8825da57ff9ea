"""
Pooling
=======

Pooling makes images smaller without learning anything: each window becomes a single number, mostly its
largest. It asks "is the pattern anywhere near here?", and forgets where exactly.
"""

import numpy as np

import fastconv as fc
from fastconv import datasets, plot

image = np.array([[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]])
largest = fc.max_pool2d(image[None], 2)[0]
plot.numbers([image, largest], marks=[np.s_[0:2, 0:2], np.s_[0, 0]], signs=("→",))

# %%
# This was *max pooling* with windows of 2x2. The stride is the size of the window if nothing else is said,
# so windows don't overlap. *Average pooling* takes the mean instead.

mean = fc.avg_pool2d(image[None], 2)[0]
plot.numbers([image, mean], marks=[np.s_[0:2, 0:2], np.s_[0, 0]], signs=("→",))

# %%
# Pooling has no numbers to learn, and it works on each channel by itself: the number of channels stays as
# it is. Sizes follow the same formula as those of convolutions.

x = np.zeros((10, 16, 28, 28), np.float32)
print(x.shape, "→", fc.max_pool2d(x, 2).shape)
print(x.shape, "→", fc.max_pool2d(x, 3, stride=2).shape)

# %%
# Small movements vanish in a pool. The same digit, moved by one pixel to the right, differs in many pixels;
# after pooling by 4 there is much less of a difference, as a share of the sum of all pixels.

digit = datasets.mnist5k().x[1250].astype(np.float32) / 255
both = np.stack([digit, np.roll(digit, 1, axis=1)])
pooled = fc.max_pool2d(both, 4)
for still, moved in (both, pooled):
    print(f"{abs(still - moved).sum() / still.sum():.0%}")
plot.images([*both, *(np.kron(small, np.ones((4, 4))) for small in pooled)], columns=4, size=1.5)

# %%
# When a network learns, gradients go backwards through it, and max pooling passes each one on to the pixel
# that was the largest of its window. ``return_indices`` tells which one that was, counted row by row from
# the top left.

largest, indices = fc.max_pool2d(image[None].astype(float), 2, return_indices=True)
print(indices[0])
gradient = np.array([[1, 2], [3, 4]])
back = fc.max_pool2d_backward(gradient[None].astype(float), indices, (1, 4, 4))[0]
plot.numbers([gradient, back], signs=("→",))
