"""What `Trainer` takes, and the sentences about what it does not take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pycnn.datasets import Split
from pycnn.layers import Module
from pycnn.ops.arrays import Array, are_bytes_as_floats, kind_of
from pycnn.trainer.callback import Callback

Data: TypeAlias = Split | tuple[npt.NDArray[Any], ...]
Batches: TypeAlias = Iterable[Any] | Callable[..., Iterable[Any]]
Function: TypeAlias = Callable[..., tuple[float, Array]]  # a loss


def expect(right: bool, name: str, value: object, expected: str) -> None:
    """TypeError unless `right`."""
    if not right:
        raise TypeError(f"Trainer: {name} is {value!r}; expected {expected}.")


def callbacks_of(given: object) -> list[Callback]:
    """The callbacks, as a list of our own."""
    expect(isinstance(given, Iterable), "callbacks", given, "a list: write callbacks=[...]")
    found: list[Callback] = list(given)  # type: ignore[call-overload]
    for callback in found:
        expect(isinstance(callback, Callback), "callbacks", callback, "callbacks.Callback")
    return found


def whole(name: str, value: object, low: int) -> int:
    """An int of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"Trainer: {name} is {value!r}; expected a whole number, {low} or more.")
    return int(value)


def above_zero(name: str, value: object) -> float | None:
    """A finite number above 0, or None."""
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if value is not None and not (real and 0 < value < math.inf):  # type: ignore[operator]
        raise ValueError(f"Trainer: {name} is {value!r}; expected a number above 0, or None.")
    return value  # type: ignore[return-value]


def described(value: object) -> str:
    """What a sentence calls data: "float64 (37, 6, 6, 1)", "a list"."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else kind_of(value)


def is_array(value: object) -> bool:
    """Whether it is an array, or becomes one by `__array__`, as a tensor of PyTorch does."""
    return isinstance(value, np.ndarray) or hasattr(value, "__array__")


def samples_of(x: Any, name: str) -> Array:
    """The samples themselves, uncopied: uint8 or float32 [n, ...] with at least two axes."""
    if not isinstance(x, np.ndarray) and hasattr(x, "__array__"):
        x = np.asarray(x)
    if not isinstance(x, np.ndarray):
        advice = ": write np.asarray(x, np.float32)" if isinstance(x, (list, tuple)) else ""
        raise TypeError(
            f"Trainer: {name} is {kind_of(x)}; expected a NumPy array [n, ...], uint8 or float32"
            f"{advice}."
        )
    if x.dtype != np.uint8 and x.dtype != np.float32:
        advice = ""
        if x.dtype.kind in "biuf":
            advice = ": write x.astype(np.float32)"
        if x.dtype.kind in "iu":  # of images pixels of 0 to 255, which no_bytes would refuse
            bytes_only = ": write x.astype(np.uint8)"
            advice = bytes_only if x.ndim == 4 else f"{advice}, or x.astype(np.uint8) for bytes"
        raise TypeError(
            f"Trainer: {name} is {described(x)}; expected uint8, of which 0 to 255 becomes 0 to 1, "
            f"or float32{advice}."
        )
    if x.ndim < 2:
        raise ValueError(
            f"Trainer: {name} is {described(x)}; expected at least two axes, rows [n, features] or "
            "images [n, H, W, C]: write x[:, None] for samples of one number, x[None] for a single "
            "sample."
        )
    return x


def take_names(model: Module, data: object) -> None:
    """Give a model without class_names those of a split, if it has as many outputs."""
    if isinstance(data, Split) and data.class_names and model.class_names is None:
        outputs = model.output_shape((1, *data.images.shape[1:]))[-1]
        if outputs == len(data.class_names):
            model.class_names = data.class_names


def some(x: Array, name: str) -> None:
    """ValueError for no samples."""
    if len(x) == 0:
        raise ValueError(f"Trainer: {name} has no samples; expected at least one.")


def only_images(x: Array, name: str) -> None:
    """ValueError for samples that augmentation cannot distort."""
    if x.ndim != 4:
        raise ValueError(
            f"Trainer.fit: augmentation distorts images [n, H, W, C], and {name} is "
            f"{described(x)}; expected images, or a Trainer without augmentation: write "
            "x.reshape(n, H, W, C)."
        )


def no_bytes(x: Array, name: str) -> None:
    """ValueError for float32 images of 0 to 255, which a network of images in 0 .. 1 misreads.

    Only for images: whole numbers in rows may be counts or ages.
    """
    if x.ndim == 4 and are_bytes_as_floats(x):
        raise ValueError(
            f"Trainer: {name} is float32 with whole numbers up to {x[:1000].max():g}; "
            "expected images in 0 to 1: write x.astype(np.uint8), or x / 255."
        )
