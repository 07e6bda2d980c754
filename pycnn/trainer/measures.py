"""What a Trainer measures: the loss and its metrics, as sums that add up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from pycnn.losses import Loss
from pycnn.metrics import Accuracy, Metric
from pycnn.ops.arrays import Array
from pycnn.trainer.targets import Batch

Sums: TypeAlias = dict[str, list[float]]
_TAKEN = ("epoch", "step", "lr", "loss")


class Measures:
    """`totals`: of this epoch, by name: "loss": [loss * weight, weight], and each metric's sums.

    Sums of slots and of batches are added in their order, so their bits do not depend on ranks.
    """

    def __init__(self, metrics: Iterable[Metric] | None, loss: Any) -> None:
        """By default accuracy, where targets are classes; TypeError, ValueError for others."""
        classes = loss.classes if isinstance(loss, Loss) else True
        self.are_default = metrics is None
        default: list[Metric] = [Accuracy()] if classes else []
        self.metrics = default if metrics is None else _checked(metrics)
        self._ignored = getattr(loss, "ignore_index", None)
        self._sizes: list[tuple[str, int]] = []
        self.totals: Sums = {}

    def of(self, outputs: Array, batch: Batch) -> Sums:
        """The sums of all metrics."""
        targets = batch.targets
        assert targets is not None
        if self._ignored is not None and targets.dtype.kind in "iu":
            targets = np.where(targets == self._ignored, np.int64(-1), targets)
        metrics = self.metrics
        return {m.name: m.measure(outputs, targets, batch.weights).tolist() for m in metrics}

    def flat(self, sums: Sums) -> list[float]:
        """In one row, for slots; `parted` undoes it."""
        self._sizes = [(name, len(values)) for name, values in sums.items()]
        return [number for values in sums.values() for number in values]

    def parted(self, numbers: list[float]) -> Sums:
        """Of the last ones that were `flat`, in the same order."""
        found, start = {}, 0
        for name, size in self._sizes:
            found[name] = numbers[start : start + size]
            start += size
        return found

    def columns(self, totals: Mapping[str, list[float]]) -> dict[str, float]:
        """What they say, for the History: a number, or one for each class, name_0, name_1, ...

        Without what is NaN, and without matrices.
        """
        loss, weight = totals["loss"]
        found = {"loss": loss / weight if weight else 0.0}
        for metric in self.metrics:
            value = np.asarray(metric.value(np.array(totals[metric.name])), np.float64)
            numbers = {metric.name: float(value)} if value.ndim == 0 else {}
            if value.ndim == 1:
                numbers = {f"{metric.name}_{i}": n for i, n in enumerate(value.tolist())}
            found.update({name: n for name, n in numbers.items() if not math.isnan(n)})
        return found

    def keep(self, totals: Mapping[str, list[float]]) -> None:
        """Leave the sums in the metrics, where their owner may ask for them."""
        for metric in self.metrics:
            metric.sums = np.array(totals[metric.name])

    def settings(self) -> list[Any]:
        """What decides the columns."""
        return [[type(metric).__name__, metric.settings()] for metric in self.metrics]


def add(totals: Sums, loss: float, weight: float, sums: Sums) -> None:
    """Add a step, or a batch: its loss times its weight, its weight, and the sums of metrics."""
    for name, values in {"loss": [loss, weight], **sums}.items():
        before = totals.get(name)
        both = zip(before or [0.0] * len(values), values, strict=True)
        totals[name] = [a + b for a, b in both]


def _checked(metrics: Any) -> list[Metric]:
    right = isinstance(metrics, (list, tuple)) and all(isinstance(m, Metric) for m in metrics)
    if not right:
        raise TypeError(
            f"Trainer: metrics is {metrics!r}; expected a list of pycnn.metrics: write "
            "metrics=[metrics.Accuracy(), metrics.F1()]."
        )
    found = list(metrics)
    names = [metric.name for metric in found]
    for name in names:
        if names.count(name) > 1 or name in _TAKEN or name.startswith("val_"):
            raise ValueError(
                f"Trainer: a metric has the name {name!r}, which is taken; expected another one: "
                f"give it name='other_{name}'."
            )
    return found
