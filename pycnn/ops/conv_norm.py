"""A 1 x 1 convolution and batch normalisation as one operator, forward and backward."""

from __future__ import annotations

from typing import Any, NamedTuple

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn.ops.activations import ActivationLike, parse
from pycnn.ops.arrays import Array, Result, contiguous, inputs, kind_of
from pycnn.ops.norm import checked_running, positive


class ConvNorm(NamedTuple):
    """What `conv2d_norm` returns: y, and the map and its statistics, which backward needs."""

    y: Array
    z: Array
    mean: Array
    var: Array


class ConvNormGradients(NamedTuple):
    """What `conv2d_norm_backward` returns; dx is None if it was not asked for."""

    dx: Array | None
    dweight: Array
    dgamma: Array
    dbeta: Array


def conv2d_norm(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    gamma: npt.ArrayLike,
    beta: npt.ArrayLike,
    *,
    bias: npt.ArrayLike | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: ActivationLike = None,
    out: tuple[Array, Array, Array, Array] | None = None,
) -> ConvNorm:
    """A 1 x 1 convolution and `batch_norm` behind it, in training. float32, NHWC.

    x: [N, H, W, C]; weight: [1, 1, C, OC]; gamma, beta (weight and bias of the norm): [OC]; bias:
    [OC] or None. With M = N * H * W, for each channel

        z    = conv2d(x, weight, bias)
        mean = sum of z / M          var = sum of (z - mean)**2 / M
        y    = activation((z - mean) / sqrt(var + eps) * gamma + beta)

    Returns (y, z, mean, var), y and z [N, H, W, OC], with the bits of the operators one after the
    other; the sums are taken while a part of z is in the cache. running_mean, running_var,
    momentum: as in `batch_norm`. out: four arrays for the results. An empty x gives mean and var 0.

    Raises ValueError for a single pixel, for shapes and options that do not fit, TypeError for
    types.
    """
    op = "conv2d_norm"
    function, least = parse(activation, op), positive(eps, op)
    x_array, w_array = inputs(op, x=x, weight=weight)
    g, b = inputs(op, gamma=gamma, beta=beta)
    share = checked_running(op, running_mean, running_var, momentum)
    given = _given(out, op, "(y, z, mean, var)")
    shape = (*x_array.shape[:-1], *w_array.shape[-1:])
    y, z, mean, var = (
        Result(array, extents, np.float32, op, False).array
        for array, extents in zip(given, (shape, shape, shape[-1:], shape[-1:]), strict=True)
    )
    bias_array = None if bias is None else contiguous(bias, op, "bias")
    into = running_mean, running_var
    _pycnn.conv2d_norm(
        y,
        z,
        mean,
        var,
        x_array,
        w_array,
        bias_array,
        g,
        b,
        into[0],
        into[1],
        share,
        least,
        function,
    )
    return ConvNorm(y, z, mean, var)


def conv2d_norm_backward(
    dy: npt.ArrayLike,
    z: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    gamma: npt.ArrayLike,
    beta: npt.ArrayLike,
    mean: npt.ArrayLike,
    var: npt.ArrayLike,
    *,
    eps: float = 1e-5,
    activation: ActivationLike = None,
    input_gradient: bool = True,
    out: tuple[Array | None, Array, Array, Array] | None = None,
) -> ConvNormGradients:
    """The gradients of `conv2d_norm`, through mean and var as well. float32, NHWC.

    dy: [N, H, W, OC]; z, mean, var: what forward returned; the others: as there. With
    h = (z - mean) / sqrt(var + eps), and g = dy f', f' the derivative of the activation,

        dbeta   = sum of g           dgamma = sum of g * h
        dz      = gamma / sqrt(var + eps) * (g - dbeta / M - h * dgamma / M)
        dweight = conv2d_backward_weight(x, dz)      dx = conv2d_backward_input(dz, weight)

    dz is never written as a whole. A bias has the gradient zero: the mean takes it away. Returns
    (dx, dweight, dgamma, dbeta); dx is None with input_gradient=False. out: four arrays for them,
    the first one None with input_gradient=False. Raises ValueError for shapes and options that do
    not fit, TypeError for types.
    """
    op = "conv2d_norm_backward"
    function, least = parse(activation, op), positive(eps, op)
    dy_array, z_array, x_array, w_array = inputs(op, dy=dy, z=z, x=x, weight=weight)
    g, b, means, variances = inputs(op, gamma=gamma, beta=beta, mean=mean, var=var)
    dx_out, *given = _given(out, op, "(dx, dweight, dgamma, dbeta)")
    if out is not None and (dx_out is not None) != bool(input_gradient):
        raise TypeError(
            f"{op}: out[0] is {'None' if dx_out is None else 'an array'}; expected None exactly if "
            "input_gradient=False."
        )
    dx = None
    if input_gradient:
        dx = Result(dx_out, x_array.shape, np.float32, op, False).array
    channels = w_array.shape[-1:]
    dweight, dgamma, dbeta = (
        Result(array, extents, np.float32, op, False).array
        for array, extents in zip(given, (w_array.shape, channels, channels), strict=True)
    )
    _pycnn.conv2d_norm_backward(
        dx, dweight, dgamma, dbeta, dy_array, z_array, x_array, w_array, g, b, means, variances,
        least, function,
    )  # fmt: skip
    return ConvNormGradients(dx, dweight, dgamma, dbeta)


def _given(out: Any, op: str, names: str) -> tuple[Array | None, ...]:
    if out is None:
        return None, None, None, None
    if isinstance(out, tuple) and len(out) == 4:
        return out
    raise TypeError(f"{op}: out is {kind_of(out)}; expected four arrays {names}.")
