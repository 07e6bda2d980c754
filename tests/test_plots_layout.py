"""Every text and every axes of every picture lies inside it, with a rim around."""

import functools
import inspect

import numpy as np
import pytest

from pycnn import layers, models
from pycnn.trainer import History

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
from pycnn import plots

RIM = 2.0  # pixels of paper that nothing is drawn on
NAMES = ["T-shirt/top", "trouser", "a class with quite a long name", "ankle boot"]


def history(epochs):
    return History(
        [
            {"epoch": i, "step": i, "lr": 0.1, "loss": 2e5 / (i + 1), "accuracy": 0.5}
            | {"val_loss": 1e-5 * i, "val_accuracy": 1.0}
            for i in range(epochs)
        ]
    )


def classes(n, K=4):
    return np.random.default_rng(0).integers(0, K, n)


def pixels(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def probabilities(n, K=4):
    rows = np.random.default_rng(2).random((n, K)).astype(np.float32)
    return rows / rows.sum(axis=1, keepdims=True)


def deep():
    """A block, layers by themselves, and a Sequential inside."""
    inner = layers.Sequential(layers.BatchNorm2d(20), layers.ReLU(), layers.Dropout(0.5))
    return layers.Sequential(
        layers.Conv2d(3, 20, 5),
        inner,
        layers.GlobalAvgPool2d(),
        layers.Linear(20, 10),
    )


MNIST = models.mnist_cnn(rng=0)
PICTURES = {
    "learning_curves": lambda: plots.learning_curves(history(12)),
    "learning_curves of one epoch": lambda: plots.learning_curves(history(1)),
    "learning_curves of none": lambda: plots.learning_curves(history(0)),
    "confusion_matrix": lambda: plots.confusion_matrix(classes(5000), classes(5000) ^ 1, NAMES),
    "confusion_matrix of 40": lambda: plots.confusion_matrix(classes(900, 40), classes(900, 40)),
    "confusion_matrix of 300": lambda: plots.confusion_matrix(
        classes(500, 300), classes(500, 300)[::-1]
    ),
    "confusion_matrix of 120 long names": lambda: plots.confusion_matrix(
        classes(900, 120),
        classes(900, 120)[::-1],
        [f"class {i} of many, {i}" for i in range(120)],
    ),
    "confusion_matrix of large counts": lambda: plots.confusion_matrix(
        np.repeat(np.arange(30), 12345), np.repeat(np.arange(30), 12345)
    ),
    "feature_maps of 40 classes": lambda: plots.feature_maps(
        layers.Sequential(layers.Flatten(), layers.Linear(16, 40)), pixels(4, 4, 1)
    ),
    "mistakes": lambda: plots.mistakes(
        pixels(90, 8, 8, 3), classes(90), probabilities(90), class_names=NAMES
    ),
    "mistakes, none": lambda: plots.mistakes(pixels(3, 4, 4, 1), [0, 1, 2], np.eye(3)),
    "filters": lambda: plots.filters(MNIST),
    "filters of few inputs": lambda: plots.filters(
        layers.Sequential(layers.Conv2d(3, 4, 3), layers.ReLU())
    ),
    "confusion_matrix of 2": lambda: plots.confusion_matrix(classes(500, 2), classes(500, 2)),
    "filters of many inputs": lambda: plots.filters(MNIST, 3),
    "feature_maps": lambda: plots.feature_maps(MNIST, pixels(28, 28, 1), label=3),
    "feature_maps of colours": lambda: plots.feature_maps(deep(), pixels(12, 9, 3), maps=3),
    "saliency": lambda: plots.saliency(MNIST, pixels(28, 28, 1), label=1),
    "saliency by occlusion": lambda: plots.saliency(MNIST, pixels(28, 28, 1), "occlusion", 1),
    "layer_times": lambda: plots.layer_times(MNIST, (None, 28, 28, 1), repeats=1),
    "layer_times of many layers": lambda: plots.layer_times(deep(), (2, 12, 9, 3), repeats=1),
}


@functools.cache  # the picture of 300 classes takes seconds
def drawn(name):
    figure = PICTURES[name]()
    plots.png(figure)
    return figure


def parts(figure):
    """(name, extent in pixels) of all that stands in a figure that was drawn."""
    renderer = figure.canvas.get_renderer()
    for i, axes in enumerate(figure.axes):
        yield f"axes {i}", axes.get_window_extent(renderer)
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):  # with the ticks that are drawn
            yield f"{name} axis of axes {i}", axis.get_tightbbox(renderer)
        if legend := axes.get_legend():
            yield f"legend of axes {i}", legend.get_window_extent(renderer)
        own = [*axes.texts, axes.title]
        yield from ((repr(t.get_text()), t.get_window_extent(renderer)) for t in own)
    for text in figure.texts:
        yield repr(text.get_text()), text.get_window_extent(renderer)


