"""
A filter slides over the image
==============================

A *filter*, or kernel, is a small table of numbers. Lay it on the top left corner of the image, multiply
each of its numbers with the pixel beneath, and add the products: that is one number of the result. Then
move the filter one pixel to the right and do it again, and so on, row by row. This is convolution.
"""

import numpy as np

import fastconv as fc
from fastconv import plot

image = np.array([[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]])
kernel = np.array([[11, 4], [5, 2]])

first = 11 * 5 + 4 * 1 + 5 * 15 + 2 * 5
print(first)

# %%
# The same with arrays: cut out the window, multiply it with the filter number by number, and sum up.

result = np.zeros((3, 3))
for row in range(3):
    for column in range(3):
        window = image[row : row + 2, column : column + 2]
        result[row, column] = (window * kernel).sum()
print(result)

# %%
# At the first position the window is the marked one, and the result is 144.

signs = ("∗", "=")
plot.numbers([image, kernel, result], marks=[np.s_[0:2, 0:2], None, np.s_[0, 0]], signs=signs)

# %%
# One pixel to the right it is 66.

plot.numbers([image, kernel, result], marks=[np.s_[0:2, 1:3], None, np.s_[0, 1]], signs=signs)

# %%
# The last position is at the bottom right. A 2x2 filter fits into 4 rows at 3 places, so the result is 3x3.

plot.numbers([image, kernel, result], marks=[np.s_[2:4, 2:4], None, np.s_[2, 2]], signs=signs)

# %%
# `fastconv.conv2d` does the same, and quickly. It wants axes for the batch and the channels, so image and
# filter get two more axes of length 1. (In mathematics, convolution first turns the filter around by half a
# turn. What networks compute is strictly speaking a correlation; all of the field calls it convolution.)

output = fc.conv2d(image[None, None], kernel[None, None])
print(output.shape)
print(output[0, 0])

# %%
# What is it good for? A filter is a question that is asked at every place of the image. This one takes the
# pixels on the right minus those on the left: it answers "how much brighter does it get here, from left to
# right?"

edges = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
square = np.zeros((7, 8))
square[2:5, 2:6] = 1
plot.numbers([square, edges, fc.conv2d(square[None, None], edges[None, None])[0, 0]], signs=signs)

# %%
# On the left edge of the white rectangle the answer is large and positive, on the right edge large and
# negative, and inside and outside it is 0. A large negative number is an answer, too: it gets darker here.
