"""Images of another size, and rims that repeat the image: sums of few pixels, by tables of taps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_finite, is_number, is_real, is_whole
from pycnn.ops import taps
from pycnn.ops.arrays import (
    LARGEST,
    Array,
    Result,
    check_apart_nchw,
    is_nchw,
    nhwc_shape,
    shape4,
    to_nhwc,
)
from pycnn.ops.moves import Move, Pairs, Shape
from pycnn.ops.taps import Taps

Size = int | Sequence[int]
Scale = float | Sequence[float]


def two(value: Any, name: str, scale: bool) -> tuple[Any, Any]:
    """Of rows and of columns: ints of at least 1, or numbers above 0."""
    items = (value, value) if is_number(value) else value
    right = isinstance(items, (list, tuple)) and len(items) == 2
    if right and scale and all(is_real(n, 0.0) and is_finite(n) and n > 0 for n in items):
        return float(items[0]), float(items[1])
    if right and not scale and all(is_whole(n, 1, LARGEST) for n in items):
        return int(items[0]), int(items[1])
    what = "numbers above 0" if scale else "ints from 1 to 2**31 - 1"
    raise ValueError(f"{name} is {value!r}; expected one or two {what}: of rows and of columns.")


Ends = tuple[tuple[float, float], tuple[float, float]]
WHOLE: Ends = (0.0, 1.0), (0.0, 1.0)


class Resampled(Move):
    """Images [N, H, W, C] of which each pixel is a sum of few pixels of x, as two tables tell."""

    outside: float

    def tables(self, x: Shape) -> tuple[Taps, Taps]:
        """Of rows and of columns."""
        raise NotImplementedError

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """[N, OH, OW, C]."""
        rows, columns = self.tables(x[0])
        return ((x[0][0], rows.outputs, columns.outputs, x[0][3]),)

    def forward(self, xs: Sequence[Array], ys: Sequence[Array | None]) -> None:
        """Fill y."""
        rows, columns = self.tables(xs[0].shape)
        assert ys[0] is not None
        _pycnn.resample(ys[0], xs[0], rows.arrays, columns.arrays, self.outside)

    def backward(self, dys: Sequence[Array], dxs: Sequence[Array | None]) -> None:
        """Fill dx: each pixel's part of every dy that it went to, added in their order."""
        (dx,) = dxs
        assert dx is not None
        rows, columns = (table.turned() for table in self.tables(dx.shape))
        _pycnn.resample(dx, dys[0], rows.arrays, columns.arrays, 0.0)

    def add_to(self, net: Any, x: list[int], y: list[int], shapes: Sequence[Shape]) -> None:
        """One step."""
        rows, columns = self.tables(shapes[0])
        image = tuple(shapes[0][1:])
        net.add_resample(x[0], y[0], image, rows.arrays, columns.arrays, self.outside)


@dataclass(frozen=True)
class Rim(Resampled):
    """Images with a rim of their own pixels."""

    padding: Pairs
    mode: str
    outside: float = 0.0

    def tables(self, x: Shape) -> tuple[Taps, Taps]:
        """Each output is one pixel."""
        if len(x) != 4 or len(self.padding) != 2:
            raise ValueError(
                f"padding is {self.padding} for x of shape {x}; expected ((top, bottom), "
                f'(left, right)) and [N, H, W, C] for mode = "{self.mode}".'
            )
        pairs = zip(x[1:3], self.padding, strict=True)
        rows, columns = (taps.rim(n, before, after, self.mode) for n, (before, after) in pairs)
        return rows, columns


@dataclass(frozen=True)
class Resize(Resampled):
    """Images of another size; size: (OH, OW) or None, scale: of both axes or None."""

    size: tuple[int, int] | None
    scale: tuple[float, float] | None
    how: taps.Axis
    roi: Ends = WHOLE
    outside: float = 0.0

    def tables(self, x: Shape) -> tuple[Taps, Taps]:
        """By the places of the pixels."""
        if len(x) != 4:
            raise ValueError(f"x has shape {x}, {len(x)} axes; expected 4: [N, H, W, C].")
        _, H, W, _ = x
        if H < 1 or W < 1:
            raise ValueError(f"x has shape {x}; expected at least one pixel.")
        size, scale = self.size, self.scale
        if size is None:
            assert scale is not None
            size = int(H * scale[0]), int(W * scale[1])
            if min(size) < 1 or max(size) > LARGEST:
                raise ValueError(
                    f"scale is {scale}, which makes {size} of {H} x {W} pixels; expected 1 to "
                    "2**31 - 1."
                )
        scale = scale or (size[0] / H, size[1] / W)
        axes = zip((H, W), size, scale, self.roi, strict=True)
        rows, columns = (taps.resized(n, out, s, self.how, ends) for n, out, s, ends in axes)
        return rows, columns


