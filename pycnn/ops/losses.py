"""Losses, each with its gradient, in one pass over the outputs."""

from __future__ import annotations

import math

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.ops.arrays import LARGEST, Array, Result, as_int64, contiguous, inputs, number


def softmax_cross_entropy(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: npt.ArrayLike | None = None,
    ignore_index: int | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[float, Array]:
    """Mean of the cross entropies of softmax(logits), and its gradient.

    logits: rows [N, K], or maps [N, H, W, K]. labels: integers in 0 .. K - 1, [N] or [N, H, W]; or
    rows of targets of logits' shape and type, one-hot or any distribution. Returns (loss, dlogits).
    With t = class_weights * ((1 - label_smoothing) * target + label_smoothing / K), a row has the
    loss -sum of t * log_softmax(logits) and the gradient softmax(logits) * sum of t - t.

    The mean is that of PyTorch: rows whose label is ignore_index count for nothing, and the sum of
    the others is divided by the sum of their labels' class_weights; for rows of targets by their
    number. sample_weight, [N] or more of labels' axes, multiplies both. (0.0, zeros) where nothing
    counts, and where PyTorch has NaN. Stable for any finite logits. Raises ValueError for a label
    out of range (it names the row) and options out of range, TypeError for types.
    """
    op = "softmax_cross_entropy"
    x, target = inputs(op, logits=logits, labels=labels)
    column = target.ndim == 2 and target.shape[1] == 1 != x.shape[-1]  # of class numbers
    if target.dtype.kind in "iu" and target.ndim == x.ndim > 1:
        advice = "labels.ravel()" if column else "labels.astype(logits.dtype)"
        raise TypeError(
            f"{op}: labels is {target.dtype} of shape {target.shape}; expected class numbers [N], "
            f"or one-hot rows that are floats: write {advice}."
        )
    if target.dtype.kind == "f" and (target.ndim == x.ndim - 1 or column):
        raise TypeError(
            f"{op}: labels is {target.dtype} of shape {target.shape}; expected class numbers "
            f"[N] to be integers: write labels{'.ravel()' if column else ''}.astype(np.int64)."
        )
    if target.dtype.kind in "iu":
        target = as_int64(target, op, "labels", ValueError, f"a class of logits {x.shape}")
    elif target.dtype.kind not in "f":
        raise TypeError(
            f"{op}: labels is {target.dtype}; expected integers [N] or one-hot floats [N, K]."
        )
    smoothing = number(label_smoothing)
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"{op}: label_smoothing is {label_smoothing!r}; expected 0 to 1.")
    if ignore_index is not None and not is_whole(ignore_index, -LARGEST, LARGEST):
        raise ValueError(f"{op}: ignore_index is {ignore_index!r}; expected an int, or None.")
    if ignore_index is not None and target.dtype.kind == "f":
        raise ValueError(
            f"{op}: ignore_index is {ignore_index}, and labels are rows of targets; expected class "
            "numbers, or no ignore_index: give the rows to ignore a sample_weight of 0."
        )
    result = Result(None, x.shape, x.dtype, op, False)
    loss = _pycnn.softmax_cross_entropy(
        result.array,
        x,
        target,
        smoothing,
        _of_classes(class_weights, op, "class_weights", x),
        None if ignore_index is None else int(ignore_index),
        _maybe(sample_weight, op, "sample_weight"),
    )
    return loss, result.finish()


def mse_loss(
    outputs: npt.ArrayLike, targets: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """Mean of (outputs - targets)^2, and its gradient 2 (outputs - targets) / their number.

    Both of one shape [N, ...]. sample_weight, [N] or more of the first axes: the mean is the
    weighted one, (0.0, zeros) if all weights are 0. Raises ValueError for shapes and weights that
    do not fit, TypeError for types.
    """
    return _pointwise("mse_loss", outputs, targets, sample_weight)


def l1_loss(
    outputs: npt.ArrayLike, targets: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """Mean of |outputs - targets|, and its gradient, 0 where they are equal; else as `mse_loss`."""
    return _pointwise("l1_loss", outputs, targets, sample_weight)


def huber_loss(
    outputs: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    delta: float = 1.0,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[float, Array]:
    """Mean of d^2 / 2 where |d| <= delta, else of delta (|d| - delta / 2), d = outputs - targets.

    And its gradient; delta: above 0. Else as `mse_loss`. That is PyTorch's huber_loss; its
    smooth_l1_loss is this divided by delta.
    """
    if not 0 < number(delta) < math.inf:
        raise ValueError(f"huber_loss: delta is {delta!r}; expected a finite number above 0.")
    return _pointwise("huber_loss", outputs, targets, sample_weight, delta=number(delta))


def binary_cross_entropy_with_logits(
    outputs: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    pos_weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[float, Array]:
    """Mean of -(pos_weight t log sigmoid(x) + (1 - t) log(1 - sigmoid(x))), and its gradient.

    x, the outputs, are logits; t, the targets, of the same shape and type, are 0, 1, or
    probabilities. pos_weight: a number, or [K], one for each on the last axis. Else as `mse_loss`.
    Exact for logits of any size.
    """
    op = "binary_cross_entropy_with_logits"
    return _pointwise(op, outputs, targets, sample_weight, pos_weight=pos_weight)


def _pointwise(
    op: str,
    outputs: npt.ArrayLike,
    targets: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None,
    pos_weight: npt.ArrayLike | None = None,
    delta: float = 0.0,
) -> tuple[float, Array]:
    x, target = inputs(op, outputs=outputs, targets=targets)
    result = Result(None, x.shape, x.dtype, op, False)
    weights = _maybe(sample_weight, op, "sample_weight")
    positive = _of_classes(pos_weight, op, "pos_weight", x)
    loss = _pycnn.pointwise_loss(op, result.array, x, target, delta, positive, weights)
    return loss, result.finish()


def _maybe(x: npt.ArrayLike | None, op: str, name: str) -> Array | None:
    return None if x is None else contiguous(x, op, name)


def _of_classes(x: npt.ArrayLike | None, op: str, name: str, like: Array) -> Array | None:
    """Numbers [K] of any type in that of `like`, a single one as often as `like` has classes."""
    if x is None:
        return None
    array = contiguous(x, op, name)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{op}: {name} is {array.dtype}; expected numbers, one for each class.")
    if array.ndim == 0:
        array = np.full(like.shape[-1:], array)
    return array.astype(like.dtype)
