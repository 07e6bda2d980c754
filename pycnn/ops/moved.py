"""Operators that move numbers and do not change them: concat, split, permute, pad and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_choice, is_number, is_whole
from pycnn.ops import moves
from pycnn.ops.arrays import (
    LARGEST,
    Array,
    aligned_empty,
    check_size,
    contiguous,
    count,
    is_nchw,
    kind_of,
)
from pycnn.ops.moves import Move
from pycnn.ops.resized import Rim, resampled
from pycnn.ops.taps import RIMS

_T = TypeVar("_T")
_NHWC, _NCHW = "[N, H, W, C]", "[N, C, H, W]"
Sides = Sequence[Sequence[int]]


def _turned(array: Array, nchw: bool) -> Array:
    """An NCHW array as a view [N, H, W, C]."""
    return array.transpose(0, 2, 3, 1) if nchw else array


def _moved(
    op: str,
    move: Move,
    sources: dict[str, Array],
    outs: Sequence[Array | None] | None = None,
    names: Sequence[str] = ("out",),
    nchw: bool = False,
) -> list[Array | None]:
    """The results of a move, in new arrays unless `outs` has them."""
    for name, array in sources.items() if nchw else ():
        if array.ndim != 4:
            raise ValueError(
                f"{op}: {name} has shape {array.shape}, {array.ndim} axes; expected 4: {_NCHW}."
            )
    xs = [_turned(array, nchw) for array in sources.values()]
    try:
        shapes = move.shapes(*(x.shape for x in xs))
    except ValueError as error:
        raise ValueError(f"{op}: {error}") from None
    if nchw:
        shapes = tuple((n, c, h, w) for n, h, w, c in shapes)
    like = xs[0].dtype
    if outs is None:
        for shape in shapes:
            check_size(shape, op)
        outs = [aligned_empty(shape, like) for shape in shapes]
    axes = _NCHW if nchw else "for this x" if len(sources) == 1 else "for these arrays"
    targets = [(names[i], y, shapes[i], axes) for i, y in enumerate(outs)]
    _pycnn.check_move(op, list(sources.items()), targets)
    move.forward(xs, [None if y is None else _turned(y, nchw) for y in outs])
    return list(outs)


def _one(
    op: str, move: Move, x: npt.ArrayLike, out: Array | None, nchw: bool = False, name: str = "x"
) -> Array:
    """The result of a move of one array to one."""
    array = contiguous(x, op, name)
    if out is not None and not isinstance(out, np.ndarray):
        raise TypeError(f"{op}: out is {kind_of(out)}; expected a NumPy array.")
    (y,) = _moved(op, move, {name: array}, None if out is None else [out], nchw=nchw)
    assert y is not None
    return y


def concat(arrays: Sequence[npt.ArrayLike], out: Array | None = None, *, axis: int = -1) -> Array:
    """The arrays side by side along an axis, the last one: [..., C1], [..., C2] -> [..., C1 + C2].

    arrays: at least one, of one type, of the same axes but that one. Raises ValueError for shapes
    that do not fit, TypeError for types.
    """
    op = "concat"
    if not isinstance(arrays, (list, tuple)):
        raise TypeError(f"{op}: arrays is {kind_of(arrays)}; expected a list of NumPy arrays.")
    if not arrays:
        raise ValueError(f"{op}: arrays is empty; expected at least one array.")
    if out is not None and not isinstance(out, np.ndarray):
        raise TypeError(f"{op}: out is {kind_of(out)}; expected a NumPy array.")
    parts = [contiguous(array, op, f"arrays[{i}]") for i, array in enumerate(arrays)]
    named = {f"arrays[{i}]": part for i, part in enumerate(parts)}
    (y,) = _moved(op, moves.Concat(axis), named, None if out is None else [out])
    assert y is not None
    return y


def split(
    x: npt.ArrayLike,
    sizes: Sequence[int],
    out: Sequence[Array | None] | None = None,
    *,
    axis: int = -1,
) -> list[Array | None]:
    """Cut an axis of x, the last one, into pieces of these sizes: the gradient of `concat`.

    x: [..., C]; sizes: ints that add up to C. Returns a list of arrays [..., size], all new
    memory. out: a list of one array for each size, or None where a piece is not wanted: it is
    skipped, and None in the result. Raises ValueError for sizes and shapes that do not fit,
    TypeError for types.
    """
    op = "split"
    x_array = contiguous(x, op, "x")
    counts = tuple(_size(size, i) for i, size in enumerate(_list(sizes, "sizes", "ints")))
    wanted = None if out is None else list(_list(out, "out", "arrays or None"))
    for i, array in enumerate(wanted or ()):
        if array is not None and not isinstance(array, np.ndarray):
            raise TypeError(f"{op}: out[{i}] is {kind_of(array)}; expected a NumPy array, or None.")
    if wanted is not None and len(wanted) != len(counts):
        raise ValueError(
            f"{op}: out holds {len(wanted)} arrays for {len(counts)} sizes; expected as many."
        )
    names = [f"out[{i}]" for i in range(len(counts))]
    return _moved(op, moves.Split(counts, axis), {"x": x_array}, wanted, names)


def _list(value: Sequence[_T], name: str, of: str) -> Sequence[_T]:
    if isinstance(value, (list, tuple)):
        return value
    raise TypeError(f"split: {name} is {kind_of(value)}; expected a list of {of}.")


def _size(value: int, i: int) -> int:
    if not is_whole(value, 0, LARGEST):
        raise ValueError(f"split: sizes[{i}] is {value!r}; expected an int from 0 to 2**31 - 1.")
    return int(value)


def slice_axis(
    x: npt.ArrayLike,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
    *,
    axis: int = -1,
    out: Array | None = None,
) -> Array:
    """x[..., start:stop:step, ...] along an axis, the last one, in new memory.

    start, stop, step as Python counts, negative ones too. Raises ValueError where nothing is left,
    TypeError for types.
    """
    return _one("slice_axis", moves.Slice(start, stop, step, axis), x, out)


def permute(x: npt.ArrayLike, axes: Sequence[int], out: Array | None = None) -> Array:
    """The axes in another order, in new memory: axis i of y is axis axes[i] of x.

    Raises ValueError for axes that x has not, TypeError for types. The gradient is the permutation
    back.
    """
    return _one("permute", moves.Permute(permutation(axes, "permute: ")), x, out)


def permutation(axes: Any, who: str = "") -> tuple[int, ...]:
    """The axes as a tuple of ints of at least 0."""
    if not isinstance(axes, (list, tuple)) or not all(is_whole(axis, 0) for axis in axes):
        raise ValueError(f"{who}axes is {axes!r}; expected a list of ints, each axis once.")
    return tuple(int(axis) for axis in axes)


def channel_shuffle(
    x: npt.ArrayLike, groups: int, *, data_format: str = "NHWC", out: Array | None = None
) -> Array:
    """Channel g * (C / groups) + c goes to c * groups + g: [..., C] -> [..., C].

    Zhang et al. 2018, ShuffleNet. Raises ValueError for groups that do not divide C, TypeError for
    types. The gradient is the shuffle with C / groups groups.
    """
    op = "channel_shuffle"
    move = moves.ChannelShuffle(count(groups, op, "groups"))
    return _one(op, move, x, out, is_nchw(data_format, op))


def pad(
    x: npt.ArrayLike,
    padding: Sides,
    mode: str = "constant",
    value: float = 0.0,
    *,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """A rim around images: [N, H, W, C] -> [N, top + H + bottom, left + W + right, C].

    mode: "constant", a rim of `value`; "reflect", the image mirrored at its outermost pixels, less
    than its size; "edge", the outermost pixels; "wrap", the other end. padding: ((top, bottom),
    (left, right)), for a constant rim of channels a third pair, and with other axes than four a
    pair for each axis between N and the channels, or one more. Raises ValueError for another
    padding, TypeError for types. The gradient is `pad_backward`, of a constant rim `crop`.
    """
    op = "pad"
    nchw = is_nchw(data_format, op)
    padding_mode(mode, f"{op}: ")
    if not is_number(value):
        raise TypeError(f"{op}: value is {value!r}; expected a number.")
    if mode != "constant":
        rim = Rim(pairs(padding, f"{op}: "), mode)
        return resampled(op, "x", x, rim, out, data_format)
    return _one(op, moves.Pad(pairs(padding, f"{op}: "), float(value)), x, out, nchw)


def crop(
    x: npt.ArrayLike, padding: Sides, *, data_format: str = "NHWC", out: Array | None = None
) -> Array:
    """Images without a rim: what `pad` has made larger, in new memory.

    padding: as in `pad`. Raises ValueError where nothing is left, TypeError for types. The gradient
    is `pad` with zeros.
    """
    op = "crop"
    nchw = is_nchw(data_format, op)
    return _one(op, moves.Crop(pairs(padding, f"{op}: ")), x, out, nchw)


def pad_backward(
    dy: npt.ArrayLike,
    input_shape: Sequence[int],
    padding: Sides,
    mode: str = "constant",
    *,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Gradient of `pad`: dy without its rim, each number of which is added where it came from.

    dy: as `pad` makes it of input_shape, the shape of x, whose axes are four unless mode is
    "constant". Returns dx. Raises ValueError for shapes that do not fit, TypeError for types.
    """
    op = "pad_backward"
    sides = pairs(padding, f"{op}: ")
    if padding_mode(mode, f"{op}: ") != "constant":
        return resampled(op, "dy", dy, Rim(sides, mode), out, data_format, input_shape)
    return _one(op, moves.Crop(sides), dy, out, is_nchw(data_format, op), "dy")


