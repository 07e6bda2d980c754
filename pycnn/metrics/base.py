"""What all metrics have: sums of batches, and how to add them."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import numpy as np

from pycnn.ops.arrays import Array

Value: TypeAlias = float | Array
_GROWING = ("accuracy", "precision", "recall", "f1", "iou", "r2")


def grows(name: str) -> bool:
    """Whether a figure of the History should grow, as its name says: val_accuracy, val_f1_3.

    Names that end in accuracy, precision, recall, f1, iou or r2, with or without the number of a
    class, do; all others, as val_loss and val_mae, shrink.
    """
    return re.sub(r"_\d+$", "", name).endswith(_GROWING)


class Metric:
    """The base of all. One of your own defines `measure` and `value`; then all else follows.

    name: of its column in the History, `val_<name>` for the validation.
    """

    name = "metric"

    def __init__(self, name: str | None = None) -> None:
        """Nothing is measured yet."""
        if name is not None and (not isinstance(name, str) or not name.isidentifier()):
            raise ValueError(
                f"{type(self).__name__}: name is {name!r}; expected one word of letters, digits, _."
            )
        self.name = name or self.name
        self.reset()

    def measure(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """The sums of a batch, float64 [any]; weights: of the samples [N], or None."""
        raise NotImplementedError(f"{type(self).__name__}: define measure(outputs, targets, ...).")

    def value(self, sums: Array) -> Value:
        """What the sums say: a number, or an array with one for each class."""
        raise NotImplementedError(f"{type(self).__name__}: define value(sums).")

    def reset(self) -> None:
        """Forget all batches."""
        self.sums: Array | None = None

    def update(self, outputs: Array, targets: Array, weights: Array | None = None) -> None:
        """Add a batch."""
        found = self.measure(np.asarray(outputs), np.asarray(targets), weights)
        self.sums = found if self.sums is None else self.sums + found

    def compute(self) -> Value:
        """Of all batches since `reset`; ValueError if there were none."""
        if self.sums is None:
            raise ValueError(f"{type(self).__name__}: nothing to compute; expected update() first.")
        return self.value(self.sums)

    def settings(self) -> dict[str, Any]:
        """What decides its numbers: a resumed run has the same."""
        found = {n: v for n, v in vars(self).items() if n != "sums"}
        return {n: None if v != v else v for n, v in found.items()}  # NaN, which JSON has not


def of_rows(weights: Array, rows: int) -> Array:
    """As float64 [rows] of weights of samples, or of more of the first axes."""
    return np.repeat(weights.reshape(-1).astype(np.float64), rows // max(weights.size, 1))


def total(values: Array) -> float:
    """The sum in the order of the values: that of NumPy's sum() depends on the machine."""
    return float(values.cumsum()[-1]) if values.size else 0.0


def columns(rows: Array, weights: Array | None) -> Array:
    """The sum of each column [rows, K], in their order."""
    if weights is None:
        return np.asarray(np.count_nonzero(rows, axis=0), np.float64)
    weighted = rows * of_rows(weights, len(rows))[:, None]
    return np.asarray(weighted.cumsum(axis=0)[-1] if len(rows) else np.zeros(rows.shape[1]))


def sums_of_rows(rows: Array) -> Array:
    """The sum of each row, in its order."""
    sums: Array = rows.cumsum(axis=1)[:, -1]
    return sums


def ratio(top: float, bottom: float, otherwise: float) -> float:
    """A quotient; what it is where it is none."""
    return float(top / bottom) if bottom else otherwise
