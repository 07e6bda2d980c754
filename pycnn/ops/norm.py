"""Batch normalisation and dropout."""

from __future__ import annotations

import math
from typing import NamedTuple

import _pycnn
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.ops.activations import NONE, ActivationLike, parse
from pycnn.ops.arrays import Array, Result, check_updated, contiguous, inputs, kind_of, number


class BatchNorm(NamedTuple):
    """What `batch_norm` returns: y, and the statistics of the batch, which backward needs."""

    y: Array
    mean: Array
    var: Array


class BatchNormGradients(NamedTuple):
    """What `batch_norm_backward` returns; dx is None if it was not asked for."""

    dx: Array | None
    dweight: Array
    dbias: Array


def batch_norm(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike,
    *,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: ActivationLike = None,
    residual: npt.ArrayLike | None = None,
    out: tuple[Array, Array, Array] | None = None,
) -> BatchNorm:
    """Batch normalisation with the statistics of x itself, for training (Ioffe & Szegedy 2015).

    x: [N, ..., C]; weight (gamma), bias (beta): [C]. With M = N * ..., for each channel

        mean = sum of x / M          var = sum of (x - mean)**2 / M
        y    = activation((x - mean) / sqrt(var + eps) * weight + bias + residual)

    activation: as in `conv2d`. residual: an array of x's shape, or None; out[0] may be the residual
    itself. Returns (y, mean, var), mean and var [C]. running_mean and running_var, if given, are
    updated in place, the variance with the unbiased one, as PyTorch:

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * M / (M - 1)

    An empty x gives mean and var 0 and leaves them alone. A chunk's sums are taken around its own
    mean and added in float64, so var keeps its digits beside a large mean. Raises ValueError for
    M = 1, for shapes and options that do not fit, TypeError for types.
    """
    op = "batch_norm"
    x_array, function = contiguous(x, op, "x"), parse(activation, op)
    y_out, mean_out, var_out = _triple(out, op, "(y, mean, var)")
    channels = x_array.shape[-1:]
    y = Result(y_out, x_array.shape, x_array.dtype, op, False).array
    mean = Result(mean_out, channels, x_array.dtype, op, False).array
    var = Result(var_out, channels, x_array.dtype, op, False).array
    share = checked_running(op, running_mean, running_var, momentum)
    w, b = inputs(op, weight=weight, bias=bias)
    _pycnn.batch_norm(
        y,
        mean,
        var,
        x_array,
        w,
        b,
        running_mean,
        running_var,
        share,
        positive(eps, op),
        function,
        _optional(residual, op, "residual"),
    )
    return BatchNorm(y, mean, var)


