"""
Stride
======

So far the filter moved by one pixel. The *stride* is by how many pixels it moves; with stride 2 every
second position is left out, in both directions, and the result has about half the rows and half the
columns.
"""

import numpy as np

import fastconv as fc
from fastconv import plot

image = np.array([[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]])
kernel = np.array([[11, 4], [5, 2]])

output = fc.conv2d(image[None, None], kernel[None, None], stride=2)[0, 0]
print(output)

# %%
# The filter begins at the top left, as before.

signs = ("∗", "=")
plot.numbers([image, kernel, output], marks=[np.s_[0:2, 0:2], None, np.s_[0, 0]], signs=signs)

# %%
# The second window is two columns further on. With a filter of size 2 and stride 2, windows touch but don't
# overlap.

plot.numbers([image, kernel, output], marks=[np.s_[0:2, 2:4], None, np.s_[0, 1]], signs=signs)

# %%
# Then it goes on two rows below.

plot.numbers([image, kernel, output], marks=[np.s_[2:4, 0:2], None, np.s_[1, 0]], signs=signs)

# %%
# These are four of the nine numbers that stride 1 gave: every second row and every second column.

every = fc.conv2d(image[None, None], kernel[None, None])[0, 0]
plot.numbers([every, output], marks=[np.s_[::2, ::2], np.s_[:, :]], signs=("→",))

# %%
# A stride makes images smaller and saves work: with stride 2 there is a quarter of the sums to compute.
