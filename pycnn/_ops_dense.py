"""Matrix product, elementwise operators, softmax, loss, optimizer steps, the gather of images."""

from __future__ import annotations

import math
from typing import Any

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._arrays import (
    Array,
    Result,
    as_int64,
    check_updated,
    contiguous,
    count,
    flag,
    number,
)


def matmul(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    out: Array | None = None,
) -> Array:
    """Matrix product c = op(a) op(b), where op transposes on request.

    a: [m, k] ([k, m] with transpose_a); b: [k, n] ([n, k] with transpose_b). Returns c: [m, n];
    zeros for k = 0. Raises ValueError for shapes that do not fit, TypeError for types.
    """
    op = "matmul"
    turn_a, turn_b = flag(transpose_a, op, "transpose_a"), flag(transpose_b, op, "transpose_b")
    return _pycnn.matmul(contiguous(a), contiguous(b), turn_a, turn_b, out)


def relu(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = max(x, 0), of any shape; NaN stays NaN. `out` may be x itself."""
    x_array = contiguous(x)
    result = Result(out, x_array.shape, x_array.dtype, "relu", False)
    _pycnn.relu(result.array, x_array)
    return result.finish()


def relu_backward(dy: npt.ArrayLike, y: npt.ArrayLike, out: Array | None = None) -> Array:
    """Gradient of `relu` from its output: dx = 0 where y <= 0, else dy.

    dy, y: of one shape. `out` may be dy itself. Raises ValueError if the shapes differ.
    """
    dy_array, y_array = contiguous(dy), contiguous(y)
    result = Result(out, dy_array.shape, dy_array.dtype, "relu_backward", False)
    _pycnn.relu_backward(result.array, dy_array, y_array)
    return result.finish()


def softmax(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = exp(x - max) / sum of exp(x - max) over the last axis; x: [..., K], K at least 1."""
    x_array = contiguous(x)
    result = Result(out, x_array.shape, x_array.dtype, "softmax", False)
    _pycnn.softmax(result.array, x_array, False)
    return result.finish()


def log_softmax(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = x - max - log(sum of exp(x - max)) over the last axis; x: [..., K], K at least 1."""
    x_array = contiguous(x)
    result = Result(out, x_array.shape, x_array.dtype, "log_softmax", False)
    _pycnn.softmax(result.array, x_array, True)
    return result.finish()


def softmax_backward(dy: npt.ArrayLike, y: npt.ArrayLike, out: Array | None = None) -> Array:
    """Gradient of `softmax` from its output: dx = y * (dy - sum of dy * y over the last axis)."""
    dy_array, y_array = contiguous(dy), contiguous(y)
    result = Result(out, dy_array.shape, dy_array.dtype, "softmax_backward", False)
    _pycnn.softmax_backward(result.array, dy_array, y_array, False)
    return result.finish()


def log_softmax_backward(dy: npt.ArrayLike, y: npt.ArrayLike, out: Array | None = None) -> Array:
    """Gradient of `log_softmax` from its output: dx = dy - exp(y) * (sum of dy over axis -1)."""
    dy_array, y_array = contiguous(dy), contiguous(y)
    result = Result(out, dy_array.shape, dy_array.dtype, "log_softmax_backward", False)
    _pycnn.softmax_backward(result.array, dy_array, y_array, True)
    return result.finish()


def softmax_cross_entropy(
    logits: npt.ArrayLike, labels: npt.ArrayLike, *, label_smoothing: float = 0.0
) -> tuple[float, Array]:
    """Mean over the batch of the cross entropy of softmax(logits), and its gradient.

    logits: [N, K]; labels: integers [N] in 0 .. K - 1, or one-hot (or any weights) [N, K] of
    logits' type. Returns (loss, dlogits [N, K]). With t = (1 - label_smoothing) * target +
    label_smoothing / K: loss = -1/N sum of t * log_softmax(logits); dlogits = (softmax(logits) *
    sum of t - t) / N. Stable for any finite logits; (0.0, empty) for N = 0. Raises ValueError for a
    label out of range (it names the row) or a smoothing outside 0 .. 1, TypeError for types.
    """
    op = "softmax_cross_entropy"
    x = contiguous(logits)
    target = contiguous(labels)
    if target.dtype.kind in "iu" and target.ndim == 2:
        raise TypeError(
            f"{op}: labels is {target.dtype} of shape {target.shape}; expected one-hot rows to be "
            "floats: write labels.astype(logits.dtype)."
        )
    if target.dtype.kind == "f" and target.ndim == 1:
        raise TypeError(
            f"{op}: labels is {target.dtype} of shape {target.shape}; expected class numbers "
            "[N] to be integers: write labels.astype(np.int64)."
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
    result = Result(None, x.shape, x.dtype, op, False)
    loss = _pycnn.softmax_cross_entropy(result.array, x, target, smoothing)
    return loss, result.finish()


def add_bias(y: Array, bias: npt.ArrayLike) -> None:
    """Y += bias over the last axis, in place; y: [..., C], bias: [C]."""
    check_updated("add_bias", y=y)
    _pycnn.add_bias(y, contiguous(bias))


def accumulate(total: Array, part: npt.ArrayLike) -> None:
    """Add part to total in place; both of one shape and type."""
    check_updated("accumulate", total=total)
    _pycnn.accumulate(total, contiguous(part))


def _finite(op: str, **values: float) -> list[float]:
    for name, value in values.items():
        if not 0.0 <= number(value) < math.inf:
            raise ValueError(f"{op}: {name} is {value!r}; expected a finite number, 0 or more.")
    return [number(value) for value in values.values()]


def adam_step(
    param: Array,
    grad: npt.ArrayLike,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """One step of Adam in place on param, m and v (Kingma & Ba 2015, algorithm 1).

    param, grad, m, v: of one shape and type; step counts from 1; with t = step:

        param -= lr * weight_decay * param                       (decoupled: Loshchilov & Hutter)
        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad**2
        param -= lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    TensorFlow 1's AdamOptimizer adds its epsilon to sqrt(v) before the bias correction (Kingma &
    Ba's "epsilon hat"), so its epsilon acts as eps / sqrt(1 - beta2**t) would here: larger in the
    first steps, the same in the limit. Raises ValueError for shapes, shared memory or options that
    do not fit, TypeError for types.
    """
    op = "adam_step"
    check_updated(op, param=param, m=m, v=v)
    t = count(step, op, "step")
    rate, epsilon, decay = _finite(op, lr=lr, eps=eps, weight_decay=weight_decay)
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0.0 <= number(beta) < 1.0:
            raise ValueError(f"{op}: {name} is {beta!r}; expected 0 or more and less than 1.")
    betas = number(beta1), number(beta2)
    _pycnn.adam_step(param, contiguous(grad), m, v, t, rate, *betas, epsilon, decay)


def sgd_step(
    param: Array,
    grad: npt.ArrayLike,
    velocity: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """One step of gradient descent in place on param and velocity, as PyTorch's SGD.

        g = grad + weight_decay * param
        velocity = momentum * velocity + g
        param -= lr * (g + momentum * velocity if nesterov else velocity)

    velocity: of param's shape, or None without momentum (then the step is g). Raises ValueError for
    shapes, shared memory or options that do not fit, TypeError for types.
    """
    op = "sgd_step"
    rate, inertia, decay = _finite(op, lr=lr, momentum=momentum, weight_decay=weight_decay)
    check_updated(op, param=param)
    if velocity is not None:
        check_updated(op, velocity=velocity)
    elif inertia != 0.0 or nesterov:
        raise ValueError(
            f"{op}: velocity is None; expected an array of param's shape with momentum."
        )
    _pycnn.sgd_step(param, contiguous(grad), velocity, rate, inertia, bool(nesterov), decay)


def rmsprop_step(
    param: Array,
    grad: npt.ArrayLike,
    square: Array,
    buffer: Array | None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """One step of RMSprop in place on param, square and buffer, as PyTorch's (not centred).

        g = grad + weight_decay * param
        square = alpha * square + (1 - alpha) * g**2
        buffer = momentum * buffer + g / (sqrt(square) + eps)
        param -= lr * buffer

    Tieleman & Hinton 2012, "Neural networks for machine learning", lecture 6.5. buffer: of param's
    shape, or None without momentum. Raises ValueError for shapes, shared memory or options that do
    not fit, TypeError for types.
    """
    op = "rmsprop_step"
    check_updated(op, param=param, square=square)
    rate, epsilon, inertia, decay = _finite(
        op, lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay
    )
    share = number(alpha)
    if not 0.0 <= share < 1.0:
        raise ValueError(f"{op}: alpha is {alpha!r}; expected 0 or more and less than 1.")
    if buffer is not None:
        check_updated(op, buffer=buffer)
    elif inertia != 0.0:
        raise ValueError(f"{op}: buffer is None; expected an array of param's shape with momentum.")
    _pycnn.rmsprop_step(
        param, contiguous(grad), square, buffer, rate, share, epsilon, inertia, decay
    )


def gather_images(
    images: npt.ArrayLike,
    indices: npt.ArrayLike,
    *,
    scale: float = 1.0 / 255.0,
    out: Array | None = None,
) -> npt.NDArray[np.float32]:
    """The images of a batch as float32: y[i] = images[indices[i]] * scale, in one pass.

    images: uint8 [n, ...]; indices: integers [B]; scale: 1/255 maps bytes to 0 .. 1. Returns
    y: float32 [B, ...]. Raises IndexError, naming it, for an index outside 0 .. n - 1.
    """
    op = "gather_images"
    source, which = contiguous(images), contiguous(indices)
    if which.dtype.kind not in "iu":
        raise TypeError(f"{op}: indices is {which.dtype}; expected integers [B].")
    which = as_int64(which, op, "indices", IndexError, f"an index of images {source.shape}")
    if not math.isfinite(number(scale)):
        raise ValueError(f"{op}: scale is {scale!r}; expected a finite number.")
    shape: tuple[Any, ...] = (which.size, *source.shape[1:])
    result = Result(out, shape, np.float32, op, False)
    _pycnn.gather_images(result.array, source, which, number(scale))
    return result.finish()
