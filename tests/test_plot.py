"""fastconv.plot: what is drawn, read back from the figures."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv import nn, plot
from fastconv.train import History

pytest.importorskip("matplotlib")


def drawn(figure: Any) -> list[Any]:
    """The pictures in a figure, as arrays."""
    return [image.get_array() for axes in figure.axes for image in axes.get_images()]


def test_images(rng: np.random.Generator, tmp_path: Path) -> None:
    pictures = rng.integers(0, 256, (5, 6, 7), np.uint8)
    figure = plot.images(pictures, [f"no {i}" for i in range(5)], title="five")
    shown = drawn(figure)
    assert len(shown) == 5
    for picture, image in zip(pictures.astype(float), shown, strict=True):
        np.testing.assert_allclose(image, (picture - picture.min()) / (picture.max() - picture.min()))
    assert [axes.get_title() for axes in figure.axes[:5]] == [f"no {i}" for i in range(5)]
    figure.savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_images_of_one_value_and_in_colour() -> None:
    np.testing.assert_array_equal(drawn(plot.images(np.full((1, 2, 2), 7)))[0], np.zeros((2, 2)))
    assert drawn(plot.images(np.arange(12.0).reshape(1, 3, 2, 2)))[0].shape == (2, 2, 3)


def test_numbers() -> None:
    image, kernel = np.arange(6).reshape(2, 3), np.array([[-0.5], [1234.25]])
    figure = plot.numbers([image, kernel], marks=[np.s_[0, 1:], None], signs=["*"], title="a sum")
    (axes,) = figure.axes
    written = [text.get_text() for text in axes.texts]
    assert written == ["0", "1", "2", "3", "4", "5", "*", "-0.5", "1234"]
    white, orange = (1, 1, 1), (1, 0.8, 0.5)
    first, second = (mesh.get_array() for mesh in axes.collections)
    np.testing.assert_array_equal(first, [[white, orange, orange], [white, white, white]])
    np.testing.assert_array_equal(second, [[white], [white]])


def test_titles_marks_and_signs_may_be_arrays() -> None:
    figure = plot.images(np.ones((2, 3, 3)), np.array([7, 1]))
    assert [axes.get_title() for axes in figure.axes] == ["7", "1"]
    marks = np.array([[[True, False]], [[False, False]]])
    (axes,) = plot.numbers(np.ones((2, 1, 2)), marks=marks, signs=np.array(["+"])).axes
    assert [text.get_text() for text in axes.texts] == ["1", "1", "+", "1", "1"]
    np.testing.assert_array_equal(axes.collections[0].get_array(), [[(1, 0.8, 0.5), (1, 1, 1)]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "arrays: got none"),
        (([np.zeros(3)],), "arrays"),
        (([np.zeros((2, 2))], [None, None]), "marks: got 2 of them, needs none or 1"),
        (([np.zeros((2, 2))], [], ["+"]), "signs: got 1 of them, needs none or 0"),
    ],
)
def test_numbers_that_do_not_fit(arguments: tuple[Any, ...], message: str) -> None:
    arrays, marks, signs = (*arguments, (), ())[:3]
    with pytest.raises(ValueError, match=message):
        plot.numbers(arrays, marks=marks, signs=signs)


def test_filters(rng: np.random.Generator) -> None:
    weight = rng.normal(size=(6, 1, 5, 5))
    figure = plot.filters(weight)
    for kernel, image in zip(weight[:, 0], drawn(figure)[:6], strict=True):
        np.testing.assert_array_equal(image, kernel)
    image = figure.axes[0].get_images()[0]
    assert image.norm.vmax == -image.norm.vmin == np.abs(weight).max()
    colour = drawn(plot.filters(rng.normal(size=(2, 3, 5, 5))))[0]
    assert colour.shape == (5, 5, 3)
    assert 0 <= colour.min() <= colour.max() <= 1
    many = rng.normal(size=(2, 4, 3, 3))
    np.testing.assert_allclose(drawn(plot.filters(many))[1], many[1].mean(0))


def test_feature_maps(rng: np.random.Generator) -> None:
    maps = rng.normal(size=(3, 4, 5))
    shown = drawn(plot.feature_maps(maps, rng.normal(size=(1, 8, 8))))
    assert shown[0].shape == (8, 8)
    for given, image in zip(maps, shown[1:], strict=True):
        np.testing.assert_array_equal(image, given)
    assert len(drawn(plot.feature_maps(maps))) == 3


def test_learning_curves() -> None:
    history = History(
        loss=[2.0, 1.0], accuracy=[0.5, 0.75], validation_loss=[1.5, 1.2], validation_accuracy=[0.6, 0.9]
    )
    loss, errors = plot.learning_curves(history).axes
    np.testing.assert_array_equal(loss.lines[0].get_xydata(), [[1, 2.0], [2, 1.0]])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [1.5, 1.2])
    np.testing.assert_allclose(errors.lines[0].get_ydata(), [50, 25])
    np.testing.assert_allclose(errors.lines[1].get_ydata(), [40, 10])
    history.validation_loss[0] = np.nan  # an epoch without validation data
    loss, _ = plot.learning_curves(history).axes
    np.testing.assert_array_equal(loss.lines[1].get_xydata(), [[1, np.nan], [2, 1.2]])
    assert loss.get_yscale() == "log"
    del history.validation_loss[1:], history.validation_accuracy[1:]  # as older checkpoints have it
    loss, errors = plot.learning_curves(history).axes
    np.testing.assert_array_equal(loss.lines[1].get_xydata(), [[1, np.nan]])
    np.testing.assert_allclose(errors.lines[1].get_xydata(), [[1, 40]])
    assert loss.get_yscale() == "log"
    (loss,) = plot.learning_curves(History(loss=[1.0, 0.0], validation_loss=[np.nan, 1.0])).axes
    assert loss.get_yscale() == "linear"
    (only,) = plot.learning_curves(History(loss=[1.0], accuracy=[np.nan])).axes
    assert len(only.lines) == 1


def test_confusion_matrix() -> None:
    figure = plot.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 0], ["a", "b", "c"])
    counts = np.expm1(drawn(figure)[0])
    np.testing.assert_allclose(counts, [[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    assert "2 of 4 right (50.00%)" in figure.axes[0].get_title()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a", "b", "c"]


def test_names_may_be_an_array() -> None:
    figure = plot.confusion_matrix(
        np.array([0, 2], np.uint64), np.array([0, 1], np.int8), np.array(["a", "b", "c"])
    )
    np.testing.assert_allclose(np.expm1(drawn(figure)[0]), [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("target", "predicted", "names", "kind", "message"),
    [
        ([0, -1], [0, 0], None, ValueError, "target: got class -1, needs classes from 0 on"),
        ([0, 1], [0, -2], None, ValueError, "predicted: got class -2, needs classes from 0 on"),
        ([0, -1], [0, 0], ["a"], ValueError, "target: got class -1, needs classes from 0 to 0, as names has"),
        (
            [0, 0],
            [0, 3],
            ["a", "b"],
            ValueError,
            "predicted: got class 3, needs classes from 0 to 1, as names",
        ),
        ([], [], None, ValueError, r"target: got shape \(0,\), needs at least one element"),
        ([0], [0], [], ValueError, "names: got none, needs at least one"),
        ([0.0, 1.0], [0, 1], None, TypeError, r"target: got dtype float64, needs integers \(classes\)"),
        ([0, 1], [0.0, 1.0], None, TypeError, r"predicted: got dtype float64, needs integers \(classes\)"),
        ([False, True], [0, 1], None, TypeError, r"target: got dtype bool, needs integers \(classes\)"),
    ],
)
def test_classes_that_are_none_are_refused(
    target: Any, predicted: Any, names: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match="^" + message):
        plot.confusion_matrix(target, predicted, names)


def test_receptive_field(rng: np.random.Generator) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, dtype=np.float64, rng=rng), nn.Conv2d(2, 1, 3, stride=2, dtype=np.float64, rng=rng)
    )
    for parameter in model.parameters():
        parameter.grad[...] = 7
    model[1].eval()
    figure = plot.receptive_field(model, rng.normal(size=(1, 11, 11)), (0, 1, 2))
    strength = drawn(figure)[1]
    # Output row 1, column 2 of the second begins at row 2, column 4, is 3 wide, 5 in the image.
    expected = np.zeros((11, 11), bool)
    expected[2:7, 4:9] = True
    np.testing.assert_array_equal(strength > 0, expected)
    assert "5 x 5" in figure.axes[0].get_title()
    assert [module.training for module in model.modules()] == [True, True, False]
    for parameter in model.parameters():
        np.testing.assert_array_equal(parameter.grad, 7)
    with pytest.raises(ValueError, match=r"position: got \(0, 9, 9\), needs an index into shape \(1, 4, 4\)"):
        plot.receptive_field(model, np.ones((1, 11, 11)), (0, 9, 9))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.images(np.ones((2, 3))), "pictures: got shape"),
        (lambda: plot.images(np.ones((2, 2, 3, 3))), "pictures: got 2 channels"),
        (
            lambda: plot.images(np.ones((0, 3, 3))),
            r"pictures: got shape \(0, 3, 3\), needs at least one element",
        ),
        (
            lambda: plot.images(np.ones((1, 0, 3))),
            r"pictures: got shape \(1, 0, 3\), needs at least one element",
        ),
        (
            lambda: plot.images(np.ones((1, 3, 3)), columns=0),
            "columns: got 0, needs an integer of at least 1",
        ),
        (
            lambda: plot.images(np.ones((1, 3, 3)), columns=-1),
            "columns: got -1, needs an integer of at least 1",
        ),
        (lambda: plot.filters(np.ones((0, 1, 3, 3))), r"weight: got shape .*, needs at least one element"),
        (lambda: plot.filters(np.ones((1, 0, 3, 3))), r"weight: got shape .*, needs at least one element"),
        (lambda: plot.feature_maps(np.ones((0, 4, 4))), r"maps: got shape .*, needs at least one element"),
        (lambda: plot.feature_maps(np.ones((1, 4, 0))), r"maps: got shape .*, needs at least one element"),
        (lambda: plot.images(np.ones((2, 3, 3)), ["a"]), "titles: got 1"),
        (lambda: plot.filters(np.ones((2, 3, 3))), "weight: got shape"),
        (lambda: plot.feature_maps(np.ones((3, 3))), "maps: got shape"),
        (lambda: plot.confusion_matrix([0, 1], [0]), "predicted: got shape"),
    ],
)
def test_plots_refuse(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_columns_must_be_an_integer() -> None:
    half: Any = 1.5
    with pytest.raises(TypeError, match=r"^columns: got 1\.5, needs an integer of at least 1"):
        plot.images(np.ones((3, 3, 3)), columns=half)
    with pytest.raises(TypeError, match=r"^columns: got True"):
        plot.images(np.ones((3, 3, 3)), columns=True)


def test_matplotlib_comes_on_first_use() -> None:
    code = "import sys; from fastconv import plot, train; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        plot.filters(np.ones((1, 1, 2, 2)))
