"""The pictures' errors are sentences, and they touch neither pyplot nor a window system."""

import os
import subprocess
import sys

import numpy as np
import pytest
from train_command import ENVIRONMENT, command, small

import pycnn
from pycnn import layers, models

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
from pycnn import plots

WRONG = {
    "labels": (lambda: plots.confusion_matrix([0.5], [1]), r"labels is float64 \(1,\); expected"),
    "one_hot": (lambda: plots.confusion_matrix(np.eye(3, dtype=int), [1]), r"write x.argmax"),
    "column": (lambda: plots.confusion_matrix(np.ones((3, 1), int), [1]), r"write x.ravel\(\)"),
    "length": (lambda: plots.confusion_matrix([0, 1], [1]), r"expected integers \[2\]"),
    "none": (lambda: plots.confusion_matrix(None, [1]), r"is None; expected integers \[n\]"),
    "empty": (lambda: plots.confusion_matrix(np.zeros(0, int), np.zeros(0, int)), "is empty"),
    "negative": (lambda: plots.confusion_matrix([0, -1], [1, 1]), "negative at 1"),
    "names": (lambda: plots.confusion_matrix([2], [1], ["a", "b"]), "2 names; expected 3 names"),
    "images": (
        lambda: plots.mistakes(np.zeros((2, 4, 4)), [0, 1], np.eye(2)),
        r"images is float64 \(2, 4, 4\); expected images \[n, H, W, C\]",
    ),
    "probabilities": (
        lambda: plots.mistakes(np.zeros((2, 4, 4, 1), np.uint8), [0, 1], np.eye(3)),
        r"probabilities is float64 \(3, 3\); expected floats \[2, K\]",
    ),
    "count": (
        lambda: plots.mistakes(np.zeros((2, 4, 4, 1), np.uint8), [0, 1], np.eye(2), 0),
        "count is 0; expected a whole number",
    ),
    "no_conv": (lambda: plots.filters(layers.Sequential(layers.ReLU())), "without a Conv2d"),
    "no_model": (lambda: plots.filters(layers.ReLU()), "model is a ReLU; expected a"),
    "layer": (lambda: plots.filters(models.mnist_cnn(), 1), "layer is 1; expected .*: 0, 3, 6"),
    "image": (lambda: plots.feature_maps(models.mnist_cnn(), np.zeros(3)), "expected one image"),
    "maps": (
        lambda: plots.feature_maps(models.mnist_cnn(), np.zeros((28, 28, 1), np.uint8), maps=0),
        "maps is 0",
    ),
    "method": (
        lambda: plots.saliency(models.mnist_cnn(), np.zeros((28, 28, 1), np.uint8), "guess"),
        'method is \'guess\'; expected "gradient" or "occlusion"',
    ),
    "label": (
        lambda: plots.saliency(models.mnist_cnn(), np.zeros((28, 28, 1), np.uint8), label=10),
        "label is 10; expected a class, 0 to 9",
    ),
    "no_logits": (
        lambda: plots.saliency(layers.Sequential(layers.ReLU()), np.zeros((4, 4, 1), np.uint8)),
        r"the model's output is \(1, 4, 4, 1\); expected logits",
    ),
    "repeats": (lambda: plots.layer_times(models.mnist_cnn(), repeats=0), "repeats is 0"),
    "shape": (lambda: plots.layer_times(models.mnist_cnn(), (1, 28, 28, 3)), "in_channels = 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_sentences(name):
    call, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        call()
    assert str(caught.value).endswith(".")


def test_other_endings_and_places_are_refused(tmp_path):
    figure = plots.confusion_matrix([0], [0])
    for name, message in {
        "a.pdf": r"ending is '\.pdf'; expected \.png or \.svg: write a\.pdf\.png",
        "a": "there is no ending; expected .png or .svg",
        "no/a.png": "there is no folder .*; make it first",
    }.items():
        with pytest.raises(pycnn.FileError, match=message):
            plots.save(figure, tmp_path / name)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(pycnn.FileError, match="this is a folder"):
        plots.save(figure, tmp_path / "b.png")
    assert os.listdir(tmp_path) == ["b.png"]


def test_no_window_system_and_no_pyplot(tmp_path):
    code = (
        "import sys; import numpy as np; from pycnn import plots; import matplotlib\n"
        "before = dict(matplotlib.rcParams)\n"
        "plots.save(plots.confusion_matrix([0, 1], [0, 0]), 'a.svg')\n"
        "assert dict(matplotlib.rcParams) == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**ENVIRONMENT, "MPLBACKEND": "tkagg", "DISPLAY": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_a_missing_matplotlib_is_a_sentence(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"confusion_matrix needs matplotlib, .*'pycnn\[plot\]'"):
        plots.confusion_matrix([0], [0])


def test_the_command_tells_before_it_trains(tmp_path):
    run = command(*small(tmp_path), "--plot", tmp_path / "a.gif")
    assert (run.returncode, run.stdout) == (2, "")
    assert "is no .png or .svg" in run.stderr
    run = command(*small(tmp_path), "--report", tmp_path / "none" / "a.html")
    assert (run.returncode, run.stdout) == (1, "")
    assert "folder" in run.stderr
    assert run.stderr.count("\n") == 1


def spoiled(value):
    rows = np.full((4, 3), 1 / 3, np.float32)
    rows[2] = value
    return rows


NO_PROBABILITIES = {
    "logits": (spoiled([-3.0, 27.5, 1.0]), r"\[2\] is -3 to 27.5 with the sum 25.5; expected 0 to"),
    "scores": (spoiled([0.9, 0.9, 0.1]), r"\[2\] is 0.1 to 0.9 with the sum 1.9; expected 0 to 1"),
    "balanced": (spoiled([-1.0, 1.0, 1.0]), "for logits write pycnn.ops.softmax"),
    "NaN": (
        spoiled([np.nan, 0.5, 0.5]),
        r"probabilities\[2\] is NaN or Inf; expected numbers from",
    ),
    "Inf": (spoiled([np.inf, 0.0, 0.0]), r"probabilities\[2\] is NaN or Inf"),
}


@pytest.mark.parametrize("name", NO_PROBABILITIES)
def test_what_are_no_probabilities_is_no_picture_of_mistakes(name):
    rows, words = NO_PROBABILITIES[name]
    with pytest.raises(ValueError, match=words):
        plots.mistakes(np.zeros((4, 8, 8, 1), np.uint8), [0, 1, 2, 0], rows)


def test_rounded_probabilities_are_taken():
    rows = np.random.default_rng(0).dirichlet(np.ones(10), 4).astype(np.float16)
    figure = plots.mistakes(np.zeros((4, 8, 8, 1), np.uint8), (rows.argmax(1) + 1) % 10, rows)
    assert "4 surest" in figure._suptitle.get_text()


@pytest.mark.parametrize("draw", [plots.feature_maps, plots.saliency])
def test_a_network_that_has_diverged_says_nothing(draw):
    model = layers.Sequential(layers.Flatten(), layers.Linear(64, 3))
    model[1].bias.data[1] = np.nan
    title = draw(model, np.zeros((8, 8, 1), np.uint8))._suptitle.get_text()
    assert title.lower().count("the network says nothing: its output holds nan or inf") == 1
    assert "%" not in title


BYTES = np.arange(4 * 64, dtype=np.float32).reshape(4, 8, 8, 1) % 256
SMALL = layers.Sequential(layers.Flatten(), layers.Linear(64, 3))


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("images", lambda: plots.mistakes(BYTES, [0, 1, 2, 0], spoiled([0.2, 0.3, 0.5]))),
        ("images", lambda: plots.layer_times(SMALL, BYTES)),
        ("image", lambda: plots.feature_maps(SMALL, BYTES[1])),
        ("image", lambda: plots.saliency(SMALL, BYTES[1])),
    ],
)
def test_bytes_as_floats_are_refused(name, draw):
    expected = rf"{name} is float32 with whole numbers up to \d+; expected 0 to 1: write {name}\."
    with pytest.raises(ValueError, match=expected):
        draw()


def test_a_model_of_such_floats_takes_them():
    """As one of CNNClassifier that was fitted to float images of 0 to 255."""
    model = layers.Sequential(layers.Flatten(), layers.Linear(64, 3))
    model.normalization = pycnn.preprocessing.Normalization(127.0, 70.0)
    title = plots.feature_maps(model, BYTES[1])._suptitle.get_text()
    assert "the network says" in title
