"""Pictures of networks: filters, feature maps, learning curves, mistakes. Needs matplotlib.

Every function returns a `matplotlib.figure.Figure`, which a notebook shows and ``figure.savefig(path)``
writes; pyplot and its global state are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _checks
from fastconv.nn.module import Module, evaluating

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastconv.train import History

__all__ = [
    "confusion_matrix",
    "feature_maps",
    "filters",
    "images",
    "learning_curves",
    "numbers",
    "receptive_field",
]


Several: TypeAlias = Sequence[Any] | NDArray[Any]


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ModuleNotFoundError(
            "fastconv.plot needs matplotlib: pip install matplotlib", name="matplotlib"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def _grid(
    count: int, columns: int | None, cell: float, title: str, extra: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes without ticks, `cell` inches each, in rows of `columns`."""
    columns = math.ceil(math.sqrt(count * 2)) if columns is None else columns
    columns = min(count, _checks.integer("columns", columns, 1))
    rows = -(-count // columns)
    figure = _figure(max(3.0, columns * cell), rows * (cell + extra) + 0.45 * bool(title))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    if title:
        figure.suptitle(title)
    return figure, list(grid[:count])


def _not_empty(name: str, array: NDArray[Any]) -> None:
    if not array.size:
        raise _checks.argument_error(name, f"shape {array.shape}", "at least one element")


def images(
    pictures: ArrayLike,
    titles: Several = (),
    *,
    title: str = "",
    columns: int | None = None,
    size: float = 1.05,
) -> Figure:
    """Grey or colour pictures side by side.

    Parameters
    ----------
    pictures : array_like, (N, H, W), (N, 1, H, W) or (N, 3, H, W)
        Each is drawn from its smallest value, black, to its largest, white.
    titles : sequence of str
        What to write above each; as many as there are pictures, or none.
    title : str
        What to write above all.
    columns : int, optional
        How many a row.
    size : float
        The side of each, in inches.

    Raises
    ------
    ValueError, TypeError
        These are no pictures, or not one title for each.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import plot
    >>> figure = plot.images(np.zeros((3, 8, 8)), ["a", "b", "c"])
    >>> [axes.get_title() for axes in figure.axes]
    ['a', 'b', 'c']
    """
    array = _checks.as_array("pictures", pictures)
    _checks.axes("pictures", array, "N, H, W", "N, C, H, W")
    if array.ndim == 4 and array.shape[1] not in (1, 3):
        raise _checks.argument_error("pictures", f"{array.shape[1]} channels", "1 or 3")
    _not_empty("pictures", array)
    titles = list(titles)
    if titles and len(titles) != len(array):
        raise _checks.argument_error("titles", f"{len(titles)} of them", f"none or {len(array)}")
    figure, grid = _grid(len(array), columns, size, title, extra=0.2 * bool(titles))
    for i, axes in enumerate(grid):
        axes.imshow(_drawable(array[i]), cmap="gray", interpolation="nearest")
        if titles:
            axes.set_title(titles[i], fontsize=8, pad=2)
    return figure


def _drawable(picture: NDArray[Any]) -> NDArray[np.float64]:
    """(H, W) or (H, W, 3) from 0 to 1."""
    if picture.ndim == 3:
        picture = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
    picture = picture.astype(float)
    low, high = float(picture.min()), float(picture.max())
    scaled: NDArray[np.float64] = (picture - low) / ((high - low) or 1.0)
    return scaled


def numbers(
    arrays: Sequence[ArrayLike], *, marks: Several = (), signs: Several = (), title: str = ""
) -> Figure:
    """Small arrays as tables of their numbers, side by side, as on a blackboard.

    Parameters
    ----------
    arrays : sequence of array_like, (H, W) each
    marks : sequence of index or None
        Which cells of each array to mark, such as ``np.s_[0:2, 1:3]``; as many as there are arrays, or none.
    signs : sequence of str
        What to write between the arrays, such as ``("*", "=")``; one fewer than there are arrays, or none.
    title : str
        What to write above all.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import plot
    >>> figure = plot.numbers([np.eye(2), np.ones((2, 2))], signs=["+"])
    """
    tables = [_checks.as_array("arrays", array) for array in arrays]
    for table in tables:
        _checks.axes("arrays", table, "H, W")
    if not tables:
        raise _checks.argument_error("arrays", "none", "at least one")
    marks, signs = list(marks), list(signs)
    if marks and len(marks) != len(tables):
        raise _checks.argument_error("marks", f"{len(marks)} of them", f"none or {len(tables)}")
    if signs and len(signs) != len(tables) - 1:
        raise _checks.argument_error("signs", f"{len(signs)} of them", f"none or {len(tables) - 1}")
    height, width = max(len(table) for table in tables), sum(table.shape[1] for table in tables)
    width += len(tables) - 1
    figure = _figure(0.45 * width + 0.1, 0.45 * height + 0.1 + 0.4 * bool(title))
    axes = figure.subplots()
    axes.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1), aspect="equal")
    axes.set_axis_off()
    if title:
        figure.suptitle(title)
    left = 0
    for i, table in enumerate(tables):
        marked = np.zeros(table.shape, bool)
        if marks and marks[i] is not None:
            marked[marks[i]] = True
        _draw_table(axes, table, marked, left, (height - len(table)) / 2)
        left += table.shape[1] + 1
        if i < len(signs):
            axes.text(left - 0.5, height / 2, signs[i], ha="center", va="center", fontsize=14)
    return figure


