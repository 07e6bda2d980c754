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
    contiguous,
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
    op: str, x_shape: tuple[int, ...], kernel_size: Pair, stride: Pair | None, padding: Padding
) -> _pycnn.Pool2dShape:
    """The options of a pool as a shape for C++, which says what is wrong with them."""
    kernel = pair(kernel_size, op, "kernel_size")
    step = kernel if stride is None else pair(stride, op, "stride")
    return _pycnn.Pool2dShape(op, x_shape, kernel, step, four_sided(padding, op))


def pool2d_output_shape(
    input_shape: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = "valid",
) -> tuple[int, int, int, int]:
    """The shape (N, OH, OW, C) of a pool's result, or the ValueError that it would raise."""
    x_shape = shape4(input_shape, "pool2d", "input_shape", _X)
    return pool2d_shape("pool2d", x_shape, kernel_size, stride, padding).output_shape


@overload
def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Pair,
    *,
    stride: Pair | None = ...,
    padding: Padding = ...,
    data_format: str = ...,
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
    return_indices: bool = False,
    out: Array | tuple[Array, Array] | None = None,
) -> Array | tuple[Array, Array]:
    """Maximum of each window, as tf.nn.max_pool2d.

    x: [N, H, W, C]. Returns y: [N, OH, OW, C], and with return_indices the int32 position
    h * W + w in its image of each maximum: what `max_pool2d_backward` needs.
    OH = (H + top + bottom - KH) // stride_h + 1.

    kernel_size: an int, (h, w) or [1, h, w, 1]; stride alike, by default the kernel size; padding
    as in `conv2d`, smaller than the window on every side. out: an array for y, or with
    return_indices a pair (y, indices). Padding never wins; the first maximum in row order wins; NaN
    wins over numbers. Raises ValueError if no window fits or a window could hold no pixel.
    """
    op = "max_pool2d"
    nchw = is_nchw(data_format, op)
    x_array = to_nhwc(x, nchw, op, "x")
    shape = pool2d_shape(op, x_array.shape, kernel_size, stride, padding)
    out_y, out_indices = _split_out(out, return_indices)
    y = Result(out_y, shape.output_shape, x_array.dtype, op, nchw)
    check_apart_nchw(out_y, nchw, op, x=np.asarray(x), indices=out_indices)
    if not return_indices:
        _pycnn.max_pool2d_forward(y.array, None, x_array, shape)
        return y.finish()
    indices = Result(out_indices, shape.output_shape, np.int32, op, nchw)
    check_apart_nchw(out_indices, nchw, op, x=np.asarray(x))
    _pycnn.max_pool2d_forward(y.array, indices.array, x_array, shape)
    return y.finish(), indices.finish()


def _split_out(
    out: Array | tuple[Array, Array] | None, return_indices: bool
) -> tuple[Array | None, Array | None]:
    if out is None:
        return None, None
    if return_indices:
        if isinstance(out, tuple) and len(out) == 2:
            return out
        raise TypeError(
            f"max_pool2d: out is {kind_of(out)}; expected a pair (y, indices) with "
            "return_indices=True."
        )
    if isinstance(out, tuple):
        raise TypeError(
            "max_pool2d: out is a pair; expected one array, or write return_indices=True."
        )
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
    count_include_pad: bool = False,
    out: Array | None = None,
) -> Array:
    """Mean of each window, as tf.nn.avg_pool2d.

    x: [N, H, W, C]. Returns y: [N, OH, OW, C]. Options as in `max_pool2d`. Padding is not counted;
    with count_include_pad its zeros are (PyTorch's default). Raises ValueError as `max_pool2d`.
    """
    op = "avg_pool2d"
    nchw = is_nchw(data_format, op)
    x_array = to_nhwc(x, nchw, op, "x")
    shape = pool2d_shape(op, x_array.shape, kernel_size, stride, padding)
    result = Result(out, shape.output_shape, x_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, x=np.asarray(x))
    _pycnn.avg_pool2d_forward(result.array, x_array, shape, bool(count_include_pad))
    return result.finish()


