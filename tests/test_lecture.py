"""The worked example of a lecture: a 4x4 image, a 2x2 filter, and 2x2 max pooling."""

import numpy as np
import pytest
from cases import ALGORITHMS
from numpy.testing import assert_array_equal

import fastconv as fc

IMAGE = [[5, 1, 7, 13], [15, 5, 1, 13], [10, 6, 4, 6], [15, 3, 12, 4]]
FILTER = [[11, 4], [5, 2]]

CONVOLVED = {  # (stride, padding): as on the blackboard
    (1, 0): [[144, 66, 160], [247, 97, 95], [215, 121, 136]],
    (2, 0): [[144, 160], [215, 136]],
    (1, 1): [
        [10, 27, 19, 61, 65],
        [50, 144, 66, 160, 208],
        [80, 247, 97, 95, 173],
        [70, 215, 121, 136, 86],
        [60, 177, 81, 148, 44],
    ],
    (2, 1): [[10, 19, 65], [80, 97, 173], [60, 81, 44]],
}


def convolved_by_hand(stride, padding):
    """Sums of products of Python's own integers, pixel by pixel."""
    size = len(IMAGE) + 2 * padding

    def pixel(row, column):
        row, column = row - padding, column - padding
        inside = 0 <= row < len(IMAGE) and 0 <= column < len(IMAGE)
        return IMAGE[row][column] if inside else 0

    return [
        [
            sum(FILTER[i][j] * pixel(row + i, column + j) for i in (0, 1) for j in (0, 1))
            for column in range(0, size - 1, stride)
        ]
        for row in range(0, size - 1, stride)
    ]


@pytest.mark.parametrize(("stride", "padding"), CONVOLVED)
def test_the_blackboard_is_right(stride, padding):
    assert convolved_by_hand(stride, padding) == CONVOLVED[stride, padding]


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in ("winograd", "strassen")])
@pytest.mark.parametrize(("stride", "padding"), CONVOLVED)
def test_convolution(stride, padding, algorithm, dtype, threads):
    x, weight = np.array([[IMAGE]], dtype), np.array([[FILTER]], dtype)
    output = fc.conv2d(x, weight, stride=stride, padding=padding, algorithm=algorithm)
    assert_array_equal(output[0, 0], CONVOLVED[stride, padding])


def test_max_pooling(dtype, threads):
    output, indices = fc.max_pool2d(np.array([IMAGE], dtype), 2, 2, return_indices=True)
    assert_array_equal(output[0], [[15, 13], [15, 12]])
    assert_array_equal(indices[0], [[4, 3], [12, 14]])


def test_average_pooling(dtype, threads):
    assert_array_equal(fc.avg_pool2d(np.array([IMAGE], dtype), 2)[0], [[6.5, 8.5], [8.5, 6.5]])
