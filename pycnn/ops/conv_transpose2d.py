"""Transposed convolution: the gradient of the input of a convolution, as an operator of its own."""

from __future__ import annotations

from collections.abc import Sequence

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
    check_apart_nchw,
    check_size,
    contiguous,
    count,
    four_sided,
    is_nchw,
    nhwc_shape,
    pair,
    shape4,
    to_nhwc,
)

_X, _WEIGHT = "[N, H, W, C]", "[KH, KW, OC/groups, C]"


def conv_transpose2d_shape(
    op: str,
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    output_padding: Pair,
    dilation: Pair,
    groups: int,
    nchw: bool = False,
) -> _pycnn.ConvTranspose2dShape:
    """The shape of all three directions; x_shape is NHWC, nchw says that the caller's x is not."""
    return _pycnn.ConvTranspose2dShape(
        x_shape,
        weight_shape,
        pair(stride, op, "stride"),
        four_sided(padding, op),
        pair(output_padding, op, "output_padding", 0),
        pair(dilation, op, "dilation"),
        count(groups, op, "groups"),
        nchw,
    )


def conv_transpose2d(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: ActivationLike = None,
    data_format: str = "NHWC",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Transposed convolution, as torch.nn.functional.conv_transpose2d and tf.nn.conv2d_transpose.

    x: [N, H, W, C] ([N, C, H, W] with data_format="NCHW"); weight: [KH, KW, OC/groups, C], as in
    TensorFlow; bias: [OC] or None. Returns y: [N, OH, OW, OC],

        y[n, oh, ow, oc] = bias[oc] + sum of x[n, h, w, c] * weight[kh, kw, oc, c] over the h, w,
                           kh, kw, c with h*stride_h + kh*dilation_h - top = oh (and ow alike)
        OH = (H - 1)*stride_h - top - bottom + dilation_h*(KH-1) + output_padding_h + 1

    so it is `conv2d_backward_input` of a convolution of y with this weight, and what that computes
    in each of its directions this computes with x and y changed over. padding: pixels that are cut
    off each side, as in `conv2d`; "same" is TensorFlow's, OH = H * stride_h. output_padding: an int
    or (h, w), pixels more behind, less than stride or dilation. stride, dilation, groups,
    activation: as in `conv2d`. algorithm: as in `conv2d_backward_input`.

    Raises ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "conv_transpose2d"
    nchw = is_nchw(data_format, op)
    x_array, w_array = to_nhwc(x, nchw, op, "x"), contiguous(weight, op, "weight")
    bias_array = None if bias is None else contiguous(bias, op, "bias")
    options = stride, padding, output_padding, dilation, groups
    shape = conv_transpose2d_shape(op, x_array.shape, w_array.shape, *options, nchw)
    result = Result(out, shape.output_shape, x_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, x=np.asarray(x), weight=w_array, bias=bias_array)
    function, how = parse(activation, op), algorithm_name(algorithm, op)
    arrays = x_array, w_array, bias_array
    _pycnn.conv_transpose2d_forward(result.array, *arrays, shape, function, how)
    return result.finish()


def conv_transpose2d_backward_input(
    dy: npt.ArrayLike,
    weight: npt.ArrayLike,
    input_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    data_format: str = "NHWC",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient of `conv_transpose2d` with respect to x: the convolution of dy with weight.

    dy: [N, OH, OW, OC]; weight: [KH, KW, OC/groups, C]; input_shape: that of x, in the layout of
    data_format; options as in the forward call, algorithm as in `conv2d`. Returns dx, of
    input_shape,

        dx[n, h, w, c] = sum over kh, kw, oc of
            dy[n, h*stride_h + kh*dilation_h - top, w*stride_w + kw*dilation_w - left, oc]
            * weight[kh, kw, oc, c]

    Raises ValueError for shapes or options that do not fit, TypeError for types.
    """
    op = "conv_transpose2d_backward_input"
    nchw = is_nchw(data_format, op)
    dy_array, w_array = to_nhwc(dy, nchw, op, "dy"), contiguous(weight, op, "weight")
    x_shape = nhwc_shape(shape4(input_shape, op, "input_shape", _X), nchw)
    options = stride, padding, output_padding, dilation, groups
    shape = conv_transpose2d_shape(op, x_shape, w_array.shape, *options, nchw)
    result = Result(out, shape.input_shape, dy_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, dy=np.asarray(dy), weight=w_array)
    how = algorithm_name(algorithm, op)
    _pycnn.conv_transpose2d_backward_input(result.array, dy_array, w_array, shape, how)
    return result.finish()


def conv_transpose2d_backward_weight(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    weight_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    data_format: str = "NHWC",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient of `conv_transpose2d` with respect to weight.

    x: [N, H, W, C]; dy: [N, OH, OW, OC]; weight_shape: (KH, KW, OC/groups, C); options as in the
    forward call, algorithm as in `conv2d_backward_weight`. Returns dweight, of weight_shape,

        dweight[kh, kw, oc, c] = sum over n, h, w of x[n, h, w, c]
            * dy[n, h*stride_h + kh*dilation_h - top, w*stride_w + kw*dilation_w - left, oc]

    That of bias is `conv2d_backward_bias`. Raises ValueError for shapes or options that do not fit,
    TypeError for types.
    """
    op = "conv_transpose2d_backward_weight"
    nchw = is_nchw(data_format, op)
    x_array, dy_array = to_nhwc(x, nchw, op, "x"), to_nhwc(dy, nchw, op, "dy")
    w_shape = shape4(weight_shape, op, "weight_shape", _WEIGHT)
    options = stride, padding, output_padding, dilation, groups
    shape = conv_transpose2d_shape(op, x_array.shape, w_shape, *options, nchw)
    result = Result(out, shape.weight_shape, x_array.dtype, op, False)
    how = algorithm_name(algorithm, op)
    _pycnn.conv_transpose2d_backward_weight(result.array, x_array, dy_array, shape, how)
    return result.finish()


def conv_transpose2d_output_shape(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[int, int, int, int]:
    """The shape of `conv_transpose2d`'s result, or the ValueError that it would raise."""
    op = "conv_transpose2d"
    x_shape = shape4(input_shape, op, "input_shape", _X)
    w_shape = shape4(weight_shape, op, "weight_shape", _WEIGHT)
    options = stride, padding, output_padding, dilation, groups
    shape = conv_transpose2d_shape(op, x_shape, w_shape, *options)
    check_size(shape.output_shape, op)
    return shape.output_shape
