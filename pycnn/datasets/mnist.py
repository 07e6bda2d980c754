"""`load_mnist`: a folder of four IDX files -> training, validation and test set, as bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn.datasets import idx
from pycnn.datasets.idx import IdxError

EMBEDDED = Path(__file__).resolve().parent / "mnist"


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and their labels; `len(split)` is their number n.

    images: uint8 [n, 28, 28, 1], C-contiguous, 0 background to 255 ink. labels: uint8 [n], 0 to 9.
    `load_npz` gives other sizes, float32 images in 0 .. 1 and int64 labels as well.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def __repr__(self) -> str:
        """The number of images, not the pixels."""
        return f"Split({len(self):,} images)"


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set."""

    train: Split
    validation: Split
    test: Split


def load_mnist(
    data_dir: str | os.PathLike[str] | None = None, validation_size: int = 5000
) -> Splits:
    """MNIST, or another data set in files of its shape, with `.train`, `.validation` and `.test`.

    data_dir: a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte,
    t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or as .gz (which wins if there are
    both): MNIST, Fashion-MNIST, KMNIST and others that have 28 x 28 pixels and labels 0 to 9. None
    is MNIST itself, which is part of this package (its licence: datasets/mnist/LICENSE).
    validation_size: the first so many training images are the validation set, as in the lecture;
    the rest is `.train`. 0 leaves `.validation` empty.

    Pixels stay bytes; `ops.gather_images` makes float32 batches of 0 to 1 of them. Raises IdxError,
    a ValueError, for a missing or wrong file; ValueError for a validation_size that leaves no
    training image; TypeError for one that is no int.
    """
    size = check_validation_size("load_mnist", validation_size)
    folder = EMBEDDED if data_dir is None else Path(data_dir)
    if not idx.is_folder(folder):
        raise IdxError(
            f"{folder}: found no folder of that name; expected one with the four IDX files of a "
            "data set, or no data_dir for the MNIST of this package."
        )
    training, test = _read_pair(folder, "train"), _read_pair(folder, "t10k")
    if size >= len(training):
        raise ValueError(
            f"load_mnist: validation_size is {size:,}; expected 0 to {len(training) - 1:,}, less "
            f"than the {len(training):,} training images in {folder}."
        )
    return Splits(
        train=Split(training.images[size:], training.labels[size:]),
        validation=Split(training.images[:size], training.labels[:size]),
        test=test,
    )


def check_validation_size(who: str, size: object) -> int:
    """The size as an int, or TypeError, or ValueError for a negative one."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise TypeError(f"{who}: validation_size is {size!r}; expected a whole number of images.")
    if size < 0:
        raise ValueError(f"{who}: validation_size is {size}; expected 0 or more images.")
    return int(size)


def _read_pair(folder: Path, prefix: str) -> Split:
    images_path = _find(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = _find(folder, f"{prefix}-labels-idx1-ubyte")
    images, labels = idx.read_images(images_path), idx.read_labels(labels_path)
    if len(images) != len(labels):
        raise IdxError(
            f"{labels_path}: found {len(labels):,} labels; expected one for each of the "
            f"{len(images):,} images in {images_path.name}."
        )
    return Split(images[..., np.newaxis], labels)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if os.path.lexists(path):
            return path
    raise IdxError(f"{folder}: found neither {name}.gz nor {name}; expected one of them.")
