"""Losses and their gradients against loops, numerical gradients and PyTorch."""

import math

import numpy as np
import pytest
import reference_layers as reference

import fastconv as fc

DTYPES = [np.float16, np.float32, np.float64]


def one_hot(target, classes, ignored=-100):
    result = np.zeros((len(target), classes))
    for sample, label in enumerate(target):
        if label != ignored:
            result[sample, label] = 1
    return result


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [1, 5])
def test_cross_entropy(samples, dtype, reduction, rng):
    logits = (3 * rng.standard_normal((samples, 4))).astype(dtype)
    target = rng.integers(0, 4, samples)
    divisor = samples if reduction == "mean" else 1

    def expected(logits):
        return reference.cross_entropy(logits, one_hot(target, 4)) / divisor

    loss, gradient = fc.cross_entropy(logits, target, reduction=reduction)
    assert type(loss) is float
    assert gradient.dtype == dtype
    tolerance = 8 * float(np.finfo(dtype).eps)
    assert loss == pytest.approx(expected(logits), rel=max(tolerance, 1e-6 if dtype != np.float64 else 0))
    numerical = reference.numerical_gradient(expected, logits)
    np.testing.assert_allclose(gradient, numerical, rtol=tolerance, atol=max(tolerance, 1e-9))


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_cross_entropy_with_weights_and_smoothing(kind, weighted, smoothing, rng):
    logits = rng.standard_normal((6, 4))
    weight = rng.random(4) + 0.1 if weighted else None
    probabilities = rng.random((6, 4))
    if kind == "classes":
        target = rng.integers(0, 4, 6)
        probabilities = one_hot(target, 4)
        divisor = 6 if weight is None else weight[target].sum()
    else:
        target = probabilities
        divisor = 6

    def expected(logits):
        return reference.cross_entropy(logits, probabilities, weight, smoothing)

    for reduction, by in (("sum", 1), ("mean", divisor)):
        loss, gradient = fc.cross_entropy(
            logits, target, weight, reduction=reduction, label_smoothing=smoothing
        )
        assert loss == pytest.approx(expected(logits) / by, rel=1e-13)
        numerical = reference.numerical_gradient(expected, logits) / by
        np.testing.assert_allclose(gradient, numerical, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("ignored", [-100, 2])
def test_ignored_samples_count_for_nothing(ignored, rng):
    logits = rng.standard_normal((5, 3))
    target = np.array([0, ignored, 1, ignored, 0])
    kept = target != ignored
    loss, gradient = fc.cross_entropy(logits, target, ignore_index=ignored)
    expected_loss, expected_gradient = fc.cross_entropy(logits[kept], target[kept])
    assert loss == pytest.approx(expected_loss, rel=1e-14)
    np.testing.assert_allclose(gradient[kept], expected_gradient, rtol=1e-14)
    np.testing.assert_array_equal(gradient[~kept], 0)


def cross_entropy(logits, target, weight, smoothing):
    """Summed loss, gradient, and the sum of the counting samples' weights; (N, C, L) in float64.

    Targets are (N, L) classes, negative ones ignored, or (N, C, L) probabilities.
    """
    x = logits.astype(np.float64)
    classes, by_class = x.shape[1], target.ndim == 2
    below = x - x.max(1, keepdims=True)
    log_probability = below - np.log(np.exp(below).sum(1, keepdims=True))
    counts = target[:, np.newaxis] >= 0 if by_class else np.ones_like(x[:, :1])
    if by_class:
        divisor = weight[target[target >= 0]].sum(dtype=np.float64)
        target = target[:, np.newaxis] == np.arange(classes)[:, np.newaxis]
    else:
        divisor = x.size / classes
    wanted = (
        ((1 - smoothing) * target + smoothing / classes) * weight[:, np.newaxis].astype(np.float64) * counts
    )
    gradient = np.exp(log_probability) * wanted.sum(1, keepdims=True) - wanted
    return -np.sum(wanted * log_probability), gradient, divisor


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_sizes_around_those_of_vectors(kind, smoothing, dtype, threads, monkeypatch, rng):
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    for n, shape in enumerate(
        [(2, classes, 1) for classes in (*range(1, 19), 33, 1031)]
        + [(3, 5, places) for places in (*range(2, 19), 33, 131)]
        + [(1, 37, 67), (2, 300, 5), (1031, 10, 1), (3, 2, 5003)]
    ):
        samples, classes, places = shape
        logits, weight = (
            (4 * rng.standard_normal(shape)).astype(dtype),
            rng.random(classes).astype(dtype) + dtype(0.1),
        )
        if kind == "classes":
            target = rng.integers(-1 if n % 2 else 0, classes, (samples, places))
        else:
            target = rng.random(shape).astype(dtype)
        total, gradient, divisor = cross_entropy(logits, target, weight, smoothing)
        given = (logits, target)
        if places == 1:  # classes are the last axis
            given = logits[..., 0], target[..., 0]
        for reduction, by in (("sum", 1), ("mean", divisor)):
            loss, slope = fc.cross_entropy(
                *given, weight, ignore_index=-1, reduction=reduction, label_smoothing=smoothing
            )
            bound = 16 * float(np.finfo(dtype).eps)
            assert slope.dtype == dtype
            if by:
                assert loss == pytest.approx(total / by, rel=bound)
                largest = np.abs(gradient).max() / by
                np.testing.assert_allclose(
                    slope.reshape(shape),
                    gradient / by,
                    rtol=bound,
                    atol=bound * max(largest, weight.max() / by),
                )


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 7)], ids=str)
def test_not_a_number(shape, dtype, rng):
    """It spoils its own sample and the loss, unless the sample counts for nothing."""
    logits = rng.standard_normal(shape).astype(dtype)
    target = rng.integers(0, 5, (3, *shape[2:]))
    logits[1, 2] = np.nan
    loss, gradient = fc.cross_entropy(logits, target)
    assert math.isnan(loss)
    assert np.isnan(gradient[1]).all()
    assert np.isfinite(gradient[[0, 2]]).all()
    target[1] = -100
    loss, gradient = fc.cross_entropy(logits, target)
    assert loss == fc.cross_entropy(np.nan_to_num(logits), target)[0]
    np.testing.assert_array_equal(gradient[1], 0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)], ids=str)
