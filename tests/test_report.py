"""The report: one HTML file that loads nothing, with the numbers of the training."""

import base64
import html.parser
import os

import numpy as np
import pytest
from idx_files import write_folder
from train_command import small

import pycnn
from pycnn import layers, models, recipes, train
from pycnn.callbacks import Checkpoint
from pycnn.datasets import Split

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
from matplotlib.figure import Figure

from pycnn import plots, report

VOID = {"meta", "img", "br", "link"}


class Page(html.parser.HTMLParser):
    """Checks that tags close in order; collects texts, cells, pictures and what would be loaded."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.cells, self.pictures, self.loads = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "src" and value.startswith("data:image/png;base64,"):
                self.pictures.append(base64.b64decode(value.partition(",")[2], validate=True))
            elif name in ("src", "href", "action", "srcset", "data"):
                self.loads.append(value)
        assert tag not in ("script", "link", "iframe", "object")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


@pytest.fixture
def data(rng):
    return Split(
        rng.integers(0, 256, (60, 10, 10, 1), dtype=np.uint8),
        rng.integers(0, 3, 60).astype(np.uint8),
    )


def trained(data, callbacks=(), model=None, epochs=2, batch_size=20):
    model = model or models.stages([2, 3], input_shape=(10, 10, 1), classes=3, batch_norm=True)
    adam = pycnn.optim.Adam(model.parameters(), lr=0.0125)
    trainer = pycnn.Trainer(model, adam, callbacks=callbacks)
    trainer.fit(data, data, epochs=epochs, batch_size=batch_size)
    return trainer


def written(path, trainer, data):
    report.write(path, trainer, data)
    text = path.read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    page = Page(text)
    assert page.loads == []
    assert all(picture.startswith(b"\x89PNG\r\n\x1a\n") for picture in page.pictures)
    return page


def test_the_report_holds_settings_results_and_pictures(data, tmp_path):
    trainer = trained(data)
    page = written(tmp_path / "run.html", trainer, data)
    assert len(page.pictures) == 8
    for row in trainer.history.rows:
        for name in ("accuracy", "val_accuracy"):
            assert f"{100 * row[name]:.2f} %" in page.cells
        for name in ("loss", "val_loss"):
            assert f"{row[name]:.4g}" in page.cells
    accuracy = trainer.evaluate(data)["accuracy"]
    assert f"Accuracy {100 * accuracy:.2f} %" in page.texts
    assert any("lr=0.0125" in cell and cell.startswith("Adam(") for cell in page.cells)
    assert repr(trainer.model) in page.texts
    assert os.listdir(tmp_path) == ["run.html"]


def test_the_recipe_is_shown_and_escaped(data, tmp_path):
    recipe = {"channels": [16, 32], "note": "<b>&\"'"}
    trainer = trained(data, [Checkpoint(tmp_path / "c", recipe=recipe)])
    trainer.stop_reason = "<i>enough</i>"
    page = written(tmp_path / "run.htm", trainer, (data.images, data.labels))
    assert "16, 32" in page.cells
    assert "<b>&\"'" in page.cells
    assert any("<i>enough</i>" in text for text in page.texts)


@pytest.mark.slow
def test_the_recipe_that_is_given_is_the_one_shown(data, tmp_path):
    trainer = trained(data, [Checkpoint(tmp_path / "c", recipe={"note": "old"})], epochs=1)
    report.write(tmp_path / "run.html", trainer, data, {"note": "new", "shift": 2.5})
    page = Page((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert {"note", "new", "shift", "2.5"} <= set(page.cells)
    assert "old" not in page.cells


@pytest.mark.slow
def test_the_counts_are_words(data, tmp_path):
    with pycnn.num_threads(1):
        many = written(tmp_path / "many.html", trained(data), data)
        one = written(tmp_path / "one.html", trained(data, epochs=1, batch_size=60), data)
    assert any("on 60 test images, after 2 epochs of 3 steps with 20 images each." in text
               for text in many.texts)  # fmt: skip
    assert any("after 1 epoch of 1 step with 60 images each." in text for text in one.texts)
    assert any(", 1 thread, " in text for text in one.texts)


@pytest.mark.slow
def test_the_command_draws_steps_and_all_settings(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "data", train=40, test=10)
    drawn = []
    monkeypatch.setattr(plots, "learning_curves", lambda *given: drawn.append(given) or Figure())
    monkeypatch.setattr(plots, "layer_times", lambda *_: Figure())  # the slow one
    settings = ["--set", "channels=[2, 2, 2]", "--set", "epoch_share=1.0"]
    options = ["--recipe", "fast", *settings, *small(folder, "--quiet")]
    files = ["--plot", tmp_path / "a.png", "--report", tmp_path / "a.html"]
    assert train.main([str(option) for option in [*options, *files]]) == 0
    assert len(drawn) == 2
    for history, rates in drawn:
        assert rates.steps == [0, 1]
        assert sum(rates.losses) / 2 == pytest.approx(history.rows[0]["loss"])
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert set(recipes.NAMES) <= set(page.cells)
    assert "one-cycle" in page.cells


@pytest.mark.slow
def test_a_model_without_convolution_and_no_test_images(data, tmp_path):
    model = layers.Sequential(layers.Flatten(), layers.Linear(100, 3))
    trainer = trained(data, model=model)
    assert len(written(tmp_path / "a.html", trainer, data).pictures) == 7
    nothing = Split(data.images[:0], data.labels[:0])
    assert len(written(tmp_path / "b.html", trainer, nothing).pictures) == 1


@pytest.mark.slow
def test_a_training_without_an_epoch(data, tmp_path):
    model = models.stages([2], input_shape=(10, 10, 1), classes=3)
    trainer = pycnn.Trainer(model, pycnn.optim.SGD(model.parameters(), 0.1))
    page = written(tmp_path / "a.html", trainer, data)
    assert "No epoch was finished." in page.texts


def test_places_that_cannot_be(data, tmp_path):
    trainer = trained(data, epochs=1)
    with pytest.raises(pycnn.FileError, match=r"expected \.html or \.htm"):
        report.write(tmp_path / "a.txt", trainer, data)
    with pytest.raises(pycnn.FileError, match="there is no folder"):
        report.write(tmp_path / "no" / "a.html", trainer, data)
    assert os.listdir(tmp_path) == []


def test_numbers_are_refused_in_a_sentence(tmp_path):
    model = layers.Sequential(layers.Flatten(), layers.Linear(4, 1, rng=0))
    trainer = pycnn.Trainer(model, pycnn.optim.SGD(model.parameters(), 0.1), pycnn.losses.MSE())
    data = np.zeros((3, 2, 2, 1), np.float32), np.zeros((3, 1), np.float32)
    trainer.fit(data, epochs=1)
    with pytest.raises(ValueError, match=r"loss is MSE.* expected a classifier of images"):
        report.write(tmp_path / "a.html", trainer, data)
