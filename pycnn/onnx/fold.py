"""What is known before any image comes: shapes and constants, computed with NumPy at import.

N, where it is free, is a prime, `nodes.BATCH` or FEWER. A constant with an axis of N numbers is
held with one: it broadcasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pycnn.onnx.nodes import BATCH, FEWER, OnnxNode
from pycnn.ops.arrays import Array

Inputs = Sequence[Any]
LARGEST = 1 << 28  # numbers of a computed constant

# Of onnx.TensorProto.DataType.
TYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip


class CountsImages(ValueError):
    """A list of all images: to be read with fewer of them."""


def _integers(array: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in np.asarray(array).reshape(-1))


def axes_of(node: OnnxNode, xs: Inputs, at: int = 1) -> tuple[int, ...] | None:
    """The axes of an operator that once had them as an attribute and now as an input."""
    if len(xs) > at and xs[at] is not None:
        return _integers(xs[at])
    axes = node.get("axes")
    return None if axes is None else tuple(axes)


def _small(shape: Sequence[int]) -> tuple[int, ...]:
    """A constant's shape, with one number for N of them."""
    small = tuple(1 if n in (BATCH, FEWER) else int(n) for n in shape)
    if math.prod(small) > LARGEST:
        raise ValueError(f"it computes a constant of shape {small}, which is too large")
    return small


def reshaped(shape: Sequence[int], new: Sequence[int], allow_zero: bool = False) -> tuple[int, ...]:
    """What Reshape's second input means for an array of this shape."""
    found = [
        shape[i] if n == 0 and not allow_zero and i < len(shape) else int(n)
        for i, n in enumerate(new)
    ]
    if -1 in found:
        rest = math.prod(n for n in found if n != -1)
        found[found.index(-1)] = math.prod(shape) // rest if rest else 0
    if math.prod(found) != math.prod(shape):
        raise ValueError(f"the new shape is {list(new)} of {list(shape)}")
    return tuple(found)


def slices(node: OnnxNode, xs: Inputs, rank: int) -> dict[int, slice]:
    """Slice's (axis, what it takes), of attributes or inputs."""
    if len(xs) > 1:
        starts, ends = _integers(xs[1]), _integers(xs[2])
        axes = axes_of(node, xs, 3)
        steps = _integers(xs[4]) if len(xs) > 4 and xs[4] is not None else (1,) * len(starts)
    else:
        starts, ends, axes = node.get("starts"), node.get("ends"), node.get("axes")
        steps = (1,) * len(starts)
    found = {}
    for axis, start, end, step in zip(
        range(rank) if axes is None else axes, starts, ends, steps, strict=False
    ):
        # Before the first number, going back, Python says None.
        last = None if step < 0 and end < -(10**9) else end
        found[axis % rank] = slice(start, last, step)
    return found


def _constant(node: OnnxNode) -> Array:
    for kind in ("float", "int", "string"):
        for name in (f"value_{kind}", f"value_{kind}s"):
            if name in node.attributes:
                dtype = {"float": np.float32, "int": np.int64, "string": object}[kind]
                return np.array(node.attributes[name], dtype)
    if "value" not in node.attributes:
        raise ValueError("it holds no dense array")
    return node.attributes["value"]  # type: ignore[no-any-return]


