"""Max and average pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn.ops.arrays import (
    Array,
    Padding,
    Pair,
    Result,
    check_apart_nchw,
    flag,
    four_sided,
    is_nchw,
    kind_of,
    nhwc_shape,
    pair,
    shape4,
    to_nhwc,
)

_X = "[N, H, W, C]"


def pool2d_shape(
    op: str,
    x_shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Padding,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> _pycnn.Pool2dShape:
    """The options of a pool as a shape for C++, which says what is wrong with them."""
    kernel = pair(kernel_size, op, "kernel_size")
    step = kernel if stride is None else pair(stride, op, "stride")
    apart, ceil = pair(dilation, op, "dilation"), flag(ceil_mode, op, "ceil_mode")
    return _pycnn.Pool2dShape(op, x_shape, kernel, step, four_sided(padding, op), apart, ceil)


def pool2d_output_shape(
    input_shape: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = "valid",
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[int, int, int, int]:
    """The shape (N, OH, OW, C) of a pool's result, or the ValueError that it would raise."""
    x_shape = shape4(input_shape, "pool2d", "input_shape", _X)
    options = kernel_size, stride, padding, dilation, ceil_mode
    return pool2d_shape("pool2d", x_shape, *options).output_shape


@overload
def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Pair,
    *,
    stride: Pair | None = ...,
    padding: Padding = ...,
    data_format: str = ...,
    dilation: Pair = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...


@overload
def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Pair,
    *,
    stride: Pair | None = ...,
    padding: Padding = ...,
    data_format: str = ...,
    dilation: Pair = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[True],
    out: tuple[Array, Array] | None = ...,
) -> tuple[Array, Array]: ...


