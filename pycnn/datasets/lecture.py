"""`read_data_sets`: the lecture's object, floats in batches, on the bytes of `load_mnist`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn.datasets.idx import CLASSES, IMAGE_SIZE
from pycnn.datasets.mnist import Split, check_validation_size, load_mnist

Floats = npt.NDArray[np.float32]


class DataSet:
    """One of the three parts of `read_data_sets`, and batches of it in random order.

    num_examples: its number of images n. labels: uint8 [n], or float32 [n, 10] with one_hot.
    epochs_completed: how often `next_batch` has gone through all images.
    """

    def __init__(self, split: Split, one_hot: bool, rng: np.random.Generator) -> None:
        """Begin before the first image."""
        self.num_examples = len(split)
        self.epochs_completed = 0
        self.labels: npt.NDArray[Any] = split.labels
        if one_hot:
            self.labels = np.eye(CLASSES, dtype=np.float32)[split.labels]
        self._pixels = split.images.reshape(len(split), IMAGE_SIZE * IMAGE_SIZE)
        self._rng = rng
        self._order = np.arange(self.num_examples)
        self._start = 0

    @cached_property
    def images(self) -> Floats:
        """All images, float32 [n, 784] in 0 .. 1: pixel / 255.

        Computed from the bytes when it is first asked for, and then kept (172 MB for 55,000); it is
        read-only, since `next_batch` goes back to the bytes and would not see a change.
        """
        images = _floats(self._pixels)
        images.flags.writeable = False
        return images

    def next_batch(
        self, batch_size: int, *, shuffle: bool = True
    ) -> tuple[Floats, npt.NDArray[Any]]:
        """The next images, float32 [batch_size, 784] in 0 .. 1, and their labels, in new arrays.

        An epoch shows every image once, in a new random order. A batch that reaches over its end is
        the rest of the old order and then the start of the new one, as in TensorFlow's
        `next_batch`: no image is left out, and one may be in that batch twice.

        shuffle=False draws no new order in this call, as in TensorFlow: with it in every call each
        epoch goes through the images as they are stored; after calls without it, the order that
        there is goes on. It is a keyword, since TensorFlow's second argument was fake_data.

        Raises ValueError for an empty set and for a batch_size below 1 or above num_examples,
        TypeError for one that is no int or a shuffle that is no bool.
        """
        if not isinstance(shuffle, (bool, np.bool_)):
            raise TypeError(f"next_batch: shuffle is {shuffle!r}; expected True or False.")
        which = self._next_indices(self._check(batch_size), bool(shuffle))
        return _floats(self._pixels[which]), self.labels[which]

    def _next_indices(self, batch_size: int, shuffle: bool) -> npt.NDArray[np.int64]:
        if shuffle and self._start == 0 and self.epochs_completed == 0:
            self._order = self._rng.permutation(self.num_examples)
        which = self._order[self._start : self._start + batch_size]
        self._start += batch_size
        if self._start > self.num_examples:
            self.epochs_completed += 1
            if shuffle:
                self._order = self._rng.permutation(self.num_examples)
            self._start = batch_size - len(which)
            which = np.concatenate([which, self._order[: self._start]])
        return which

    def _check(self, batch_size: object) -> int:
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"next_batch: batch_size is {batch_size!r}; expected a whole number.")
        if self.num_examples == 0:
            raise ValueError("next_batch: this set is empty; expected a validation_size above 0.")
        if not 1 <= batch_size <= self.num_examples:
            raise ValueError(
                f"next_batch: batch_size is {batch_size:,}; expected 1 to the {self.num_examples:,}"
                " images of this set."
            )
        return int(batch_size)


@dataclass(frozen=True, eq=False)
class DataSets:
    """The lecture's three sets."""

    train: DataSet
    validation: DataSet
    test: DataSet


def read_data_sets(
    data_dir: str | os.PathLike[str] | None = None,
    one_hot: bool = False,
    *,
    validation_size: int = 5000,
    seed: int = 0,
) -> DataSets:
    """The lecture's `mnist` object: `.train`, `.validation` and `.test`, each a `DataSet`.

    Each has .num_examples, .images float32 [n, 784] in 0 .. 1, .labels and .next_batch(n). Labels
    are uint8 [n], or with one_hot float32 [n, 10], the type of the images and of the network
    (TensorFlow's were float64). Only the bytes are kept in memory until .images is asked for.

    data_dir, validation_size: as for `load_mnist`; nothing is ever downloaded. seed: of the order
    of the batches, which is the same in every run with the same seed. Raises what `load_mnist`
    raises, and TypeError or ValueError for a seed that is no int or negative.
    """
    check_validation_size("read_data_sets", validation_size)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"read_data_sets: seed is {seed!r}; expected a whole number.")
    if seed < 0:
        raise ValueError(f"read_data_sets: seed is {seed}; expected 0 or more.")
    splits = load_mnist(data_dir, validation_size)
    train, validation, test = (
        DataSet(split, one_hot, np.random.default_rng(child))
        for split, child in zip(
            (splits.train, splits.validation, splits.test),
            np.random.SeedSequence(int(seed)).spawn(3),
            strict=True,
        )
    )
    return DataSets(train, validation, test)


def _floats(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Pixel * (1 / 255) in float32, as `ops.gather_images` computes it: the same bits."""
    floats = pixels.astype(np.float32)
    floats *= np.float32(1 / 255)
    return floats
