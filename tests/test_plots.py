"""The pictures: what they show is what the data says; files are whole, errors are sentences."""

import os
import struct
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pycnn import layers, models
from pycnn.callbacks import LearningRateLog
from pycnn.preprocessing import Normalization
from pycnn.trainer import History

matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
from pycnn import plots  # noqa: E402
from pycnn.plots import inside, pixels, results, timing  # noqa: E402
from pycnn.plots._arguments import differentiable, softmax  # noqa: E402


@pytest.fixture
def model(rng):
    """A small classifier of every kind of layer, with statistics that training has moved."""
    model = layers.Sequential(
        layers.Conv2d(1, 5, 3, padding="same", rng=rng),
        layers.MaxPool2d(2),
        layers.BatchNorm2d(5),
        layers.ReLU(),
        layers.Sequential(layers.Conv2d(5, 6, 3, rng=rng), layers.ReLU()),
        layers.Dropout(0.3),
        layers.Flatten(),
        layers.Linear(150, 4, rng=rng),
    )
    model[2].running_mean[...] = rng.standard_normal(5)
    model[2].running_var[...] = rng.uniform(0.5, 2, 5)
    model[2].weight.data[...] = rng.uniform(0.5, 2, 5)
    model.normalization = Normalization(0.2, 0.5)
    return model


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (9, 14, 14, 1), dtype=np.uint8)


def texts(figure):
    """All that is written in a figure."""
    found = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return [text for text in found if text]


def written(figure, tmp_path):
    """The PNG and SVG of a figure, checked; the size of the first."""
    path = tmp_path / "a.png"
    plots.save(figure, path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    plots.save(figure, tmp_path / "a.SVG")
    assert ET.parse(tmp_path / "a.SVG").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert sorted(os.listdir(tmp_path)) == ["a.SVG", "a.png"]
    box = figure.get_tightbbox(figure.canvas.get_renderer())  # of all that is drawn, in inches
    rim = 0.02  # inches of paper: test_plots_layout.py looks at each text
    assert box.x0 > rim
    assert box.y0 > rim
    assert box.x1 < figure.get_figwidth() - rim
    assert box.y1 < figure.get_figheight() - rim
    return width, height


def history(epochs=3, validation=True):
    rows = []
    for i in range(epochs):
        row = {"epoch": i, "step": 10 * (i + 1), "lr": 0.1 / (i + 1), "loss": 1 / (i + 1)}
        row["accuracy"] = 1 - 0.5 / (i + 1)
        if validation:
            row |= {"val_loss": 0.9 / (i + 1), "val_accuracy": 1 - 0.4 / (i + 1)}
        rows.append(row)
    return History(rows)


def test_learning_curves_show_the_history(tmp_path):
    past = history()
    figure = plots.learning_curves(past)
    loss, accuracy, rate = figure.axes
    for axes, column, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        for line, name in zip(axes.lines, (column, f"val_{column}"), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_allclose(line.get_ydata(), np.multiply(factor, past[name]))
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), past["lr"])
    assert "validation accuracy: 86.67 %" in texts(figure)
    assert written(figure, tmp_path) == (800, 320)


@pytest.mark.parametrize(
    ("measured", "title"),
    [
        ({"mae": 0.5, "r2": 0.1}, "training mae: 0.5000"),
        ({"top5_accuracy": 0.5}, "training top5_accuracy: 50.00 %"),
        ({}, "No metric was measured."),
    ],
)
def test_learning_curves_of_other_metrics(tmp_path, measured, title):
    row = {"epoch": 0, "step": 3, "lr": 0.1, "loss": 2.0, **measured}
    figure = plots.learning_curves(History([row, {**row, "epoch": 1}]))
    assert title in texts(figure)
    written(figure, tmp_path)


def test_learning_curves_of_each_step_without_validation(tmp_path):
    rates = LearningRateLog()
    rates.steps, rates.values = list(range(30)), [0.01 * i for i in range(30)]
    rates.losses = [1.0] * 30  # not shown: three epochs are a curve
    figure = plots.learning_curves(history(validation=False), rates)
    assert [len(axes.lines) for axes in figure.axes] == [1, 1, 1]
    line = figure.axes[2].lines[0]
    np.testing.assert_allclose(line.get_xdata(), np.arange(1, 31) / 10)
    np.testing.assert_array_equal(line.get_ydata(), rates.values)
    written(figure, tmp_path)


