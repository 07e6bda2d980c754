"""`load_mnist`: a folder of four IDX files -> training, validation and test set, as bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn._formats import names
from pycnn.datasets import idx
from pycnn.datasets.idx import IdxError

NAMES_FILE = "class-names.txt"  # beside the IDX files
EMBEDDED = Path(__file__).resolve().parent / "mnist"


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and their labels; `len(split)` is their number n.

    images: uint8 [n, 28, 28, 1], C-contiguous, 0 background to 255 ink. labels: uint8 [n], 0 to 9.
    `load_idx` and `load_npz` give other sizes, `load_npz` float32 images in 0 .. 1 and int64 labels
    as well. class_names: a name for each label from 0 on, or None.

    Raises TypeError or ValueError for what are no names, or too few for the labels.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the names."""
        try:
            found = names.class_names(self.class_names)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Split: {error}") from None
        object.__setattr__(self, "class_names", found)
        if found is not None and len(self) and int(self.labels.max()) >= len(found):
            raise ValueError(
                f"Split: class_names has {len(found)} names, and there is a label "
                f"{self.labels.max()}; expected a name for each label from 0 on."
            )

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

    class_names: "0" to "9" for MNIST; of a folder those in its file class-names.txt, UTF-8, one
    name a line in the order of the labels, or None without such a file.

    Pixels stay bytes; `ops.gather_images` makes float32 batches of 0 to 1 of them. Raises IdxError,
    a ValueError, for a missing or wrong file; ValueError for a validation_size that leaves no
    training image; TypeError for one that is no int.
    """
    return _load("load_mnist", EMBEDDED if data_dir is None else Path(data_dir), validation_size)


def load_idx(data_dir: str | os.PathLike[str], validation_size: int = 5000) -> Splits:
    """The same from a folder of images of any size and number of classes.

    Images are uint8 [n, H, W, 1], H and W from 1 to 4096, alike in all files, and labels uint8 [n]:
    K classes are 0 to K - 1, at most 256. `classes_of` counts them. Names of files, validation_size
    and errors are those of `load_mnist`.
    """
    return _load("load_idx", Path(data_dir), validation_size, any_shape=True)


def classes_of(splits: Splits) -> int:
    """The number of names, or without names 1 + the largest label, but at least MNIST's ten."""
    if splits.train.class_names is not None:
        return len(splits.train.class_names)
    parts = (splits.train, splits.validation, splits.test)
    return max(idx.CLASSES, *(1 + int(part.labels.max()) for part in parts if len(part)))


def _load(who: str, folder: Path, validation_size: int, any_shape: bool = False) -> Splits:
    size = check_validation_size(who, validation_size)
    if not idx.is_folder(folder):
        raise IdxError(
            f"{folder}: found no folder of that name; expected one with the four IDX files of a "
            "data set, or no data_dir for the MNIST of this package."
        )
    training, test = (_read_pair(folder, name, any_shape) for name in ("train", "t10k"))
    if training.images.shape[1:] != test.images.shape[1:]:
        (H, W), (h, w) = (part.images.shape[1:3] for part in (training, test))
        raise IdxError(
            f"{folder}: found training images of {H} x {W} pixels and test images of {h} x {w}; "
            "expected one size."
        )
    if size >= len(training):
        raise ValueError(
            f"{who}: validation_size is {size:,}; expected 0 to {len(training) - 1:,}, less "
            f"than the {len(training):,} training images in {folder}."
        )
    try:
        found = _class_names(folder)
        return Splits(
            train=Split(training.images[size:], training.labels[size:], found),
            validation=Split(training.images[:size], training.labels[:size], found),
            test=Split(test.images, test.labels, found),
        )
    except (TypeError, ValueError) as error:
        raise IdxError(f"{folder / NAMES_FILE}: {str(error).removeprefix('Split: ')}") from None


def check_validation_size(who: str, size: object) -> int:
    """The size as an int, or TypeError, or ValueError for a negative one."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise TypeError(f"{who}: validation_size is {size!r}; expected a whole number of images.")
    if size < 0:
        raise ValueError(f"{who}: validation_size is {size}; expected 0 or more images.")
    return int(size)


def _read_pair(folder: Path, prefix: str, any_shape: bool) -> Split:
    images_path = _find(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = _find(folder, f"{prefix}-labels-idx1-ubyte")
    images = idx.read_images(images_path, any_size=any_shape)
    labels = idx.read_labels(labels_path, 256 if any_shape else idx.CLASSES)
    if len(images) != len(labels):
        raise IdxError(
            f"{labels_path}: found {len(labels):,} labels; expected one for each of the "
            f"{len(images):,} images in {images_path.name}."
        )
    return Split(images[..., np.newaxis], labels)


def _class_names(folder: Path) -> tuple[str, ...] | None:
    """Those in the file of names; MNIST's are its digits."""
    if folder == EMBEDDED:
        return tuple(map(str, range(idx.CLASSES)))
    path = folder / NAMES_FILE
    if not os.path.lexists(path):
        return None
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        raise ValueError("found bytes that are no UTF-8; expected one name a line.") from None
    return names.class_names([line.strip() for line in lines])


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if idx.exists(path):
            return path
    raise IdxError(f"{folder}: found neither {name}.gz nor {name}; expected one of them.")
