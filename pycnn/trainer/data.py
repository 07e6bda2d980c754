"""What `Trainer` takes, and the sentences about what it does not take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn.datasets import Split
from pycnn.layers import Sequential
from pycnn.ops.arrays import Array, are_bytes_as_floats, kind_of

Data = Split | tuple[npt.NDArray[Any], npt.NDArray[Any]]


def expect(right: bool, name: str, value: object, expected: str) -> None:
    """TypeError unless `right`."""
    if not right:
        raise TypeError(f"Trainer: {name} is {value!r}; expected {expected}.")


def whole(name: str, value: object, low: int) -> int:
    """An int of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"Trainer: {name} is {value!r}; expected a whole number, {low} or more.")
    return int(value)


def _described(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else kind_of(value)


def images_of(images: object, name: str) -> npt.NDArray[Any]:
    """The images themselves: uint8 or float32 [n, H, W, C]."""
    good = isinstance(images, np.ndarray) and images.dtype in (np.uint8, np.float32)
    if not (good and images.ndim == 4):  # type: ignore[attr-defined]
        raise TypeError(
            f"Trainer: {name} is {_described(images)}; expected images [n, H, W, C], uint8 of 0 "
            f"to 255 or float32 of 0 to 1{_advice(images)}."
        )
    no_bytes(images, name)  # type: ignore[arg-type]
    return images  # type: ignore[return-value]


def _advice(images: object) -> str:
    """What to write instead; integers are pixels of 0 to 255, which a cast to floats would keep."""
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "iuf":
        return ""
    if images.dtype.kind == "f" and images.dtype != np.float32:
        return ": write x.astype(np.float32)"
    if images.dtype.kind in "iu" and images.dtype != np.uint8:
        return ": write x.astype(np.uint8)"
    return ": write x.reshape(-1, 28, 28, 1)"


def checked(data: object, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The images and labels of a split or a pair."""
    if isinstance(data, Split):
        data = data.images, data.labels
    if not (isinstance(data, Sequence) and len(data) == 2):
        raise TypeError(
            f"Trainer: {name} is {kind_of(data)}; expected a split of load_mnist, or "
            "(images, labels)."
        )
    images, labels = images_of(data[0], f"{name} images"), np.asarray(data[1])
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        found = _described(labels if labels.dtype.kind in "biufc" else data[1])
        raise TypeError(
            f"Trainer: {name} labels are {found}; expected integers "
            f"[{len(images)}], one for each image: for one-hot rows write labels.argmax(axis=1)."
        )
    return images, labels


def take_names(model: Sequential, data: Data) -> None:
    """Give a model without class_names those of a split, if it has as many outputs."""
    if isinstance(data, Split) and data.class_names and model.class_names is None:
        outputs = model.output_shape((1, *data.images.shape[1:]))[-1]
        if outputs == len(data.class_names):
            model.class_names = data.class_names


def some(images: Array, name: str) -> None:
    """ValueError for no images."""
    if len(images) == 0:
        raise ValueError(f"Trainer: {name} has no images; expected at least one.")


def no_bytes(images: Array, name: str) -> None:
    """ValueError for float32 images of 0 to 255, which a network of images in 0 .. 1 misreads."""
    if are_bytes_as_floats(images):
        raise ValueError(
            f"Trainer: {name} are float32 with whole numbers up to {images[:1000].max():g}; "
            "expected 0 to 1: write images.astype(np.uint8), or images / 255."
        )
