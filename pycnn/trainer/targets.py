"""Samples, their targets and weights: what `Trainer` takes, and what it says about the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pycnn.ops.arrays import Array
from pycnn.trainer.data import described


@dataclass(slots=True)
class Batch:
    """Samples [n, ...]; without targets in a prediction; weights [n], or None."""

    x: Array
    targets: Array | None = None
    weights: Array | None = None

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.x)

    def part(self, rows: slice) -> Batch:
        """Views of some of the samples."""
        if rows.start == 0 and rows.stop == len(self.x):
            return self
        targets, weights = self.targets, self.weights
        return Batch(
            self.x[rows],
            None if targets is None else targets[rows],
            None if weights is None else weights[rows],
        )


def batch_of(given: Any, name: str, classes: bool | None, x: Array) -> Batch:
    """Of (x, labels) or (x, labels, weights); x: the samples, checked."""
    weights = given[2] if len(given) == 3 else None
    weights = None if weights is None else weights_of(weights, len(x), name)
    return Batch(x, targets_of(given[1], len(x), name, classes), weights)


def targets_of(targets: Any, count: int, name: str, classes: bool | None) -> Array:
    """Class numbers [count] or of pixels; or float32 [count, ...].

    classes: whether the loss wants class numbers, or rows of floats for them; None: one's own
    function, which may want either.
    """
    try:
        found = targets if isinstance(targets, np.ndarray) else np.asarray(targets)
    except ValueError:  # rows of different lengths
        found = np.asarray(None)
    given = described(found if found.dtype.kind in "biufc" else targets)
    if classes is False:
        return _numbers(found, given, count, name)
    floats = found.dtype == np.float32 and found.ndim > 1 and len(found) == count
    if floats and (found.shape[1] > 1 or classes is None):
        return found
    if found.ndim == 2 and found.shape[1] == 1:
        found = found.reshape(-1)
    if found.dtype.kind not in "iu":
        raise TypeError(
            f"Trainer: {name} labels are {given}; expected integers [{count}], one for each "
            f"sample{_as_integers(found)}."
        )
    if found.shape != (count,) and not (found.ndim > 2 and len(found) == count):
        raise ValueError(
            f"Trainer: {name} labels are {given}; expected integers [{count}], one for each "
            f"sample{_one_hot(found, count)}."
        )
    return found


def _numbers(found: Array, given: str, count: int, name: str) -> Array:
    if found.dtype != np.float32:
        advice = ": write labels.astype(np.float32)" if found.dtype.kind in "biuf" else ""
        raise TypeError(
            f"Trainer: {name} labels are {given}; expected float32 [{count}, ...], the numbers "
            f"that the model should make{advice}."
        )
    if found.ndim < 1 or len(found) != count:
        raise ValueError(
            f"Trainer: {name} labels are {given}; expected float32 [{count}, ...], as many as "
            "samples."
        )
    return found[:, None] if found.ndim == 1 else found


def weights_of(weights: Any, count: int, name: str) -> Array:
    """float32 [count], none negative."""
    found = weights if isinstance(weights, np.ndarray) else np.asarray(weights)
    if found.dtype != np.float32 or found.shape != (count,):
        advice = ": write weights.astype(np.float32)" if found.shape == (count,) else ""
        raise TypeError(
            f"Trainer: {name} weights are {described(found)}; expected float32 [{count}], one for "
            f"each sample{advice}."
        )
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise ValueError(
            f"Trainer: {name} weights hold {found[~(found >= 0) | np.isinf(found)][0]}; expected "
            "finite numbers, none below 0."
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


def check_targets(batch: Batch, outputs: tuple[int, ...], name: str, loss: Any) -> None:
    """ValueError for targets that are no outputs of the model; outputs: the shape of one."""
    targets = batch.targets
    assert targets is not None
    if targets.dtype.kind in "iu":
        if targets.ndim == 1 and len(outputs) != 1:
            raise ValueError(
                f"Trainer: the model makes {(None, *outputs)} of samples {batch.x.shape[1:]}; "
                "expected (None, K), a number for each class: end it with Flatten() and "
                "Linear(...); or give a class for each pixel."
            )
        if targets.shape[1:] != outputs[:-1]:
            expected = f"a class for each pixel, {(len(targets), *outputs[:-1])}"
            if len(outputs) == 1:
                expected = f"integers [{len(targets)}], one for each sample"
            raise ValueError(
                f"Trainer: {name} labels are {described(targets)}; expected {expected}."
            )
        if targets.size:
            _check_range(targets, outputs[-1], name, getattr(loss, "ignore_index", None))
    elif targets.shape[1:] != outputs:
        raise ValueError(
            f"Trainer: {name} labels are {described(targets)}, and the model makes "
            f"{(None, *outputs)}; expected a number for each of its outputs."
        )


def _check_range(labels: Array, classes: int, name: str, ignored: int | None) -> None:
    """ValueError for labels that are no outputs of the model, but for the one that is ignored."""
    low, high = int(labels.min()), int(labels.max())
    if low >= 0 and high < classes:
        return
    if ignored is not None:
        labels = labels[labels != ignored]
        if not labels.size or (labels.min() >= 0 and labels.max() < classes):
            return
        low, high = int(labels.min()), int(labels.max())
    advice = "number the classes from 0, or make a model with an output for each"
    if low >= 1 and high - low < classes:
        advice = f"write labels - {low} if {low} is the first class"
    raise ValueError(
        f"Trainer: {name} labels go from {low} to {high}; expected 0 to {classes - 1}, a class of "
        f"the model's {classes} outputs: {advice}."
    )
