"""
Channels
========

A colour image has three numbers a pixel: how much red, how much green and how much blue. Each of these is
an image of its own, a *channel*.
"""

import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.image import imread

from fastconv import plot

photo = imread(get_sample_data("grace_hopper.jpg", asfileobj=False))
print(photo.shape, photo.dtype)

# %%
# Files keep the three numbers of a pixel together, so the axes are height, width and channel: HWC.
# Convolutional networks mostly want whole channels one after the other, channel, height and width: CHW, as
# PyTorch has it. ``np.moveaxis`` turns one into the other. The photograph shows Grace Hopper, who built one
# of the first compilers.

pixels = np.moveaxis(photo, -1, 0)
print(pixels.shape)
plot.images([pixels], size=3)

# %%
# The channels red, green and blue, each as a grey image. The flag's red stripes and the white ones look the
# same in red: both hold a lot of it. In green and in blue the red stripes are dark.

plot.images(pixels, "RGB", columns=3, size=2.5)

# %%
# Several images make a *batch*, which adds an axis in front: NCHW, N images of C channels of H rows and W
# columns. That is the shape that ``fastconv`` expects. A grey image has a single channel, C = 1.

batch = np.stack([pixels, pixels[:, :, ::-1]])
print(batch.shape)
plot.images(batch, size=2.5)

# %%
# Channels are not only colours. The layers of a network put out images with dozens or hundreds of channels;
# each of them says how much of some pattern there is at a place. How these come about is what the next
# pages tell.
