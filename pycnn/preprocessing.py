"""What happens to an image before the first layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from pycnn._runtime.checks import is_finite, is_number
from pycnn.ops.arrays import Array, are_bytes_as_floats, kind_of

PerChannel: TypeAlias = float | tuple[float, ...]


@dataclass(frozen=True)
class Normalization:
    """y = (image - mean) / std, of an image in 0 .. 1 and before any padding.

    mean, std: a number for all channels, or a tuple of one number a channel; std above 0. The
    default, mean 0 and std 1, leaves images as they are. A model carries it as
    `model.normalization`; its layers do not apply it: `Trainer`, `python -m pycnn.predict` and
    `ops.gather_images(images, indices, mean=..., std=...)` do, and so does a call,
    `model(model.normalization(x))`. `save_model` saves it with the model.

    Raises TypeError for what is no number, ValueError for NaN, Inf and a std of 0 or below.
    """

    mean: PerChannel = 0.0
    std: PerChannel = 1.0

    def __post_init__(self) -> None:
        """Make floats of all numbers, tuples of lists and arrays."""
        object.__setattr__(self, "mean", _numbers("mean", self.mean))
        object.__setattr__(self, "std", _numbers("std", self.std))
        deviations = self.std if isinstance(self.std, tuple) else (self.std,)
        if any(std <= 0 for std in deviations):
            raise ValueError(f"Normalization: std is {self.std}; expected numbers above 0.")
        both = [value for value in (self.mean, self.std) if isinstance(value, tuple)]
        if len(both) == 2 and len(both[0]) != len(both[1]):
            raise ValueError(
                f"Normalization: mean has {len(both[0])} numbers and std {len(both[1])}; "
                "expected one a channel in both."
            )

    @property
    def is_identity(self) -> bool:
        """Whether images stay as they are."""
        return bool(np.all(np.equal(self.mean, 0.0)) and np.all(np.equal(self.std, 1.0)))

    @property
    def channels(self) -> int | None:
        """How many channels mean or std name; None if one number stands for all."""
        for value in (self.mean, self.std):
            if isinstance(value, tuple):
                return len(value)
        return None

    def __call__(self, images: Array) -> Array:
        """(images - mean) / std in float32, a new array; images: float32 [..., C] in 0 .. 1.

        Raises TypeError for another type, ValueError for another number of channels than mean or
        std have.
        """
        if not isinstance(images, np.ndarray) or images.dtype != np.float32:
            found = images.dtype if isinstance(images, np.ndarray) else kind_of(images)
            raise TypeError(
                f"Normalization: images is {found}; expected a float32 array in 0 .. 1: "
                "write images.astype(np.float32) / 255 for bytes."
            )
        if self.channels is not None and images.shape[-1:] != (self.channels,):
            raise ValueError(
                f"Normalization: images has shape {images.shape}; "
                f"expected C = {self.channels} channels on the last axis."
            )
        y = images - np.asarray(self.mean, np.float32)
        y /= np.asarray(self.std, np.float32)
        return y

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `{"mean": ..., "std": ...}`, numbers or lists."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in (("mean", self.mean), ("std", self.std))
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Normalization:
        """What `to_dict` returned; ValueError or TypeError for anything else."""
        if not isinstance(d, Mapping) or set(d) != {"mean", "std"}:
            raise ValueError(f"Normalization: found {d!r}; expected a dict of mean and std.")
        return cls(d["mean"], d["std"])


def predict(
    who: str,
    forward: Callable[[Array], Any],
    normalization: Normalization,
    images: Any,
    batch_size: int,
) -> Any:
    """forward(normalised images), batch by batch: an array, or a tuple of several.

    who: begins the sentences of the TypeError and ValueError for what are no images.
    """
    good = isinstance(images, np.ndarray) and images.dtype in (np.uint8, np.float32)
    if not good or images.ndim < 2:
        found = (
            f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else kind_of(images)
        )
        raise TypeError(
            f"{who}: images is {found}; expected images [n, H, W, C] (or rows [n, features]), "
            "uint8, or float32 in 0 .. 1."
        )
    if are_bytes_as_floats(images):
        raise ValueError(
            f"{who}: images are float32 with whole numbers up to {images[:1000].max():g}; "
            "expected 0 to 1: write images.astype(np.uint8), or images / 255."
        )
    parts = []
    for first in range(0, max(len(images), 1), batch_size):
        x = images[first : first + batch_size]
        if x.dtype == np.uint8:
            x = x.astype(np.float32) / np.float32(255)
        ys = forward(np.ascontiguousarray(x) if normalization.is_identity else normalization(x))
        parts.append(ys if isinstance(ys, tuple) else (ys,))
    whole = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return whole[0] if len(whole) == 1 else tuple(whole)


def _numbers(name: str, value: float | Sequence[float] | Array) -> PerChannel:
    several = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim)
    items = list(value) if several else [value]  # type: ignore[arg-type]
    for item in items:
        if not is_number(item):
            raise TypeError(
                f"Normalization: {name} is {value!r}; expected a number, or one a channel."
            )
        if not is_finite(item):
            raise ValueError(f"Normalization: {name} is {value!r}; expected finite numbers.")
    if not items:
        raise ValueError(f"Normalization: {name} is empty; expected a number, or one a channel.")
    return tuple(float(item) for item in items) if several else float(items[0])  # type: ignore[arg-type]