def resizing(size: Any, scale: Any, how: taps.Axis, *others: Any) -> Resize:
    """The move of these options; ValueError for one that is none."""
    if size is None and scale is None:
        raise ValueError("size and scale are None; expected one of them, or both.")
    sizes = None if size is None else two(size, "size", False)
    scales = None if scale is None else two(scale, "scale", True)
    return Resize(sizes, scales, how.checked(), *others)


def resampled(
    op: str,
    name: str,
    x: npt.ArrayLike,
    move: Resampled,
    out: Array | None,
    data_format: str,
    input_shape: Sequence[int] | None = None,
) -> Array:
    """The result of a move, or with an input_shape its gradient."""
    nchw = is_nchw(data_format, op)
    array = to_nhwc(x, nchw, op, name)
    shape: Shape = array.shape
    if input_shape is not None:
        shape = nhwc_shape(shape4(input_shape, op, "input_shape", "[N, H, W, C]"), nchw)
    try:
        (y_shape,) = move.shapes(shape)
    except ValueError as error:
        raise ValueError(f"{op}: {error}") from None
    if input_shape is not None and array.shape != y_shape:
        raise ValueError(
            f"{op}: {name} has shape {array.shape}; expected {y_shape} [N, OH, OW, C]."
        )
    expected = y_shape if input_shape is None else shape
    result = Result(out, expected, array.dtype, op, nchw)
    check_apart_nchw(out, nchw, op, **{name: np.asarray(x)})
    _pycnn.check_move(op, [(name, array)], [("out", result.array, expected, "[N, H, W, C]")])
    (move.forward if input_shape is None else move.backward)([array], [result.array])
    return result.finish()


def resize(
    x: npt.ArrayLike,
    size: Size | None = None,
    scale: Scale | None = None,
    *,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    nearest: str = "round_prefer_floor",
    antialias: bool = False,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Images of another size, as ONNX defines it: [N, H, W, C] -> [N, OH, OW, C].

    size: (OH, OW), or scale: as many times as large, rounded down; one number stands for both
    axes. mode: "nearest", "bilinear" or "bicubic". coordinates: where the pixels of y lie among
    those of x: "half_pixel" (PyTorch's align_corners=False), "align_corners", "asymmetric",
    "pytorch_half_pixel" or "half_pixel_symmetric". nearest: how a place is rounded,
    "round_prefer_floor", "round_prefer_ceil", "floor" (PyTorch's, with "asymmetric") or "ceil".
    antialias: a smaller image is the mean of all pixels below it. Beyond an end the last pixel
    counts. Raises ValueError for options or shapes that do not fit, TypeError for types.
    """
    op = "resize"
    move = _move(op, size, scale, taps.Axis(mode, coordinates, nearest, bool(antialias)))
    return resampled(op, "x", x, move, out, data_format)


def resize_backward(
    dy: npt.ArrayLike,
    input_shape: Sequence[int],
    size: Size | None = None,
    scale: Scale | None = None,
    *,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    nearest: str = "round_prefer_floor",
    antialias: bool = False,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Gradient of `resize`: each pixel's share of every dy it went to, added in their order.

    dy: [N, OH, OW, C]; input_shape: that of x; options as in the forward call. Returns dx, of
    input_shape. Raises ValueError for options or shapes that do not fit, TypeError for types.
    """
    op = "resize_backward"
    move = _move(op, size, scale, taps.Axis(mode, coordinates, nearest, bool(antialias)))
    return resampled(op, "dy", dy, move, out, data_format, input_shape)


def _move(op: str, size: Any, scale: Any, how: taps.Axis) -> Resize:
    try:
        return resizing(size, scale, how)
    except ValueError as error:
        raise ValueError(f"{op}: {error}") from None
