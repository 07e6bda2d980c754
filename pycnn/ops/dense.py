"""Matrix product, softmax, sums in place."""

from __future__ import annotations

import _pycnn
import numpy.typing as npt

from pycnn.ops.activations import ActivationLike, parse
from pycnn.ops.arrays import (
    Array,
    Result,
    check_updated,
    contiguous,
    flag,
    inputs,
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


def add_bias(y: Array, bias: npt.ArrayLike) -> None:
    """Y += bias over the last axis, in place; y: [..., C], bias: [C]."""
    check_updated("add_bias", y=y)
    _pycnn.add_bias(y, contiguous(bias, "add_bias", "bias"))


def accumulate(total: Array, part: npt.ArrayLike) -> None:
    """Add part to total in place; both of one shape and type."""
    check_updated("accumulate", total=total)
    _pycnn.accumulate(total, contiguous(part, "accumulate", "part"))
