"""
Flatten, and the fully connected layer
======================================

Convolutions and pools turn an image into many small feature maps. To say in the end what the image shows,
all of these numbers are put into one row: they are *flattened*.
"""

import numpy as np

import fastconv as fc
from fastconv import nn, plot

maps = np.array([[[15, 13], [15, 12]], [[6, 0], [3, 9]]])
flat = maps.reshape(1, -1)
plot.numbers([maps[0], maps[1], flat], signs=("", "→"))

# %%
# In a batch, each image keeps a row of its own. `fastconv.nn.Flatten` does that as a layer.

x = np.zeros((10, 16, 5, 5), np.float32)
print(x.shape, "→", nn.Flatten()(x).shape)

# %%
# In a *fully connected* layer, also called dense or linear, every output is a weighted sum of all inputs,
# plus a bias. That is a product of matrices: the inputs times the weights transposed. A convolution uses
# few weights at many places; here each weight is used once.

weight = np.array([[1, 0, 0, 0, -1, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0, -1], [0, 0, 1, 0, 0, 1, 1, 0]])
bias = np.array([0, -5, 1])
scores = fc.linear(flat, weight, bias)
assert (scores == flat @ weight.T + bias).all()
plot.numbers([flat, weight.T, bias[None], scores], signs=("·", "+", "="))

# %%
# The three numbers are scores for three classes. *Softmax* makes probabilities of them: it takes the
# exponential function of each and divides by their sum, so that all are positive and add up to 1. The
# largest score stays the largest. (Scores that are far apart give probabilities close to 0 and 1; here they
# are divided by 10 first.)
#
# .. math:: p_i = \frac{e^{z_i}}{\sum_j e^{z_j}}

probabilities = fc.softmax(scores / 10)
print(probabilities.sum())
plot.numbers([scores / 10, probabilities.round(3)], signs=("→",))

# %%
# Fully connected layers hold most of the numbers of many networks. From 16 feature maps of 5x5 to 120
# outputs there are 16 · 5 · 5 · 120 weights and 120 biases; a convolution with 16 filters of 5x5 on 6
# channels has far fewer.

dense, convolution = nn.Linear(16 * 5 * 5, 120), nn.Conv2d(6, 16, 5)
for layer in (dense, convolution):
    print(type(layer).__name__, sum(parameter.size for parameter in layer.parameters()))