def test_infinite_logits(shape, dtype):
    """A class that cannot be is no loss where it isn't wanted, and an infinite one where it is."""
    logits = np.zeros(shape, dtype)
    logits[:, 0] = -np.inf
    loss, gradient = fc.cross_entropy(logits, np.ones((2, *shape[2:]), int))
    assert loss == pytest.approx(math.log(2), rel=1e-6)
    np.testing.assert_array_equal(gradient[:, 0], 0)
    assert fc.cross_entropy(logits, np.zeros((2, *shape[2:]), int))[0] == math.inf


def test_targets_at_the_ends_of_their_dtypes(rng):
    logits = rng.standard_normal((2, 3))
    with pytest.raises(
        ValueError, match=r"^target: got class 18446744073709551516, needs classes from 0 to 2"
    ):
        fc.cross_entropy(logits, np.array([0, 2**64 - 100], np.uint64))
    least = np.array([0, -(2**63)])
    with pytest.raises(ValueError, match=r"^target: got class -9223372036854775808"):
        fc.cross_entropy(logits, least, ignore_index=2**70)
    expected = fc.cross_entropy(logits[:1], [0])[0]
    assert fc.cross_entropy(logits, least, ignore_index=-(2**63))[0] == expected
    assert fc.cross_entropy(logits, np.array([0, 200], np.uint8), ignore_index=200)[0] == expected


def test_one_sample_and_many_places(rng):
    logits = rng.standard_normal((2, 4, 3, 5))
    target = rng.integers(0, 4, (2, 3, 5))
    flat = np.moveaxis(logits, 1, -1).reshape(-1, 4)
    loss, gradient = fc.cross_entropy(logits, target)
    flat_loss, flat_gradient = fc.cross_entropy(flat, target.ravel())
    assert loss == pytest.approx(flat_loss, rel=1e-14)
    assert gradient.flags.c_contiguous
    np.testing.assert_allclose(np.moveaxis(gradient, 1, -1).reshape(-1, 4), flat_gradient, rtol=1e-14)
    single_loss, single_gradient = fc.cross_entropy(flat[0], target.ravel()[0])
    assert single_loss == pytest.approx(fc.cross_entropy(flat[:1], target.ravel()[:1])[0])
    assert single_gradient.shape == (4,)


