"""Pools of the whole image: adaptive ones, and global ones, which are adaptive to one pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, overload

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.ops.arrays import (
    LARGEST,
    Array,
    Result,
    contiguous,
    is_nchw,
    to_nhwc,
)
from pycnn.ops.pool2d import input_shape_of, maxima, means, split_out, spread

_X = "[N, H, W, C]"
OutputSize: TypeAlias = int | Sequence[int | None] | None


def adaptive_shape(
    op: str, x_shape: tuple[int, ...], output_size: OutputSize
) -> _pycnn.Pool2dShape:
    """The shape of an adaptive pool for C++; output_size: None keeps that size of x."""
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    if len(sizes) != 2 or not all(size is None or is_whole(size, 1, LARGEST) for size in sizes):
        raise ValueError(
            f"{op}: output_size is {output_size!r}; expected an int from 1 to 2**31 - 1, or a pair "
            "(OH, OW) of them, with None for a size that stays."
        )
    image = x_shape[1:3] if len(x_shape) == 4 else (1, 1)  # C++ refuses other ranks
    outputs = tuple(h if size is None else size for size, h in zip(sizes, image, strict=True))
    return _pycnn.Pool2dShape.adaptive(op, x_shape, outputs)  # type: ignore[arg-type]


@overload
def adaptive_max_pool2d(
    x: npt.ArrayLike,
    output_size: OutputSize,
    *,
    data_format: str = ...,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...


@overload
def adaptive_max_pool2d(
    x: npt.ArrayLike,
    output_size: OutputSize,
    *,
    data_format: str = ...,
    return_indices: Literal[True],
    out: tuple[Array, Array] | None = ...,
) -> tuple[Array, Array]: ...


def adaptive_max_pool2d(
    x: npt.ArrayLike,
    output_size: OutputSize,
    *,
    data_format: str = "NHWC",
    return_indices: bool = False,
    out: Array | tuple[Array, Array] | None = None,
) -> Array | tuple[Array, Array]:
    """Maximum of each of OH x OW windows that share the image, as PyTorch's.

    x: [N, H, W, C]. output_size: an int, or (OH, OW); None keeps H or W. Returns y:
    [N, OH, OW, C], and with return_indices what `max_pool2d_backward` needs. Window oh has the
    rows floor(oh H / OH) to ceil((oh + 1) H / OH) - 1, columns alike: where OH does not divide H
    they overlap. The maximum and `out` as in `max_pool2d`. Raises ValueError for shapes that do not
    fit, TypeError for types.
    """
    op = "adaptive_max_pool2d"
    x_array = to_nhwc(x, is_nchw(data_format, op), op, "x")
    shape = adaptive_shape(op, x_array.shape, output_size)
    return maxima(op, x, x_array, shape, data_format, return_indices, out)


def adaptive_avg_pool2d(
    x: npt.ArrayLike,
    output_size: OutputSize,
    *,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Mean of each of OH x OW windows that share the image, as PyTorch's.

    x: [N, H, W, C]; output_size and the windows as in `adaptive_max_pool2d`. Returns y:
    [N, OH, OW, C]. Raises ValueError for shapes that do not fit, TypeError for types.
    """
    op = "adaptive_avg_pool2d"
    x_array = to_nhwc(x, is_nchw(data_format, op), op, "x")
    shape = adaptive_shape(op, x_array.shape, output_size)
    return means(op, x, x_array, shape, data_format, False, out)


