"""Readers of windows without weights, of means, and of what moves numbers about."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.onnx import fold, views
from pycnn.onnx.read_convs import image_of, image_view, two, unflattened, window
from pycnn.onnx.read_elementwise import (
    affine,
    common_order,
    each,
    from_order,
    grown,
    raised,
)
from pycnn.onnx.reading import Reading
from pycnn.onnx.views import Unreadable, View, arrange, default_order, own_order, shown


def max_pool(r: Reading) -> View:
    """MaxPool, without Indices."""
    return _pool(r, "MaxPool2d")


def average_pool(r: Reading) -> View:
    """AveragePool."""
    include = bool(r.node.get("count_include_pad", 0))
    return _pool(r, "AvgPool2d", **({"count_include_pad": True} if include else {}))


def _pool(r: Reading, kind: str, **options: Any) -> View:
    x = r.view()
    value = image_of(r, x)
    kernel = two(r, "kernel_shape", x.rank)
    dilation = two(r, "dilations", x.rank)
    if dilation != (1, 1):
        options["dilation"] = dilation
    if r.node.get("ceil_mode", 0) and r.node.get("auto_pad", "NOTSET") == "NOTSET":
        options["ceil_mode"] = True
    return image_view(x, r.call(r.make(kind, kernel, **window(r, x, kernel), **options), value))


def global_pool(r: Reading) -> View:
    """GlobalAveragePool and GlobalMaxPool."""
    kind = "GlobalAvgPool2d" if r.node.operator == "GlobalAveragePool" else "GlobalMaxPool2d"
    x = r.view()
    return pooled(r, x, kind)


def pooled(r: Reading, x: View, kind: str) -> View:
    """[N, C, ...] -> [N, C, 1, ...] in a value [N, C]."""
    flat = x if x.rank in (3, 4) else r.regroup(x, (*x.shape[:2], 1, math.prod(x.shape[2:])))
    return View(r.emit(kind, (), image_of(r, flat)), ((0,), (1,), *((),) * (x.rank - 2)), x.batch)


def _reduced_axes(r: Reading, x: View) -> list[int]:
    """The axes of the tensor that a mean, sum or maximum is over."""
    given = r.whole(1) if r.tensor(1) is not None else r.node.get("axes")
    if not given:
        given = [] if r.node.get("noop_with_empty_axes", 0) else range(x.rank)
    return sorted({axis % x.rank for axis in given})


def reduce(r: Reading) -> View:
    """ReduceMean, ReduceMax, ReduceMin, ReduceSum, and those that are a sum of something."""
    x, node = r.view(), r.node
    axes = _reduced_axes(r, x)
    if node.operator == "ReduceL1":
        x = each(r, x, "Abs")
    elif node.operator in ("ReduceL2", "ReduceSumSquare"):
        x = raised(r, x, 2.0)
    atoms = sorted(atom for axis in axes for atom in x.atoms(axis))
    if 0 in atoms and x.batch == 1:
        atoms.remove(0)
    if 0 in atoms:
        raise Unreadable(f"axes are {axes} of {shown(x)}; expected others than the images")
    if not atoms:
        y = x
    elif node.operator == "ReduceMax":
        y = _largest(r, x, atoms)
    elif node.operator == "ReduceMin":
        y = affine(r, _largest(r, affine(r, x, -1.0, 0.0), atoms), -1.0, 0.0)
    else:
        y = _mean(r, x, atoms)
    y = y.with_axes([() if i in axes else axis for i, axis in enumerate(y.axes)])
    if not node.get("keepdims", 1):
        y = y.with_axes([axis for i, axis in enumerate(y.axes) if i not in axes])
    if node.operator in ("ReduceMean", "ReduceMax", "ReduceMin"):
        return y
    y = affine(r, y, float(math.prod(x.extent(atom) for atom in atoms)), 0.0)
    return raised(r, y, 0.5) if node.operator == "ReduceL2" else y


def _mean(r: Reading, x: View, atoms: list[int]) -> View:
    """Over axes of the value."""
    if atoms != [1, 2] or x.value.ndim != 4:
        return x.on(r.emit("Mean", (tuple(atoms), True), x.value))
    place = {0: 0, 3: 1}
    left = [[place[a] for a in axis if a in place] for axis in x.axes]
    return View(r.emit("GlobalAvgPool2d", (), x.value), left, x.batch)


def _largest(r: Reading, x: View, atoms: list[int]) -> View:
    """The maximum over axes of the value, as a global pool of [N, those, 1, all others]."""
    rest = [a for a in range(1, x.value.ndim) if a not in atoms]
    value = arrange(r.emit, x, [[0], atoms, [], rest])
    pooled_value = r.emit("GlobalMaxPool2d", (), value)
    if len(rest) > 1:
        pooled_value = views.reshape(r.emit, pooled_value, tuple(map(x.extent, rest)))
    place = {0: 0} | {a: i + 1 for i, a in enumerate(rest)}
    left = [[place[a] for a in axis if a in place] for axis in x.axes]
    return View(pooled_value, left, x.batch)


def softmax(r: Reading) -> View:
    """Softmax along one axis; before opset 13 along all from that one on."""
    x = r.view()
    axis = r.node.get("axis", -1 if r.opset >= 13 else 1)
    if x.rank == 0:
        raise Unreadable("it reads one number")
    axis %= x.rank
    if r.opset < 13 and axis < x.rank - 1:
        value, order, y = r.channels_last(x, x.rank - axis)
        y = y.on(r.emit("Softmax", (), value))
        return r.regroup(y, x.shape) if order is None else unflattened(r, y, x)
    swapped = x.with_axes((*x.axes[:axis], *x.axes[axis + 1 :], x.axes[axis]))
    value, _, y = r.channels_last(swapped)
    y = y.on(r.emit("Softmax", (), value))
    return y.with_axes((*y.axes[:axis], y.axes[-1], *y.axes[axis:-1]))


def log_softmax(r: Reading) -> View:
    """The log of Softmax."""
    return each(r, softmax(r), "Log")


# ---- other shapes, nothing computed -----------------------------------------------------------


def reshape(r: Reading) -> View:
    """Reshape to a constant shape."""
    x = r.view()
    return r.regroup(x, fold.reshaped(x.shape, r.whole(1), bool(r.node.get("allowzero", 0))))


def flatten(r: Reading) -> View:
    """Flatten."""
    x = r.view()
    axis = r.node.get("axis", 1)
    axis = axis if axis >= 0 else axis + x.rank
    return r.regroup(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def squeeze(r: Reading) -> View:
    """Squeeze."""
    x = r.view()
    given = r.whole(1) if r.tensor(1) is not None else r.node.get("axes")
    axes = [i for i, n in enumerate(x.shape) if n == 1] if given is None else [
        axis % x.rank for axis in given]  # fmt: skip
    if any(x.shape[axis] != 1 for axis in axes):
        raise Unreadable(f"axes are {tuple(axes)} of {shown(x)}; expected axes of one number")
    return x.with_axes([axis for i, axis in enumerate(x.axes) if i not in axes])


def unsqueeze(r: Reading) -> View:
    """Unsqueeze."""
    x = r.view()
    given = r.whole(1) if r.tensor(1) is not None else r.node.get("axes")
    rank = x.rank + len(given)
    axes, rest = {axis % rank for axis in given}, iter(x.axes)
    return x.with_axes([() if i in axes else next(rest) for i in range(rank)])


def transpose(r: Reading) -> View:
    """Transpose: nothing moves yet."""
    x = r.view()
    perm = r.node.get("perm", tuple(reversed(range(x.rank))))
    return x.with_axes([x.axes[i] for i in perm])


def tile(r: Reading) -> View:
    """Tile: side by side with itself; an axis of one number grows."""
    x = r.view()
    for axis, count in enumerate(r.whole(1)):
        if count > 1 and x.shape[axis] == 1:
            x = grown(r, x, tuple(count if i == axis else n for i, n in enumerate(x.shape)))
        elif count > 1:
            x = side_by_side(r, [x] * count, axis)
    return x


# ---- parts -----------------------------------------------------------------------------------


def along(r: Reading, x: View, axis: int) -> tuple[View, int]:
    """(the tensor, where `axis` is one axis of its value of its own, which one)."""
    if len(x.axes[axis]) != 1:
        order = default_order(x.rank, 0 in x.axes[0])
        x = from_order(r.arrange(x, order), order, x.rank, x.batch)
    (place,) = x.axes[axis]
    if place == 0:
        raise Unreadable(f"axis is {axis} of {shown(x)}, the images; expected another")
    return x, place


def concat(r: Reading) -> View:
    """Concat."""
    if any(isinstance(r.tensor(i), np.ndarray) for i in range(len(r.node.inputs))):
        raise Unreadable("one of its inputs is a constant; expected computed ones")
    xs = [r.view(i) for i in range(len(r.node.inputs))]
    return side_by_side(r, xs, r.node.get("axis", 1) % xs[0].rank)


def side_by_side(r: Reading, xs: list[View], axis: int) -> View:
    """Tensors one after the other along an axis."""
    first = xs[0]
    if len(xs) == 1:
        return first
    order = own_order(first, first.rank)
    if order is None or axis not in order or len(order) < first.value.ndim:
        order = common_order(xs)
    needed = {o for x in xs for o in range(x.rank) if x.shape[o] != 1} | {axis}
    if not needed <= set(order):
        order = default_order(first.rank, 0 in first.axes[0])
    place = order.index(axis)
    if place == 0:
        raise Unreadable(f"axis is {axis}, the images; expected another")
    values = [r.arrange(x, order) for x in xs]
    last = place == values[0].ndim - 1
    y = r.emit("Concat", () if last else (place,), *values)
    return from_order(y, order, first.rank, first.batch)


def split(r: Reading) -> list[View]:
    """Split, with its sizes as an attribute, an input, or of equal parts."""
    x = r.view()
    axis = r.node.get("axis", 0) % x.rank
    sizes = fold.split_sizes(r.node, [None, r.maybe(1)], x.shape)
    if len(sizes) == 1:
        return [x]
    x, place = along(r, x, axis)
    last = place == x.value.ndim - 1
    ys = r.emit("Split", (sizes,) if last else (sizes, place), x.value)
    return [x.on(y) for y in ys]


def cut(r: Reading) -> View:
    """Slice, with its numbers as attributes or inputs."""
    x = r.view()
    xs = [None, *(r.maybe(i) for i in range(1, len(r.node.inputs)))]
    for axis, taken in fold.slices(r.node, xs, x.rank).items():
        extent = x.shape[axis]
        start, stop, step = taken.indices(extent)
        if (start, stop, step) == (0, extent, 1):
            continue
        x = taken_from(r, x, axis, start, stop if stop >= 0 else None, step)
    return x


def taken_from(r: Reading, x: View, axis: int, start: int, stop: int | None, step: int = 1) -> View:
    """x[..., start:stop:step, ...]."""
    if not len(range(start, -1 if stop is None else stop, step)):
        raise Unreadable(f"it takes nothing of axis {axis} of {shown(x)}")
    x, place = along(r, x, axis)
    last = place == x.value.ndim - 1
    arguments = start, stop, step, -1 if last else place
    return x.on(r.emit("Slice", arguments, x.value))


def gather(r: Reading) -> View:
    """Gather: a Slice of indices at equal distances, else several, side by side."""
    x, indices = r.view(), r.constant(1)
    axis = r.node.get("axis", 0) % x.rank
    if np.array_equal(indices.reshape(-1), np.arange(x.shape[axis])):  # all of it
        return r.regroup(x, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    found = [int(i) % x.shape[axis] for i in indices.reshape(-1)]
    parts = [
        taken_from(r, x, axis, run[0], stop if (stop := run[-1] + step) >= 0 else None, step)
        for run, step in _runs(found)
    ]
    y = parts[0] if len(parts) == 1 else side_by_side(r, parts, axis)
    if indices.ndim == 1:
        return y
    if not indices.ndim:
        return y.with_axes([a for i, a in enumerate(y.axes) if i != axis])
    return r.regroup(y, (*y.shape[:axis], *indices.shape, *y.shape[axis + 1 :]))


def _runs(found: list[int]) -> list[tuple[list[int], int]]:
    """Lists of indices at equal distances, and those."""
    runs: list[tuple[list[int], int]] = []
    for i in found:
        if runs:
            run, step = runs[-1]
            if len(run) == 1 and i != run[0]:
                step = i - run[0]
            if i == run[-1] + step:
                runs[-1] = [*run, i], step
                continue
        runs.append(([i], 1))
    return runs


def pad(r: Reading) -> View:
    """Pad; negative pads cut off."""
    x, node = r.view(), r.node
    mode = node.get("mode", "constant")
    if r.opset < 11:
        pads, number = tuple(node.get("pads", ())), node.get("value", 0.0)
        axes = list(range(x.rank))
    else:
        pads, given = r.whole(1), r.maybe(2)
        number = 0.0 if given is None or not given.size else float(given.reshape(-1)[0])
        axes = [a % x.rank for a in r.whole(3)] if r.tensor(3) is not None else list(range(x.rank))
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unreadable(f"mode is {mode!r}; expected 'constant', 'reflect', 'edge' or 'wrap'")
    sides = {a: (pads[i], pads[i + len(axes)]) for i, a in enumerate(axes)}
    for axis, (before, after) in sides.items():
        if min(before, after) < 0:
            x = taken_from(r, x, axis, max(-before, 0), x.shape[axis] - max(-after, 0))
    around = {a: (max(p, 0), max(q, 0)) for a, (p, q) in sides.items() if max(p, q) > 0}
    if not around:
        return x
    if any(len(x.axes[axis]) != 1 for axis in around):
        x, _ = along(r, x, next(axis for axis in around if len(x.axes[axis]) != 1))
    rims = [(0, 0)] * x.value.ndim
    for axis, side in around.items():
        rims[x.axes[axis][0]] = side
    if rims[0] != (0, 0):
        raise Unreadable(f"it pads the images of {shown(x)}; expected other axes")
    value = x.value
    if mode != "constant" and rims[-1] != (0, 0):  # channels as the width of an image
        *outer, C = value.full_shape[1:]
        wide = views.reshape(r.emit, value, (math.prod(outer), C, 1))
        wide = r.emit("Pad", (((0, 0), rims[-1]), mode), wide)
        value = views.reshape(r.emit, wide, (*outer, wide.full_shape[2]))
        rims[-1] = (0, 0)
    if all(side == (0, 0) for side in rims):
        return x.on(value)
    padding = tuple(rims[1:-1] if rims[-1] == (0, 0) and value.ndim > 2 else rims[1:])
    plain = (mode, number) == ("constant", 0)
    return x.on(r.emit("Pad", (padding,) if plain else (padding, mode, number), value))


def to_space(r: Reading) -> View:
    """DepthToSpace and SpaceToDepth."""
    x, block = r.view(), r.node.get("blocksize")
    if x.rank != 4:
        raise Unreadable(f"it reads {shown(x)}; expected [N, C, H, W]")
    mode = r.node.get("mode", "DCR")
    return image_view(x, r.emit(r.node.operator, (block, mode), image_of(r, x)))
