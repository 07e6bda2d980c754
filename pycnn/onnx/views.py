"""How an ONNX tensor lies in a value of the network.

ONNX's images are [N, C, H, W], pycnn's [N, H, W, C]. A `View` says for each axis of the ONNX tensor
which axes of the value it is made of, so Transpose, Squeeze, Unsqueeze and most Reshapes compute
nothing: they give another View of the same value. An operator then asks for the axes it needs
(`arrange`, `lay`), and only where they lie otherwise does a Permute or a Reshape come into the
network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pycnn.graph.values import Value

Axes = tuple[tuple[int, ...], ...]
Emit = Callable[..., Value]  # (kind of layer, its arguments, values) -> value


class Unreadable(ValueError):
    """What a node asks for and no layer does; a sentence without its end."""


class View:
    """An ONNX tensor: `axes[i]` are the axes of `value` whose product its axis i is, slowest first.

    () is an axis of one number. An axis of the value that no axis of the tensor names has one
    number, too; the value's axis 0 is N. batch: the N of the file.
    """

    __slots__ = ("axes", "batch", "value")

    def __init__(self, value: Value, axes: Sequence[Sequence[int]], batch: int) -> None:
        """The tensor with these axes."""
        self.value, self.batch = value, batch
        self.axes: Axes = tuple(tuple(axis) for axis in axes)

    def extent(self, axis: int) -> int:
        """Of an axis of the value."""
        return self.batch if axis == 0 else self.value.full_shape[axis]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the ONNX tensor."""
        return tuple(math.prod(map(self.extent, axis)) for axis in self.axes)

    @property
    def rank(self) -> int:
        """Axes of the ONNX tensor."""
        return len(self.axes)

    def with_axes(self, axes: Sequence[Sequence[int]]) -> View:
        """Another tensor in the same value."""
        return View(self.value, axes, self.batch)

    def on(self, value: Value) -> View:
        """The same axes of another value, of an elementwise function."""
        return View(value, self.axes, self.batch)

    def atoms(self, axis: int) -> list[int]:
        """The axes of the value that an axis is made of, without those of one number."""
        return [a for a in self.axes[axis] if a == 0 or self.extent(a) != 1]

    def owner(self, atom: int) -> int | None:
        """The axis of the tensor that is this axis of the value alone; None if there is none."""
        for i, axis in enumerate(self.axes):
            if axis == (atom,):
                return i
        return None

    @property
    def is_plain(self) -> bool:
        """Whether no axis is made of several."""
        return all(len(axis) <= 1 for axis in self.axes)


def own_order(view: View, rank: int) -> list[int | None] | None:
    """The tensor's axes in the order of the value's, counted in a tensor of `rank` axes.

    None stands for an axis of one number that the tensor does not name. For tensors with axes made
    of several: None.
    """
    if not view.is_plain:
        return None
    shift = rank - view.rank
    order: list[int | None] = []
    for atom in range(view.value.ndim):
        owner = view.owner(atom)
        if owner is not None:
            order.append(owner + shift)
        elif atom == 0:
            order.append(None)
    return order


def default_order(rank: int, named: bool = True) -> list[int | None]:
    """Images as NHWC, everything else as it is; named: whether the tensor has N."""
    if not named:
        return [None, *range(rank)]
    return [0, 2, 3, 1] if rank == 4 else list(range(rank))


def arrange(emit: Emit, view: View, groups: Sequence[Sequence[int]]) -> Value:
    """A value whose axes are these groups of the view's value's axes; the first is N alone."""
    value = view.value
    flat = [atom for group in groups for atom in group]
    target = tuple(math.prod(map(view.extent, group)) for group in groups[1:])
    if flat != sorted(flat):
        shuffled = _shuffled(emit, value, flat, target)
        if shuffled is not None:
            return shuffled
        rest = [atom for atom in range(value.ndim) if atom not in flat]
        value = emit("Permute", (tuple(flat + rest),), value)
    if value.full_shape[1:] == target:
        return value
    return reshape(emit, value, target)


def reshape(emit: Emit, value: Value, target: tuple[int, ...]) -> Value:
    """Another shape of an image, in memory as it is; of a reshaped one, from what that was."""
    while value.node is not None and type(value.node.operation).__name__ == "Reshape":
        value = value.node.inputs[0]
    if value.full_shape[1:] == target:
        return value
    if len(target) == 1:
        return emit("Flatten", (), value)
    return emit("Reshape", (target,), value)


def _shuffled(emit: Emit, value: Value, flat: list[int], target: tuple[int, ...]) -> Value | None:
    """Channels [g, k] that were split and come back as [k, g]: one layer."""
    node = value.node
    if node is None or type(node.operation).__name__ != "Reshape" or value.ndim < 3:
        return None
    *before, g, k = range(value.ndim)
    source = node.inputs[0]
    swapped = [a for a in before if a in flat] + [k, g]
    same = source.full_shape[1:-1] == value.full_shape[1:-2] and source.full_shape[1:] == target
    return (
        emit("ChannelShuffle", (value.full_shape[g],), source) if flat == swapped and same else None
    )


