"""The gradient checker: it accepts what is right, and finds what is wrong."""

import re

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.testing import gradcheck


def modules():
    rng = np.random.default_rng(1)
    return {
        "linear": (nn.Linear(3, 2, rng=rng), (4, 3)),
        "conv": (nn.Conv2d(2, 3, 2, stride=2, padding=1, rng=rng), (2, 2, 3, 4)),
        "batch norm": (nn.BatchNorm2d(3), (4, 3, 2, 2)),
        "batch norm in use": (nn.BatchNorm2d(3).eval(), (1, 3, 1, 1)),
        "dropout": (nn.Dropout(rng=rng), (5, 6)),
        "network": (
            nn.Sequential(nn.Linear(3, 4, rng=rng), nn.Tanh(), nn.Residual(nn.Linear(4, 4, rng=rng))),
            (2, 3),
        ),
    }


@pytest.mark.parametrize("name", modules())
def test_right_modules_pass_and_stay_as_they_are(name, rng):
    module, shape = modules()[name]
    x = rng.standard_normal(shape).astype(np.float32)
    module.backward(module(x))
    state, gradients = module.state_dict(), [parameter.grad.copy() for parameter in module.parameters()]
    report = gradcheck(module, x)
    assert report
    assert len(report.worst_of_each) == 1 + len(gradients)
    assert report.worst.excess <= 1
    for key, array in module.state_dict().items():
        np.testing.assert_array_equal(array, state[key])
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        assert parameter.dtype == np.float32
        np.testing.assert_array_equal(parameter.grad, gradient)


class Wrong(nn.Linear):
    """A linear layer one of whose gradients is off in one element."""

    def __init__(self, spoil, by):
        super().__init__(3, 2, rng=np.random.default_rng(1))
        self.spoil, self.by = spoil, by

    def _backward(self, grad_output, saved):
        gradients = fc.linear_backward(grad_output, saved, self.weight.data)
        gradients[["x", "weight", "bias"].index(self.spoil)].flat[1] += self.by
        return self._accumulate(*gradients)


@pytest.mark.parametrize("by", [0.1, -1e-3, np.nan])
@pytest.mark.parametrize(("spoil", "index"), [("x", (0, 1)), ("weight", (0, 1)), ("bias", (1,))])
def test_a_wrong_element_is_named(spoil, index, by, rng):
    x = rng.standard_normal((4, 3))
    report = gradcheck(Wrong(spoil, by), x, raise_exception=False)
    assert not report
    assert (report.worst.name, report.worst.index) == (spoil, index)
    np.testing.assert_allclose(report.worst.analytic - report.worst.numerical, by, rtol=1e-3)
    with pytest.raises(
        AssertionError, match=rf"gradients are WRONG(.|\n)*{spoil}\[{', '.join(map(str, index))}\]: WR"
    ):
        gradcheck(Wrong(spoil, by), x)
    assert gradcheck(Wrong(spoil, 1e-9), x)


def test_a_layer_that_adds_nothing_to_its_gradient_fails(rng):
    class Forgetful(nn.Linear):
        def _backward(self, grad_output, saved):
            return fc.linear_backward(grad_output, saved, self.weight.data)[0]

    report = gradcheck(Forgetful(3, 2), rng.standard_normal((4, 3)), raise_exception=False)
    assert report.worst.name in ("weight", "bias")
    assert report.worst.analytic == 0


def test_functions_with_a_backward(rng):
    x, weight, bias = rng.standard_normal((4, 3)), rng.standard_normal((2, 3)), rng.standard_normal(2)

    def backward(grad_output, x, weight, bias):
        return fc.linear_backward(grad_output, x, weight)

    report = gradcheck(fc.linear, (x, weight, bias), backward=backward)
    assert [element.name for element in report.worst_of_each] == ["input 0", "input 1", "input 2"]
    report = gradcheck(
        fc.linear, (x, weight), backward=lambda *a: fc.linear_backward(*a, need=("weight",))[:2]
    )
    assert [element.name for element in report.worst_of_each] == ["input 1"]
    x4, weight4 = rng.standard_normal((2, 4, 5, 5)), rng.standard_normal((2, 2, 3, 3))
    gradcheck(
        lambda x, w: fc.conv2d(x, w, groups=2, padding=1),
        (x4, weight4),
        backward=lambda g, x, w: fc.conv2d_backward(g, x, w, groups=2, padding=1, need=("x", "weight"))[:2],
    )


