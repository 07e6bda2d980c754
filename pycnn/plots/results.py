"""Pictures of what a network says about images whose classes are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pycnn.ops.arrays import Array
from pycnn.plots._arguments import (
    checked_count,
    checked_images,
    checked_labels,
    checked_names,
    checked_probabilities,
    cut,
    refuse,
    shown,
)
from pycnn.plots._figure import WIDTH, bare, new_figure, sentence, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT = "#E8E8E8"  # the diagonal
LONGEST_NAME = 24  # letters beside a confusion matrix
LETTER = 0.085  # inches of its width
LINE = 14.0  # points of a tick's label and the gap to the next one
SMALLEST = 3.5  # points of a number in a cell; in the picture of 300 classes it is read enlarged


def confusion_matrix(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, class_names: Sequence[str] | None = None
) -> Figure:
    """How often each true class (row) was taken for each class (column), and the accuracy.

    labels, predictions: integers [n], as `trainer.predict(images)` gives. class_names: a name a
    class; by default 0, 1, 2 and so on. The colour counts mistakes: the diagonal stays grey, as its
    numbers, a hundred times larger, would hide all others. Zeros are left out. At the right the
    share of each row that is right. Of many classes every second, third ... one is named; counts
    that would be too small to read are left to the colour.

    Raises TypeError or ValueError for what are no labels, for no labels, and for too few names,
    ImportError without matplotlib.
    """
    who = "confusion_matrix"
    true = checked_labels(who, "labels", labels)
    said = checked_labels(who, "predictions", predictions, len(true))
    if not len(true):
        refuse(who, "labels", "empty", "at least one label", ValueError)
    K = int(max(true.max(), said.max())) + 1
    names = checked_names(who, class_names, K)
    K = len(names)
    counts = np.bincount(true * K + said, minlength=K * K).reshape(K, K)
    # Cells nearly square; many classes shrink, so that a picture of 800 pixels can still be read.
    height, width = 0.5 * min(K, 10) + 0.36 * max(K - 10, 0) + 1.2, max(WIDTH, 0.4 * K)
    height, width = min(max(3.5, height), 30), min(max(4.5, 0.62 * K + 2), width, 40)
    names = [cut(name, LONGEST_NAME) for name in names]
    longest = max(map(len, names))
    cell = 72 * (width - 2.6) / K, 72 * (height - 1.2) / K  # points, without titles and colours
    room = LETTER * max(longest - 5, 0)  # inches for long names, beside the cells and below
    figure = new_figure(who, height + room, width + room)
    axes = figure.subplots()
    _draw_counts(figure, axes, counts, cell)
    rights = counts.diagonal()
    total = counts.sum(axis=1)
    shares = [f"{100 * r / n:.1f} %" if n else "none" for r, n in zip(rights, total, strict=True)]
    accuracy = rights.sum() / len(true)
    axes.set_title(f"{rights.sum():,} of {len(true):,} right: accuracy {100 * accuracy:.2f} %")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    upright = longest > 5 or 7 * longest > cell[0]
    beside = range(0, K, math.ceil(LINE / cell[0]) if upright else 1)
    below = range(0, K, math.ceil(LINE / cell[1]))
    axes.set_xticks(beside, [names[i] for i in beside], rotation=90 if upright else 0)
    axes.set_yticks(below, [names[i] for i in below])
    at_right = axes.secondary_yaxis("right")
    at_right.set_yticks(below, [shares[i] for i in below])
    for side in (axes, at_right):
        side.tick_params(length=0)
        side.spines[:].set_visible(False)
    return figure


def _draw_counts(figure: Figure, axes: Axes, counts: Array, cell: tuple[float, float]) -> None:
    """The cells with their numbers; cell: their width and height in points."""
    K = len(counts)
    off = np.ma.masked_array(counts, np.eye(K, dtype=bool) | (counts == 0))
    most = max(int(off.max()) if off.count() else 1, 1)
    picture = axes.imshow(off, cmap="Blues", vmin=0, vmax=most, aspect="auto")
    letters = len(f"{counts.max():,}")
    size = min(9 if K <= 12 else 6.5, cell[1] / 1.1, cell[0] / (0.72 * letters))
    for row in range(K):
        for column in range(K):
            count = int(counts[row, column])
            if row == column:
                axes.fill_between([row - 0.5, row + 0.5], row - 0.5, row + 0.5, color=RIGHT, lw=0)
            if (count or row == column) and size >= SMALLEST:
                dark = row != column and count > 0.55 * most
                colour = "white" if dark else "black"
                number = axes.text(
                    column,
                    row,
                    f"{count:,}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=size,
                    weight="bold" if row == column else "normal",
                )
                number.set_in_layout(False)  # lies inside its cell
    # Lines between the cells; in a grid each would be a tick, and hundreds of ticks are slow.
    between, ends = np.arange(K + 1) - 0.5, (-0.5, K - 0.5)
    for lines in (axes.vlines, axes.hlines):
        lines(between, *ends, color="#CCCCCC", linewidth=0.5, zorder=1)
    bar = figure.colorbar(picture, ax=axes, fraction=0.03, label="mistakes")
    whole_ticks(bar.ax.yaxis)
    bar.outline.set_visible(False)


def worst(labels: Array, probabilities: Array) -> Array:
    """Indices of the images that were taken for another class, the surest one first."""
    said = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(said != labels)
    sure = probabilities[wrong, said[wrong]]
    return wrong[np.argsort(-sure, kind="stable")]


def mistakes(
    images: npt.NDArray[Any],
    labels: npt.ArrayLike,
    probabilities: npt.NDArray[Any],
    count: int = 12,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """The worst mistakes: images with the highest probability of a wrong class.

    images: [n, H, W, C], uint8 or float32 of 0 to 1. labels: integers [n]. probabilities: [n, K],
    as `trainer.predict_proba(images)` gives, from 0 to 1 with the sum 1: of logits
    `ops.softmax(logits)`. count: at most so many are shown, the worst first.
    Over each image its true class, what the network said and how sure it was; below, its index.

    Raises TypeError or ValueError for arrays that do not fit, for logits and NaN, ImportError
    without matplotlib.
    """
    who = "mistakes"
    images = checked_images(who, images)
    true = checked_labels(who, "labels", labels, len(images))
    probabilities = checked_probabilities(who, probabilities, len(images))
    count = checked_count(who, "count", count)
    classes = max(probabilities.shape[1], int(true.max()) + 1 if len(true) else 0)
    names = checked_names(who, class_names, classes)
    order = worst(true, probabilities)
    chosen = order[:count]
    if not len(chosen):
        figure = new_figure(who, 1.5)
        sentence(figure.subplots(), f"No mistake in {len(images):,} images.")
        return figure
    columns = min(6, count)
    rows = -(-len(chosen) // columns)
    titles = [_title(names[true[i]], names[probabilities[i].argmax()], columns) for i in chosen]
    lines = 1 + max(title.count("\n") for title in titles)
    figure = new_figure(who, (1.7 + 0.15 * lines) * rows + 0.5)
    figure.suptitle(
        f"The {len(chosen)} surest of {len(order):,} mistakes in {len(images):,} images"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(chosen) :]:
        axes.set_axis_off()
    for axes, i, title in zip(grid.flat, chosen, titles, strict=False):
        axes.imshow(shown(images[i]), cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(f"{title}\n{100 * probabilities[i].max():.1f} %", fontsize=10)
        axes.set_xlabel(f"image {i}", fontsize=8)
        bare(axes)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color("#CCCCCC")
    return figure


def _title(true: str, said: str, columns: int) -> str:
    """On one line, or on two where that is too long for one of so many columns."""
    room = 108 // columns  # letters
    if len(f"true {true}, said {said}") <= room:
        return f"true {true}, said {said}"
    names = [cut(name, room - 5) for name in (true, said)]
    return f"true {names[0]}\nsaid {names[1]}"