@pytest.mark.parametrize("epochs", [1, 2])
def test_learning_curves_of_one_epoch_show_its_steps(epochs, tmp_path):
    rates = LearningRateLog()
    count = 10 * epochs
    rates.steps, rates.values = list(range(count)), [0.1] * count
    rates.losses = [1 / (i + 1) for i in range(count)]
    figure = plots.learning_curves(history(epochs), rates)
    assert [len(axes.lines) for axes in figure.axes] == [3, 2, 1]
    steps = figure.axes[0].lines[0]
    np.testing.assert_allclose(steps.get_xdata(), np.arange(1, count + 1) / 10)
    np.testing.assert_array_equal(steps.get_ydata(), rates.losses)
    assert "each step" in texts(figure)
    written(figure, tmp_path)


@pytest.mark.parametrize("epochs", [0, 1])
def test_learning_curves_of_few_epochs(epochs, tmp_path):
    figure = plots.learning_curves(history(epochs))
    assert ("No epoch was finished." in texts(figure)) == (epochs == 0)
    written(figure, tmp_path)


def test_confusion_matrix_counts(rng, tmp_path):
    labels, said = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    labels[labels == 2] = 1  # a class that does not occur
    figure = plots.confusion_matrix(labels.astype(np.uint8), said)
    counts = np.zeros((4, 4), int)
    for true, guess in zip(labels, said, strict=True):
        counts[true, guess] += 1
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    for (row, column), count in np.ndenumerate(counts):
        shown = cells.get((column, row))
        assert shown == (f"{count:,}" if count or row == column else None)
    right = counts.trace()
    assert f"{right} of 500 right: accuracy {right / 5:.2f} %" in texts(figure)
    assert "none" in texts(figure)
    assert f"{100 * counts[1, 1] / counts[1].sum():.1f} %" in texts(figure)
    assert written(figure, tmp_path)[0] == 450


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_the_same_calls_give_the_same_bytes(name, tmp_path):
    contents = set()
    for _ in range(2):
        plots.save(plots.confusion_matrix([0, 1, 2, 2], [0, 1, 1, 2]), tmp_path / name)
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1


def test_confusion_matrix_without_mistakes_and_with_names(tmp_path):
    names = ["trouser", "dress", "ankle boot"]
    figure = plots.confusion_matrix([0, 1, 1, 2], [0, 1, 1, 2], names)
    assert {*names, "4 of 4 right: accuracy 100.00 %"} <= set(texts(figure))
    written(figure, tmp_path)


def test_mistakes_are_the_worst_in_order(rng, tmp_path):
    images = rng.random((200, 8, 8, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 200)
    probabilities = softmax(3 * rng.standard_normal((200, 3)).astype(np.float32))
    figure = plots.mistakes(images, labels, probabilities, 7, ["a", "b", "c"])
    said = probabilities.argmax(axis=1)
    wrong = [i for i in range(200) if said[i] != labels[i]]
    wrong.sort(key=lambda i: -probabilities[i].max())
    shown = [axes for axes in figure.axes if axes.get_title()]
    assert len(shown) == 7
    for axes, i in zip(shown, wrong, strict=False):
        sure = f"{100 * probabilities[i].max():.1f} %"
        assert axes.get_title() == f"true {'abc'[labels[i]]}, said {'abc'[said[i]]}\n{sure}"
        assert axes.get_xlabel() == f"image {i}"
        np.testing.assert_array_equal(axes.images[0].get_array(), images[i])
    assert f"The 7 surest of {len(wrong)} mistakes in 200 images" in texts(figure)
    written(figure, tmp_path)


def test_long_names_of_classes_are_broken_and_shortened():
    names = ["T-shirt/top", "a class with quite a long name"]
    images, wrong = np.zeros((9, 4, 4, 1), np.uint8), np.eye(2, dtype=np.float32)[[1] * 9]
    figure = plots.mistakes(images, [0] * 9, wrong, 9, names)
    assert figure.axes[0].get_title() == "true T-shirt/top\nsaid a class with…\n100.0 %"
    figure = plots.mistakes(images, [0] * 9, wrong, 1, names)
    assert figure.axes[0].get_title() == f"true {names[0]}, said {names[1]}\n100.0 %"


def test_no_mistakes_are_told(tmp_path):
    images = np.zeros((3, 4, 4, 1), np.uint8)
    figure = plots.mistakes(images, [0, 1, 2], np.eye(3, dtype=np.float32))
    assert texts(figure) == ["No mistake in 3 images."]
    written(figure, tmp_path)


def test_filters_are_the_weights(model, tmp_path):
    figure = plots.filters(model)
    pictures = figure.axes[0].images
    assert len(pictures) == 5
    weight = model[0].weight.data
    for i, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture.get_array(), weight[:, :, 0, i])
        assert picture.get_clim() == (-np.abs(weight).max(), np.abs(weight).max())
    assert "Filters of layer 0, Conv2d, 3 x 3: all 5" in texts(figure)
    written(figure, tmp_path)
    inner = plots.filters(model, "4.0").axes[0].images
    np.testing.assert_array_equal(inner[6].get_array(), model[4][0].weight.data[:, :, 1, 1])


