"""Matrix product, softmax, loss, sums in place."""

from __future__ import annotations

import _pycnn
import numpy.typing as npt

from pycnn.ops.activations import ActivationLike, parse
from pycnn.ops.arrays import (
    Array,
    Result,
    as_int64,
    check_updated,
    contiguous,
    flag,
    inputs,
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
    left, right = inputs(op, a=a, b=b)
    return _pycnn.matmul(left, right, turn_a, turn_b, out)


def linear(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    activation: ActivationLike = None,
    out: Array | None = None,
) -> Array:
    """A dense layer: y = activation(x weight + bias).

    x: [N, in]; weight: [in, out]; bias: [out] or None; activation: as in `conv2d`. Returns
    y: [N, out], with the bits of `matmul` and what follows it. The gradients are those of `matmul`.
    Raises ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "linear"
    x_array, w_array = inputs(op, x=x, weight=weight)
    bias_array = None if bias is None else contiguous(bias, op, "bias")
    shape = (*x_array.shape[:1], *w_array.shape[-1:])
    result = Result(out, shape, x_array.dtype, op, False)
    _pycnn.linear(result.array, x_array, w_array, bias_array, parse(activation, op))
    return result.finish()


def softmax(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = exp(x - max) / sum of exp(x - max) over the last axis; x: [..., K], K at least 1."""
    x_array = contiguous(x, "softmax", "x")
    result = Result(out, x_array.shape, x_array.dtype, "softmax", False)
    _pycnn.softmax(result.array, x_array, False)
    return result.finish()


def log_softmax(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = x - max - log(sum of exp(x - max)) over the last axis; x: [..., K], K at least 1."""
    x_array = contiguous(x, "log_softmax", "x")
    result = Result(out, x_array.shape, x_array.dtype, "log_softmax", False)
    _pycnn.softmax(result.array, x_array, True)
    return result.finish()


def softmax_backward(dy: npt.ArrayLike, y: npt.ArrayLike, out: Array | None = None) -> Array:
    """Gradient of `softmax` from its output: dx = y * (dy - sum of dy * y over the last axis)."""
    dy_array, y_array = inputs("softmax_backward", dy=dy, y=y)
    result = Result(out, dy_array.shape, dy_array.dtype, "softmax_backward", False)
    _pycnn.softmax_backward(result.array, dy_array, y_array, False)
    return result.finish()


def log_softmax_backward(dy: npt.ArrayLike, y: npt.ArrayLike, out: Array | None = None) -> Array:
    """Gradient of `log_softmax` from its output: dx = dy - exp(y) * (sum of dy over axis -1)."""
    dy_array, y_array = inputs("log_softmax_backward", dy=dy, y=y)
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
    x, target = inputs(op, logits=logits, labels=labels)
    column = target.ndim == 2 and target.shape[1] == 1 != x.shape[-1]  # of class numbers
    if target.dtype.kind in "iu" and target.ndim == 2:
        advice = "labels.ravel()" if column else "labels.astype(logits.dtype)"
        raise TypeError(
            f"{op}: labels is {target.dtype} of shape {target.shape}; expected class numbers [N], "
            f"or one-hot rows that are floats: write {advice}."
        )
    if target.dtype.kind == "f" and (target.ndim == 1 or column):
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
    result = Result(None, x.shape, x.dtype, op, False)
    loss = _pycnn.softmax_cross_entropy(result.array, x, target, smoothing)
    return loss, result.finish()


def add_bias(y: Array, bias: npt.ArrayLike) -> None:
    """Y += bias over the last axis, in place; y: [..., C], bias: [C]."""
    check_updated("add_bias", y=y)
    _pycnn.add_bias(y, contiguous(bias, "add_bias", "bias"))


def accumulate(total: Array, part: npt.ArrayLike) -> None:
    """Add part to total in place; both of one shape and type."""
    check_updated("accumulate", total=total)
    _pycnn.accumulate(total, contiguous(part, "accumulate", "part"))