def test_cross_entropy_of_nothing():
    for target in (np.zeros(0, int), np.zeros((0, 3))):
        loss, gradient = fc.cross_entropy(np.zeros((0, 3)), target)
        assert math.isnan(loss)
        assert gradient.shape == (0, 3)
        assert fc.cross_entropy(np.zeros((0, 3)), target, reduction="sum")[0] == 0
    loss, gradient = fc.cross_entropy(np.zeros((2, 3)), [-100, -100])
    assert math.isnan(loss)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_that_sum_to_nothing(dtype, smoothing):
    """The mean divides by 0: not a number, as in PyTorch, but for the samples that are ignored."""
    logits = np.array([[0, 1, 2], [1, 1, 1]], dtype)
    for weight in ([0.0, 1.0, 1.0], [0.0, 0.0, 0.0]):
        arguments = {"weight": np.array(weight, dtype), "label_smoothing": smoothing}
        loss, gradient = fc.cross_entropy(logits, [0, -100], **arguments)
        assert math.isnan(loss)
        np.testing.assert_array_equal(gradient, [[math.nan] * 3, [0, 0, 0]])
        summed, gradient = fc.cross_entropy(logits, [0, -100], reduction="sum", **arguments)
        assert math.isfinite(summed)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("raising", [False, True])
def test_weights_that_are_not_finite_say_nothing(raising):
    with np.errstate(all="raise" if raising else "warn"):
        loss, gradient = fc.cross_entropy([[0.0, 1.0, 2.0]], [0], [np.inf, -np.inf, 1.0])
    assert math.isnan(loss)
    assert np.isnan(gradient).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits(dtype):
    loss, gradient = fc.cross_entropy(np.array([[1e4, 0.0], [-1e4, 0.0]], dtype), [1, 1])
    assert loss == 5000
    np.testing.assert_array_equal(gradient, [[0.5, -0.5], [0, 0]])


def test_any_memory(memory_order, rng):
    given = [memory_order(array) for array in rng.standard_normal((2, 4, 5)).astype(np.float32)]
    logits, probabilities = given
    plain_logits, plain_probabilities = (reference.plain(array) for array in given)
    classes = memory_order(rng.integers(0, 5, 4))
    for loss, arguments, plain_arguments in (
        (fc.cross_entropy, (logits, classes), (plain_logits, reference.plain(classes))),
        (fc.cross_entropy, (logits, probabilities), (plain_logits, plain_probabilities)),
        (fc.mse_loss, (logits, probabilities), (plain_logits, plain_probabilities)),
    ):
        value, gradient = loss(*arguments)
        expected_value, expected_gradient = loss(*plain_arguments)
        assert value == expected_value
        np.testing.assert_array_equal(gradient, expected_gradient)


def test_any_integers(rng):
    logits = rng.standard_normal((4, 5)).astype(np.float32)
    target = rng.integers(0, 5, 4)
    loss, _ = fc.cross_entropy(logits, target)
    for dtype in (np.uint8, np.int8, np.uint64, ">i4"):
        assert fc.cross_entropy(logits, target.astype(dtype))[0] == loss
    assert fc.cross_entropy(logits, target.tolist())[0] == loss


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"target": [0, 3]}, ValueError, "^target: got class 3, needs classes from 0 to 2, or ignore_index"),
        ({"target": [-1, 0]}, ValueError, "^target: got class -1, needs classes from 0 to 2"),
        ({"target": [0]}, ValueError, r"^target: got shape \(1,\), needs shape \(2,\), that of logits"),
        ({"target": [0.0, 1.0]}, ValueError, r"^target: got float64 of shape \(2,\), needs the shape of"),
        ({"target": [True, False]}, TypeError, "^target: got dtype bool, needs integers"),
        ({"target": ["a", "b"]}, TypeError, "^target: got dtype <U1, needs real numbers"),
        ({"logits": np.zeros((2, 0))}, ValueError, r"^logits: got shape \(2, 0\), needs .* one class"),
        ({"logits": 1.0}, ValueError, r"^logits: got shape \(\), needs"),
        ({"weight": [1.0, 2.0]}, ValueError, r"^weight: got shape \(2,\), needs shape \(3,\)"),
        ({"reduction": "none"}, ValueError, "^reduction: got 'none', needs 'mean' or 'sum'"),
        ({"label_smoothing": 2}, ValueError, "^label_smoothing: got 2, needs a finite number of at least 0"),
        ({"ignore_index": None}, TypeError, "^ignore_index: got None, needs an integer"),
    ],
)
def test_bad_cross_entropy_arguments_are_refused(change, kind, message):
    with pytest.raises(kind, match=message):
        fc.cross_entropy(**({"logits": np.zeros((2, 3)), "target": [0, 1]} | change))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_cross_entropy_agrees_with_pytorch(kind, weighted, smoothing, reduction, rng):
    torch = pytest.importorskip("torch")
    logits = rng.standard_normal((3, 4, 2))
    weight = rng.random(4) if weighted else None
    if kind == "classes":
        target = rng.integers(0, 4, (3, 2))
        target[0, 0] = -100
    else:
        target = fc.softmax(rng.standard_normal((3, 4, 2)), 1)
    logits_torch = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        logits_torch,
        torch.tensor(target),
        None if weight is None else torch.tensor(weight),
        reduction=reduction,
        label_smoothing=smoothing,
    )
    expected.backward()
    loss, gradient = fc.cross_entropy(logits, target, weight, reduction=reduction, label_smoothing=smoothing)
    assert loss == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(gradient, logits_torch.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4)], ids=str)