def batch_norm_inference(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike,
    mean: npt.ArrayLike,
    var: npt.ArrayLike,
    *,
    eps: float = 1e-5,
    activation: ActivationLike = None,
    residual: npt.ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """Batch normalisation with given statistics: y = (x - mean) / sqrt(var + eps) * weight + bias.

    x: [N, ..., C]; weight, bias, mean, var: [C]; activation: as in `conv2d`; residual: of x's
    shape, added before the activation, or None. `out` may be x or residual itself. Raises
    ValueError for shapes and options that do not fit, TypeError for types.
    """
    op = "batch_norm_inference"
    x_array, function = contiguous(x, op, "x"), parse(activation, op)
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    w, b, m, v = inputs(op, weight=weight, bias=bias, mean=mean, var=var)
    other, least = _optional(residual, op, "residual"), positive(eps, op)
    _pycnn.batch_norm_inference(result.array, x_array, w, b, m, v, least, function, other)
    return result.finish()


def batch_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike,
    mean: npt.ArrayLike,
    var: npt.ArrayLike,
    *,
    eps: float = 1e-5,
    activation: ActivationLike = None,
    y: npt.ArrayLike | None = None,
    residual_gradient: Array | None = None,
    input_gradient: bool = True,
    out: tuple[Array | None, Array, Array] | None = None,
) -> BatchNormGradients:
    """The gradients of `batch_norm`, through mean and var as well.

    dy, x: [N, ..., C]; weight, bias, mean, var: as forward took and returned them, so that what
    the activation got is that of forward. With z = (x - mean) / sqrt(var + eps), g = dy f', f' the
    derivative of the activation there, as in `activation_backward`, and sums over all but the
    channels:

        dbias = sum of g        dweight = sum of g * z
        dx    = weight / sqrt(var + eps) * (g - dbias / M - z * dweight / M)

    After a forward call with a residual and an activation, y is what it returned: there x alone
    does not tell f', which has to follow from y (`activation_reads`). residual_gradient: an array
    of x's shape that g is written to, which is the gradient of the residual; it may be dy itself if
    dx is another array.

    Returns (dx, dweight, dbias); dx is None with input_gradient=False. out: a triple of arrays for
    them, the first None with input_gradient=False; it may be dy. Raises ValueError for shapes and
    options that do not fit, TypeError for types.
    """
    op = "batch_norm_backward"
    x_array, function = contiguous(x, op, "x"), parse(activation, op)
    dx_out, dweight_out, dbias_out = _triple(out, op, "(dx, dweight, dbias)")
    if out is not None and (dx_out is not None) != bool(input_gradient):
        raise TypeError(
            f"{op}: out[0] is {'None' if dx_out is None else 'an array'}; expected None exactly if "
            "input_gradient=False."
        )
    if y is not None and (function is NONE or function.reads == "x"):
        raise ValueError(
            f"{op}: y is given with activation={activation!r}; expected an activation whose "
            'gradient follows from y, as "relu".'
        )
    if residual_gradient is not None:
        check_updated(op, residual_gradient=residual_gradient)
        if function is not NONE and y is None:
            raise ValueError(
                f"{op}: residual_gradient is given, but y is None; expected what batch_norm "
                "returned: with a residual x alone does not tell the gradient of the activation."
            )
    channels = x_array.shape[-1:]
    dx = None
    if input_gradient:
        dx = Result(dx_out, x_array.shape, x_array.dtype, op, False).array
    dweight = Result(dweight_out, channels, x_array.dtype, op, False).array
    dbias = Result(dbias_out, channels, x_array.dtype, op, False).array
    w, b, m, v = inputs(op, weight=weight, bias=bias, mean=mean, var=var)
    _pycnn.batch_norm_backward(
        dx,
        dweight,
        dbias,
        contiguous(dy, op, "dy"),
        x_array,
        w,
        b,
        m,
        v,
        positive(eps, op),
        function,
        _optional(y, op, "y"),
        residual_gradient,
    )
    return BatchNormGradients(dx, dweight, dbias)


def dropout(
    x: npt.ArrayLike, p: float = 0.5, *, seed: int, calls: int = 0, out: Array | None = None
) -> Array:
    """Y = x * mask: mask is 1 / (1 - p) where the element's draw is at least p, else 0.

    x: any shape; p: at least 0 and below 1; seed, calls: 0 to 2**64 - 1. A draw is 24 bits of a
    hash of (seed, calls, position in memory order): the same for any thread count and machine, and
    for float32 and float64. So the gradient is `dropout(dy, p, seed=seed, calls=calls)`. `out` may
    be x itself. Raises ValueError for options out of range, TypeError for types.
    """
    op = "dropout"
    x_array = contiguous(x, op, "x")
    share = number(p)
    if not 0.0 <= share < 1.0:
        raise ValueError(f"{op}: p is {p!r}; expected a probability of dropping, 0 <= p < 1.")
    for name, value in (("seed", seed), ("calls", calls)):
        if not is_whole(value, 0, 2**64 - 1):
            raise ValueError(f"{op}: {name} is {value!r}; expected an int from 0 to 2**64 - 1.")
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    _pycnn.dropout(result.array, x_array, share, int(seed), int(calls))
    return result.finish()


def _triple(
    out: tuple[Array | None, Array, Array] | None, op: str, names: str
) -> tuple[Array | None, Array | None, Array | None]:
    if out is None:
        return None, None, None
    if isinstance(out, tuple) and len(out) == 3:
        return out
    raise TypeError(f"{op}: out is {kind_of(out)}; expected a triple {names}.")


def _optional(array: npt.ArrayLike | None, op: str, name: str) -> Array | None:
    return None if array is None else contiguous(array, op, name)


def checked_running(
    op: str, running_mean: Array | None, running_var: Array | None, momentum: float
) -> float:
    """momentum, of running statistics that can be written to: both or neither."""
    if (running_mean is None) != (running_var is None):
        raise TypeError(
            f"{op}: running_mean and running_var belong together; expected both or neither."
        )
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None:
            check_updated(op, **{name: running})
    share = number(momentum)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{op}: momentum is {momentum!r}; expected a number from 0 to 1.")
    return share


def positive(eps: float, op: str) -> float:
    """Eps as a finite number above 0."""
    value = number(eps)
    if not 0.0 < value < math.inf:
        raise ValueError(f"{op}: eps is {eps!r}; expected a finite number above 0.")
    return value
