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

Data: TypeAlias = Split | tuple[npt.NDArray[Any], npt.NDArray[Any]]
Batches: TypeAlias = Iterable[Any] | Callable[..., Iterable[Any]]
Loss: TypeAlias = Callable[[Array, Array], tuple[float, Array]]


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


def labels_of(labels: Any, count: int, name: str) -> Array:
    """Integers [count], of integers [count] or [count, 1]."""
    try:
        found = labels if isinstance(labels, np.ndarray) else np.asarray(labels)
    except ValueError:  # rows of different lengths
        found = np.asarray(None)
    given = described(found if found.dtype.kind in "biufc" else labels)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found.reshape(-1)
    if found.dtype.kind not in "iu":
        raise TypeError(
            f"Trainer: {name} labels are {given}; expected integers [{count}], one for each "
            f"sample{_as_integers(found)}."
        )
    if found.shape != (count,):
        raise ValueError(
            f"Trainer: {name} labels are {given}; expected integers [{count}], one for each "
            f"sample{_one_hot(found, count)}."
        )
    return found


def _one_hot(labels: Array, count: int) -> str:
    rows = labels.ndim == 2 and len(labels) == count and labels.shape[1] > 1
    return ": for one-hot rows write labels.argmax(axis=1)" if rows else ""


def _as_integers(labels: Array) -> str:
    """What to write for labels of another type; nothing where it would change them."""
    if labels.ndim != 1 or labels.dtype.kind not in "bf":
        return _one_hot(labels, len(labels)) if labels.ndim and labels.dtype.kind in "bf" else ""
    same = labels.dtype.kind == "b" or bool(np.all(labels == np.floor(labels)))
    return ": write labels.astype(np.int64)" if same else ""


def check_range(labels: Array, classes: int, name: str) -> None:
    """ValueError for labels that are no outputs of the model."""
    low, high = int(labels.min()), int(labels.max())
    if low >= 0 and high < classes:
        return
    advice = "number the classes from 0, or make a model with an output for each"
    if low >= 1 and high - low < classes:
        advice = f"write labels - {low} if {low} is the first class"
    raise ValueError(
        f"Trainer: {name} labels go from {low} to {high}; expected 0 to {classes - 1}, a class of "
        f"the model's {classes} outputs: {advice}."
    )


def classes_of(model: Module, shape: tuple[int, ...]) -> int:
    """The number of outputs for samples of this shape."""
    y = model.output_shape((None, *shape))
    if len(y) != 2 or y[1] is None:
        raise ValueError(
            f"Trainer: the model makes {y} of samples {shape}; expected (None, K), a number for "
            "each class: end it with Flatten() and Linear(...)."
        )
    return int(y[1])


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


def check_loss(loss: object) -> Loss:
    """The loss; TypeError for what cannot be called, and for a class."""
    if isinstance(loss, type):
        raise TypeError(
            f"Trainer: loss is the class {loss.__name__}; expected one of its objects: write "
            f"loss={loss.__name__}()."
        )
    expected = "a function (logits, labels) -> (loss, gradient): losses.SoftmaxCrossEntropy(), say"
    expect(callable(loss), "loss", loss, expected)
    return loss  # type: ignore[return-value]


def loss_of(function: Loss, logits: Array, labels: Array) -> tuple[float, Array]:
    """(loss, gradient of the logits) of a function that is perhaps the user's own."""
    found: Any = function(logits, labels)
    if type(found) is tuple and len(found) == 2:
        loss, dlogits = found
        right = type(dlogits) is np.ndarray and dlogits.dtype == logits.dtype
        if right and dlogits.shape == logits.shape and type(loss) is float:
            return loss, dlogits
    return _checked_loss(getattr(function, "__name__", type(function).__name__), found, logits)


def _checked_loss(who: str, found: Any, logits: Array) -> tuple[float, Array]:
    """The same for a loss that is no plain float; or the sentence."""
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        number = isinstance(found, (int, float, np.number))
        given = f"the number {found!r}" if number else described(found)
        raise TypeError(
            f"Trainer: the loss {who} returned {given}; expected a pair (loss, gradient of the "
            "logits), as losses.SoftmaxCrossEntropy() returns."
        )
    loss, dlogits = found
    try:
        value = float(loss)
    except (TypeError, ValueError):
        raise TypeError(
            f"Trainer: the loss {who} returned {described(loss)} as its loss; expected a number, "
            "the mean over the batch."
        ) from None
    if not isinstance(dlogits, np.ndarray) or dlogits.dtype != logits.dtype:
        array = isinstance(dlogits, np.ndarray)
        advice = f": write dlogits.astype(np.{logits.dtype})" if array else ""
        raise TypeError(
            f"Trainer: the loss {who} returned {described(dlogits)} as its gradient; expected "
            f"{described(logits)}, as the logits{advice}."
        )
    if dlogits.shape != logits.shape:
        raise ValueError(
            f"Trainer: the loss {who} returned a gradient of shape {dlogits.shape}; expected "
            f"{logits.shape}, that of the logits."
        )
    return value, dlogits