def lay(emit: Emit, view: View, order: Sequence[int | None]) -> Value:
    """A value with the tensor's axes in this order; None is an axis of one number, or N."""
    groups = [[] if o is None else view.atoms(o) for o in order]
    left_out = [o for o in range(view.rank) if o not in order and view.atoms(o)]
    if left_out == [o for o in left_out if view.atoms(o) == [0]] and view.batch == 1:
        left_out = []
    if left_out:
        raise Unreadable(f"its shape is {shown(view)}; expected {len(order)} axes")
    if not any(0 in group for group in groups):
        if groups[0]:
            raise Unreadable("the first axis of what it reads is not N, the images")
        groups[0] = [0]
    if groups[0] != [0]:
        raise Unreadable(
            f"of {shown(view)} it reads the images mixed with other axes, or not first"
        )
    return arrange(emit, view, groups)


def shown(view: View) -> str:
    """The shape of a tensor for sentences, with N."""
    named = ("N" if 0 in a else str(n) for a, n in zip(view.axes, view.shape, strict=True))
    return f"[{', '.join(named)}]"


def regroup(emit: Emit, view: View, new: Sequence[int]) -> View:
    """Reshape: the axes are grouped anew; an axis of the value is split where it must be."""
    atoms = [atom for axis in range(view.rank) for atom in view.atoms(axis)]
    if 0 in new:
        raise Unreadable(f"its shape is {list(new)}, without numbers")
    cut = _cut(view, atoms, new)
    if cut is None:
        return _reshaped(emit, view, new)
    groups, parts = cut
    if all(len(part) == 1 for part in parts.values()):
        return view.with_axes([[atom for atom, _ in group] for group in groups])
    # Each axis of the value becomes its parts.
    place: dict[tuple[int, int], int] = {}
    target: list[int] = []
    for atom in range(view.value.ndim):
        extents = parts.get(atom, [view.extent(atom)])
        for i, extent in enumerate(extents):
            place[atom, i] = len(target)
            target.append(extent)
    value = reshape(emit, view.value, tuple(target[1:]))
    return View(value, [[place[part] for part in group] for group in groups], view.batch)


def _cut(
    view: View, atoms: list[int], new: Sequence[int]
) -> tuple[list[list[tuple[int, int]]], dict[int, list[int]]] | None:
    """(for each new axis its (axis of the value, number of its part), the parts of each axis).

    None where an axis would have to hold a fraction of one.
    """
    waiting = [(atom, view.extent(atom)) for atom in atoms]
    parts: dict[int, list[int]] = {}
    groups: list[list[tuple[int, int]]] = []
    for need in new:
        group: list[tuple[int, int]] = []
        if waiting and waiting[0][0] == 0 and waiting[0][1] == need == 1 and not groups:
            parts[0], group = [1], [(0, 0)]  # N = 1
            waiting.pop(0)
        while need > 1:
            while waiting and waiting[0][1] == 1:  # N = 1 where it is not first: no axis names it
                waiting.pop(0)
            if not waiting:
                return None
            atom, extent = waiting[0]
            if need % extent == 0:
                taken, left = extent, 1
                waiting.pop(0)
            elif extent % need == 0 and atom != 0:
                taken, left = need, extent // need
                waiting[0] = (atom, left)
            else:
                return None
            parts.setdefault(atom, []).append(taken)
            group.append((atom, len(parts[atom]) - 1))
            need //= taken
        groups.append(group)
    return groups, parts


def _reshaped(emit: Emit, view: View, new: Sequence[int]) -> View:
    """By really moving: in ONNX's order, then in the new shape."""
    if 0 not in view.axes[0]:
        value = lay(emit, view, [None, *range(view.rank)])
        return View(
            reshape(emit, value, tuple(new)), [[i + 1] for i in range(len(new))], view.batch
        )
    if not new or new[0] != view.batch:
        raise Unreadable(f"{shown(view)} -> {list(new)} mixes the images of a batch")
    value = reshape(emit, lay(emit, view, list(range(view.rank))), tuple(new[1:]))
    return View(value, [[i] for i in range(len(new))], view.batch)


def channels_last(emit: Emit, view: View, count: int = 1) -> tuple[Value, list[int] | None, View]:
    """A value whose last axis is the product of the tensor's last `count` axes.

    Returns (value, order, y): feature i of ONNX is the value's feature j where order[j] = i, None
    for the same order; y: the tensor with its last axes as one, in the value. Nothing moves where
    those axes already lie last, in whatever order: weights can be re-ordered instead.
    """
    last = [atom for axis in range(view.rank - count, view.rank) for atom in view.atoms(axis)]
    rest = {atom for axis in range(view.rank - count) for atom in view.atoms(axis)} | {0}
    if 0 in last:
        raise Unreadable("it computes with the images of a batch together, or they are not first")
    order: list[int] | None = None
    if not last or min(last) > max(rest):
        lead, inner = sorted(rest), sorted(last)
        if inner != last:
            order = _memory_order(view, last, inner)
    else:
        lead = [0, *(a for axis in view.axes[: view.rank - count] for a in axis if a in rest and a)]
        inner = last
    value = arrange(emit, view, [[0], *([atom] for atom in lead if atom), inner])
    place = {atom: i for i, atom in enumerate(lead)}
    axes = [[place[a] for a in axis if a in place] for axis in view.axes[: view.rank - count]]
    return value, order, View(value, [*axes, [value.ndim - 1]], view.batch)


def _memory_order(view: View, last: list[int], inner: list[int]) -> list[int]:
    import numpy as np

    extents = [view.extent(atom) for atom in last]
    numbers = np.arange(math.prod(extents)).reshape(extents)
    return numbers.transpose([last.index(atom) for atom in inner]).reshape(-1).tolist()  # type: ignore[no-any-return]