def test_mse_loss(shape, dtype, reduction, rng):
    prediction, target = rng.standard_normal((2, *shape)).astype(dtype)
    difference = prediction.astype(np.float64) - target.astype(np.float64)
    divisor = difference.size if reduction == "mean" else 1
    loss, gradient = fc.mse_loss(prediction, target, reduction=reduction)
    assert type(loss) is float
    assert gradient.dtype == dtype
    assert gradient.shape == shape
    tolerance = 4 * float(np.finfo(dtype).eps)
    expected = math.fsum(d * d for d in difference.ravel().tolist()) / divisor
    assert loss == pytest.approx(expected, rel=max(tolerance, 1e-15))
    np.testing.assert_allclose(gradient, 2 * difference / divisor, rtol=tolerance)


def test_mse_loss_of_sizes_around_those_of_vectors(dtype, threads, monkeypatch, rng):
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    for size in (*range(1, 67), 1031, 40_009):
        prediction, target = rng.standard_normal((2, size)).astype(dtype)
        difference = prediction.astype(np.float64) - target
        loss, gradient = fc.mse_loss(prediction, target)
        bound = 4 * float(np.finfo(dtype).eps)
        assert loss == pytest.approx(math.fsum(difference**2) / size, rel=bound)
        np.testing.assert_allclose(
            gradient, 2 * difference / size, rtol=bound, atol=bound * np.abs(target).max() / size
        )


def test_mse_loss_of_halves_converts_blocks(threads, monkeypatch, rng):
    monkeypatch.setattr("fastconv._threads.WORTH_A_THREAD", 0)
    for size in (1, 2047, 2048, 2049, 16_384, 40_009):
        prediction, target = rng.standard_normal((2, size)).astype(np.float16)
        difference = prediction.astype(np.float64) - target
        loss, gradient = fc.mse_loss(prediction, target, reduction="sum")
        assert loss == pytest.approx(math.fsum(difference**2), rel=1e-6)
        assert gradient.dtype == np.float16
        np.testing.assert_array_equal(gradient, (2 * difference).astype(np.float16))


def test_mse_loss_at_the_edges(rng):
    loss, gradient = fc.mse_loss(np.zeros((0, 3)), np.zeros((0, 3)))
    assert math.isnan(loss)
    assert gradient.shape == (0, 3)
    assert fc.mse_loss(np.zeros((0, 3)), np.zeros((0, 3)), reduction="sum")[0] == 0
    with pytest.raises(ValueError, match=r"^target: got shape \(3,\), needs shape \(2, 3\), that of pred"):
        fc.mse_loss(np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(TypeError, match=r"^prediction: got dtype complex128"):
        fc.mse_loss([1j], [1.0])
    with pytest.raises(ValueError, match=r"^reduction: got 'none'"):
        fc.mse_loss([1.0], [1.0], reduction="none")
    prediction, target = rng.standard_normal((2, 3, 4)).astype(np.float32)
    assert fc.mse_loss(prediction, target.astype(np.float64))[1].dtype == np.float64
