"""Convolution, bias, relu and a 2 x 2 max pool as one operator, and its gradients."""

from __future__ import annotations

from typing import Literal, overload

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._arrays import Array, Padding, Pair, aligned_empty, contiguous
from pycnn._ops_conv2d import _shape

Gradients = tuple[Array, Array | None, Array | None]


def block_shape(
    op: str,
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    relu: bool,
    pool_padding: Padding,
) -> _pycnn.BlockShape:
    """The options as one object; pool_padding: "same", or "valid" or 0."""
    same = isinstance(pool_padding, str) and pool_padding.lower() == "same"
    none = isinstance(pool_padding, str) and pool_padding.lower() == "valid"
    if not same and not none and pool_padding not in (0, (0, 0)):
        raise ValueError(f'{op}: pool_padding is {pool_padding!r}; expected "same" or "valid".')
    conv = _shape(op, x_shape, weight_shape, stride, padding, dilation, groups)
    return _pycnn.BlockShape(conv, same, bool(relu))


@overload
def conv2d_block(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = ...,
    *,
    stride: Pair = ...,
    padding: Padding = ...,
    dilation: Pair = ...,
    groups: int = ...,
    relu: bool = ...,
    pool_padding: Padding = ...,
    algorithm: str = ...,
    return_where: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...


@overload
def conv2d_block(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = ...,
    *,
    stride: Pair = ...,
    padding: Padding = ...,
    dilation: Pair = ...,
    groups: int = ...,
    relu: bool = ...,
    pool_padding: Padding = ...,
    algorithm: str = ...,
    return_where: Literal[True],
    out: tuple[Array, Array] | None = ...,
) -> tuple[Array, Array]: ...


def conv2d_block(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    relu: bool = True,
    pool_padding: Padding = "valid",
    algorithm: str = "auto",
    return_where: bool = False,
    out: Array | tuple[Array, Array] | None = None,
) -> Array | tuple[Array, Array]:
    """`max_pool2d` of 2 x 2 windows, stride 2, of `relu` of `conv2d`; the map is never written.

    x: [N, H, W, C]; weight: [KH, KW, C/groups, OC]; bias: [OC] or None; options of the convolution
    as in `conv2d`. Returns y: [N, PH, PW, OC], and with return_where also uint8 of that shape: what
    `conv2d_block_backward` needs,

        y[n, ph, pw, oc] = relu(max over i, j of conv[n, 2 ph + i, 2 pw + j, oc] + bias[oc])
        where = 2 i + j of that maximum: the first one wins, NaN wins over numbers

    relu: False leaves it away. pool_padding: "valid" (PH = OH // 2) or "same" (PH = ceil(OH / 2), a
    last window of one row or column). out: an array for y, or with return_where a pair (y, where).
    float32 only. Raises ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "conv2d_block"
    x_array, w_array = contiguous(x), contiguous(weight)
    bias_array = None if bias is None else contiguous(bias)
    shape = block_shape(
        op, x_array.shape, w_array.shape, stride, padding, dilation, groups, relu, pool_padding
    )
    if return_where:
        if out is not None and not (isinstance(out, tuple) and len(out) == 2):
            raise TypeError(f"{op}: out is {type(out).__name__}; expected a pair (y, where).")
        y, where = out or (_empty(shape.output_shape), _empty(shape.output_shape, np.uint8))
    else:
        if isinstance(out, tuple):
            raise TypeError(f"{op}: out is a pair; expected one array, or write return_where=True.")
        y, where = _empty(shape.output_shape) if out is None else out, None
    _pycnn.block_forward(y, where, x_array, w_array, bias_array, shape, algorithm)
    return y if where is None else (y, where)


def conv2d_block_backward(
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
    relu: bool = True,
    pool_padding: Padding = "valid",
    bias: bool = True,
    input_gradient: bool = True,
    out: Gradients | None = None,
) -> Gradients:
    """Gradients (dweight, dbias, dx) of `conv2d_block`, from what it took and gave.

    dy, y, where: [N, PH, PW, OC]; x, weight and options as in the forward call. The gradient of the
    map is dy at the pixel that `where` names, if y > 0 (with relu), and zero elsewhere; then as
    `conv2d_backward_weight`, `conv2d_backward_bias` and `conv2d_backward_input`. Products with its
    zeros are skipped, so a NaN or Inf in x or weight may not show.

    bias, input_gradient: whether dbias [OC] and dx are wanted, else None. out: a tuple for the
    three. Raises ValueError for shapes, options or a `where` that do not fit, TypeError for types.
    """
    op = "conv2d_block_backward"
    x_array, w_array = contiguous(x), contiguous(weight)
    shape = block_shape(
        op, x_array.shape, w_array.shape, stride, padding, dilation, groups, relu, pool_padding
    )
    if out is None:
        dbias = _empty((w_array.shape[3],)) if bias else None
        out = _empty(w_array.shape), dbias, _empty(x_array.shape) if input_gradient else None
    arrays = (contiguous(a) for a in (dy, y, where))
    _pycnn.block_backward(*out, *arrays, x_array, w_array, shape)
    return out


def _empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
    return aligned_empty(shape, dtype)
