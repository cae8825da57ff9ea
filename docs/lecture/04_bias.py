"""
Bias
====

A convolution has one more number: the *bias*, which is added to all results of a filter. There is one for
each filter, not one for each pixel.
"""

import numpy as np

import fastconv as fc
from fastconv import plot

image = np.array([[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]])
kernel = np.array([[11, 4], [5, 2]])
bias = -140

without = fc.conv2d(image[None, None], kernel[None, None])[0, 0]
output = fc.conv2d(image[None, None], kernel[None, None], np.array([bias]))[0, 0]
plot.numbers([without, np.full((1, 1), bias), output], signs=("+", "="))

# %%
# The bias sets how much of a pattern is enough. Where the weighted sum is above 140 the result is now
# positive, elsewhere it is negative; a later page keeps the positive ones only. Training finds the numbers
# of the filter and the bias together.

print(output > 0)
