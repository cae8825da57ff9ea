"""
Images are arrays
=================

To a program, a grey image is a table of numbers, one number a pixel: how bright it is, or how much ink
there is. NumPy keeps such a table in an array of two axes, height and width. Row 0 is at the top, column 0
at the left.
"""

import numpy as np

from fastconv import datasets, plot

digits = datasets.mnist5k()
digit = digits.x[250]
print(digit.shape, digit.dtype, digit.min(), digit.max())
plot.images([digit], size=2)

# %%
# A handwritten digit of 28 rows and 28 columns. Its numbers are whole ones from 0 to 255, so that a pixel
# fits into one byte: the type is ``uint8``. Enlarge a corner of it, and the numbers can be read.

plot.numbers([digit[4:13, 8:18]])

# %%
# Many images of one size make an array of three axes: which image, which row, which column. These are 5,000
# digits, 500 of each kind; here is one of each.

print(digits.x.shape)
plot.images(digits.x[250::500], columns=10)

# %%
# Networks compute with floating-point numbers. ``float32`` takes four bytes a number and is exact enough
# for them; dividing by 255 brings all pixels between 0 and 1.

scaled = digits.x.astype(np.float32) / 255
print(scaled.dtype, scaled.min(), scaled.max(), f"{scaled.mean():.3f}")

# %%
# The following pages need an image that is small enough to compute with by hand. This is it, with four rows
# and four columns.

image = np.array([[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]])
plot.numbers([image])

# %%
# The same as a picture: the smallest number is black, the largest is white.

plot.images([image], size=2)