def avg_pool2d_backward(
    dy: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = "valid",
    data_format: str = "NHWC",
    count_include_pad: bool = False,
    out: Array | None = None,
) -> Array:
    """Gradient of `avg_pool2d`: every pixel of a window gets dy / count.

    dy: [N, OH, OW, C]; input_shape: that of x; options as in the forward call. Returns dx, of
    input_shape. Raises ValueError for shapes or options that do not fit.
    """
    op = "avg_pool2d_backward"
    nchw = is_nchw(data_format, op)
    dy_array = to_nhwc(dy, nchw, op, "dy")
    x_shape = nhwc_shape(shape4(input_shape, op, "input_shape", _X), nchw)
    shape = pool2d_shape(op, x_shape, kernel_size, stride, padding)
    result = Result(out, shape.input_shape, dy_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, dy=np.asarray(dy))
    _pycnn.avg_pool2d_backward(result.array, dy_array, shape, bool(count_include_pad))
    return result.finish()


def global_avg_pool2d(
    x: npt.ArrayLike, *, data_format: str = "NHWC", out: Array | None = None
) -> Array:
    """Mean of each channel over its whole image: `avg_pool2d` with a window of H x W.

    x: [N, H, W, C], at least one pixel. Returns y: [N, C]. Raises ValueError for shapes that do not
    fit, TypeError for types.
    """
    op = "global_avg_pool2d"
    nchw = is_nchw(data_format, op)
    x_array = to_nhwc(x, nchw, op, "x")
    _floating(x_array, op, "x")
    n, h, w, c = _four_axes(x_array.shape, op, "x", nchw)
    result = Result(out, (n, c), x_array.dtype, op, False)
    y = _as_images(result.array, (n, c), op, "out")
    shape = pool2d_shape(op, x_array.shape, (h, w), None, "valid")
    _pycnn.avg_pool2d_forward(y, x_array, shape, False)
    return result.finish()


def global_avg_pool2d_backward(
    dy: npt.ArrayLike,
    input_shape: Sequence[int],
    *,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Gradient of `global_avg_pool2d`: dx = dy / (H * W) at every pixel.

    dy: [N, C]; input_shape: that of x. Returns dx, of input_shape. Raises ValueError for shapes
    that do not fit, TypeError for types.
    """
    op = "global_avg_pool2d_backward"
    nchw = is_nchw(data_format, op)
    dy_array = contiguous(dy, op, "dy")
    _floating(dy_array, op, "dy")
    x_shape = nhwc_shape(shape4(input_shape, op, "input_shape", _X), nchw)
    n, h, w, c = _four_axes(x_shape, op, "input_shape", nchw)
    rows = _as_images(dy_array, (n, c), op, "dy")
    shape = pool2d_shape(op, x_shape, (h, w), None, "valid")
    result = Result(out, x_shape, dy_array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, dy=np.asarray(dy))
    _pycnn.avg_pool2d_backward(result.array, rows, shape, False)
    return result.finish()


def _floating(array: Array, op: str, name: str) -> None:
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{op}: {name} is {array.dtype}; expected float32 or float64: "
            f"write {name}.astype(np.float32)."
        )


def _four_axes(shape: tuple[int, ...], op: str, name: str, nchw: bool) -> tuple[int, ...]:
    axes = "[N, C, H, W]" if nchw else _X
    if len(shape) != 4:
        raise ValueError(f"{op}: {name} has shape {shape}, {len(shape)} axes; expected 4: {axes}.")
    if 0 in shape[1:]:
        raise ValueError(
            f"{op}: {name} has no pixel or no channel; expected at least one of each in {axes}."
        )
    return shape


def _as_images(rows: Array, shape: tuple[int, int], op: str, name: str) -> Array:
    """[N, C] as images of one pixel, a view."""
    if rows.shape != shape:
        raise ValueError(f"{op}: {name} has shape {rows.shape}; expected {shape} [N, C].")
    return rows[:, None, None, :]
