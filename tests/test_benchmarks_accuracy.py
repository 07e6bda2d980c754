"""The benchmark of recipes over seeds, without a clock: what is trained, summed up and drawn."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from pycnn import datasets, recipes

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of the checkout, not installed

from benchmarks import bench_accuracy, bench_trainer, plots  # noqa: E402
from benchmarks.peers import network, peer_pycnn  # noqa: E402

RUNS = [
    {"seed": 0, "seconds": 3.0, "test": 0.990, "validation": 0.99},
    {"seed": 1, "seconds": 1.0, "test": 0.992, "validation": 0.98},
    {"seed": 2, "seconds": 2.0, "test": 0.991, "validation": 0.97},
]
SLOWER = [{"seed": 0, "seconds": 4.0, "test": 0.98, "validation": 0.9}]


@pytest.fixture
def splits():
    """The first images of each set."""
    data = datasets.load_mnist()

    def few(split, count):
        return datasets.Split(split.images[:count], split.labels[:count])

    return datasets.Splits(few(data.train, 600), few(data.validation, 90), few(data.test, 80))


def test_summary_and_text():
    found = bench_accuracy.summary(RUNS)
    assert found == pytest.approx(
        {"mean": 99.1, "std": 0.1, "worst": 99.0, "min_s": 1.0, "median_s": 2.0}
    )
    assert bench_accuracy.summary(SLOWER)["std"] == 0
    text = bench_accuracy.text("fast", 2, {"pycnn": RUNS, "PyTorch": SLOWER})
    assert "pycnn, seeds 0 to 2: 99.00, 99.20, 99.10" in text
    assert "no choice was made by here: mean 98.00 %" in text
    assert text.splitlines()[-1].split() == [
        "PyTorch", "1", "98.00", "0.00", "98.00", "4.00", "4.00", "4.00", "2.00",
    ]  # fmt: skip


def test_the_splits_go_round(tmp_path, splits):
    found = network.load_splits(network.save_splits(tmp_path, splits))
    assert list(found) == ["train", "validation", "test"]
    for name, (images, labels) in found.items():
        np.testing.assert_array_equal(images, getattr(splits, name).images)
        np.testing.assert_array_equal(labels, getattr(splits, name).labels)


def test_pycnn_trains_the_recipe_with_this_seed(tmp_path, splits):
    """The worker's accuracies are those of a Trainer of the same recipe."""
    recipe = recipes.get("fast").with_settings({"limit_train": 500})
    data = network.load_splits(network.save_splits(tmp_path, splits))
    train = peer_pycnn.recipe(data, threads=1, variant="")
    accuracies = []
    for seed in (0, 3):
        found = train(recipe.to_dict(), seed)
        assert found["seconds"] > 0
        trainer = recipe.with_settings({"seed": seed}).make_trainer(500)
        first = splits.train.images[:500], splits.train.labels[:500]
        trainer.fit(first, **recipe.lengths(500))
        for name in ("test", "validation"):
            assert found[name] == trainer.evaluate(getattr(splits, name))["accuracy"]
        accuracies.append(found["validation"])
    assert accuracies[0] != accuracies[1]


def test_the_plot_has_a_dot_a_seed(tmp_path):
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("needs matplotlib, of the extra `plot`")
    report = {"recipes": {"fast": {"runs": {"pycnn": RUNS, "PyTorch": SLOWER}}}}
    drawn = []
    figure_of = plots.save
    try:
        plots.save = lambda figure, path: drawn.append(figure)
        plots.accuracies(report, tmp_path / "accuracy.png")
    finally:
        plots.save = figure_of
    axes = drawn[0].axes[0]
    dots = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[99.0, 99.2, 99.1], [98.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "fast\npycnn", "fast\nPyTorch",
    ]  # fmt: skip
    plots.pyplot().close(drawn[0])


def test_the_bare_loop_does_what_the_trainer_does(monkeypatch):
    """Both leave the same weights, so their seconds can be compared."""
    recipe = recipes.get("fast")
    train = datasets.load_mnist().train
    split = datasets.Split(train.images[:500], train.labels[:500])
    made = []
    model_of = recipes.Recipe.model

    def remembered(self, *arguments):
        made.append(model_of(self, *arguments))
        return made[-1]

    monkeypatch.setattr(recipes.Recipe, "model", remembered)
    assert bench_trainer.bare_epoch(recipe, split) > 0
    assert bench_trainer.trainer_epoch(recipe, split) > 0
    one, other = (model.state_dict() for model in made)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], name)


def test_the_text_of_the_trainer_section():
    found = {"bare": [0.5, 0.4, 0.6], "trainer": [0.42, 0.7, 0.55]}
    text = bench_trainer.text(
        {
            "threads": 2,
            "loops": dict.fromkeys(bench_trainer.STEPS, found),
            "checkpoint": [0.004, 0.002],
            "import": {"numpy": [0.1], "pycnn": [0.2]},
        }
    )
    assert text.count("1.050 / 1.100") == 2
    assert "a checkpoint of the lecture's model: 2.00 ms / 3.00 ms" in text
    assert bench_trainer.checkpoints(2)[0] > 0