def test_losses(rng):
    logits, target = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    report = gradcheck(fc.cross_entropy, (logits, target))
    assert [element.name for element in report.worst_of_each] == ["input 0"]
    assert gradcheck(fc.mse_loss, (logits, logits[::-1]))
    with pytest.raises(AssertionError, match="gradients are WRONG"):
        gradcheck(lambda p, t: (fc.mse_loss(p, t)[0], fc.mse_loss(p, t)[1] / 2), (logits, logits[::-1]))


def test_nothing_to_check_is_right():
    report = gradcheck(nn.Flatten(), np.zeros((0, 3)))
    assert report
    assert report.worst is None


def test_the_report_can_be_read():
    report = gradcheck(np.square, [1.0, 3.0], backward=lambda g, x: g * x, raise_exception=False)
    first, second = str(report).splitlines()
    assert first == "gradients are WRONG; the worst element of each array:"
    assert second.startswith("  input 0[")
    assert "WRONG, analytic" in second
    right = gradcheck(np.square, 2.0, backward=lambda g, x: 2 * g * x)
    assert str(right).splitlines()[0] == "gradients are right; the worst element of each array:"


@pytest.mark.parametrize(
    ("function", "inputs", "backward", "kind", "message"),
    [
        (3, [1.0], None, TypeError, r"^function_or_module: got int, needs a Module or a function"),
        (nn.ReLU(), ([1.0], [1.0]), None, ValueError, r"^inputs: got 2 of them, needs the one input"),
        (np.sin, [1j], None, TypeError, r"^input 0: got dtype complex128"),
        (
            np.sin,
            [1.0],
            None,
            TypeError,
            r"^function_or_module: got ndarray, needs a number and its gradients",
        ),
        (np.float32, 1.0, lambda g, x: g, ValueError, r"^function_or_module: got results of dtype float32"),
        (
            np.sin,
            [1.0],
            lambda g, x: g[0],
            ValueError,
            r"^the gradient by input 0: got shape \(\), needs shape",
        ),
        (np.sin, [1.0], lambda g, x: (g, g), ValueError, r"^backward: got 2 gradients, needs at most 1"),
    ],
)
def test_bad_arguments_are_refused(function, inputs, backward, kind, message):
    with pytest.raises(kind, match=message):
        gradcheck(function, inputs, backward=backward)


def test_chance_is_refused(rng):
    with pytest.raises(ValueError, match=r"^function_or_module: got two different results, needs the same"):
        gradcheck(lambda x: x + rng.standard_normal(), [1.0], backward=lambda g, x: g)
    with pytest.raises(TypeError, match=r"^raise_exception: got 0, needs True or False"):
        gradcheck(np.sin, [1.0], backward=lambda g, x: g * np.cos(x), raise_exception=0)
    with pytest.raises(ValueError, match=r"^eps: got -1"):
        gradcheck(np.sin, [1.0], eps=-1)


def test_no_tolerance_at_all():
    exact = gradcheck(nn.ReLU(), [-1.0, 2.0], atol=0, rtol=0, eps=0.5)
    assert exact
    assert exact.worst.excess == 0
    assert "allowed 0" in str(exact)
    report = gradcheck(np.square, [0.0], backward=lambda g, x: g, atol=0, raise_exception=False)
    assert not report
    assert report.worst.allowed == 0
    assert report.worst.excess == np.inf
    assert gradcheck(nn.ReLU(), [-1.0, 2.0], atol=0)


@pytest.mark.parametrize("value", [1e12, -1e300, np.finfo(np.float64).max])
def test_a_step_that_changes_nothing_is_refused(value):
    def total(x):
        return float(x.sum()), np.ones_like(x)

    message = f"eps: got 1e-06, needs a step that changes input 0[1, 0], which is {value}"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        gradcheck(total, [[1.0, 1.0], [value, 1.0]])


def test_a_larger_step_for_larger_numbers():
    assert gradcheck(lambda x: (float(x.sum()), np.ones_like(x)), [[1.0, 1e12]], eps=1.0)


def test_a_step_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"^eps: got 0, needs a finite number above 0$"):
        gradcheck(np.sin, [1.0], backward=lambda g, x: g, eps=0)