def _draw_table(axes: Axes, table: NDArray[Any], marked: NDArray[np.bool_], left: float, top: float) -> None:
    """Cells of side 1 below and to the right of (left, top); marked ones are orange."""
    rows, columns = table.shape
    x, y = left + np.arange(columns + 1), top + np.arange(rows + 1)
    colours = np.where(marked[..., None], (1.0, 0.8, 0.5), (1.0, 1.0, 1.0))
    axes.pcolormesh(x, y, colours, edgecolors="0.5", linewidth=0.8)
    for (row, column), value in np.ndenumerate(table):
        axes.text(left + column + 0.5, top + row + 0.5, f"{value:.4g}", ha="center", va="center", fontsize=9)


def filters(weight: ArrayLike, *, title: str = "Filters") -> Figure:
    """The filters of a convolution; red adds to what is there, blue takes away, white ignores.

    Parameters
    ----------
    weight : array_like, (K, C, R, S)
        With one or three channels a picture each; with more, the mean over the channels.

    Raises
    ------
    ValueError, TypeError
        The weight has another number of axes, no elements, or is of no real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import plot
    >>> figure = plot.filters(np.ones((4, 1, 3, 3)))
    >>> figure.get_suptitle()
    'Filters'
    """
    array = _checks.as_array("weight", weight).astype(float)
    _checks.axes("weight", array, "K, C, R, S")
    _not_empty("weight", array)
    most = float(np.abs(array).max(initial=0.0)) or 1.0
    figure, grid = _grid(len(array), None, 0.95, title)
    drawn: Any = None
    for axes, kernel in zip(grid, array, strict=True):
        if len(kernel) == 3:
            axes.imshow(np.moveaxis(kernel, 0, -1) / (2 * most) + 0.5, interpolation="nearest")
        else:
            drawn = axes.imshow(kernel.mean(0), cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    if drawn is not None:
        figure.colorbar(drawn, ax=grid, shrink=0.8)
    return figure


def feature_maps(maps: ArrayLike, image: ArrayLike | None = None, *, title: str = "Feature maps") -> Figure:
    """The channels of a layer's output for one image, each from its smallest value to its largest.

    Parameters
    ----------
    maps : array_like, (C, H, W)
    image : array_like, (H, W), (1, H, W) or (3, H, W), optional
        What they were made of, drawn first.

    Raises
    ------
    ValueError, TypeError
        The maps have another number of axes, no elements, or are of no real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import plot
    >>> figure = plot.feature_maps(np.zeros((4, 8, 8)))
    >>> figure.get_suptitle()
    'Feature maps'
    """
    array = _checks.as_array("maps", maps)
    _checks.axes("maps", array, "C, H, W")
    _not_empty("maps", array)
    before = [] if image is None else [_checks.as_array("image", image)]
    figure, grid = _grid(len(array) + len(before), None, 0.95, title, extra=0.15)
    for axes, picture in zip(grid, before, strict=False):
        axes.imshow(_drawable(picture), cmap="gray", interpolation="nearest")
        axes.set_title("image", fontsize=8, pad=2)
    for channel, axes in enumerate(grid[len(before) :]):
        axes.imshow(array[channel], cmap="viridis", interpolation="nearest")
        axes.set_title(str(channel), fontsize=8, pad=2)
    return figure


def learning_curves(history: History, *, title: str = "Learning curves") -> Figure:
    """Loss and, where targets were classes, error rate over the epochs of a `fastconv.train.fit`.

    Epochs without validation data have no point on the held-out curves.

    Examples
    --------
    >>> from fastconv import plot, train
    >>> figure = plot.learning_curves(train.History(loss=[2.0, 1.0], learning_rate=[0.1, 0.1]))
    >>> figure.get_suptitle()
    'Learning curves'
    """
    with_error = not np.all(np.isnan(history.accuracy or [np.nan]))
    figure = _figure(9.0 if with_error else 5.0, 3.6)
    figure.suptitle(title)
    panels = [("loss", history.loss, history.validation_loss)]
    if with_error:
        error = [100 * (1 - a) for a in history.accuracy]
        panels.append(("errors in %", error, [100 * (1 - a) for a in history.validation_accuracy]))
    grid = figure.subplots(1, len(panels), squeeze=False).ravel()
    for axes, (label, trained, validated) in zip(grid, panels, strict=True):
        axes.plot(range(1, len(trained) + 1), trained, "o-", markersize=3, label="training")
        if validated:
            axes.plot(range(1, len(validated) + 1), validated, "s-", markersize=3, label="held out")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if min((value for value in (*trained, *validated) if not math.isnan(value)), default=0) > 0:
            axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    return figure


def confusion_matrix(
    target: ArrayLike,
    predicted: ArrayLike,
    names: Several | None = None,
    *,
    title: str = "Confusion matrix",
) -> Figure:
    """How often each class was taken for which: a row for each true class, a column for each predicted one.

    Parameters
    ----------
    target, predicted : array_like of integers, (N,)
    names : sequence of str, optional
        Of all classes; their numbers by default.

    Raises
    ------
    ValueError
        There are no elements, or not as many of one as of the other; or one is no class: it is negative, or
        has no name.
    TypeError
        The classes are no integers.

    Examples
    --------
    >>> from fastconv import plot
    >>> figure = plot.confusion_matrix([0, 0, 1], [0, 1, 1])
    >>> figure.axes[0].get_title()
    'Confusion matrix: 2 of 3 right (66.67%)'
    """
    true, guess = _checks.as_array("target", target), _checks.as_array("predicted", predicted)
    _checks.axes("target", true, "N")
    _checks.shape("predicted", guess, true.shape, "that of target")
    _not_empty("target", true)
    labels = None if names is None else list(names)
    if labels == []:
        raise _checks.argument_error("names", "none", "at least one")
    for name, given in (("target", true), ("predicted", guess)):
        _check_classes(name, given, labels)
    if labels is None:
        labels = [str(k) for k in range(int(max(true.max(), guess.max())) + 1)]
    classes = len(labels)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (true.astype(np.intp), guess.astype(np.intp)), 1)
    figure = _figure(1.6 + 0.45 * classes, 1.6 + 0.42 * classes)
    axes = figure.subplots()
    # Colour by the logarithm: a few mistakes must be seen beside hundreds of hits.
    axes.imshow(np.log1p(counts), cmap="Blues")
    ticks = range(classes)
    axes.set_xticks(ticks, labels, rotation=0 if names is None else 45)
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    dark = np.log1p(counts).max() * 0.6
    for (i, j), count in np.ndenumerate(counts):
        if count:
            colour = "white" if np.log1p(count) > dark else "black"
            axes.text(j, i, str(count), ha="center", va="center", fontsize=8, color=colour)
    right = counts.trace()
    axes.set_title(f"{title}: {right} of {len(true)} right ({right / len(true):.2%})", fontsize=10)
    return figure