def adaptive_avg_pool2d_backward(
    dy: npt.ArrayLike,
    input_shape: Sequence[int],
    *,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Gradient of `adaptive_avg_pool2d`: every pixel of a window gets dy / count.

    dy: [N, OH, OW, C]; input_shape: that of x. Returns dx, of input_shape. Raises ValueError for
    shapes that do not fit, TypeError for types.
    """
    op = "adaptive_avg_pool2d_backward"
    x_shape = input_shape_of(op, input_shape, data_format)
    maps = to_nhwc(dy, is_nchw(data_format, op), op, "dy").shape
    if len(maps) != 4:
        raise ValueError(
            f"{op}: dy has shape {maps}, {len(maps)} axes; expected 4: [N, OH, OW, C]."
        )
    if 0 in maps[1:3]:
        raise ValueError(f"{op}: dy has shape {maps}; expected at least one row and one column.")
    shape = adaptive_shape(op, x_shape, maps[1:3])
    return spread(op, dy, shape, data_format, False, out)


def global_avg_pool2d(
    x: npt.ArrayLike, *, data_format: str = "NHWC", out: Array | None = None
) -> Array:
    """Mean of each channel over its whole image: `adaptive_avg_pool2d` to one pixel.

    x: [N, H, W, C], at least one pixel. Returns y: [N, C]. Raises ValueError for shapes that do not
    fit, TypeError for types.
    """
    op = "global_avg_pool2d"
    x_array, shape = _whole(op, x, data_format)
    result = Result(out, shape.output_shape[::3], x_array.dtype, op, False)
    y = _as_images(result.array, shape.output_shape[::3], op, "out")
    _pycnn.avg_pool2d_forward(y, x_array, shape, False, op)
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
    dy_array = contiguous(dy, op, "dy")
    _floating(dy_array, op, "dy")
    nchw = is_nchw(data_format, op)
    x_shape = _four_axes(input_shape_of(op, input_shape, data_format), op, "input_shape", nchw)
    rows = _as_images(dy_array, x_shape[::3], op, "dy")
    images = rows.transpose(0, 3, 1, 2) if nchw else rows
    return spread(op, images, adaptive_shape(op, x_shape, 1), data_format, False, out)


@overload
def global_max_pool2d(
    x: npt.ArrayLike,
    *,
    data_format: str = ...,
    return_indices: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...


@overload
def global_max_pool2d(
    x: npt.ArrayLike,
    *,
    data_format: str = ...,
    return_indices: Literal[True],
    out: tuple[Array, Array] | None = ...,
) -> tuple[Array, Array]: ...


def global_max_pool2d(
    x: npt.ArrayLike,
    *,
    data_format: str = "NHWC",
    return_indices: bool = False,
    out: Array | tuple[Array, Array] | None = None,
) -> Array | tuple[Array, Array]:
    """Maximum of each channel over its whole image: `adaptive_max_pool2d` to one pixel.

    x: [N, H, W, C], at least one pixel. Returns y: [N, C], and with return_indices the int32
    position h * W + w of each, [N, C] too: what `max_pool2d_backward` needs, where dy and indices
    are images of one pixel, dy[:, None, None, :]. Raises ValueError for shapes that do not fit,
    TypeError for types.
    """
    op = "global_max_pool2d"
    x_array, shape = _whole(op, x, data_format)
    size = shape.output_shape[::3]
    out_y, out_indices = split_out(op, out, return_indices)
    y = Result(out_y, size, x_array.dtype, op, False)
    images = _as_images(y.array, size, op, "out")
    if not return_indices:
        _pycnn.max_pool2d_forward(images, None, x_array, shape, op)
        return y.finish()
    indices = Result(out_indices, size, np.int32, op, False)
    where = _as_images(indices.array, size, op, "out[1]")
    _pycnn.max_pool2d_forward(images, where, x_array, shape, op)
    return y.finish(), indices.finish()


def _whole(op: str, x: npt.ArrayLike, data_format: str) -> tuple[Array, _pycnn.Pool2dShape]:
    """X as NHWC, and the shape of a pool of all its pixels."""
    nchw = is_nchw(data_format, op)
    x_array = to_nhwc(x, nchw, op, "x")
    _floating(x_array, op, "x")
    return x_array, adaptive_shape(op, _four_axes(x_array.shape, op, "x", nchw), 1)


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


def _as_images(rows: Array, shape: tuple[int, ...], op: str, name: str) -> Array:
    """[N, C] as images of one pixel, a view."""
    if rows.shape != shape:
        raise ValueError(f"{op}: {name} has shape {rows.shape}; expected {shape} [N, C].")
    return rows[:, None, None, :]
