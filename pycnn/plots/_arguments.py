"""What the pictures are made of: images, labels, models; checked, in the form they need."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.layers import (
    Affine,
    BatchNorm1d,
    BatchNorm2d,
    ChannelAffine,
    Dropout,
    Graph,
    Layer,
    Module,
)
from pycnn.ops.arrays import Array, are_bytes_as_floats, kind_of

ROUNDING = 0.01  # of probabilities and their sum, which may be float16


def refuse(who: str, name: str, found: object, expected: str, kind: type = TypeError) -> NoReturn:
    """Raise one sentence on one argument."""
    raise kind(f"plots.{who}: {name} is {found}; expected {expected}.")


def described(value: object) -> str:
    """An array by type and shape, anything else by its repr."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)[:100]


def checked_model(who: str, model: object) -> Module:
    """The model, if it is one."""
    if not isinstance(model, Module):
        refuse(who, "model", kind_of(model), "a layers.Module, as Sequential")
    return model


def checked_count(who: str, name: str, count: Any) -> int:
    """A whole number of 1 or more."""
    if not is_whole(count, 1):
        refuse(who, name, repr(count), "a whole number of 1 or more", ValueError)
    return int(count)


def checked_images(who: str, images: object, model: object = None) -> npt.NDArray[Any]:
    """Images [n, H, W, C], uint8 or float32."""
    if (
        isinstance(images, np.ndarray)
        and images.dtype in (np.uint8, np.float32)
        and images.ndim == 4
    ):
        _refuse_bytes(who, "images", images, model)
        return images
    expected = "images [n, H, W, C], uint8 of 0 to 255 or float32 of 0 to 1"
    refuse(who, "images", described(images), expected)


def _refuse_bytes(who: str, name: str, images: npt.NDArray[Any], model: object) -> None:
    """Refuse floats of 0 to 255, unless the model's normalization is of such floats."""
    meant = isinstance(model, Module) and np.max(model.normalization.std) > 2
    if are_bytes_as_floats(images) and not meant:
        found = f"float32 with whole numbers up to {images[:1000].max():g}"
        expected = f"0 to 1: write {name}.astype(np.uint8), or {name} / 255"
        refuse(who, name, found, expected, ValueError)


def one_image(who: str, image: object, model: object = None) -> npt.NDArray[Any]:
    """One image as a batch [1, H, W, C], from [H, W, C] or such a batch."""
    if isinstance(image, np.ndarray) and image.dtype in (np.uint8, np.float32):
        batch = image[None] if image.ndim == 3 else image
        if batch.ndim == 4 and len(batch) == 1:
            _refuse_bytes(who, "image", batch, model)
            return batch
    expected = "one image [H, W, C], uint8 of 0 to 255 or float32 of 0 to 1"
    refuse(who, "image", described(image), expected)


def checked_labels(who: str, name: str, labels: object, count: int | None = None) -> Array:
    """Labels as int64 [n], 0 or more."""
    found = np.asarray(labels)
    if found.dtype.kind not in "iu" or found.ndim != 1 or count not in (None, len(found)):
        length = "n" if count is None else count
        advice = ""
        if found.ndim == 2:
            one_hot = found.shape[1] > 1
            advice = ": for one-hot rows write x.argmax(axis=1)" if one_hot else ": write x.ravel()"
        given = found if found.dtype.kind in "biufc" else labels
        refuse(who, name, described(given), f"integers [{length}]{advice}")
    if found.size and found.min() < 0:
        refuse(who, name, f"negative at {int(found.argmin())}", "classes from 0 on", ValueError)
    return found.astype(np.int64)


def checked_probabilities(who: str, probabilities: object, count: int) -> npt.NDArray[Any]:
    """Probabilities [n, K]: from 0 to 1, each row with the sum 1; logits and NaN are refused."""
    rows = probabilities if isinstance(probabilities, np.ndarray) else np.empty(0, np.int64)
    if rows.dtype.kind != "f" or rows.ndim != 2 or len(rows) != count:
        refuse(who, "probabilities", described(probabilities), f"floats [{count}, K]")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        refuse(
            who, f"probabilities[{row}]", "NaN or Inf", "numbers from 0 to 1: the network has "
            "diverged, or its images hold NaN", ValueError,
        )  # fmt: skip
    sums = rows.sum(axis=1, dtype=np.float64)
    right = (rows >= 0).all(axis=1) & (rows <= 1 + ROUNDING).all(axis=1)
    right &= abs(sums - 1) <= ROUNDING
    if not right.all():
        row = int(right.argmin())
        found = f"{rows[row].min():.3g} to {rows[row].max():.3g} with the sum {sums[row]:.3g}"
        expected = "0 to 1 with the sum 1: for logits write pycnn.ops.softmax(logits)"
        refuse(who, f"probabilities[{row}]", found, expected, ValueError)
    return rows


