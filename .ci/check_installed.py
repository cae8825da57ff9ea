"""Fails unless fastconv, installed with NumPy alone, imports from site-packages and convolves.

Its argument is what the build must say about OpenMP.
"""

import importlib.metadata
import sys
import sysconfig
from pathlib import Path

import numpy as np

import fastconv as fc
from fastconv._kernels import isa

assert Path(fc.__file__).is_relative_to(sysconfig.get_path("platlib")), fc.__file__
packages = {distribution.name for distribution in importlib.metadata.distributions()}
assert packages - {"pip", "setuptools"} == {"fastconv", "numpy"}, packages
assert isa.build_info()["openmp"] == sys.argv[1], isa.build_info()

image = np.array([[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]], float)
result = fc.conv2d(image[None], np.array([[[[11.0, 4.0], [5.0, 2.0]]]]))
np.testing.assert_array_equal(result[0], [[144, 66, 160], [247, 97, 95], [215, 121, 136]])
fc.show_config()
