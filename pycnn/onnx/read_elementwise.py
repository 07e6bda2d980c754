"""Readers of what computes number by number, and of sums and products with constants."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn.layers.base import Layer
from pycnn.layers.parameter import Parameter
from pycnn.onnx.reading import Reading
from pycnn.onnx.views import Unreadable, View, default_order, own_order
from pycnn.ops.arrays import Array

JOINS = {"Add": "Add", "Sub": "Subtract", "Mul": "Multiply", "Div": "Divide"}


def same(r: Reading) -> View:
    """What does nothing in inference."""
    return r.view()


def each(r: Reading, x: View, kind: str, *arguments: Any) -> View:
    """A layer that computes number by number."""
    return x.on(r.emit(kind, arguments, x.value))


def plain(kind: str, *arguments: Any) -> Callable[[Reading], View]:
    """A reader of an operator that is a layer, always with the same arguments."""
    return lambda r: each(r, r.view(), kind, *arguments)


def dropout(r: Reading) -> View:
    """Left out, as in inference."""
    mode = r.maybe(2)
    if mode is not None and bool(np.all(mode)):
        raise Unreadable("training_mode is true; expected inference")
    return r.view()


def cast(r: Reading) -> View:
    """To float32, which everything is."""
    if r.node.get("to") != 1:
        raise Unreadable(f"it casts to type {r.node.get('to')}; expected float32 (1)")
    return r.view()


def leaky_relu(r: Reading) -> View:
    """LeakyRelu."""
    return each(r, r.view(), "LeakyReLU", r.node.get("alpha", 0.01))


def elu(r: Reading) -> View:
    """Elu."""
    return each(r, r.view(), "ELU", r.node.get("alpha", 1.0))


def celu(r: Reading) -> View:
    """Celu: alpha * elu(x / alpha)."""
    alpha = r.node.get("alpha", 1.0)
    return affine(r, each(r, affine(r, r.view(), 1 / alpha, 0.0), "ELU", 1.0), alpha, 0.0)


def selu(r: Reading) -> View:
    """Selu: gamma * elu(x)."""
    alpha = r.node.get("alpha", 1.67326319217681884765625)
    gamma = r.node.get("gamma", 1.05070102214813232421875)
    return affine(r, each(r, r.view(), "ELU", alpha), gamma, 0.0)


def hard_sigmoid(r: Reading) -> View:
    """HardSigmoid: max(0, min(1, alpha x + beta))."""
    return each(r, r.view(), "Hardsigmoid", r.node.get("alpha", 0.2), r.node.get("beta", 0.5))


def gelu(r: Reading) -> View:
    """Gelu."""
    return each(r, r.view(), "GELU", r.node.get("approximate", "none"))


def clip(r: Reading) -> View:
    """Clip, with its bounds as attributes (opset 6) or inputs."""
    if r.opset < 11:
        low, high = r.node.get("min", -math.inf), r.node.get("max", math.inf)
    else:
        bounds = r.maybe(1), r.maybe(2)
        low = -math.inf if bounds[0] is None else float(bounds[0].reshape(-1)[0])
        high = math.inf if bounds[1] is None else float(bounds[1].reshape(-1)[0])
    return clipped(r, r.view(), low, high)


def clipped(r: Reading, x: View, low: float, high: float) -> View:
    """min(max(x, low), high)."""
    if low <= -3.4e38 and high >= 3.4e38:
        return x
    if low == 0 and high >= 3.4e38:
        return each(r, x, "ReLU")
    if (low, high) == (0, 6):
        return each(r, x, "ReLU6")
    return each(r, x, "Clip", low, min(high, math.inf))


def extreme(r: Reading) -> Any:
    """Max, Min: Clip where one is a number, else b + relu(a - b) and b - relu(b - a)."""
    y = r.tensor(0)
    for i in range(1, len(r.node.inputs)):
        y = _larger(r, y, r.tensor(i)) if r.node.operator == "Max" else _smaller(r, y, r.tensor(i))
    return y


def _larger(r: Reading, a: Any, b: Any) -> Any:
    for x, number in ((a, b), (b, a)):
        if isinstance(x, View) and isinstance(number, np.ndarray) and number.size == 1:
            return padded(clipped(r, x, float(number.reshape(-1)[0]), math.inf), number.ndim)
    return combine(r, "Add", b, each(r, combine(r, "Sub", a, b), "ReLU"))


def _smaller(r: Reading, a: Any, b: Any) -> Any:
    for x, number in ((a, b), (b, a)):
        if isinstance(x, View) and isinstance(number, np.ndarray) and number.size == 1:
            return padded(clipped(r, x, -math.inf, float(number.reshape(-1)[0])), number.ndim)
    return combine(r, "Sub", b, each(r, combine(r, "Sub", b, a), "ReLU"))


def prelu(r: Reading) -> View:
    """PRelu with one slope, or one a channel; of other slopes relu(x) + slope (x - relu(x))."""
    x, slope = r.view(), r.floats(1)
    if slope.size > 1:
        array = placed(x, slope)
        if array is None or array.size != array.shape[-1]:
            positive = each(r, x, "ReLU")
            below = combine(r, "Mul", combine(r, "Sub", x, positive), slope)
            return combine(r, "Add", positive, below)  # type: ignore[no-any-return]
        slope = array
    layer = r.filled("PReLU", slope.size, arrays={"weight": slope.reshape(-1).copy()})
    return x.on(r.call(layer, x.value, like=r.node.inputs[1]))


def power(r: Reading) -> View:
    """Pow with a constant exponent."""
    exponent = r.constant(1)
    if exponent.size != 1:
        raise Unreadable(f"its exponent has shape {exponent.shape}; expected one number")
    return raised(r, r.view(), float(exponent.reshape(-1)[0]))


def raised(r: Reading, x: View, exponent: float) -> View:
    """X ** exponent."""
    if exponent == 1:
        return x
    return each(r, x, "Sqrt") if exponent == 0.5 else each(r, x, "Power", exponent)


def reciprocal(r: Reading) -> View:
    """1 / x."""
    return raised(r, r.view(), -1.0)


def mish(r: Reading) -> Any:
    """Mish: x tanh(softplus(x))."""
    x = r.view()
    return combine(r, "Mul", x, each(r, each(r, x, "Softplus"), "Tanh"))


def softsign(r: Reading) -> Any:
    """Softsign: x / (1 + |x|)."""
    x = r.view()
    return combine(r, "Div", x, affine(r, each(r, x, "Abs"), 1.0, 1.0))


def negative(r: Reading) -> View:
    """-x."""
    return affine(r, r.view(), -1.0, 0.0)


# ---- two operands ----------------------------------------------------------------------------


def join(r: Reading) -> Any:
    """Add, Sub, Mul and Div, with broadcasting."""
    return combine(r, r.node.operator, r.tensor(0), r.tensor(1))


def total(r: Reading) -> Any:
    """Sum and Mean of any number of operands."""
    y = r.tensor(0)
    for i in range(1, len(r.node.inputs)):
        y = combine(r, "Add", y, r.tensor(i))
    if r.node.operator == "Mean" and len(r.node.inputs) > 1:
        y = affine(r, y, 1 / len(r.node.inputs), 0.0)
    return y


def expand(r: Reading) -> View:
    """Expand: the sum with zeros of that shape."""
    shape = r.whole(1)
    return grown(r, r.view(), shape)


def grown(r: Reading, x: View, shape: tuple[int, ...]) -> View:
    """x, repeated along axes of one number."""
    new = np.broadcast_shapes(x.shape, shape)
    if new == x.shape:
        return x
    small = [1 if n == x.batch and 0 in a else n for n, a in zip(
        new[::-1], [*x.axes[::-1], *((),) * len(new)], strict=False)][::-1]  # fmt: skip
    return combine(r, "Add", x, np.zeros(small, np.float32))  # type: ignore[no-any-return]


def combine(r: Reading, operator: str, a: Any, b: Any) -> Any:
    """A operator b, where each is a View or an array."""
    if isinstance(a, View) and isinstance(b, View):
        return _joined(r, operator, a, b)
    if isinstance(a, View):
        return _with_constant(r, operator, a, np.asarray(b), False)
    if isinstance(b, View):
        return _with_constant(r, operator, b, np.asarray(a), True)
    functions: dict[str, Any] = {
        "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide,
    }  # fmt: skip
    return functions[operator](a, b)


def _joined(r: Reading, operator: str, a: View, b: View) -> View:
    if a.axes == b.axes and a.value.full_shape == b.value.full_shape:
        return a.on(r.emit(JOINS[operator], (), a.value, b.value))
    order = common_order([a, b])
    rank = max(a.rank, b.rank)
    values = [r.arrange(padded(x, rank), order) for x in (a, b)]
    return from_order(r.emit(JOINS[operator], (), *values), order, rank, a.batch)


def padded(x: View, rank: int) -> View:
    """With axes of one number in front, as many as it lacks."""
    return x.with_axes(((),) * (rank - x.rank) + x.axes)


def common_order(xs: list[View]) -> list[int | None]:
    """An order of axes in which few of these tensors must be moved: that of the largest."""
    rank = max(x.rank for x in xs)
    largest = max(xs, key=lambda x: math.prod(x.shape))
    order = own_order(largest, rank)
    shapes = [padded(x, rank).shape for x in xs]
    needed = {i for shape in shapes for i, n in enumerate(shape) if n != 1}
    if order is None or not needed <= set(order):
        named = 0 in padded(largest, rank).axes[0]
        return default_order(rank, named)
    return order


def from_order(value: Any, order: list[int | None], rank: int, batch: int) -> View:
    """The tensor of `rank` axes whose axis order[i] is axis i of the value."""
    return View(value, [(order.index(o),) if o in order else () for o in range(rank)], batch)


def _with_constant(r: Reading, operator: str, x: View, c: Array, first: bool) -> View:
    rank = max(x.rank, c.ndim)
    if c.size == 1:
        y = _with_number(r, operator, x, float(c.reshape(-1)[0]), first)
        return padded(y, rank)
    if c.dtype != np.float32:
        raise Unreadable(f"its constant is {c.dtype}; expected float32")
    x = padded(x, rank)
    c = c.reshape((1,) * (rank - c.ndim) + c.shape)
    array = placed(x, c)
    if array is None:  # it is larger than x, or x has axes of several
        order = default_order(rank, 0 in x.axes[0]) if own_order(x, rank) is None else (
            common_order([x, x]))  # fmt: skip
        grown = [o for o in range(rank) if c.shape[o] != 1 and o not in order]
        if grown:
            order = default_order(rank, 0 in x.axes[0])
        x = from_order(r.arrange(x, order), order, rank, x.batch)
        array = placed(x, c, grow=True)
        if array is None:
            raise Unreadable(f"its constant has shape {c.shape}, which differs between images")
    if array.size == array.shape[-1] and x.value.full_shape[-1] == array.size:
        return _with_channels(r, operator, x, array.reshape(-1), first)
    layer = r.filled(
        "Combine", JOINS[operator].lower(), array.shape[1:], first,
        arrays={"weight": np.ascontiguousarray(array[0])},
    )  # fmt: skip
    i = 0 if first else 1
    name = r.node.inputs[i] if i < len(r.node.inputs) else ""
    return x.on(r.call(layer, x.value, like=name))


def placed(x: View, c: Array, grow: bool = False) -> Array | None:
    """A constant that broadcasts with x, with the axes of x's value.

    None where x is the smaller one (unless grow), or the constant differs from image to image.
    """
    c = c.reshape((1,) * (x.rank - c.ndim) + c.shape)
    split: list[int] = []
    where: list[int] = []
    extents: tuple[int, ...] = c.shape
    for axis, extent in zip(x.axes, extents, strict=True):
        atoms = [x.extent(a) for a in axis]
        if extent == 1:
            split += [1] * len(axis)
        elif extent == math.prod(atoms) and (0 not in axis or x.batch == 1):
            split += atoms
        elif grow and len(axis) == 1 and axis[0] != 0:
            split.append(extent)
        else:
            return None
        where += axis
    rest = [a for a in range(x.value.ndim) if a not in where]
    c = c.reshape(split + [1] * len(rest))
    order: list[int] = np.argsort(where + rest).tolist()
    placed_array: Array = c.transpose(order)
    return placed_array


def _with_number(r: Reading, operator: str, x: View, c: float, first: bool) -> View:
    if operator == "Add":
        return affine(r, x, 1.0, c)
    if operator == "Sub":
        return affine(r, x, -1.0, c) if first else affine(r, x, 1.0, -c)
    if operator == "Mul":
        return affine(r, x, c, 0.0)
    return affine(r, raised(r, x, -1.0), c, 0.0) if first else affine(r, x, 1 / c, 0.0)


def affine(r: Reading, x: View, scale: float, shift: float) -> View:
    """X * scale + shift; behind another one, one layer for both."""
    node = x.value.node
    if node is not None and type(node.operation).__name__ == "Affine" and r.once:
        before: Any = node.operation
        both = scale * before.scale, before.shift * scale + shift
        return x.on(r.emit("Affine", both, *node.inputs))
    return x if (scale, shift) == (1.0, 0.0) else each(r, x, "Affine", scale, shift)


def _with_channels(r: Reading, operator: str, x: View, c: Array, first: bool) -> View:
    """X with a number for each entry of its last axis: a bias, or a ChannelAffine."""
    if operator == "Add" and r.once:
        biased = with_bias(r, x, c)
        if biased is not None:
            return biased
    one, zero = np.ones_like(c), np.zeros_like(c)
    if operator == "Div" and first:
        x, operator = raised(r, x, -1.0), "Mul"
    if operator == "Div":
        operator, c = "Mul", 1 / c
    weight, bias = {
        "Add": (one, c), "Sub": (-one, c) if first else (one, -c), "Mul": (c, zero),
    }[operator]  # fmt: skip
    node, inputs = x.value.node, [x.value]
    before: Any = None if node is None else node.operation
    if type(before).__name__ == "ChannelAffine" and r.once:
        assert node is not None
        bias = before.bias.data * weight + bias
        weight, inputs = before.weight.data * weight, list(node.inputs)
    layer = r.filled("ChannelAffine", c.size, arrays={"weight": weight, "bias": bias})
    if inputs[0] is not x.value:
        r.rename(before, layer)
    names = [n for n in r.node.inputs if isinstance(r.tensors.get(n), np.ndarray)]
    return x.on(r.call(layer, *inputs, like=names[0] if names else ""))


def with_bias(r: Reading, x: View, bias: Array) -> View | None:
    """X + bias as the bias of the layer that made x, where that has none; bias: [channels]."""
    node = x.value.node
    layer: Any = None if node is None else node.operation
    if type(layer).__name__ not in ("Conv2d", "Linear") or layer.bias is not None:
        return None
    assert node is not None
    twin: Layer = copy.copy(layer)
    twin.bias = Parameter(np.ascontiguousarray(bias), "bias", decays=False)
    r.rename(layer, twin)
    return x.on(r.call(twin, *node.inputs))