def checked_names(who: str, names: Sequence[str] | None, classes: int) -> list[str]:
    """A name for each class; by default its number."""
    if names is None:
        return [str(i) for i in range(classes)]
    if isinstance(names, str) or len(names) < classes:
        found = repr(names) if isinstance(names, str) else f"{len(names)} names"
        refuse(who, "class_names", found, f"{classes} names, one a class", ValueError)
    return [str(name) for name in names]


def class_name(model: Module, label: int) -> str:
    """What a title calls a class of the model: its name, cut where it is long, or its number."""
    names = model.class_names
    name = str(label) if names is None or not 0 <= label < len(names) else names[label]
    return cut(name, 20)


def cut(name: str, most: int) -> str:
    """The name, with an ellipsis where it has more letters than fit."""
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def model_input(model: Module, images: npt.NDArray[Any]) -> Array:
    """What the first layer gets: images [n, H, W, C] in 0 .. 1, normalised, of the model's type."""
    x = images.astype(np.float32)
    if images.dtype == np.uint8:
        x /= np.float32(255)
    x = model.normalization(x)
    return x.astype(next((p.data.dtype for p in model.parameters()), x.dtype), copy=False)


def shown(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An image [H, W, C] as `imshow` wants it: [H, W, 3], or [H, W], the mean of the channels."""
    values = image / np.float32(255) if image.dtype == np.uint8 else image
    return values.clip(0, 1) if image.shape[2] == 3 else values.mean(axis=2)


def differentiable(model: Module, shape: tuple[int, ...]) -> Module:
    """A network whose training mode computes what the model computes in eval mode.

    backward needs training mode, in which a batch norm would use the statistics of the one image
    and Dropout would drop. So each batch norm becomes the ChannelAffine that it is in eval mode,
    and Dropout a multiplication with 1. shape: of x.
    """
    program = copy.deepcopy(model).eval().program(shape)
    replaced: dict[int, Layer] = {}
    calls = []
    for node in program.nodes:
        layer = node.operation
        if id(layer) not in replaced:
            replaced[id(layer)] = _like_in_eval(layer)
        ids = program.ids(node.inputs), program.ids(node.outputs)
        calls.append((replaced[id(layer)], *ids))
    ends = program.ids(program.outputs)
    held = {str(i): layer for i, layer in enumerate(replaced.values())}
    both = {True: calls, False: calls}
    inputs = len(program.inputs)
    return Graph.from_calls(held, both, inputs, {True: ends, False: ends}).train()


def _like_in_eval(layer: Layer) -> Layer:
    if isinstance(layer, (BatchNorm1d, BatchNorm2d)):
        affine = ChannelAffine(layer.channels).astype(layer.weight.data.dtype)
        affine.weight.data[...], affine.bias.data[...] = layer.folded()
        return affine
    return Affine() if isinstance(layer, Dropout) else layer


def verdict(model: Module, probabilities: Array) -> str:
    """What the network says, for titles; probabilities: [K]."""
    if not np.isfinite(probabilities).all():
        return "the network says nothing: its output holds NaN or Inf"
    best = int(probabilities.argmax())
    return f"the network says {class_name(model, best)} ({100 * probabilities[best]:.1f} %)"


def softmax(logits: Array) -> Array:
    """Probabilities [n, K] of logits [n, K], in float64."""
    with np.errstate(invalid="ignore"):  # Inf - Inf of a network that has diverged
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def checked_logits(who: str, logits: Array) -> Array:
    """Logits [n, K], as the pictures of classifiers need."""
    if logits.ndim != 2:
        refuse(who, "the model's output", logits.shape, "logits [n, K] of a classifier", ValueError)
    return logits