def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = "valid",
    data_format: str = "NHWC",
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    out: Array | tuple[Array, Array] | None = None,
) -> Array | tuple[Array, Array]:
    """Maximum of each window, as tf.nn.max_pool2d.

    x: [N, H, W, C]. Returns y: [N, OH, OW, C], and with return_indices the int32 position
    h * W + w in its image of each maximum: what `max_pool2d_backward` needs.
    OH = (H + top + bottom - dilation_h * (KH - 1) - 1) // stride_h + 1.

    kernel_size: an int, (h, w) or [1, h, w, 1]; stride alike, by default the kernel size; padding
    as in `conv2d`, smaller than the window on every side; dilation: pixels from tap to tap.
    ceil_mode: OH is rounded up, without a last window that begins in the padding behind the image,
    as in PyTorch and ONNX. out: an array for y, or with return_indices a pair (y, indices). Padding
    never wins; the first maximum in row order wins; NaN wins over numbers. Raises ValueError if no
    window fits or a window could hold no pixel.
    """
    op = "max_pool2d"
    x_array = to_nhwc(x, is_nchw(data_format, op), op, "x")
    shape = pool2d_shape(op, x_array.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return maxima(op, x, x_array, shape, data_format, return_indices, out)


def maxima(
    op: str,
    x: npt.ArrayLike,
    x_array: Array,
    shape: _pycnn.Pool2dShape,
    data_format: str,
    return_indices: bool,
    out: Array | tuple[Array, Array] | None,
) -> Array | tuple[Array, Array]:
    """Of the windows of `shape`."""
    nchw = is_nchw(data_format, op)
    out_y, out_indices = split_out(op, out, return_indices)
    y = Result(out_y, shape.output_shape, x_array.dtype, op, nchw)
    check_apart_nchw(out_y, nchw, op, x=np.asarray(x), indices=out_indices)
    if not return_indices:
        _pycnn.max_pool2d_forward(y.array, None, x_array, shape, op)
        return y.finish()
    indices = Result(out_indices, shape.output_shape, np.int32, op, nchw)
    check_apart_nchw(out_indices, nchw, op, x=np.asarray(x))
    _pycnn.max_pool2d_forward(y.array, indices.array, x_array, shape, op)
    return y.finish(), indices.finish()


def split_out(
    op: str, out: Array | tuple[Array, Array] | None, return_indices: bool
) -> tuple[Array | None, Array | None]:
    """Where y and indices go."""
    if out is None:
        return None, None
    if return_indices:
        if isinstance(out, tuple) and len(out) == 2:
            return out
        raise TypeError(
            f"{op}: out is {kind_of(out)}; expected a pair (y, indices) with return_indices=True."
        )
    if isinstance(out, tuple):
        raise TypeError(f"{op}: out is a pair; expected one array, or write return_indices=True.")
    return out, None


def max_pool2d_backward(
    dy: npt.ArrayLike,
    indices: npt.ArrayLike,
    input_shape: Sequence[int],
    *,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Gradient of `max_pool2d`: dx is zero, plus each dy at the pixel that won its window.

    dy: [N, OH, OW, C]; indices: int32 of the same shape, from the forward call; input_shape: that
    of x. Returns dx, of input_shape; where windows overlap, contributions add in row order. Raises
    ValueError for an index outside the image.
    """
    op = "max_pool2d_backward"
    nchw = is_nchw(data_format, op)
    dy_array, where = to_nhwc(dy, nchw, op, "dy"), to_nhwc(indices, nchw, op, "indices")
    x_shape = nhwc_shape(shape4(input_shape, op, "input_shape", _X), nchw)
    result = Result(out, x_shape, dy_array.dtype, op, nchw)
    if result.array.shape != x_shape:
        raise ValueError(f"{op}: out has shape {result.array.shape}; expected {x_shape} {_X}.")
    check_apart_nchw(out, nchw, op, dy=np.asarray(dy), indices=np.asarray(indices))
    _pycnn.max_pool2d_backward(result.array, dy_array, where)
    return result.finish()


def avg_pool2d(
    x: npt.ArrayLike,
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = "valid",
    data_format: str = "NHWC",
    dilation: Pair = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    out: Array | None = None,
) -> Array:
    """Mean of each window, as tf.nn.avg_pool2d.

    x: [N, H, W, C]. Returns y: [N, OH, OW, C]. Options as in `max_pool2d`. Padding is not counted;
    with count_include_pad its zeros are (PyTorch's default), but not what a last window of
    ceil_mode has past the padding. Raises ValueError as `max_pool2d`.
    """
    op = "avg_pool2d"
    x_array = to_nhwc(x, is_nchw(data_format, op), op, "x")
    shape = pool2d_shape(op, x_array.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return means(op, x, x_array, shape, data_format, bool(count_include_pad), out)


def means(
    op: str,
    x: npt.ArrayLike,
    x_array: Array,
    shape: _pycnn.Pool2dShape,
    data_format: str,
    count_include_pad: bool,
    out: Array | None,
) -> Array:
    """Of the windows of `shape`."""
    nchw = is_nchw(data_format, op)
    result = Result(out, shape.output_shape, x_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, x=np.asarray(x))
    _pycnn.avg_pool2d_forward(result.array, x_array, shape, count_include_pad, op)
    return result.finish()


def avg_pool2d_backward(
    dy: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = "valid",
    data_format: str = "NHWC",
    dilation: Pair = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    out: Array | None = None,
) -> Array:
    """Gradient of `avg_pool2d`: every pixel of a window gets dy / count.

    dy: [N, OH, OW, C]; input_shape: that of x; options as in the forward call. Returns dx, of
    input_shape. Raises ValueError for shapes or options that do not fit.
    """
    op = "avg_pool2d_backward"
    x_shape = input_shape_of(op, input_shape, data_format)
    shape = pool2d_shape(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    return spread(op, dy, shape, data_format, bool(count_include_pad), out)


def input_shape_of(op: str, shape: Sequence[int], data_format: str) -> tuple[int, ...]:
    """That of x as NHWC."""
    return nhwc_shape(shape4(shape, op, "input_shape", _X), is_nchw(data_format, op))


def spread(
    op: str,
    dy: npt.ArrayLike,
    shape: _pycnn.Pool2dShape,
    data_format: str,
    count_include_pad: bool,
    out: Array | None,
) -> Array:
    """Dy over the windows of `shape`."""
    nchw = is_nchw(data_format, op)
    dy_array = to_nhwc(dy, nchw, op, "dy")
    result = Result(out, shape.input_shape, dy_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, dy=np.asarray(dy))
    _pycnn.avg_pool2d_backward(result.array, dy_array, shape, count_include_pad, op)
    return result.finish()
