"""`python -m benchmarks.augmentation_picture FILE.png`: digits and what augmentation makes of them.

Draws the picture of docs/augmentation.md; needs the extra `plot`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .plots import MissingPlotError, pyplot

DIGITS = 10
TOGETHER = {"shift": 2.0, "rotation": 10.0, "scale": 0.1, "shear": 0.1}
ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("as they are", {}),
    ("shift=2", {"shift": 2.0}),
    ("rotation=20", {"rotation": 20.0}),
    ("scale=0.3", {"scale": 0.3}),
    ("shear=0.4", {"shear": 0.4}),
    ("elastic_alpha=34\nelastic_sigma=4", {"elastic_alpha": 34.0}),
    ("erase=1", {"erase": 1.0}),
    ("crop=4", {"crop": 4}),
    ("flip=0.5", {"flip": 0.5}),
    ("brightness=0.5\ncontrast=0.5", {"brightness": 0.5, "contrast": 0.5}),
    ("mixup=1", {"mixup": 1.0}),
    ("shift=2, rotation=10\nscale=0.1, shear=0.1", TOGETHER),
    ("the same, elastic\nand erase=0.5", {**TOGETHER, "elastic_alpha": 34.0, "erase": 0.5}),
)


def draw(path: Path) -> None:
    """Write the picture: a row an augmentation, a column a digit of the training images."""
    from pycnn import augment, datasets

    data = datasets.load_mnist().train
    first = np.array([np.flatnonzero(data.labels == digit)[3] for digit in range(DIGITS)])
    size = (8.0, 0.62 * len(ROWS) + 0.5)
    figure, grid = pyplot().subplots(len(ROWS), DIGITS, figsize=size, dpi=100)
    for axes_of_row, (title, options) in zip(grid, ROWS, strict=True):
        how = augment.Augmentation(**options)
        images = how.gather(data.images, np.append(first, first[0]), seed=0, epoch=1)
        if how.mixup:  # each with its neighbour to the right
            mixup = augment.Mixup(how.mixup, seed=0, epoch=1, classes_of=lambda shape: DIGITS)
            mixup.mix(images, data.labels[np.append(first, first[0])], mixup.shares(DIGITS))
        images = images[:DIGITS]
        for axes, image in zip(axes_of_row, images, strict=True):
            axes.imshow(image[..., 0], cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        axes_of_row[0].set_ylabel(
            title, rotation=0, ha="right", va="center", fontsize=10, labelpad=8
        )
    figure.suptitle("Ten digits of MNIST, and what each augmentation makes of them", fontsize=12)
    figure.subplots_adjust(left=0.215, right=0.99, top=0.925, bottom=0.01, wspace=0.06, hspace=0.06)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
    pyplot().close(figure)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation_picture")
    parser.add_argument("path", type=Path, help="the PNG file to write")
    path = parser.parse_args().path
    try:
        draw(path)
    except MissingPlotError as error:
        parser.exit(1, f"{error}\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