LARGE = ("confusion_matrix of 300", "confusion_matrix of 120 long names")
DRAWN = [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in PICTURES]


def test_every_picture_is_here():
    drawing = {
        name
        for name in plots.__all__
        if inspect.isfunction(function := getattr(plots, name))
        and inspect.signature(function).return_annotation == "Figure"
    }
    assert {name.partition(" ")[0].rstrip(",") for name in PICTURES} == drawing


@pytest.mark.parametrize("name", DRAWN)
def test_texts_and_axes_lie_inside_the_picture(name):
    figure = drawn(name)
    width, height = figure.canvas.get_width_height()
    texts = 0
    for what, box in parts(figure):
        if box is None or box.width == 0 or box.height == 0:  # nothing is drawn
            continue
        texts += what.startswith("'")
        assert box.x0 >= RIM, f"{what} leaves the picture at the left"
        assert box.y0 >= RIM, f"{what} leaves the picture at the bottom"
        assert box.x1 <= width - RIM, f"{what} leaves the picture at the right"
        assert box.y1 <= height - RIM, f"{what} leaves the picture at the top"
    assert texts


def overlaps(boxes):
    """Pairs of boxes that share more than a hairline."""
    low = np.array([(b.x0, b.y0) for b in boxes]).reshape(-1, 2) + 0.5
    high = np.array([(b.x1, b.y1) for b in boxes]).reshape(-1, 2)
    both = ((low[:, None] < high) & (low < high[:, None])).all(2)
    return int(np.triu(both, 1).sum())


@pytest.mark.parametrize("name", DRAWN)
def test_no_two_labels_or_numbers_overlap(name):
    figure = drawn(name)
    renderer = figure.canvas.get_renderer()
    for i, axes in enumerate(figure.axes):
        children = [a for a in axes.get_children() if hasattr(a, "get_yticklabels")]
        for part in (axes, *children):
            for labels in (part.get_xticklabels(), part.get_yticklabels()):
                shown = [t for t in labels if t.get_visible() and t.get_text()]
                found = overlaps([t.get_window_extent(renderer) for t in shown])
                assert not found, f"{found} labels of axes {i} overlap"
        found = overlaps([t.get_window_extent(renderer) for t in axes.texts if t.get_text()])
        assert not found, f"{found} texts in axes {i} overlap"


@pytest.mark.parametrize("name", ["filters", "filters of few inputs", "filters of many inputs"])
def test_the_filters_fill_their_picture(name):
    figure = PICTURES[name]()
    figure.canvas.draw()
    box = figure.axes[0].get_window_extent(figure.canvas.get_renderer())
    assert box.width > 0.6 * figure.bbox.width


@pytest.mark.parametrize("K", [2, 10, 26])
def test_the_cells_of_a_confusion_matrix_are_nearly_square(K):
    labels = np.arange(20 * K) % K
    figure = plots.confusion_matrix(labels, labels)
    figure.canvas.draw()
    box = figure.axes[0].get_window_extent(figure.canvas.get_renderer())
    assert 0.7 < box.width / box.height < 1.6
    assert figure.bbox.width <= 1100


def test_short_times_keep_their_digits(monkeypatch):
    rows = [plots.LayerTime("0", "Flatten", 0.0, 0.0, [2.34e-6], [0.0]),
            plots.LayerTime("1", "Linear", 1e6, 1e6, [1.2e-3], [3.4567e-3])]  # fmt: skip
    monkeypatch.setattr(plots.timing, "measure_layers", lambda *_, **__: rows)
    texts = [t.get_text() for t in plots.layer_times(MNIST, (None, 28, 28, 1)).axes[0].texts]
    assert [text for text in texts if text] == ["0.00234", "1.2", "3.46"]


@pytest.mark.parametrize("seconds", [1.43e-7, 3.82e-7, 1.97e-6, 1.95e-5, 7.7e-3])
def test_the_numbers_of_the_axis_of_times_lie_apart(monkeypatch, seconds):
    rows = [plots.LayerTime(f"{i}", "Conv2d", 1e6, 1e6, [seconds / (i + 1)], [seconds])
            for i in range(4)]  # fmt: skip
    monkeypatch.setattr(plots.timing, "measure_layers", lambda *_, **__: rows)
    figure = plots.layer_times(MNIST, (None, 28, 28, 1))
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        labels = [t for t in axes.get_xticklabels() if t.get_text()]
        assert len(labels) >= 3
        assert not overlaps([t.get_window_extent(renderer) for t in labels])


def test_few_classes_with_long_names_keep_all_names_and_numbers():
    figure = drawn("confusion_matrix")
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [t.get_text() for t in labels] == [*NAMES[:2], "a class with quite a lo…", NAMES[3]]
    assert sum(int(t.get_text().replace(",", "")) for t in axes.texts) == 5000