def _check_classes(name: str, given: NDArray[Any], labels: list[Any] | None) -> None:
    if given.dtype.kind not in "iu":
        raise _checks.argument_error(name, f"dtype {given.dtype}", "integers (classes)", TypeError)
    wrong = given < 0 if labels is None else (given < 0) | (given >= len(labels))
    if wrong.any():
        needs = "classes from 0 " + ("on" if labels is None else f"to {len(labels) - 1}, as names has them")
        raise _checks.argument_error(name, f"class {given[wrong][0]}", needs)


def receptive_field(
    model: Module, image: ArrayLike, position: tuple[int, ...], *, title: str = "Receptive field"
) -> Figure:
    """Which pixels of `image` an element of the output depends on, and how strongly.

    Drawn is the absolute derivative of that element by each pixel, summed over channels.

    Parameters
    ----------
    model : Module
        Run once forward and backward in `eval()` mode; its gradients and the mode of each layer are
        restored.
    image : array_like, (C, H, W)
        With one channel or three.
    position : tuple of int
        Index of the element in the model's output for one image, such as (channel, row, column).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn, plot
    >>> layer = nn.Conv2d(1, 2, 3, padding=1, rng=np.random.default_rng(0))
    >>> figure = plot.receptive_field(layer, np.ones((1, 8, 8)), (0, 4, 4))
    >>> figure.get_suptitle()
    'Receptive field of output (0, 4, 4)'
    """
    array = _checks.float_array("image", image)
    _checks.axes("image", array, "C, H, W")
    _not_empty("image", array)
    strength = _sensitivity(model, array, position)
    figure = _figure(7.0, 3.6)
    figure.suptitle(f"{title} of output {position}")
    left, right = figure.subplots(1, 2)
    left.imshow(_drawable(array[:1] if len(array) != 3 else array), cmap="gray", interpolation="nearest")
    drawn = right.imshow(strength, cmap="inferno", interpolation="nearest")
    rows, columns = (np.flatnonzero(strength.any(axis)) for axis in (1, 0))
    if rows.size:
        corner = (columns[0] - 0.5, rows[0] - 0.5)
        size = (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        from matplotlib.patches import Rectangle

        left.add_patch(Rectangle(corner, *size, fill=False, edgecolor="red", linewidth=1.5))
        left.set_title(f"{size[1]} x {size[0]} pixels", fontsize=9)
    figure.colorbar(drawn, ax=right, shrink=0.8)
    return figure


def _sensitivity(model: Module, image: NDArray[Any], position: tuple[int, ...]) -> NDArray[Any]:
    """|d output[position] / d pixel|, summed over channels: (H, W)."""
    gradients = [(parameter, np.array(parameter.grad)) for parameter in model.parameters()]
    try:
        with evaluating(model):
            output = model(image[None])
            seed = np.zeros_like(output)
            try:
                seed[(0, *position)] = 1
            except (IndexError, TypeError):
                needs = f"an index into shape {output.shape[1:]}"
                raise _checks.argument_error("position", position, needs) from None
            result: NDArray[Any] = np.abs(model.backward(seed)[0]).sum(0)
            return result
    finally:
        for parameter, gradient in gradients:
            parameter.grad[...] = gradient
