"""Metrics: objects that take batches, `update(outputs, targets, weights=None)`, and `compute()`.

A metric is made of sums that add up: those of batches, of slots and of ranks. Counts are whole
numbers, so they are the same in any order; other sums run through the rows in their order.

Targets are class numbers, one for each row of outputs [..., K], of which the largest is the answer;
those below 0 count for nothing. Or rows of targets: distributions, of which the largest counts too;
or, with `threshold`, yes or no for each output by itself, yes for outputs above it (0 for logits).
"""

from pycnn.metrics.base import Metric, grows
from pycnn.metrics.classes import F1, Accuracy, ConfusionMatrix, MeanIoU, Precision, Recall, TopK
from pycnn.metrics.numbers import MAE, R2

__all__ = [
    "F1",
    "MAE",
    "R2",
    "Accuracy",
    "ConfusionMatrix",
    "MeanIoU",
    "Metric",
    "Precision",
    "Recall",
    "TopK",
    "grows",
]
