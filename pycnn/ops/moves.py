"""Numbers in other places: concat, split, slices, permutations, shuffles, padding, depth to space.

A `Move` tells the shape of its results, and with pairs of views of arrays which numbers go where;
one strided copy of C++ moves them. The gradient of a move is the same pairs the other way round.
The operators are in `moved.py`, the layers in `pycnn.layers.moves`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import _pycnn
import numpy as np

from pycnn._runtime.checks import is_number, is_whole
from pycnn.ops.arrays import Array

Shape = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Piece = tuple[Any, Any]  # a view of a result, and the view of an input or the number that it holds


class Move:
    """What is where afterwards. Shapes that do not fit are a ValueError, without the op's name."""

    takes_all: ClassVar[bool] = True  # whether every number of the inputs is in a result

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """Of the results, for inputs of these shapes."""
        raise NotImplementedError

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """Views whose numbers are the same; an array may be None if it is never cut."""
        raise NotImplementedError

    def forward(self, xs: Sequence[Array], ys: Sequence[Array | None]) -> None:
        """Fill the results, but those that are None."""
        pieces = [(y, _filled(x, y)) for y, x in self.pieces(xs, ys) if y is not None]
        _pycnn.move(pieces)

    def backward(self, dys: Sequence[Array], dxs: Sequence[Array | None]) -> None:
        """Fill the gradients, but those that are None: what no result holds has a gradient of 0."""
        pieces = []
        if not self.takes_all:
            pieces += [(dx, _filled(0.0, dx)) for dx in dxs if dx is not None]
        pieces += [(x, y) for y, x in self.pieces(dxs, dys) if isinstance(x, np.ndarray)]
        _pycnn.move(pieces)

    def add_to(self, net: Any, x: list[int], y: list[int], shapes: Sequence[Shape]) -> None:
        """One step of a `_pycnn.Network`, for shapes of x with N = 1."""
        net.add_move(x, y, *self.steps(shapes))

    def steps(self, shapes: Sequence[Shape]) -> tuple[list[Any], float]:
        """The pieces of one image, and the number that some are filled with.

        The arrays are only measured, so they hold nothing.
        """
        both = shapes, self.shapes(*shapes)
        xs, ys = ([np.empty(shape, np.float32) for shape in each] for each in both)
        steps, value = [], 0.0
        for y, x in self.pieces(xs, ys):
            source, first = (-1, 0) if is_number(x) else _place(x, xs)
            value = float(x) if source < 0 else value
            target, at = _place(y, ys)
            strides = _filled(x, y).strides
            axes = zip(y.shape[1:], y.strides[1:], strides[1:], strict=True)
            steps.append(
                (target, source, at, first, [(n, to // 4, frm // 4) for n, to, frm in axes])
            )
        return steps, value


def _filled(x: Any, y: Array) -> Array:
    """X itself, or a view of one number in the shape of y."""
    return x if isinstance(x, np.ndarray) else np.broadcast_to(np.asarray(x, y.dtype), y.shape)


def _place(view: Array, arrays: Sequence[Array]) -> tuple[int, int]:
    """(which array the view shows, floats before its first number)."""
    address = view.__array_interface__["data"][0]
    for i, array in enumerate(arrays):
        begin = array.__array_interface__["data"][0]
        if begin <= address < begin + array.nbytes:
            return i, (address - begin) // 4
    raise AssertionError("a piece of a move is no view of its arrays")


def axis_of(axis: Any, shape: Shape) -> int:
    """The axis, counted from the first one."""
    if not is_whole(axis, -len(shape), len(shape) - 1):
        raise ValueError(
            f"axis is {axis!r}; expected an int from {-len(shape)} to {len(shape) - 1} for the "
            f"shape {shape}."
        )
    return int(axis) % len(shape)


def _at(axis: int, where: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (where,)


def _with(shape: Shape, axis: int, extent: int) -> Shape:
    return (*shape[:axis], extent, *shape[axis + 1 :])


@dataclass(frozen=True)
class Concat(Move):
    """Arrays behind each other along one axis."""

    axis: int = -1

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """All axes but that one are the same."""
        for i, shape in enumerate(x):
            if not shape:
                raise ValueError(
                    f"arrays[{i}] has no axes; expected at least one, to be joined along."
                )
        axis = axis_of(self.axis, x[0])
        for i, shape in enumerate(x):
            if len(shape) != len(x[0]) or _with(shape, axis, 0) != _with(x[0], axis, 0):
                raise ValueError(
                    f"arrays[{i}] has shape {shape}, arrays[0] {x[0]}; expected the same but for "
                    f"axis {axis}, along which they are joined."
                )
        return (_with(x[0], axis, sum(shape[axis] for shape in x)),)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """Each array in its part."""
        (y,) = ys
        axis, end = axis_of(self.axis, y.shape), 0
        for x in xs:
            begin, end = end, end + x.shape[axis]
            yield y[_at(axis, slice(begin, end))], x


@dataclass(frozen=True)
class Split(Move):
    """Parts of one axis."""

    sizes: tuple[int, ...]
    axis: int = -1

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """The sizes add up to the axis."""
        if not x[0]:
            raise ValueError("x has no axes; expected at least one, the last of which is cut.")
        axis = axis_of(self.axis, x[0])
        if sum(self.sizes) != x[0][axis]:
            raise ValueError(
                f"x has shape {x[0]}, but sizes = {self.sizes} add up to {sum(self.sizes)}; "
                f"expected {x[0][axis]}, the size of axis {axis}."
            )
        return tuple(_with(x[0], axis, size) for size in self.sizes)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """Each part in its array."""
        (x,) = xs
        axis, end = axis_of(self.axis, x.shape), 0
        for y, size in zip(ys, self.sizes, strict=True):
            begin, end = end, end + size
            yield y, x[_at(axis, slice(begin, end))]


@dataclass(frozen=True)
class Slice(Move):
    """x[..., start:stop:step, ...] along one axis."""

    takes_all: ClassVar[bool] = False
    start: int | None
    stop: int | None
    step: int = 1
    axis: int = -1

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """As Python counts; something must be left."""
        axis = axis_of(self.axis, x[0])
        if not is_whole(self.step) or self.step == 0:
            raise ValueError(f"step is {self.step!r}; expected an int, not 0.")
        for name, end in (("start", self.start), ("stop", self.stop)):
            if end is not None and not is_whole(end):
                raise ValueError(f"{name} is {end!r}; expected an int, or None.")
        count = len(range(x[0][axis])[self._slice])
        if count == 0:
            raise ValueError(
                f"start = {self.start}, stop = {self.stop}, step = {self.step} leave nothing of "
                f"axis {axis} of x, whose shape is {x[0]}; expected at least one of {x[0][axis]}."
            )
        return (_with(x[0], axis, count),)

    @property
    def _slice(self) -> slice:
        return slice(self.start, self.stop, self.step)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """The one slice."""
        yield ys[0], xs[0][_at(axis_of(self.axis, xs[0].shape), self._slice)]


@dataclass(frozen=True)
class Permute(Move):
    """The axes in another order: axis i of y is axis axes[i] of x."""

    axes: tuple[int, ...]

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """Each axis once."""
        if sorted(self.axes) != list(range(len(x[0]))):
            raise ValueError(
                f"axes is {self.axes}, but x has shape {x[0]}; expected each of "
                f"0 .. {len(x[0]) - 1} once."
            )
        return (tuple(x[0][axis] for axis in self.axes),)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """All at once."""
        yield ys[0], xs[0].transpose(self.axes)


@dataclass(frozen=True)
class ChannelShuffle(Move):
    """The last axis as [groups, each], turned: y[c * groups + g] = x[g * each + c]."""

    groups: int

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """Groups of whole channels."""
        if not x[0] or x[0][-1] % self.groups:
            raise ValueError(
                f"x has shape {x[0]}; expected C channels in its last axis, a multiple of groups = "
                f"{self.groups}."
            )
        return (x[0],)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """All at once."""
        (x,), (y,) = xs, ys
        each = x.shape[-1] // self.groups
        yield _cut(y, -1, each, self.groups), _cut(x, -1, self.groups, each).swapaxes(-1, -2)


@dataclass(frozen=True)
class Pad(Move):
    """A rim of one number around the axes behind N; padding: see `sides`."""

    padding: Pairs
    value: float = 0.0

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """Larger by both sides."""
        pairs = zip(x[0], sides(self.padding, x[0]), strict=True)
        return (tuple(n + before + after for n, (before, after) in pairs),)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """Two slabs an axis, each within what the axes before have left; then what is inside."""
        (y,) = ys
        for axis, (before, after) in enumerate(sides(self.padding, y.shape)):
            inside = y.shape[axis] - after
            if before:
                yield y[_at(axis, slice(0, before))], self.value
            if after:
                yield y[_at(axis, slice(inside, None))], self.value
            y = y[_at(axis, slice(before, inside))]
        yield y, xs[0]


@dataclass(frozen=True)
class Crop(Move):
    """What is left without a rim; padding as in `Pad`."""

    takes_all: ClassVar[bool] = False
    padding: Pairs

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """Something must be left."""
        pairs = zip(x[0], sides(self.padding, x[0]), strict=True)
        left = tuple(n - before - after for n, (before, after) in pairs)
        if min(left[1:]) < 1:
            raise ValueError(
                f"x has shape {x[0]}, of which padding = {self.padding} leaves {left}; expected "
                "at least one on each axis behind N."
            )
        return (left,)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """What is inside."""
        (x,) = xs
        ends = zip(x.shape, sides(self.padding, x.shape), strict=True)
        yield ys[0], x[tuple(slice(before, n - after) for n, (before, after) in ends)]


@dataclass(frozen=True)
class DepthToSpace(Move):
    """[N, H, W, C * b * b] -> [N, H * b, W * b, C]: channels become squares of b x b pixels.

    mode: the order of the channels of x, "DCR" [b, b, C] or "CRD" [C, b, b].
    """

    block: int
    mode: str = "DCR"

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """Whole squares of channels."""
        n, h, w, c = _image(x[0])
        b = self.block
        if c % (b * b):
            raise ValueError(
                f"x has shape {x[0]}, C = {c} channels; expected a multiple of block * "
                f"block = {b * b}."
            )
        return ((n, h * b, w * b, c // (b * b)),)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """All at once: [N, H, b, W, b, C] of both."""
        (x,), (y,) = xs, ys
        b = self.block
        pixels = _cut(_cut(y, 2, x.shape[2], b), 1, x.shape[1], b)
        if self.mode == "DCR":
            squares = _cut(_cut(x, -1, b * b, y.shape[3]), 3, b, b)
            yield pixels, squares.transpose(0, 1, 3, 2, 4, 5)
        else:
            squares = _cut(_cut(x, -1, y.shape[3], b * b), -1, b, b)
            yield pixels, squares.transpose(0, 1, 4, 2, 5, 3)


@dataclass(frozen=True)
class SpaceToDepth(Move):
    """[N, H, W, C] -> [N, H / b, W / b, C * b * b]: the reverse of `DepthToSpace`."""

    block: int
    mode: str = "DCR"

    def shapes(self, *x: Shape) -> tuple[Shape, ...]:
        """Whole squares of pixels."""
        n, h, w, c = _image(x[0])
        b = self.block
        if h % b or w % b:
            raise ValueError(
                f"x has shape {x[0]}; expected H and W that are multiples of block = {b}."
            )
        return ((n, h // b, w // b, c * b * b),)

    def pieces(self, xs: Sequence[Any], ys: Sequence[Any]) -> Iterator[Piece]:
        """Those of the reverse."""
        return ((y, x) for x, y in DepthToSpace(self.block, self.mode).pieces(ys, xs))


def _cut(view: Array, axis: int, outer: int, inner: int) -> Array:
    """One axis as two: NumPy never copies for that."""
    axis %= view.ndim
    return view.reshape(*view.shape[:axis], outer, inner, *view.shape[axis + 1 :])


def sides(padding: Pairs, shape: Shape) -> Pairs:
    """(before, after) of each axis: N has none, nor have channels that are left out."""
    if len(shape) < 2 or len(padding) not in (len(shape) - 2, len(shape) - 1):
        raise ValueError(
            f"padding is {padding} for x of shape {shape}; expected a pair for each axis behind N, "
            "the last of which, the channels, may be left out: ((top, bottom), (left, right)) of "
            "images."
        )
    return ((0, 0), *padding, *[(0, 0)] * (len(shape) - 1 - len(padding)))


def _image(shape: Shape) -> Shape:
    if len(shape) != 4:
        raise ValueError(f"x has shape {shape}, {len(shape)} axes; expected 4: [N, H, W, C].")
    return shape