@pytest.mark.slow
def test_filters_of_many_channels(tmp_path):
    figure = plots.filters(layers.Sequential(layers.Conv2d(20, 30, (5, 3))), 0)
    assert len(figure.axes[0].images) == 12 * 16
    written(figure, tmp_path)


def test_feature_maps_are_each_layers_output(model, images, tmp_path):
    figure = plots.feature_maps(model, images[0], label=3, maps=4)
    x = ((images[:1] / np.float32(255) - np.float32(0.2)) / np.float32(0.5)).astype(np.float32)
    model.eval()
    flat = [*list(model)[:4], *model[4], *list(model)[5:]]
    for axes, layer in zip(figure.axes[1:], flat, strict=True):
        x = layer.forward(x)
        if x.ndim == 4:
            assert len(axes.images) == 4
            for i, picture in enumerate(axes.images):
                np.testing.assert_allclose(picture.get_array(), x[0, :, :, i], atol=1e-5)
    np.testing.assert_allclose([bar.get_height() for bar in figure.axes[-1].patches], x[0])
    best = softmax(x)[0]
    title = f"a 3; the network says {best.argmax()} ({100 * best.max():.1f} %)"
    assert any(title in text for text in texts(figure))
    assert written(figure, tmp_path)[0] == 800


def test_feature_maps_of_upright_images_and_of_a_model_without_classes(tmp_path):
    model = layers.Sequential(layers.Conv2d(3, 2, 3))
    figure = plots.feature_maps(model, np.zeros((20, 10, 3), np.float32))
    assert "Every layer's output" in texts(figure)
    written(figure, tmp_path)


def test_the_gradient_is_that_of_eval_mode(model, images):
    """Against differences of the logit in float64, in eval mode."""
    model.astype(np.float64)
    image = (images[:1] / 255).astype(np.float32)
    found = pixels.gradient(model, image, 2)
    x = (image - 0.2).astype(np.float64) / 0.5
    model.eval()
    for h, w in ((0, 0), (5, 7), (13, 13), (8, 3)):
        step = np.zeros_like(x)
        step[0, h, w, 0] = 1e-5
        slope = (model(x + step) - model(x - step))[0, 2] / 2e-5
        assert found[h, w] == pytest.approx(abs(slope) / 0.5, rel=1e-5, abs=1e-9)


def test_the_differentiable_copy_computes_the_same(model, images):
    x = images.astype(np.float32) / 255
    copied = differentiable(model, x.shape)
    np.testing.assert_allclose(copied(x), model.eval()(x), atol=1e-4)
    np.testing.assert_array_equal(
        differentiable(layers.Sequential(layers.Dropout(0.5)), x.shape)(x), x
    )


def test_occlusion_is_the_mean_fall_of_the_log_odds(model, images):
    image = images[:1]
    found, size = pixels.occlusion(model, image, 1)
    assert size == 2
    model.eval()

    def log_odds(picture):
        x = (picture / np.float32(255) - np.float32(0.2)) / np.float32(0.5)
        p = softmax(model(x.astype(np.float32)))[0, 1]
        return np.log(p / (1 - p))

    falls = {}
    for top in range(13):
        for left in range(13):
            covered = image.copy()
            covered[0, top : top + 2, left : left + 2] = 0
            falls[top, left] = log_odds(image) - log_odds(covered)
    for h, w in ((0, 0), (6, 6), (13, 4)):
        over = [f for (t, q), f in falls.items() if t <= h < t + 2 and q <= w < q + 2]
        assert found[h, w] == pytest.approx(np.mean(over), abs=1e-4)


