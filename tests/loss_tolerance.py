"""Bounds of softmax and of losses, for `tolerance.py`."""

import loss_reference
import numpy as np
from rounding import EXP_ROUNDINGS, TINY, gamma


def _depth(x):
    """How far each element lies below the maximum of its row."""
    return np.float64(x).max(axis=-1, keepdims=True) - np.float64(x)


def _sum_error(x):
    """Relative error of sum(exp(x - max)) in each row.

    The argument d = x - max is rounded: exp(d (1 + u)) = exp(d) exp(d u), a relative error of
    |d| u, which enters the sum in proportion to the term's share. Then exp itself, and K - 1
    additions.
    """
    u = gamma(1, x.dtype)
    from_arguments = 2 * u * (loss_reference.softmax(x) * _depth(x)).sum(axis=-1, keepdims=True)
    return gamma(x.shape[-1] + EXP_ROUNDINGS, x.dtype) + from_arguments


def softmax(x):
    """The errors of the element's own exp, of the sum and of the division, relative to y."""
    relative = _sum_error(x) + 2 * gamma(1, x.dtype) * _depth(x)
    relative = relative + gamma(EXP_ROUNDINGS + 2, x.dtype)
    return relative * loss_reference.softmax(x) + 2 * TINY


def log_softmax(x):
    """x - max, log and the difference round; the sum's relative error is absolute in its log."""
    y, depth = loss_reference.log_softmax(x), _depth(x)
    log_sum = -y - depth
    rounding = depth + EXP_ROUNDINGS * np.abs(log_sum) + np.abs(y)
    return _sum_error(x) + 2 * gamma(1, x.dtype) * rounding


def softmax_backward(dy, y):
    total = (np.abs(np.float64(dy)) * np.abs(y)).sum(axis=-1, keepdims=True)
    return gamma(dy.shape[-1] + 3, dy.dtype) * np.abs(y) * (np.abs(dy) + total)


def log_softmax_backward(dy, y):
    total = np.abs(np.float64(dy)).sum(axis=-1, keepdims=True)
    k = dy.shape[-1] + EXP_ROUNDINGS + 3
    return gamma(k, dy.dtype) * (np.abs(dy) + np.exp(np.float64(y)) * total) + TINY * total


def softmax_cross_entropy(
    logits,
    labels,
    label_smoothing=0.0,
    class_weights=None,
    ignore_index=None,
    sample_weight=None,
):
    """The loss adds N * K products of a target and a log-probability; the gradient subtracts.

    A target takes 5 roundings ((1 - s) * t + s / K and two weights), the product, the K terms of a
    row and the division some more; the N rows are added to a mean.
    """
    rows, target, divisor = loss_reference.rows_of_cross_entropy(
        logits, labels, label_smoothing, class_weights, ignore_index, sample_weight
    )
    rows = rows.astype(logits.dtype)
    N, K = rows.shape
    if divisor == 0:
        return 0.0, np.zeros(logits.shape)
    p, log_p = loss_reference.softmax(rows), np.abs(loss_reference.log_softmax(rows))
    target = np.abs(target)
    rounding = gamma(N + K + 10, logits.dtype)
    loss = (target * (log_softmax(rows) + rounding * log_p)).sum()
    total = target.sum(axis=1, keepdims=True)
    dlogits = softmax(rows) * total + gamma(K + 10, logits.dtype) * (p * total + target)
    return loss / divisor, (dlogits / divisor).reshape(logits.shape)


# Of a value or a slope before weights: a difference and a product; Huber's a - delta / 2, which is
# at least half of a, and two products; exp, log(1 + e) or a quotient, and what is around them.
LOSS_ROUNDINGS = {"mse_loss": 3, "l1_loss": 1, "huber_loss": 5}
LOSS_ROUNDINGS["binary_cross_entropy_with_logits"] = 2 * EXP_ROUNDINGS + 5


def pointwise_losses(name):
    """Values are not negative: their sum, of 64 in a lane and the lanes, is as exact as they are.

    A slope is as exact as its size, which for cross entropy is that of the two that it adds.
    """

    def bound(outputs, targets, **options):
        loss, slope = getattr(loss_reference, name)(outputs, targets, **options)
        size = np.abs(slope)
        if name.startswith("binary"):
            both = [
                getattr(loss_reference, name)(outputs, np.full_like(targets, end), **options)[1]
                for end in (0, 1)
            ]
            size = np.abs(both).sum(axis=0)
        k = LOSS_ROUNDINGS[name] + 4
        return gamma(k + 70, outputs.dtype) * loss, gamma(k, outputs.dtype) * size + TINY

    return bound


mse_loss = pointwise_losses("mse_loss")
l1_loss = pointwise_losses("l1_loss")
huber_loss = pointwise_losses("huber_loss")
binary_cross_entropy_with_logits = pointwise_losses("binary_cross_entropy_with_logits")
