"""Activations as operators. Of any shape; NaN stays NaN, and infinities give limits.

`out` may be x itself. Raises ValueError for an `out` or a number that does not fit, TypeError for
types. `activation_backward` is the gradient of all of them.
"""

from __future__ import annotations

import math

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn.ops.activations import NONE, Activation, ActivationLike, checked, parse
from pycnn.ops.activations import activation as row_of
from pycnn.ops.arrays import Array, Result, contiguous, inputs, kind_of


def _applied(op: str, x: npt.ArrayLike, out: Array | None, *numbers: float) -> Array:
    return _activated(x, row_of(op, *checked(op, numbers, op)), out, op)


def _activated(x: npt.ArrayLike, function: Activation, out: Array | None, op: str) -> Array:
    x_array = contiguous(x, op, "x")
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    _pycnn.activate(result.array, x_array, function, op)
    return result.finish()


def activation(x: npt.ArrayLike, kind: ActivationLike, out: Array | None = None) -> Array:
    """The activation of this name: `activation(x, "silu")`, `activation(x, ("elu", 0.5))`."""
    return _activated(x, parse(kind, "activation"), out, "activation")


def activation_backward(
    dy: npt.ArrayLike, v: npt.ArrayLike, kind: ActivationLike, out: Array | None = None
) -> Array:
    """The gradient of an activation: dx = dy * f'(x).

    v: x, or y = f(x) where f' follows from it: `activation_reads(kind)` says which. dy, v: of one
    shape. `out` may be dy or v. At the ends of a flat part f' is 0, as within. A dy of 0 gives 0
    where f' is infinite. Raises ValueError for shapes or options that do not fit,
    TypeError for types.
    """
    op = "activation_backward"
    function = parse(kind, op)
    if function is NONE:
        raise ValueError(f"{op}: kind is None; expected an activation: dx is dy.")
    return _gradient(dy, v, function, out, op)


def _gradient(
    dy: npt.ArrayLike, v: npt.ArrayLike, function: Activation, out: Array | None, op: str
) -> Array:
    dy_array, v_array = inputs(op, **{"dy": dy, "y" if op == "relu_backward" else "v": v})
    result = Result(out, dy_array.shape, dy_array.dtype, op, False)
    _pycnn.activation_backward(result.array, dy_array, v_array, function, op)
    return result.finish()


def activation_reads(kind: ActivationLike) -> str:
    """What the gradient of an activation is computed from: "x" or "y"."""
    return parse(kind, "activation_reads").reads