def padding_mode(mode: Any, who: str = "") -> str:
    """The mode itself."""
    if not is_choice(mode, ("constant", *RIMS)):
        raise ValueError(
            f'{who}mode is {mode!r}; expected "constant", "reflect", "edge" or "wrap".'
        )
    return str(mode)


def pairs(padding: Any, who: str = "") -> moves.Pairs:
    """((before, after), ...) as tuples of ints."""
    ends = padding if isinstance(padding, (list, tuple)) else ()
    if not ends or not all(_is_pair(pair) for pair in ends):
        raise ValueError(
            f"{who}padding is {padding!r}; expected ((top, bottom), (left, right)), all from 0 to "
            "2**31 - 1."
        )
    return tuple((int(before), int(after)) for before, after in ends)


def _is_pair(pair: Any) -> bool:
    right = isinstance(pair, (list, tuple)) and len(pair) == 2
    return right and all(is_whole(n, 0, LARGEST) for n in pair)


def depth_to_space(
    x: npt.ArrayLike,
    block: int,
    mode: str = "DCR",
    *,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Channels become squares of pixels: [N, H, W, C * b * b] -> [N, H * b, W * b, C], b = block.

    mode: the order of x's channels, "DCR" for [b, b, C] (as TensorFlow) or "CRD" for [C, b, b]
    (PyTorch's pixel_shuffle). Raises ValueError for shapes that do not fit, TypeError for types.
    The gradient is `space_to_depth`.
    """
    op = "depth_to_space"
    move = moves.DepthToSpace(count(block, op, "block"), order(mode, f"{op}: "))
    return _one(op, move, x, out, is_nchw(data_format, op))


def space_to_depth(
    x: npt.ArrayLike,
    block: int,
    mode: str = "DCR",
    *,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Squares of pixels become channels: [N, H * b, W * b, C] -> [N, H, W, C * b * b], b = block.

    mode: the order of y's channels, as in `depth_to_space`, which is the gradient. Raises
    ValueError for shapes that do not fit, TypeError for types.
    """
    op = "space_to_depth"
    move = moves.SpaceToDepth(count(block, op, "block"), order(mode, f"{op}: "))
    return _one(op, move, x, out, is_nchw(data_format, op))


def order(mode: Any, who: str = "") -> str:
    """The mode itself."""
    if not is_choice(mode, ("DCR", "CRD")):
        raise ValueError(f'{who}mode is {mode!r}; expected "DCR" or "CRD".')
    return str(mode)