@pytest.mark.parametrize("method", pixels.METHODS)
def test_saliency_shows_its_map(model, images, method, tmp_path):
    figure = plots.saliency(model, images[0], method, label=1)
    map_of = {"gradient": pixels.gradient, "occlusion": lambda *a: pixels.occlusion(*a)[0]}[method]
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(shown, map_of(model, images[:1], 1))
    assert any("asked for 1" in text or "says 1" in text for text in texts(figure))
    assert written(figure, tmp_path)[0] == 800


def test_places_reach_the_rim():
    assert pixels._places(28, 4) == list(range(25))
    assert pixels._places(224, 32)[-2:] == [184, 192]
    assert pixels._places(3, 3) == [0]


def test_a_picture_leaves_the_model_alone(model, images):
    before = model.state_dict()
    model.forward(images.astype(np.float32))
    for draw in (
        lambda: plots.feature_maps(model, images[0]),
        lambda: plots.saliency(model, images[0]),
        lambda: plots.saliency(model, images[0], "occlusion"),
        lambda: plots.layer_times(model, images, repeats=1),
    ):
        draw()
    after = model.state_dict()
    before_statistics = {k: v for k, v in before.items() if "running" not in k}
    for name, array in before_statistics.items():
        np.testing.assert_array_equal(after[name], array)
    assert model.training
    assert model.rng_state()["5"][1] == 1  # the one forward above
    model.backward(np.ones((9, 4), np.float32))  # still possible


def test_layer_times(model, images, tmp_path):
    rows = plots.measure_layers(model, images, repeats=3)
    parts = [name for row in rows for name in row.name.split()]
    assert parts == ["0", "1", "2", "3", "4.0", "4.1", "5", "6", "7"]
    assert all(len(row.forward_samples) == 3 for row in rows)
    assert [row.kind for row in rows if not row.forward] == ["Flatten"], "a view"
    assert all(len(row.backward_samples) == 3 for row in rows)
    by_name = {row.name.split()[0]: row for row in rows}
    first = 9 * model[0].flop_per_image((None, 14, 14, 1))
    assert (by_name["0"].forward_flop, by_name["0"].backward_flop) == (first, first)
    second = 9 * model[4][0].flop_per_image((None, 7, 7, 5))
    assert (by_name["4.0"].forward_flop, by_name["4.0"].backward_flop) == (second, 2 * second)
    figure = plots.layer_times(model, (None, 14, 14, 1), repeats=2)
    assert any(text.startswith("100 images: ") for text in texts(figure))
    shown = [bar.get_width() for bar in figure.axes[0].patches if bar.get_height()]
    assert len(shown) == 2 * len(rows)
    assert written(figure, tmp_path)[0] == 800


def test_layer_times_shows_what_was_measured(model, images, monkeypatch):
    rows = [timing.LayerTime("0", "Conv2d", 4e6, 8e6, [2e-3, 1e-3], [3e-3, 4e-3])]
    rows.append(timing.LayerTime("1", "ReLU", 0, 0, [5e-4], []))
    monkeypatch.setattr(timing, "measure_layers", lambda *a, **k: rows)
    monkeypatch.setattr(timing._config, "fma_peak", lambda: 8.0)
    figure = plots.layer_times(model, images)
    assert [round(bar.get_width(), 9) for bar in figure.axes[0].patches] == [1, 0.5, 3, 0]
    assert [round(bar.get_width(), 6) for bar in figure.axes[1].patches] == [50, 0, 33.333333, 0]
    assert any(text.startswith("9 images: 4.5 ms ") for text in texts(figure))


def test_layer_times_of_float64_and_of_a_known_input_shape():
    model = models.stages([2], input_shape=(8, 8, 1), classes=3, rng=0).astype(np.float64)
    with pytest.raises(TypeError, match=r"layer_times: images is None; expected images or their"):
        plots.measure_layers(model)
    model.input_shape = (8, 8, 1)
    rows = plots.measure_layers(model, repeats=1)
    assert [row.name for row in rows] == ["0", "1", "2", "3", "4"]  # no blocks


def test_worst_breaks_ties_by_index():
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.6, 0.4]], np.float32)
    np.testing.assert_array_equal(results.worst(np.array([1, 1, 1, 1]), probabilities), [0, 2, 3])


def test_layer_outputs_of_float64(model, images):
    model.astype(np.float64)
    assert {y.dtype for _, _, y in inside.layer_outputs(model, images[:1])} == {np.dtype(float)}