def _of_shape(node: OnnxNode, xs: Inputs) -> Array:
    value = np.asarray(node.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return np.full(_small(_integers(xs[0])), value)


def _shape(node: OnnxNode, xs: Inputs) -> Array:
    return np.array(xs[0].shape[node.get("start", 0) : node.get("end")], np.int64)


def _slice(node: OnnxNode, xs: Inputs) -> Array:
    cuts = slices(node, xs, xs[0].ndim)
    return xs[0][tuple(cuts.get(axis, slice(None)) for axis in range(xs[0].ndim))]  # type: ignore[no-any-return]


def _squeeze(node: OnnxNode, xs: Inputs) -> Array:
    axes = axes_of(node, xs)
    return np.asarray(np.squeeze(xs[0], axes))


def _unsqueeze(node: OnnxNode, xs: Inputs) -> Array:
    axes = axes_of(node, xs)
    assert axes is not None
    return np.expand_dims(xs[0], tuple(axes))


def _cast(node: OnnxNode, xs: Inputs) -> Array:
    kind = node.get("to")
    if kind not in TYPES:
        raise ValueError(f"it casts to type {kind}, which NumPy does not have")
    return xs[0].astype(TYPES[kind])  # type: ignore[no-any-return]


def _divide(node: OnnxNode, xs: Inputs) -> Array:
    a, b = xs
    if np.issubdtype(a.dtype, np.integer):  # towards zero
        quotient = np.abs(a) // np.abs(b)
        return np.asarray(np.where((a < 0) != (b < 0), -quotient, quotient), a.dtype)
    return np.asarray(a / b, a.dtype)


def _split(node: OnnxNode, xs: Inputs) -> list[Array]:
    sizes = split_sizes(node, xs, xs[0].shape)
    return list(np.split(xs[0], np.cumsum(sizes)[:-1], node.get("axis", 0)))


def split_sizes(node: OnnxNode, xs: Inputs, shape: Sequence[int]) -> tuple[int, ...]:
    """The extents of Split's results."""
    if len(xs) > 1 and xs[1] is not None:
        return _integers(xs[1])
    if node.get("split") is not None:
        return tuple(node.get("split"))
    extent, parts = shape[node.get("axis", 0)], len(node.outputs)
    each = -(-extent // parts)
    return tuple(min(each, extent - i * each) for i in range(parts))


def _reduce(function: Callable[..., Any]) -> Callable[[OnnxNode, Inputs], Array]:
    def run(node: OnnxNode, xs: Inputs) -> Array:
        axes = axes_of(node, xs)
        if not axes:
            if node.get("noop_with_empty_axes", 0):
                return xs[0]  # type: ignore[no-any-return]
            axes = tuple(range(xs[0].ndim))
        return np.asarray(function(xs[0], axis=axes, keepdims=bool(node.get("keepdims", 1))))

    return run


def _sum_of(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, **over: np.sum(function(x), **over)


def _range(node: OnnxNode, xs: Inputs) -> Array:
    start, limit, delta = (np.asarray(x).reshape(-1)[0] for x in xs)
    if (limit - start) / delta > LARGEST or BATCH in (start, limit):
        raise CountsImages("it counts to the number of images, or very far")
    return np.arange(start, limit, delta)


def _expand(node: OnnxNode, xs: Inputs) -> Array:
    shape = np.broadcast_shapes(xs[0].shape, _small(_integers(xs[1])))
    return np.broadcast_to(xs[0], shape)


def _tile(node: OnnxNode, xs: Inputs) -> Array:
    repeats = _small(_integers(xs[1]))
    _small([n * r for n, r in zip(xs[0].shape, repeats, strict=True)])
    return np.tile(xs[0], repeats)


def _flatten(node: OnnxNode, xs: Inputs) -> Array:
    axis = node.get("axis", 1)
    return xs[0].reshape(math.prod(xs[0].shape[:axis]), -1)  # type: ignore[no-any-return]


def _gather(node: OnnxNode, xs: Inputs) -> Array:
    return np.asarray(np.take(xs[0], xs[1], node.get("axis", 0)))


def _concat(node: OnnxNode, xs: Inputs) -> Array:
    return np.concatenate(xs, node.get("axis", 1))


def _same(function: Callable[..., Any]) -> Callable[[OnnxNode, Inputs], Array]:
    """An elementwise function whose result has the type of its first operand."""

    def run(node: OnnxNode, xs: Inputs) -> Array:
        y = xs[0]
        if len(xs) == 1:
            return np.asarray(function(y)).astype(y.dtype)
        for x in xs[1:]:
            y = np.asarray(function(y, x)).astype(y.dtype)
        return y  # type: ignore[no-any-return]

    return run


def _truth(function: Callable[..., Any]) -> Callable[[OnnxNode, Inputs], Array]:
    return lambda node, xs: np.asarray(function(*xs))


def _clip(node: OnnxNode, xs: Inputs) -> Array:
    low = xs[1] if len(xs) > 1 else node.get("min")
    high = xs[2] if len(xs) > 2 else node.get("max")
    return np.asarray(xs[0] if low is None and high is None else np.clip(xs[0], low, high))


def _mod(node: OnnxNode, xs: Inputs) -> Array:
    with np.errstate(invalid="ignore"):  # of infinity, or by zero: NaN
        return np.asarray((np.fmod if node.get("fmod", 0) else np.mod)(*xs))


FOLDED: dict[str, Callable[[OnnxNode, Inputs], Any]] = {
    "Abs": _same(np.abs), "Add": _same(np.add), "And": _truth(np.logical_and), "Cast": _cast,
    "Ceil": _same(np.ceil), "Clip": _clip, "Concat": _concat,
    "Constant": lambda node, xs: _constant(node), "ConstantOfShape": _of_shape, "Div": _divide,
    "Equal": _truth(np.equal), "Exp": _same(np.exp), "Expand": _expand, "Flatten": _flatten,
    "Floor": _same(np.floor), "Gather": _gather, "Greater": _truth(np.greater),
    "GreaterOrEqual": _truth(np.greater_equal), "Identity": lambda node, xs: xs[0],
    "Less": _truth(np.less), "LessOrEqual": _truth(np.less_equal), "Log": _same(np.log),
    "MatMul": lambda node, xs: np.matmul(*xs), "Max": _same(np.maximum),
    "Min": _same(np.minimum), "Mod": _mod, "Mul": _same(np.multiply),
    "Neg": _same(np.negative), "Not": _truth(np.logical_not), "Or": _truth(np.logical_or),
    "Pow": _same(np.power), "Range": _range,
    "Reciprocal": _same(np.reciprocal), "ReduceL1": _reduce(_sum_of(np.abs)),
    "ReduceL2": _reduce(lambda x, **over: np.sqrt(np.sum(x * x, **over))),
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean), "ReduceMin": _reduce(np.min), "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum), "ReduceSumSquare": _reduce(_sum_of(np.square)),
    "Reshape": lambda node, xs: xs[0].reshape(
        reshaped(xs[0].shape, _integers(xs[1]), bool(node.get("allowzero", 0)))
    ),
    "Round": _same(np.rint), "Shape": _shape,
    "Size": lambda node, xs: np.array(math.prod(xs[0].shape), np.int64), "Slice": _slice,
    "Split": _split, "Sqrt": _same(np.sqrt), "Squeeze": _squeeze, "Sub": _same(np.subtract),
    "Sum": _same(np.add), "Tile": _tile,
    "Transpose": lambda node, xs: np.transpose(xs[0], node.get("perm")),
    "Unsqueeze": _unsqueeze, "Where": _truth(np.where), "Xor": _truth(np.logical_xor),
}  # fmt: skip


def fold(node: OnnxNode, xs: Inputs) -> list[Array]:
    """The results of an operator on constants; ValueError says why there are none."""
    if node.operator not in FOLDED:
        raise ValueError("pycnn does not compute it at import, and all that it reads is constant")
    try:
        ys = FOLDED[node.operator](node, xs)
    except (IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"it does not fit what it reads: {error}") from None
    return ys if isinstance(ys, list) else [np.asarray(ys)]
