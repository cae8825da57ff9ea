"""
ReLU
====

A convolution is a weighted sum, and two weighted sums after each other are again one: ten layers of
convolutions alone could do no more than one. So between them stands a function that is not linear, the
*activation*. The most usual one is also the simplest: negative numbers become 0, all others stay. Its name
is rectified linear unit, ReLU.
"""

import numpy as np
from matplotlib.figure import Figure

import fastconv as fc
from fastconv import plot

x = np.linspace(-4, 4, 201)
figure = Figure(figsize=(4, 3), layout="constrained")
axes = figure.subplots()
axes.plot(x, fc.relu(x), linewidth=2)
axes.set(xlabel="$x$", ylabel="$\\max(0, x)$")
axes.grid(alpha=0.3)
figure

# %%
# After the convolution with its bias of -140, only the places remain where there is enough of the pattern.

image = np.array([[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]])
kernel = np.array([[11, 4], [5, 2]])
before = fc.conv2d(image[None, None], kernel[None, None], np.array([-140]))[0, 0]
after = fc.relu(before)
plot.numbers([before, after], marks=[before > 0, after > 0], signs=("→",))

# %%
# ``activation="relu"`` does it within the convolution, while the result is still in the processor's cache.

fused = fc.conv2d(image[None, None], kernel[None, None], np.array([-140]), activation="relu")
assert (fused[0, 0] == after).all()

# %%
# Before ReLU, networks used functions such as the sigmoid, which squeezes all numbers between 0 and 1. For
# large numbers it is flat: its slope, which gradients are multiplied with, goes to 0, and after a few
# layers nothing is left to learn from. The slope of ReLU is 1 for all positive numbers. Drawn are both
# slopes, ReLU's as a solid line.

figure = Figure(figsize=(4, 3), layout="constrained")
axes = figure.subplots()
axes.plot(x, fc.relu_backward(np.ones_like(x), x), linewidth=2)
axes.plot(x, fc.sigmoid_backward(np.ones_like(x), fc.sigmoid(x)), "--", linewidth=2)
axes.set(xlabel="$x$", ylabel="$dy/dx$")
axes.grid(alpha=0.3)
figure
