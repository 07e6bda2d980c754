"""Softmax and losses in float64, for `reference.py`."""

import numpy as np


def log_softmax(x):
    """x - log(sum(exp(x))) over the last axis, shifted by the maximum."""
    x = np.float64(x)
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(x):
    """exp(x) / sum(exp(x)) over the last axis."""
    return np.exp(log_softmax(x))


def softmax_backward(dy, y):
    """Dx = y * (dy - sum(dy * y)), y = softmax(x)."""
    dy, y = np.float64(dy), np.float64(y)
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def log_softmax_backward(dy, y):
    """Dx = dy - exp(y) * sum(dy), y = log_softmax(x)."""
    dy, y = np.float64(dy), np.float64(y)
    return dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


def smoothed_targets(labels, K, label_smoothing=0.0):
    """Class numbers [N] or one-hot rows [N, K] -> (1 - s) * one_hot + s / K."""
    one_hot = np.eye(K)[labels] if labels.dtype.kind in "iu" else np.float64(labels)
    return (1 - label_smoothing) * one_hot + label_smoothing / K


def rows_of_cross_entropy(logits, labels, label_smoothing, class_weights, ignore_index, weights):
    """(logits [R, K], targets [R, K] with all weights, divisor) of rows or maps."""
    K = logits.shape[-1]
    rows = np.float64(logits).reshape(-1, K)
    classes = labels.dtype.kind in "iu"
    labels = labels.reshape(-1) if classes else labels.reshape(-1, K)
    each = np.ones(K) if class_weights is None else np.float64(class_weights)
    counts = np.ones(len(rows))
    if weights is not None:
        counts = np.repeat(np.float64(weights).reshape(-1), len(rows) // max(weights.size, 1))
    if classes and ignore_index is not None:
        counts = np.where(labels == ignore_index, 0, counts)
        labels = np.where(labels == ignore_index, 0, labels)
    target = smoothed_targets(labels, K, label_smoothing) * each * counts[:, None]
    return rows, target, (counts * each[labels] if classes else counts).sum()


def softmax_cross_entropy(
    logits,
    labels,
    label_smoothing=0.0,
    class_weights=None,
    ignore_index=None,
    sample_weight=None,
):
    """(loss, dlogits): -sum(target * log_softmax), weighted, over the sum of the weights."""
    rows, target, divisor = rows_of_cross_entropy(
        logits, labels, label_smoothing, class_weights, ignore_index, sample_weight
    )
    if divisor == 0:
        return 0.0, np.zeros(logits.shape)
    loss = -(target * log_softmax(rows)).sum() / divisor
    dlogits = softmax(rows) * target.sum(axis=1, keepdims=True) - target
    return loss, (dlogits / divisor).reshape(logits.shape)


def pointwise_losses(value_and_slope):
    """The mean of values over elements, by the weights of the first axes, and its gradient."""

    def loss(outputs, targets, sample_weight=None, **options):
        x, t = np.float64(outputs), np.float64(targets)
        weight = np.ones(x.shape)
        if sample_weight is not None:
            ones = [1] * (x.ndim - sample_weight.ndim)
            weight = weight * np.float64(sample_weight).reshape(*sample_weight.shape, *ones)
        value, slope = value_and_slope(x, t, **options)
        if weight.sum() == 0:
            return 0.0, np.zeros(x.shape)
        return (value * weight).sum() / weight.sum(), slope * weight / weight.sum()

    return loss


def huber(x, t, delta=1.0):
    d = x - t
    far = np.abs(d) > delta
    value = np.where(far, delta * (np.abs(d) - delta / 2), d**2 / 2)
    return value, np.where(far, delta * np.sign(d), d)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x):
    return np.exp(-softplus(-x))


def binary_cross_entropy(x, t, pos_weight=None):
    yes = t if pos_weight is None else t * np.float64(pos_weight)
    value = yes * softplus(-x) + (1 - t) * softplus(x)
    return value, (1 - t) * sigmoid(x) - yes * sigmoid(-x)


mse_loss = pointwise_losses(lambda x, t: ((x - t) ** 2, 2 * (x - t)))
l1_loss = pointwise_losses(lambda x, t: (np.abs(x - t), np.sign(x - t)))
huber_loss = pointwise_losses(huber)
binary_cross_entropy_with_logits = pointwise_losses(binary_cross_entropy)
