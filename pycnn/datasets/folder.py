"""Pictures in folders that have the names of their classes: `ImageFolder`, `load_image_folder`.

    pets/train/cat/001.png      pets/cat/001.png
    pets/train/dog/anna.jpg     pets/dog/anna.jpg
    pets/test/cat/002.png

Pillow reads the pictures; it is in the extra `images`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pycnn._formats import names as naming
from pycnn._formats.files import FileError, file_path
from pycnn._runtime.checks import is_whole
from pycnn._runtime.extras import need
from pycnn.datasets.mnist import Split, Splits, check_validation_size

Bytes = npt.NDArray[np.uint8]

PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
TRAIN, TEST = "train", "test"
MOST_SIDE = 4096  # pixels
GREY = {"1", "L", "LA", "La"}  # Pillow's modes; a palette counts as colours


class ImageFolder:
    """The pictures of a folder of classes, of which only those asked for are in memory.

    `len(folder)` pictures: `files[i]` is of class `labels[i]`, named `class_names[labels[i]]`; the
    classes are the folders in the order of their names. image_shape: (H, W, C) of all images.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        """Find the pictures of path/CLASS/; no pixel is read.

        size: (H, W), or one number for both, to which pictures are scaled (bilinear; proportions
        change if those of the picture differ); None: all have one size. channels: 1 grey, 3 RGB;
        None: grey if all pictures are. class_names: take these folders alone, in this order.

        Raises FileError for a folder without classes, a class without pictures, a file that is no
        picture, and pictures of several sizes without `size`; ImportError without Pillow.
        """
        need("PIL.Image", "images", "ImageFolder")
        self.path = file_path(path)
        names = _classes(self.path)
        unknown = sorted(set(names) - set(class_names or names))
        if unknown:
            _refuse(self.path / unknown[0], "a class", f"one of {', '.join(class_names or ())}")
        self.class_names = tuple(names) if class_names is None else class_names
        files = [_pictures(self.path / n) if n in names else [] for n in self.class_names]
        self.files = [file for one in files for file in one]
        self.labels = np.repeat(np.arange(len(files)), [len(one) for one in files])
        H, W = _sides(size) or self._common_size()
        self.image_shape = H, W, self._channels() if channels is None else _checked(channels)

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.files)

    def read(self, indices: npt.ArrayLike) -> Bytes:
        """These pictures: uint8 [B, H, W, C]; FileError for one that cannot be read."""
        rows = [self.files[i] for i in np.asarray(indices).tolist()]
        images = np.empty((len(rows), *self.image_shape), np.uint8)
        for image, file in zip(images, rows, strict=True):
            image[...] = _pixels(file, self.image_shape)
        return images

    def batches(self, batch_size: int, seed: int = 0) -> FolderBatches:
        """All pictures in an order drawn from (seed, epoch), for `Trainer.fit`."""
        return FolderBatches(self, batch_size, seed)

    def _common_size(self) -> tuple[int, int]:
        (W, H), *_ = sizes = [_opened(file, lambda picture: picture.size) for file in self.files]
        for file, (w, h) in zip(self.files, sizes, strict=True):
            if (w, h) != (W, H):
                _refuse(
                    file,
                    f"{w} x {h} pixels",
                    f"{W} x {H}, as {self.files[0]}, or a size to scale all to: size=(H, W), in the"
                    " command --image-size N",
                )
        return H, W

    def _channels(self) -> int:
        grey = all(_opened(file, lambda picture: picture.mode in GREY) for file in self.files)
        return 1 if grey else 3


