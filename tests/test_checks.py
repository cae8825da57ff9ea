"""What `fastconv._checks` accepts, converts and refuses."""

import math

import numpy as np
import pytest

from fastconv import _checks
from fastconv.functional import _input


@pytest.mark.parametrize(
    ("dtypes", "compute", "result"),
    [
        (("f4",), "f4", "f4"),
        (("f8",), "f8", "f8"),
        (("f4", "f8"), "f8", "f8"),
        (("f2",), "f4", "f2"),
        (("f2", "f4"), "f4", "f4"),
        (("f2", "f8"), "f8", "f8"),
        ((">f4",), "f4", "f4"),
        ((">f2",), "f4", "f2"),
        (("?",), "f4", "f4"),
        (("u1",), "f4", "f4"),
        (("i2", "u2"), "f4", "f4"),
        (("i4",), "f8", "f8"),
        (("u8", "i8"), "f8", "f8"),
        (("u1", "f4"), "f4", "f4"),
        (("u1", "f2"), "f4", "f2"),
        (("i2", "f2"), "f4", "f4"),
        (("i4", "f4"), "f8", "f8"),
    ],
)
def test_dtypes_promote(dtypes, compute, result):
    arrays = [np.zeros(1, dtype) for dtype in dtypes]
    assert _checks.compute_dtype(*arrays) == np.dtype(compute)
    assert _checks.result_dtype(*arrays) == np.dtype(result)
    assert _checks.result_dtype(*arrays).isnative
    values = {f"a{i}": array for i, array in enumerate(arrays)}
    prepared, promoted = _input.promote(**values, nothing=None, optional=["nothing"])
    assert promoted == np.dtype(result)
    assert prepared[-1] is None
    assert all(array.dtype == np.dtype(compute) for array in prepared[:-1])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_float_array_copies_only_what_it_must(dtype):
    array = np.arange(12, dtype=dtype).reshape(3, 4)
    array.flags.writeable = False
    assert _checks.float_array("x", array) is array
    unaligned = np.zeros(array.nbytes + 1, np.uint8)[1:].view(dtype).reshape(3, 4)
    unaligned[...] = array
    for other in (array.T.copy().T, array.astype(array.dtype.newbyteorder()), unaligned, array.tolist()):
        prepared = _checks.float_array("x", other)
        assert prepared.flags.c_contiguous
        assert prepared.flags.aligned
        assert prepared.dtype.isnative
        np.testing.assert_array_equal(prepared, array)
    assert _checks.float_array("x", np.float32(3)).shape == ()


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(2, complex),
        np.array([None]),
        "12",
        ["a"],
        np.zeros(2, "M8[s]"),
        pytest.param(
            np.zeros(2, np.longdouble),
            marks=pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="is float64 here"),
        ),
        np.zeros(2, [("a", "f4")]),
        [[1, 2], [3]],
        None,
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused(value):
    with pytest.raises(TypeError, match=r"^weight: got .*, needs "):
        _checks.float_array("weight", value)


@pytest.mark.parametrize("wanted", ["requires grad", "BFloat16"])
def test_tensors_that_make_no_array(wanted):
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, requires_grad=True) if wanted == "requires grad" else torch.ones(2).bfloat16()
    with pytest.raises(TypeError, match=rf"^weight: got Tensor \(.*{wanted}.*\), needs an array$"):
        _checks.as_array("weight", tensor)


def test_axes_and_shapes():
    _checks.axes("x", np.zeros((1, 2)), "N, C", "N, C, H, W")
    with pytest.raises(
        ValueError, match=r"^x: got shape \(1,\), needs 2 or 4 axes: \(N, C\) or \(N, C, H, W\)$"
    ):
        _checks.axes("x", np.zeros(1), "N, C", "N, C, H, W")
    _checks.shape("x", np.zeros((1, 2)), (1, 2))
    with pytest.raises(ValueError, match=r"^x: got shape \(1, 2\), needs shape \(2, 1\), as y$"):
        _checks.shape("x", np.zeros((1, 2)), (2, 1), "as y")


