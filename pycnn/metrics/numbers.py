"""Metrics of numbers."""

from __future__ import annotations

import numpy as np

from pycnn.metrics.base import Metric, columns, of_rows, ratio, sums_of_rows, total
from pycnn.ops.arrays import Array


class MAE(Metric):
    """The mean of |outputs - targets|."""

    name = "mae"

    def measure(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """[sum of weight * distance, sum of weights]."""
        rows = _differences(self, outputs, targets)
        distances = sums_of_rows(np.abs(rows))
        if weights is None:
            return np.array([total(distances), rows.size], np.float64)
        weights = of_rows(weights, len(rows))
        return np.array([total(distances * weights), total(weights) * rows.shape[1]])

    def value(self, sums: Array) -> float:
        """The mean; 0 of nothing."""
        return ratio(sums[0], sums[1], 0.0)


class R2(Metric):
    """1 - (sum of squared errors) / (sum of squared distances of the targets from their mean).

    The mean of it over the numbers on the last axis, as scikit-learn's r2_score; of equal targets
    1 if all are met, else 0. Sums of squares are those of the targets: take away a large mean.
    """

    name = "r2"

    def measure(self, outputs: Array, targets: Array, weights: Array | None = None) -> Array:
        """[4 K]: weights, weighted targets, their squares, squared errors."""
        d = _differences(self, outputs, targets)
        t = targets.reshape(d.shape).astype(np.float64)
        w = np.ones(len(d)) if weights is None else of_rows(weights, len(d))
        parts = np.ones_like(t), t, t * t, d * d
        return np.concatenate([columns(part, w) for part in parts])

    def value(self, sums: Array) -> float:
        """The mean over the columns."""
        counts, sums_of_t, squares, errors = sums.reshape(4, -1)
        found = []
        for n, s, s2, e in zip(counts, sums_of_t, squares, errors, strict=True):
            spread = s2 - s * s / n if n else 0.0
            found.append(1 - e / spread if spread > 0 else float(e == 0))
        return total(np.array(found)) / len(found)


def _differences(metric: Metric, outputs: Array, targets: Array) -> Array:
    """The errors, float64 [rows, K]."""
    if targets.shape != outputs.shape or targets.dtype.kind not in "fiu":
        raise ValueError(
            f"{type(metric).__name__}: targets are {targets.dtype} {targets.shape}; expected "
            f"numbers of the outputs' shape {outputs.shape}."
        )
    K = outputs.shape[-1] if outputs.ndim > 1 else 1
    return outputs.reshape(-1, K).astype(np.float64) - targets.reshape(-1, K)
