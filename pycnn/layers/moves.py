"""Layers that move numbers and do not change them: where branches meet and part, other shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import ops
from pycnn._runtime.checks import is_number, is_whole
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape, Value
from pycnn.layers.arguments import checked, positive
from pycnn.layers.base import Layer
from pycnn.ops import moved, moves
from pycnn.ops.arrays import Array
from pycnn.ops.resized import Rim


class Moving(Layer):
    """A layer of one `Move`, made of its attributes."""

    reads = ""
    axis = -1

    @property
    def move(self) -> moves.Move:
        """What goes where."""
        raise NotImplementedError(f"{type(self).__name__} must define move.")

    def infer_shape(self, x: Any) -> Any:
        """By the move's own rule."""
        shapes = x if x and isinstance(x[0], tuple) else (x,)
        if not is_whole(self.axis) or not shapes[0] or self.axis in (0, -len(shapes[0])):
            self.refuse(
                f"axis is {self.axis!r} for the shape {shapes[0]}; expected the number of an axis "
                "behind N, the images: those stay."
            )
        found = checked(self, self.move.shapes, *shapes)
        return found if self.results > 1 else found[0]

    def compute(self, x: Any, out: Any) -> Any:
        """Copy."""
        self.move.forward(_several(x), _several(out))

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.move.add_to(to.net, to.x, to.y, to.shapes)

    def gradients(self, dy: Any, dx: Any, x: None, y: None, saved: Any) -> None:
        """Copy back."""
        if dx is not None:
            self.move.backward(_several(dy), _several(dx))


def _several(arrays: Any) -> Any:
    return arrays if isinstance(arrays, (tuple, list)) else (arrays,)


class Concat(Moving):
    """Values side by side along an axis, the channels: [..., C1], [..., C2] -> [..., sum].

    axis: any but 0, the images; negative ones count from the last. dx: the parts of dy.
    """

    def __init__(self, axis: int = -1) -> None:
        """Keep the axis."""
        super().__init__()
        self.axis = axis

    @property
    def move(self) -> moves.Move:
        """All in one."""
        return moves.Concat(self.axis)

    def compute(self, x: Any, out: Array) -> list[int]:
        """Copy each to its part; returns how long each is."""
        super().compute(x, out)
        return [part.shape[self.axis] for part in _several(x)]

    def gradients(self, dy: Array, dx: Any, x: None, y: None, saved: list[int]) -> None:
        """The part of each."""
        moves.Split(tuple(saved), self.axis).forward((dy,), _several(dx))

    def _arguments(self) -> str:
        return "" if self.axis == -1 else f"axis={self.axis}"


class Split(Moving):
    """Parts of an axis, the channels: [..., sum of sizes] -> a result for each size.

    axis: as in `Concat`.
    """

    def __init__(self, sizes: Sequence[int], axis: int = -1) -> None:
        """sizes: of each part, along the axis."""
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)
        self.axis = axis
        self.results = len(self.sizes)
        if not self.sizes or min(self.sizes) < 1:
            self.refuse(f"sizes is {sizes!r}; expected whole numbers of at least 1.")

    @property
    def move(self) -> moves.Move:
        """All from one."""
        return moves.Split(self.sizes, self.axis)

    def _arguments(self) -> str:
        return f"{self.sizes}" + ("" if self.axis == -1 else f", axis={self.axis}")


class Slice(Moving):
    """x[..., start:stop:step, ...] along an axis, the channels, as Python counts.

    axis: as in `Concat`. dx is dy there, and 0 elsewhere.
    """

    def __init__(
        self,
        start: int | None = None,
        stop: int | None = None,
        step: int = 1,
        axis: int = -1,
    ) -> None:
        """Keep the numbers; None stands for either end."""
        super().__init__()
        self.start, self.stop, self.step, self.axis = start, stop, step, axis

    @property
    def move(self) -> moves.Move:
        """The slice."""
        return moves.Slice(self.start, self.stop, self.step, self.axis)

    def _arguments(self) -> str:
        step = "" if self.step == 1 else f", step={self.step}"
        return f"{self.start}, {self.stop}{step}" + (
            "" if self.axis == -1 else f", axis={self.axis}"
        )


class ChannelShuffle(Moving):
    """Channel g * (C / groups) + c goes to c * groups + g: [..., C] -> [..., C].

    What follows a convolution in groups, so that the next one sees all of them. Zhang et al. 2018,
    ShuffleNet; PyTorch's ChannelShuffle.
    """

    def __init__(self, groups: int) -> None:
        """groups: into which C is cut."""
        super().__init__()
        self.groups = positive("ChannelShuffle", "groups", groups)

    @property
    def move(self) -> moves.Move:
        """The shuffle."""
        return moves.ChannelShuffle(self.groups)

    def _arguments(self) -> str:
        return f"{self.groups}"


class Permute(Moving):
    """The axes in another order: axis i of y is axis axes[i] of x; axes[0] is 0, N stays.

    `Permute((0, 3, 1, 2))` makes [N, C, H, W] of images.
    """

    def __init__(self, axes: Sequence[int]) -> None:
        """axes: each once, 0 first."""
        super().__init__()
        self.axes = checked(self, moved.permutation, axes)
        if self.axes[:1] != (0,):
            self.refuse(f"axes is {axes!r}; expected 0, the images, first: they stay.")

    @property
    def move(self) -> moves.Move:
        """The permutation."""
        return moves.Permute(self.axes)

    def _arguments(self) -> str:
        return f"{self.axes}"


