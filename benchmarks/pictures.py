"""`python -m benchmarks.pictures`: the pictures of docs/images/, of a model of the recipe `fast`.

Training and pictures are seeded: only the times of layer_times.png differ from run to run, so run
it on a quiet machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pycnn import datasets, plots, recipes
from pycnn.callbacks import LearningRateLog
from pycnn.trainer import Trainer

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
CURVE_EPOCHS = 5  # as one epoch, that of the recipe, shows no overfitting


def train(
    recipe: recipes.Recipe, data: datasets.Splits, epochs: int
) -> tuple[Trainer, LearningRateLog]:
    """A Trainer that has trained by the recipe."""
    rates, images = LearningRateLog(), len(data.train)
    recipe = recipe.with_settings({"epochs": epochs})
    trainer = recipe.make_trainer(images, [rates])
    trainer.fit(data.train, data.validation, **recipe.lengths(images))
    return trainer, rates


def draw(folder: Path, data: datasets.Splits, recipe: recipes.Recipe, curve_epochs: int) -> None:
    """Train twice and write the eight pictures."""
    trainer, rates = train(recipe, data, curve_epochs)
    plots.save(plots.learning_curves(trainer.history, rates), folder / "learning_curves.png")
    trainer, _ = train(recipe, data, recipe.epochs)
    model, test = trainer.model, data.test
    probabilities = trainer.predict_proba(test.images)
    said = probabilities.argmax(axis=1)
    worst = int(plots.results.worst(test.labels, probabilities)[0])
    batch = data.train.images[: recipe.batch_size]
    figures = {
        "layer_times": plots.layer_times(model, batch, repeats=50),
        "confusion_matrix": plots.confusion_matrix(test.labels, said),
        "mistakes": plots.mistakes(test.images, test.labels, probabilities),
        "filters": plots.filters(model),
        "feature_maps": plots.feature_maps(model, test.images[0], int(test.labels[0])),
        "saliency": plots.saliency(model, test.images[0]),
        "occlusion": plots.saliency(
            model, test.images[worst], "occlusion", int(test.labels[worst])
        ),
    }
    for name, figure in figures.items():
        plots.save(figure, folder / f"{name}.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="by default docs/images")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    draw(options.folder, datasets.load_mnist(), recipes.get("fast"), CURVE_EPOCHS)
    for path in sorted(options.folder.glob("*.png")):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
