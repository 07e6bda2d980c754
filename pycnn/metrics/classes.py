"""Metrics of classes: of one a row, or of several labels."""

from __future__ import annotations

import numpy as np

from pycnn._runtime.checks import is_choice, is_real, is_whole
from pycnn.metrics.base import Metric, Value, columns, of_rows, ratio, total
from pycnn.ops.arrays import Array

_AVERAGES = ("macro", "micro", "weighted")


class _Share(Metric):
    """[right, all] of rows."""

    def _share(self, right: Array, weights: Array | None) -> Array:
        if weights is None:
            return np.array([np.count_nonzero(right), len(right)], np.float64)
        return np.array([total(weights * right), total(weights)])

    def value(self, sums: Array) -> float:
        """The share; 0 of nothing."""
        return ratio(sums[0], sums[1], 0.0)


class Accuracy(_Share):
    """The share of right answers; with `threshold` of rows that are right as a whole."""

    name = "accuracy"

    def __init__(self, threshold: float | None = None, name: str | None = None) -> None:
        """Raises ValueError for a threshold that is no number."""
        self.threshold = _threshold(self, threshold)
        super().__init__(name)

    def measure(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """[right, all]."""
        if self.threshold is None:
            said, true, weights = _classes(self, outputs, targets, weights)
            return self._share(said == true, weights)
        said, true = _labels(self, outputs, targets, self.threshold)
        right = (said == true).all(axis=-1).reshape(-1)
        return self._share(right, None if weights is None else of_rows(weights, len(right)))


class TopK(_Share):
    """The share of rows whose class is among the k largest outputs; of equal ones the first."""

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        """Raises ValueError for a k below 1."""
        if not is_whole(k, 1):
            raise ValueError(f"TopK: k is {k!r}; expected a whole number from 1.")
        self.k = int(k)
        super().__init__(name or f"top{k}_accuracy")

    def measure(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """[right, all]."""
        _, true, weights = _classes(self, outputs, targets, weights)
        rows = outputs.reshape(-1, outputs.shape[-1])
        if len(rows) != len(true):
            rows = rows[_counts(targets)]
        own = rows[np.arange(len(true)), true][:, None]
        before = np.arange(rows.shape[1]) < true[:, None]
        rank = np.count_nonzero(~(rows <= own) | ((rows == own) & before), axis=1)
        return self._share(rank < self.k, weights)


class ConfusionMatrix(Metric):
    """[K, K]: how many of each class (row) were taken for which (column).

    A Trainer has no column for it: ask the object itself after an evaluation.
    """

    name = "confusion"

    def measure(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """The matrix, row by row."""
        K = outputs.shape[-1]
        said, true, weights = _classes(self, outputs, targets, weights)
        return np.bincount(true * K + said, weights, K * K).astype(np.float64)

    def value(self, sums: Array) -> Array:
        """The matrix; whole numbers without weights."""
        K = round(len(sums) ** 0.5)
        return sums.reshape(K, K)


class _OfClasses(Metric):
    """What is made of three counts a class: right answers, answers, samples."""

    def __init__(
        self,
        average: str | None = "macro",
        threshold: float | None = None,
        zero_division: float = 0.0,
        name: str | None = None,
    ) -> None:
        """Raises ValueError for an unknown average, or a number out of range."""
        if average is not None and not is_choice(average, _AVERAGES):
            raise ValueError(
                f"{type(self).__name__}: average is {average!r}; expected 'macro', 'micro', "
                "'weighted', or None for a number for each class."
            )
        nan = isinstance(zero_division, float) and np.isnan(zero_division)
        if not (nan or is_real(zero_division, 0, 1)):
            raise ValueError(
                f"{type(self).__name__}: zero_division is {zero_division!r}; expected 0 to 1, "
                "or NaN."
            )
        self.average, self.zero_division = average, float(zero_division)
        self.threshold = _threshold(self, threshold)
        super().__init__(name)

    def measure(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """[3 K]."""
        K = outputs.shape[-1]
        if self.threshold is None:
            said, true, weights = _classes(self, outputs, targets, weights)
            right = said == true
            parts = true[right], None if weights is None else weights[right]
            counts = [
                np.bincount(*parts, minlength=K),
                np.bincount(said, weights, K),
                np.bincount(true, weights, K),
            ]
        else:
            said, true = _labels(self, outputs, targets, self.threshold)
            said, true = said.reshape(-1, K), true.reshape(-1, K)
            counts = [columns(each, weights) for each in (said & true, said, true)]
        return np.concatenate(counts).astype(np.float64)

    def value(self, sums: Array) -> Value:
        """By scikit-learn's rules: macro is the mean over the classes that occur.

        Where a fraction is 0 / 0 it is zero_division; NaN is left out of the means.
        """
        right, said, true = sums.reshape(3, -1)
        if self.average == "micro":
            counts = right.sum(), said.sum(), true.sum()
            return float(self._ratios(*(np.array([count]) for count in counts))[0])
        found = self._ratios(right, said, true)
        if self.average is None:
            return found
        occurs = (said + true > 0) if self.threshold is None else np.full(len(said), True)
        weights = true if self.average == "weighted" else occurs.astype(np.float64)
        counted = (weights > 0) & ~np.isnan(found)
        whole = total(weights[counted])
        return ratio(total(found[counted] * weights[counted]), whole, self.zero_division)

    def _ratios(self, right: Array, said: Array, true: Array) -> Array:
        top, bottom = self.fraction(right, said, true)
        found = np.full(len(top), self.zero_division)
        return np.asarray(np.divide(top, bottom, out=found, where=bottom > 0))

    def fraction(self, right: Array, said: Array, true: Array) -> tuple[Array, Array]:
        """Numerator and denominator, of each class."""
        raise NotImplementedError


class Precision(_OfClasses):
    """Of the answers "class k", the share that is right."""

    name = "precision"

    def fraction(self, right: Array, said: Array, true: Array) -> tuple[Array, Array]:
        """Of the answers."""
        return right, said


class Recall(_OfClasses):
    """Of the samples of class k, the share that is found."""

    name = "recall"

    def fraction(self, right: Array, said: Array, true: Array) -> tuple[Array, Array]:
        """Of the samples."""
        return right, true


class F1(_OfClasses):
    """The harmonic mean of precision and recall: 2 right / (answers + samples)."""

    name = "f1"

    def fraction(self, right: Array, said: Array, true: Array) -> tuple[Array, Array]:
        """Of both."""
        return 2 * right, said + true


class MeanIoU(_OfClasses):
    """Of segmentations: right / (answers + samples - right), the intersection over the union."""

    name = "mean_iou"

    def fraction(self, right: Array, said: Array, true: Array) -> tuple[Array, Array]:
        """Of the union."""
        return right, said + true - right


def _threshold(metric: Metric, given: object) -> float | None:
    if given is not None and not is_real(given):
        raise ValueError(
            f"{type(metric).__name__}: threshold is {given!r}; expected a number, 0.0 for logits, "
            "or None for classes."
        )
    return None if given is None else float(given)  # type: ignore[arg-type]


def _classes(
    metric: Metric, outputs: Array, targets: Array, weights: Array | None
) -> tuple[Array, Array, Array | None]:
    """(answers, classes, weights) of the rows that count, one axis each."""
    said = outputs.argmax(axis=-1)
    if targets.dtype.kind == "f":
        _distributions(metric, outputs, targets)
        targets = targets.argmax(axis=-1)
    if targets.shape != said.shape or targets.dtype.kind not in "iu":
        raise ValueError(
            f"{type(metric).__name__}: targets are {targets.dtype} {targets.shape} for outputs "
            f"{outputs.shape}; expected class numbers {said.shape}, or rows of the outputs' shape."
        )
    rows = None if weights is None else of_rows(weights, targets.size)
    said, true = said.reshape(-1), targets.reshape(-1).astype(np.int64, copy=False)
    # Below 0 is above all others without a sign: one pass finds both.
    if not true.size or true.view(np.uint64).max() < outputs.shape[-1]:
        return said, true, rows
    if true.max() >= outputs.shape[-1]:
        raise ValueError(
            f"{type(metric).__name__}: a target is {true.max()}; expected a class of outputs "
            f"{outputs.shape}: 0 to {outputs.shape[-1] - 1}, or below 0 for none."
        )
    counts = _counts(true)
    return said[counts], true[counts], None if rows is None else rows[counts]


def _counts(targets: Array) -> Array:
    return np.asarray(targets.reshape(-1) >= 0)


def _distributions(metric: Metric, outputs: Array, targets: Array) -> None:
    """Refuse rows of several yes: of these the largest says little."""
    if targets.shape == outputs.shape and targets.size:
        sums = targets.sum(axis=-1)
        if np.abs(sums - 1).max() < 1e-3:
            return
    elif targets.shape == outputs.shape:
        return
    raise ValueError(
        f"{type(metric).__name__}: targets are {targets.dtype} {targets.shape} for outputs "
        f"{outputs.shape}; expected class numbers, or rows that add up to 1: for several labels a "
        f"sample write {type(metric).__name__}(threshold=0.0), for numbers use MAE() and R2()."
    )


def _labels(metric: Metric, outputs: Array, targets: Array, above: float) -> tuple[Array, Array]:
    """Yes or no, said and true, of the outputs' shape."""
    if targets.shape != outputs.shape:
        raise ValueError(
            f"{type(metric).__name__}: targets have shape {targets.shape} for outputs "
            f"{outputs.shape}; expected yes or no for each output, since threshold is {above}."
        )
    return outputs > above, targets > 0.5