class FolderBatches:
    """Batches (x, labels) of an `ImageFolder`, each read when its turn comes."""

    def __init__(self, folder: ImageFolder, batch_size: int, seed: int) -> None:
        """Raises ValueError for a batch_size that no batch can have."""
        if not is_whole(batch_size) or not 1 <= batch_size <= len(folder):
            raise ValueError(
                f"ImageFolder.batches: batch_size is {batch_size!r}; expected 1 to the "
                f"{len(folder)} pictures."
            )
        self._folder, self._size, self._seed, self._epoch = folder, int(batch_size), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The order of the next pass; the `Trainer` calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Whole batches; the rest is left out, in each epoch another one."""
        return len(self._folder) // self._size

    def __iter__(self) -> Iterator[tuple[Bytes, npt.NDArray[np.int64]]]:
        """(uint8 [B, H, W, C], int64 [B])."""
        order = np.random.default_rng([self._seed, 1, self._epoch]).permutation(len(self._folder))
        for step in range(len(self)):
            rows = order[step * self._size : (step + 1) * self._size]
            yield self._folder.read(rows), self._folder.labels[rows]


def load_image_folder(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    validation_size: int = 0,
    channels: int | None = None,
) -> Splits:
    """All pictures of a folder in memory, with `.train`, `.validation` and `.test`.

    path: with folders train/CLASS/ and, if there is one, test/CLASS/; or with the classes
    themselves, all for training. The order is shuffled once, always alike; the first
    validation_size of it are the validation set. size, channels: as in `ImageFolder`, which is for
    folders larger than the memory. Images are uint8 [n, H, W, C], labels int64 [n].

    Raises FileError as `ImageFolder`, ValueError for a validation_size that leaves no image.
    """
    kept = check_validation_size("load_image_folder", validation_size)
    root = file_path(path)
    inside = root / TRAIN
    train = ImageFolder(inside if inside.is_dir() else root, size, channels)
    if kept >= len(train):
        raise ValueError(
            f"load_image_folder: validation_size is {kept:,}; expected 0 to {len(train) - 1:,}, "
            f"less than the {len(train):,} training images in {root}."
        )
    names, shape = train.class_names, train.image_shape
    order = np.random.default_rng(0).permutation(len(train))
    images, labels = train.read(order), train.labels[order]
    test = Split(images[:0], labels[:0], names)
    if inside.is_dir() and (root / TEST).is_dir():
        others = ImageFolder(root / TEST, size or shape[:2], shape[2], names)
        _check_alike(others, train, size)
        test = Split(others.read(np.arange(len(others))), others.labels, names)
    return Splits(
        train=Split(images[kept:], labels[kept:], names),
        validation=Split(images[:kept], labels[:kept], names),
        test=test,
    )


def _check_alike(test: ImageFolder, train: ImageFolder, size: object) -> None:
    """Without a size to scale to, pictures for testing are as large as those for training."""
    if size is None and test._common_size() != train.image_shape[:2]:
        (H, W), (h, w) = train.image_shape[:2], test._common_size()
        _refuse(test.files[0], f"{w} x {h} pixels", f"{W} x {H}, as for training, or a size=(H, W)")


def _classes(path: Path) -> list[str]:
    """The folders in this one, in the order of their names."""
    if not path.is_dir():
        raise FileError(f"{path}: there is no such folder; expected one with a folder a class.")
    names = sorted(p.name for p in listed(path) if p.is_dir())
    if not names:
        _refuse(path, "no folders in it", "one a class, with its pictures: CLASS/NAME.png")
    try:
        naming.class_names(names)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None
    return names


def _pictures(path: Path) -> list[Path]:
    found = listed(path)
    for file in found:
        if file.suffix.lower() not in PICTURES or not file.is_file():
            kind = "a folder" if file.is_dir() else "no picture by its name"
            _refuse(file, kind, f"pictures alone: {', '.join(sorted(PICTURES))}")
    if not found:
        _refuse(path, "no pictures in it", f"some of class {path.name}, or no such folder")
    return found


def listed(path: Path) -> list[Path]:
    """What is in a folder, in the order of names, without what systems hide there."""
    try:
        return sorted(p for p in path.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _sides(size: object) -> tuple[int, int] | None:
    """(H, W) of the argument."""
    if size is None:
        return None
    pair = size if isinstance(size, tuple) else (size, size)
    if len(pair) != 2 or not all(is_whole(n) and 1 <= n <= MOST_SIDE for n in pair):
        raise ValueError(
            f"ImageFolder: size is {size!r}; expected (H, W), or one number for both, 1 to "
            f"{MOST_SIDE} pixels, or None."
        )
    return int(pair[0]), int(pair[1])


def _checked(channels: object) -> int:
    if channels not in (1, 3):
        raise ValueError(f"ImageFolder: channels is {channels!r}; expected 1, 3 or None.")
    return 1 if channels == 1 else 3


def _pixels(file: Path, shape: tuple[int, int, int]) -> Bytes:
    from PIL import Image, ImageOps

    def read(picture: Any) -> Bytes:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode[0] in "IF":
            _refuse(file, "more than 8 bits a channel", "8: save it so")
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
        picture = picture.convert("L" if shape[2] == 1 else "RGB")
        if picture.size != (shape[1], shape[0]):
            picture = picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        return np.asarray(picture, np.uint8).reshape(shape)

    pixels: Bytes = _opened(file, read)
    return pixels


def _opened(file: Path, look: Any) -> Any:
    """What `look` sees in a picture; FileError for a file that Pillow cannot read."""
    import PIL
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return look(picture)
    except FileError:
        raise
    except PIL.UnidentifiedImageError:
        _refuse(file, "no picture in a format that Pillow knows", "what its name says")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"{file}: cannot be read as a picture: {reason.rstrip('.')}.") from error


def _refuse(path: Path, found: str, expected: str) -> NoReturn:
    raise FileError(f"{path}: found {found}; expected {expected}.")
