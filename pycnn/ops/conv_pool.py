"""A block: convolution, bias, relu and 2 x 2 max pool as one operator, forward and backward."""

from __future__ import annotations

from typing import Literal, NamedTuple, overload

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn.ops.activations import ActivationLike, parse
from pycnn.ops.arrays import (
    Array,
    Padding,
    Pair,
    Result,
    algorithm_name,
    contiguous,
    flag,
    inputs,
    kind_of,
)
from pycnn.ops.conv2d import conv2d_shape


def _shape(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    pool_padding: str,
    relu: bool,
) -> _pycnn.ConvPoolShape:
    op = "conv_pool"
    if not isinstance(pool_padding, str) or pool_padding.lower() not in ("same", "valid"):
        raise ValueError(
            f'{op}: pool_padding is {pool_padding!r}; expected "same" (the window is cut where the '
            'map is odd) or "valid" (the odd row or column is left out).'
        )
    conv = conv2d_shape(op, x_shape, weight_shape, stride, padding, dilation, groups)
    return _pycnn.ConvPoolShape(conv, pool_padding.lower() == "same", flag(relu, op, "relu"))


@overload
def conv_pool(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = ...,
    *,
    stride: Pair = ...,
    padding: Padding = ...,
    dilation: Pair = ...,
    groups: int = ...,
    pool_padding: str = ...,
    relu: bool = ...,
    algorithm: str = ...,
    return_where: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...


@overload
def conv_pool(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = ...,
    *,
    stride: Pair = ...,
    padding: Padding = ...,
    dilation: Pair = ...,
    groups: int = ...,
    pool_padding: str = ...,
    relu: bool = ...,
    algorithm: str = ...,
    return_where: Literal[True],
    out: tuple[Array, Array] | None = ...,
) -> tuple[Array, Array]: ...


def conv_pool(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    pool_padding: str = "valid",
    relu: bool = True,
    algorithm: str = "auto",
    return_where: bool = False,
    out: Array | tuple[Array, Array] | None = None,
) -> Array | tuple[Array, Array]:
    """Convolution, bias, relu and a 2 x 2 max pool of stride 2, in one pass. float32, NHWC.

    x: [N, H, W, C]; weight: [KH, KW, C/groups, OC]; bias: [OC] or None. Returns
    y: [N, PH, PW, OC], and with return_where also where: uint8 of the same shape,

        y[n, ph, pw, oc]     = relu(max over i, j of conv[n, 2*ph + i, 2*pw + j, oc] + bias[oc])
        where[n, ph, pw, oc] = 2*i + j of that maximum: the first one, NaN before numbers
        PH = ceil(OH / 2) with pool_padding="same", floor(OH / 2) with "valid"

    conv is the result [N, OH, OW, OC] of `conv2d` with the same stride, padding, dilation, groups
    and algorithm; it is never written to memory as a whole. relu=False leaves the relu out. The
    maximum comes first: bias and relu never change which pixel wins, but for rounding: two pixels
    that differ may tie after the bias, and then `where` names the larger one. out: an array for y,
    or with return_where a pair (y, where).

    Raises ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "conv_pool"
    x_array, w_array = inputs(op, x=x, weight=weight)
    bias_array = None if bias is None else contiguous(bias, op, "bias")
    shape = _shape(
        x_array.shape, w_array.shape, stride, padding, dilation, groups, pool_padding, relu
    )
    if return_where and out is not None and not (isinstance(out, tuple) and len(out) == 2):
        raise TypeError(
            f"{op}: out is {kind_of(out)}; expected a pair (y, where) with return_where=True."
        )
    how = algorithm_name(algorithm, op)
    out_y, out_where = out if isinstance(out, tuple) else (out, None)
    if isinstance(out, tuple) and not return_where:
        raise TypeError(f"{op}: out is a tuple; expected one array, or write return_where=True.")
    y = Result(out_y, shape.output_shape, np.float32, op, False).array
    if not return_where:
        _pycnn.conv_pool_forward(y, None, x_array, w_array, bias_array, shape, how)
        return y
    where = Result(out_where, shape.output_shape, np.uint8, op, False).array
    _pycnn.conv_pool_forward(y, where, x_array, w_array, bias_array, shape, how)
    return y, where


class ConvPoolGradients(NamedTuple):
    """Of `conv_pool_backward` and `conv2d_relu_backward`; dx is None if not asked for."""

    dweight: Array
    dbias: Array
    dx: Array | None


def conv_pool_backward(
    dy: npt.ArrayLike,
    y: npt.ArrayLike,
    where: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    pool_padding: str = "valid",
    relu: bool = True,
    input_gradient: bool = True,
    out: tuple[Array, Array, Array | None] | None = None,
) -> ConvPoolGradients:
    """The gradients of `conv_pool` with respect to weight, bias and x. float32, NHWC.

    dy: [N, PH, PW, OC]; y, where: what the forward call returned; x, weight and options: as there.
    Returns (dweight, dbias, dx); dx is None with input_gradient=False, which a first layer wants.

        g       = dy at the pixel of the map that `where` names (with relu: where y is not <= 0)
        dweight = conv2d_backward_weight(x, g)       dbias[oc] = sum of g
        dx      = conv2d_backward_input(g, weight)

    Three quarters of g are zero, or more. Products with zero are skipped where that is faster, so
    Inf or NaN in weight or x may be hidden: they show only where a gradient meets them. out: a
    triple of arrays for the results, the last one None with input_gradient=False.

    Raises ValueError for shapes or options that do not fit and for a `where` outside its window,
    TypeError for types.
    """
    op = "conv_pool_backward"
    dy_array, y_array, where_array = inputs(op, dy=dy, y=y, where=where)
    x_array, w_array = inputs(op, x=x, weight=weight)
    shape = _shape(
        x_array.shape, w_array.shape, stride, padding, dilation, groups, pool_padding, relu
    )
    result = _results(op, shape, out, input_gradient)
    _pycnn.conv_pool_backward(*result, dy_array, y_array, where_array, x_array, w_array, shape)
    return result


def conv2d_relu_backward(
    dy: npt.ArrayLike,
    y: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    activation: ActivationLike = "relu",
    algorithm: str = "auto",
    input_gradient: bool = True,
    out: tuple[Array, Array, Array | None] | None = None,
) -> ConvPoolGradients:
    """The gradients of y = conv2d(x, weight, bias, activation="relu"), in one call. float32, NHWC.

    activation: "relu", or another one whose gradient follows from y (`activation_reads`).

    dy, y: [N, OH, OW, OC], y as the forward call returned it; x, weight and options: as there.
    Returns (dweight, dbias, dx); dx is None with input_gradient=False.

        g       = activation_backward(dy, y, activation): dy where y is not <= 0, else 0
        dweight = conv2d_backward_weight(x, g)       dbias = conv2d_backward_bias(g)
        dx      = conv2d_backward_input(g, weight)

    out: a triple of arrays for the results, the last one None with input_gradient=False. Raises
    ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "conv2d_relu_backward"
    dy_array, y_array, x_array, w_array = inputs(op, dy=dy, y=y, x=x, weight=weight)
    shape = conv2d_shape(op, x_array.shape, w_array.shape, stride, padding, dilation, groups)
    result = _results(op, shape, out, input_gradient)
    how = algorithm_name(algorithm, op)
    function = parse(activation, op)
    _pycnn.conv2d_relu_backward(*result, dy_array, y_array, x_array, w_array, shape, function, how)
    return result


def _results(
    op: str,
    shape: _pycnn.ConvPoolShape | _pycnn.Conv2dShape,
    out: tuple[Array, Array, Array | None] | None,
    input_gradient: bool,
) -> ConvPoolGradients:
    """The arrays for the gradients: those of `out`, checked, or new ones."""
    given: tuple[Array | None, Array | None, Array | None] = (None, None, None)
    if isinstance(out, tuple) and len(out) == 3 and (out[2] is not None) == bool(input_gradient):
        given = out
    elif out is not None:
        raise TypeError(
            f"{op}: out is {kind_of(out)}; expected a triple (dweight, dbias, dx), with None "
            "for dx exactly if input_gradient=False."
        )
    shapes = shape.weight_shape, shape.output_shape[3:], shape.input_shape
    count = 3 if input_gradient else 2
    arrays = [
        Result(array, extents, np.float32, op, False).array
        for array, extents in zip(given[:count], shapes[:count], strict=True)
    ]
    return ConvPoolGradients(arrays[0], arrays[1], arrays[2] if input_gradient else None)