def relu(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = max(x, 0); -0.0 stays."""
    return _applied("relu", x, out)


def relu_backward(dy: npt.ArrayLike, y: npt.ArrayLike, out: Array | None = None) -> Array:
    """Gradient of `relu` from its output: dx = 0 where y <= 0, else dy.

    dy, y: of one shape. `out` may be dy itself. Raises ValueError if the shapes differ.
    """
    return _gradient(dy, y, row_of("relu"), out, "relu_backward")


def relu6(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = min(max(x, 0), 6)."""
    return _applied("relu6", x, out)


def clip(
    x: npt.ArrayLike, low: float = -math.inf, high: float = math.inf, out: Array | None = None
) -> Array:
    """Y = min(max(x, low), high), so high where low is above it; the gradient is that of inside."""
    return _applied("clip", x, out, low, high)


def leaky_relu(x: npt.ArrayLike, slope: float = 0.01, out: Array | None = None) -> Array:
    """Y = x, below zero x * slope."""
    return _applied("leaky_relu", x, out, slope)


def elu(x: npt.ArrayLike, alpha: float = 1.0, out: Array | None = None) -> Array:
    """Y = x, below zero alpha * (exp(x) - 1); alpha above 0."""
    return _applied("elu", x, out, alpha)


def hard_sigmoid(
    x: npt.ArrayLike, slope: float = 1 / 6, shift: float = 0.5, out: Array | None = None
) -> Array:
    """Y = min(max(slope * x + shift, 0), 1); slope above 0."""
    return _applied("hard_sigmoid", x, out, slope, shift)


def hard_swish(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = x * min(max(x + 3, 0), 6) / 6."""
    return _applied("hard_swish", x, out)


def sigmoid(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = 1 / (1 + exp(-x))."""
    return _applied("sigmoid", x, out)


def silu(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = x / (1 + exp(-x))."""
    return _applied("silu", x, out)


def tanh(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """The hyperbolic tangent."""
    return _applied("tanh", x, out)


def gelu(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = x / 2 * (1 + erf(x / sqrt(2)))."""
    return _applied("gelu", x, out)


def gelu_tanh(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), which lies close to `gelu`."""
    return _applied("gelu_tanh", x, out)


def softplus(
    x: npt.ArrayLike, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None
) -> Array:
    """Y = log(1 + exp(beta x)) / beta, and x where beta x is above threshold; beta above 0."""
    return _applied("softplus", x, out, beta, threshold)


def exp(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """The exponential function."""
    return _applied("exp", x, out)


def erf(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return _applied("erf", x, out)


def sqrt(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """The square root; NaN below 0."""
    return _applied("sqrt", x, out)


def abs(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """|x|; the gradient at 0 is 0."""
    return _applied("abs", x, out)


def log(x: npt.ArrayLike, out: Array | None = None) -> Array:
    """The natural logarithm; -Inf of 0, NaN below."""
    return _applied("log", x, out)


def prelu(x: npt.ArrayLike, slope: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = x, below zero x * slope of its channel; x: [..., C]; slope: [C], or [1] for all.

    `out` may be x itself. Raises ValueError for shapes that do not fit, TypeError for types.
    """
    op = "prelu"
    x_array, slopes = inputs(op, x=x, slope=slope)
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    _pycnn.prelu(result.array, x_array, _each_channel(slopes, x_array))
    return result.finish()


def prelu_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    slope: npt.ArrayLike,
    *,
    input_gradient: bool = True,
    out: tuple[Array | None, Array] | None = None,
) -> tuple[Array | None, Array]:
    """The gradients of `prelu`: (dx, dslope).

    dy, x: [..., C]; slope as forward took it. dx = dy, where x < 0 dy * slope; None with
    input_gradient=False. dslope: of the shape of slope, the sum of dy * x where x < 0. out: a pair
    of arrays for them, the first None with input_gradient=False; it may be dy. Raises ValueError
    for shapes or options that do not fit, TypeError for types.
    """
    op = "prelu_backward"
    dy_array, x_array, slopes = inputs(op, dy=dy, x=x, slope=slope)
    dx_out, dslope_out = out if isinstance(out, tuple) and len(out) == 2 else (None, None)
    if out is not None and (dslope_out is None or (dx_out is not None) != bool(input_gradient)):
        raise TypeError(
            f"{op}: out is {kind_of(out)}; expected a pair (dx, dslope), with None for dx exactly "
            "if input_gradient=False."
        )
    dx = None
    if input_gradient:
        dx = Result(dx_out, dy_array.shape, dy_array.dtype, op, False).array
    dslope = Result(dslope_out, slopes.shape, slopes.dtype, op, False).array
    each = _each_channel(slopes, x_array)
    sums = dslope if each is slopes else np.empty_like(each)
    _pycnn.prelu_backward(dx, sums, dy_array, x_array, each)
    if sums is not dslope:
        dslope[0] = _in_order(sums)
    return dx, dslope


def _each_channel(slope: Array, x: Array) -> Array:
    """One slope for all as one a channel."""
    alone = slope.shape == (1,) and x.ndim > 0 and x.shape[-1] != 1
    return np.repeat(slope, x.shape[-1]) if alone else slope


def _in_order(sums: Array) -> Array:
    """Added one after the other: the sum of NumPy depends on its version."""
    return np.add.accumulate(sums)[-1]  # type: ignore[no-any-return]
