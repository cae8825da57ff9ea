"""`im2col` and `col2im` against the float64 reference: copies and sums of whole numbers, so exact."""

from functools import cache

import numpy as np
import pytest
import reference
from cases import CONV_CASES, ConvCase
from memory_orders import HAS_FORBIDDEN_PAGES, between_forbidden_pages
from numpy.testing import assert_array_equal

import fastconv as fc

CASES = [case for case in CONV_CASES if case.groups == 1 and not case.name.startswith(("tile", "depth"))]
TORCH_CASES = [case for case in CASES if case.has_symmetric_padding and not case.is_empty]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def whole_numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(15).integers(-9, 10, shape)


def geometry(case: ConvCase) -> dict:
    names = ("stride", "padding", "dilation")
    return {"kernel_size": case.weight_shape[2:], **{name: getattr(case, name) for name in names}}


@cache
def expected_columns(case: ConvCase) -> np.ndarray:
    return reference.im2col(whole_numbers(case.x_shape), **geometry(case))


@cache
def expected_images(case: ConvCase) -> np.ndarray:
    columns = whole_numbers(expected_columns(case).shape)
    return reference.col2im(columns, case.x_shape, **geometry(case))


@every_case
def test_im2col(case: ConvCase, dtype):
    x = whole_numbers(case.x_shape)
    columns = fc.im2col(x.astype(dtype), **geometry(case))
    assert columns.dtype == dtype
    assert_array_equal(columns, expected_columns(case))


@every_case
def test_col2im(case: ConvCase, dtype):
    columns = whole_numbers(expected_columns(case).shape)
    images = fc.col2im(columns.astype(dtype), case.x_shape, **geometry(case))
    assert images.dtype == dtype
    assert_array_equal(images, expected_images(case))


def test_memory_orders(memory_order, dtype):
    x = memory_order(whole_numbers((2, 3, 7, 6)).astype(dtype))
    arguments = {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1, "dilation": (1, 2)}
    assert_array_equal(fc.im2col(x, **arguments), reference.im2col(x, **arguments))
    columns = memory_order(whole_numbers((2, 18, 24)).astype(dtype))
    assert_array_equal(
        fc.col2im(columns, x.shape, **arguments), reference.col2im(columns, x.shape, **arguments)
    )


def test_unbatched(dtype):
    x = whole_numbers((3, 7, 6)).astype(dtype)
    columns = fc.im2col(x, 3, padding=1)
    assert_array_equal(columns, reference.im2col(x[None], 3, padding=1)[0])
    images = fc.col2im(columns, x.shape, 3, padding=1)
    assert_array_equal(images, reference.col2im(columns[None], (1, 3, 7, 6), 3, padding=1)[0])


@every_case
def test_convolution_is_a_product_with_columns(case: ConvCase):
    """The identity for which im2col is named."""
    x, weight = whole_numbers(case.x_shape), whole_numbers(case.weight_shape)
    columns = fc.im2col(x.astype(np.float64), **geometry(case))
    product = weight.reshape(len(weight), columns.shape[1]) @ columns
    assert_array_equal(product.reshape(case.output_shape), reference.conv2d(x, weight, **case.arguments))


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_same_bits_on_any_number_of_threads(threads, dtype):
    rng = np.random.default_rng(16)
    columns = rng.normal(size=(4, 72, 400)).astype(dtype)
    with fc.num_threads(1):
        single = fc.col2im(columns, (4, 8, 22, 22), 3)
    with fc.num_threads(threads):
        assert fc.col2im(columns, (4, 8, 22, 22), 3).tobytes() == single.tobytes()


@pytest.mark.parametrize("shape", [(2, 3, 7, 6), (3, 7, 6)], ids=str)
def test_each_is_the_gradient_of_the_other(shape, dtype):
    arguments = {"kernel_size": (3, 2), "stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2)}
    x = whole_numbers(shape).astype(dtype)
    columns = fc.im2col(x, **arguments)
    assert_array_equal(fc.col2im_backward(x, shape, **arguments), columns)
    assert_array_equal(
        fc.im2col_backward(columns, shape, **arguments), fc.col2im(columns, shape, **arguments)
    )
    with pytest.raises(ValueError, match=r"^grad_output: got shape .*, needs shape "):
        fc.col2im_backward(x[..., 1:], shape, **arguments)
    with pytest.raises(ValueError, match=r"^grad_output: got shape .*, needs shape "):
        fc.im2col_backward(columns[..., 1:], shape, **arguments)


@pytest.mark.parametrize(
    ("given", "computed"),
    [("f2", "f2"), (">f4", "f4"), ("?", "f4"), ("i2", "f4"), ("i4", "f8"), ("u8", "f8")],
)
def test_dtypes(given, computed):
    x = (whole_numbers((2, 3, 5, 4)) % 2).astype(given)
    columns = fc.im2col(x, 2)
    assert columns.dtype == np.dtype(computed)
    assert_array_equal(columns, reference.im2col(x, 2))
    images = fc.col2im(columns.astype(given), x.shape, 2)
    assert images.dtype == np.dtype(computed)
    assert_array_equal(images, reference.col2im(columns, x.shape, 2))


@pytest.mark.skipif(not HAS_FORBIDDEN_PAGES, reason="needs mprotect")
@pytest.mark.parametrize("at_end", [False, True], ids=["start", "end"])
@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 17, 33])
def test_nothing_is_read_beyond_an_array(width, at_end, dtype):
    x = whole_numbers((1, 2, 3, width)).astype(dtype)
    columns = fc.im2col(between_forbidden_pages(x, at_end), (2, 1), (1, 2), (1, 0))
    assert_array_equal(columns, reference.im2col(x, (2, 1), (1, 2), (1, 0)))
    images = fc.col2im(between_forbidden_pages(columns, at_end), x.shape, (2, 1), (1, 2), (1, 0))
    assert_array_equal(images, reference.col2im(columns, x.shape, (2, 1), (1, 2), (1, 0)))


@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_against_torch(case: ConvCase, dtype):
    torch = pytest.importorskip("torch")
    (top, _), (left, _) = case.edges
    arguments = {**geometry(case), "padding": (top, left)}
    x = whole_numbers(case.x_shape).astype(dtype)
    columns = fc.im2col(x, **arguments)
    assert_array_equal(columns, torch.nn.functional.unfold(torch.from_numpy(x), **arguments).numpy())
    images = torch.nn.functional.fold(torch.from_numpy(columns), case.x_shape[2:], **arguments).numpy()
    assert_array_equal(fc.col2im(columns, case.x_shape, **arguments), images)