class Pad(Moving):
    """A rim around images: [N, H, W, C] -> [N, top + H + bottom, left + W + right, C].

    padding: ((top, bottom), (left, right)), and a third pair for the channels; with other axes
    than four a pair for each axis between N and the channels, or one more. mode: "constant", a rim
    of `value`; "reflect", the image mirrored at its outermost pixels; "edge", these; "wrap", the
    other end: for images, no third pair. dx: each number of dy, where it came from.
    """

    def __init__(self, padding: moved.Sides, mode: str = "constant", value: float = 0.0) -> None:
        """Keep the sides."""
        super().__init__()
        self.padding = checked(self, moved.pairs, padding)
        self.mode = checked(self, moved.padding_mode, mode)
        self.value = value
        if not is_number(value):
            self.refuse(f"value is {value!r}; expected a number.", TypeError)

    @property
    def move(self) -> moves.Move:
        """The rim and what is inside."""
        if self.mode != "constant":
            return Rim(self.padding, self.mode)
        return moves.Pad(self.padding, float(self.value))

    def _arguments(self) -> str:
        value = f", value={self.value}" if self.value else ""
        return f"{self.padding}" + (f", mode={self.mode!r}" if self.mode != "constant" else value)


class Crop(Moving):
    """Images without a rim: [N, top + H + bottom, left + W + right, C] -> [N, H, W, C].

    padding: as in `Pad`. dx is dy, and 0 in the rim.
    """

    def __init__(self, padding: moved.Sides) -> None:
        """Keep the sides."""
        super().__init__()
        self.padding = checked(self, moved.pairs, padding)

    @property
    def move(self) -> moves.Move:
        """What is inside."""
        return moves.Crop(self.padding)

    def _arguments(self) -> str:
        return f"{self.padding}"


class DepthToSpace(Moving):
    """Channels become squares of pixels: [N, H, W, C * b * b] -> [N, H * b, W * b, C], b = block.

    mode: the order of x's channels, "DCR" for [b, b, C] (as TensorFlow) or "CRD" for [C, b, b]
    (PyTorch's PixelShuffle).
    """

    def __init__(self, block: int, mode: str = "DCR") -> None:
        """Keep the sides of a square."""
        super().__init__()
        self.block = positive("DepthToSpace", "block", block)
        self.mode = checked(self, moved.order, mode)

    @property
    def move(self) -> moves.Move:
        """All squares."""
        return moves.DepthToSpace(self.block, self.mode)

    def _arguments(self) -> str:
        return f"{self.block}, mode={self.mode!r}"


class SpaceToDepth(Moving):
    """Squares of pixels become channels: [N, H * b, W * b, C] -> [N, H, W, C * b * b], b = block.

    mode: the order of y's channels, as in `DepthToSpace`; "CRD" is PyTorch's PixelUnshuffle.
    """

    def __init__(self, block: int, mode: str = "DCR") -> None:
        """Keep the sides of a square."""
        super().__init__()
        self.block = positive("SpaceToDepth", "block", block)
        self.mode = checked(self, moved.order, mode)

    @property
    def move(self) -> moves.Move:
        """All squares."""
        return moves.SpaceToDepth(self.block, self.mode)

    def _arguments(self) -> str:
        return f"{self.block}, mode={self.mode!r}"


class Reshape(Layer):
    """Each image in another shape, a view in memory order: [N, ...] -> [N, *shape].

    shape: without N; one extent may be -1, which stands for what is left. (`Flatten` is
    `Reshape((-1,))`.)
    """

    reads = ""

    def __init__(self, shape: Sequence[int]) -> None:
        """Keep the shape."""
        super().__init__()
        items = shape if isinstance(shape, (list, tuple)) else ()
        if (
            not items
            or not all(is_whole(n, -1) and n != 0 for n in items)
            or list(items).count(-1) > 1
        ):
            self.refuse(
                f"shape is {shape!r}; expected the extents of one image, without N, one of "
                "which may be -1."
            )
        self.shape = tuple(int(n) for n in items)

    def is_view(self) -> bool:
        """Always."""
        return True

    def infer_shape(self, x: Shape) -> Shape:
        """[N, *shape]."""
        size, known = math.prod(x[1:]), math.prod(n for n in self.shape if n > 0)
        if size % known or (-1 not in self.shape and size != known):
            self.refuse(
                f"x has shape {x}, {size} numbers an image; expected as many as {self.shape} holds."
            )
        return (x[0], *(n if n > 0 else size // known for n in self.shape))

    def _arguments(self) -> str:
        return f"{self.shape}"


def concat(xs: Sequence[Any], axis: int = -1) -> Any:
    """Values, or arrays, side by side along an axis, the channels: [..., C1], ... -> [..., sum]."""
    if isinstance(xs, (Value, np.ndarray)) or not isinstance(xs, Sequence) or not xs:
        raise TypeError(
            f"concat: got {type(xs).__name__}; expected a list of values: concat([a, b])."
        )
    if any(isinstance(x, Value) for x in xs):
        return xs[0] if len(xs) == 1 else Concat(axis)(*xs)
    return ops.concat(list(xs), axis=axis)


def split(x: Any, sizes: Sequence[int], axis: int = -1) -> Any:
    """Parts of an axis, the channels, of a value or an array: [..., sum of sizes] -> a tuple."""
    if isinstance(x, Value):
        parts = Split(sizes, axis)(x)
        return parts if isinstance(parts, tuple) else (parts,)
    return tuple(ops.split(x, sizes, axis=axis))