@pytest.mark.parametrize("value", [True, np.True_, 2.0, float("nan"), "1", None, [1], np.array([1, 2])])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match=r"^n: got .*, needs an integer of at least 1$"):
        _checks.integer("n", value, 1)


def test_integers():
    assert _checks.integer("n", np.int64(3)) == 3
    with pytest.raises(ValueError, match=r"^n: got 0, needs an integer of at least 1$"):
        _checks.integer("n", 0, 1)
    assert _checks.integer("n", 3, 1, 3) == 3
    with pytest.raises(ValueError, match=r"^n: got 4, needs an integer of at least 1 and at most 3$"):
        _checks.integer("n", 4, 1, 3)


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match=r"^p: got .*, needs a finite number of at least 0 and below 1$"):
        _checks.number("p", value, 0, below=1)


@pytest.mark.parametrize(
    "value",
    [
        np.complex64(0.5),
        np.array(0.5 + 3j),
        np.array(True),
        np.timedelta64(0, "s"),
        np.array("0"),
        np.str_("0"),
    ],
)
def test_what_only_looks_like_a_number_is_refused(value):
    """float() takes all of them, and drops an imaginary part."""
    with pytest.raises(TypeError, match=r"^p: got .*, needs a finite number of at least 0$"):
        _checks.number("p", value, 0)


class Broken:
    """Whose conversions raise what `error` is."""

    def __init__(self, error):
        self.error = error

    def fail(self, *arguments, **keywords):
        raise self.error

    __array__ = __float__ = __index__ = fail


CONVERSIONS = {
    "as_array": lambda value: _checks.as_array("n", value),
    "integer": lambda value: _checks.integer("n", value),
    "number": lambda value: _checks.number("n", value),
}


@pytest.mark.parametrize("error", [RuntimeError("why"), KeyError("why"), TypeError("why"), ValueError("why")])
@pytest.mark.parametrize("convert", CONVERSIONS)
def test_whatever_a_conversion_raises_names_the_argument(convert, error):
    with pytest.raises(TypeError, match=r"^n: got .*Broken.*, needs an? ") as caught:
        CONVERSIONS[convert](Broken(error))
    assert caught.value.__cause__ in (error, None)
    assert caught.value.__cause__ is error or isinstance(error, (TypeError, ValueError))


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
@pytest.mark.parametrize("convert", CONVERSIONS)
def test_no_memory_and_ctrl_c_stay_what_they_are(convert, error):
    with pytest.raises(type(error)) as caught:
        CONVERSIONS[convert](Broken(error))
    assert caught.value is error


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 1])
def test_numbers_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match=r"^p: got .*, needs a finite number of at least 0 and below 1$"):
        _checks.number("p", value, 0, below=1)


def test_the_rest():
    assert _checks.number("p", np.float32(0.5), 0, 1) == 0.5
    assert _checks.number("p", math.inf, 0, finite=False) == math.inf
    assert _checks.boolean("flag", np.True_) is True
    with pytest.raises(TypeError, match="flag: got 1, needs True or False"):
        _checks.boolean("flag", 1)
    assert _checks.choice("mode", "mean", ("mean", "sum")) == "mean"
    with pytest.raises(ValueError, match="mode: got 'max', needs 'mean' or 'sum'"):
        _checks.choice("mode", "max", ("mean", "sum"))
    assert _checks.subset("need", ("x", "bias"), ("x", "weight", "bias")) == {"x", "bias"}
    assert _checks.subset("need", (), ("x",)) == set()
    for value, kind in (("x", TypeError), (1, TypeError), (("y",), ValueError)):
        with pytest.raises(kind, match=r"^need: got .*, needs some of 'x', 'bias'"):
            _checks.subset("need", value, ("x", "bias"))
    rng = np.random.default_rng(0)
    assert _checks.generator("rng", rng) is rng
    with pytest.raises(TypeError, match=r"rng: got int, needs a numpy\.random\.Generator"):
        _checks.generator("rng", 0)
    assert _checks.parameter_dtype("dtype", ">f4") == np.dtype("f4")
    with pytest.raises(TypeError, match="dtype: got 'i4', needs float16"):
        _checks.parameter_dtype("dtype", "i4")
