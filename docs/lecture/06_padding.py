"""
Padding, and the size of the result
===================================

Every convolution so far made the image smaller, and pixels at the border are in fewer windows than those in
the middle. *Padding* puts rows and columns of zeros around the image first.
"""

import numpy as np

import fastconv as fc
from fastconv import plot

image = np.array([[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]])
kernel = np.array([[11, 4], [5, 2]])

padded = np.pad(image, 1)
output = fc.conv2d(image[None, None], kernel[None, None], padding=1)[0, 0]
plot.numbers([padded, kernel, output], marks=[np.s_[1:5, 1:5], None, np.s_[1:4, 1:4]], signs=("∗", "="))

# %%
# Marked on the left is the image within its zeros, marked on the right what the convolution without padding
# gave. The first window holds three zeros and the pixel 5, so the first result is 2 times 5.

plot.numbers([padded, kernel, output], marks=[np.s_[0:2, 0:2], None, np.s_[0, 0]], signs=("∗", "="))

# %%
# How large is the result? For H rows, a filter of R rows, padding P on both sides and stride S, the padded
# image has H + 2P rows. The first window takes R of them; what remains allows (H + 2P - R) / S more steps,
# rounded down. So the result has
#
# .. math:: \lfloor (H + 2P - R) / S \rfloor + 1
#
# rows, and the same holds for columns.


def output_size(size, kernel_size, padding, stride):
    return (size + 2 * padding - kernel_size) // stride + 1


for stride, padding in [(1, 0), (2, 0), (1, 1), (2, 1)]:
    output = fc.conv2d(image[None, None], kernel[None, None], stride=stride, padding=padding)
    print(f"S={stride} P={padding}:", output_size(4, 2, padding, stride), output.shape[2:])

# %%
# `fastconv.conv_output_size` is this formula. Some well-known layers, from left to right size, filter,
# stride and padding:

for size, kernel_size, stride, padding in [(28, 5, 1, 2), (224, 3, 1, 1), (224, 7, 2, 3), (32, 5, 1, 0)]:
    print(size, kernel_size, stride, padding, "→", fc.conv_output_size(size, kernel_size, stride, padding))

# %%
# With stride 1 and an odd filter, padding by half of it (1 for 3x3, 2 for 5x5) keeps the size of the image;
# ``padding="same"`` finds that number by itself.
#
# Rounding down means that the last pixels may be in no window at all. With stride 2 and padding 1, the 4x4
# image has 6 rows, and three windows of two rows fit exactly. With 5 rows instead of 4 a row would be left
# over.

output = fc.conv2d(image[None, None], kernel[None, None], stride=2, padding=1)[0, 0]
plot.numbers([padded, kernel, output], marks=[np.s_[4:6, 4:6], None, np.s_[2, 2]], signs=("∗", "="))
