"""The operators + - * / of values, of parameters and of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import ops
from pycnn._runtime.checks import is_number, is_whole
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape, Value
from pycnn.layers.base import Layer
from pycnn.layers.numbers import Affine, Power
from pycnn.layers.parameter import Parameter
from pycnn.ops import prepared
from pycnn.ops.activations import NONE, Activation
from pycnn.ops.arrays import Array, aligned_empty
from pycnn.ops.join import broadcast

Pair = tuple[Array, Array]
LETTERS = {2: "NC", 3: "NLC", 4: "NHWC"}  # of the axes, by their number


class _Binary(Layer):
    """y = a op b. An operand may repeat along axes of the other one, where its extent is 1."""

    op = ""
    reads = ""
    in_place = (0, 1)
    gradient_in_place = 0

    def infer_shape(self, x: tuple[Shape, Shape]) -> Shape:
        """Along each axis the larger extent."""
        if len(x) != 2 or not isinstance(x[0], tuple):
            self.refuse("expected two inputs.", TypeError)
        a, b = x
        said = f"the inputs have shapes {a} and {b}"
        if len(a) != len(b):
            less = min(len(a), len(b))
            ones = ", ".join(["N", *["1"] * (max(len(a), len(b)) - less), *"HWC"[4 - less :]])
            self.refuse(
                f"{said}; expected as many axes in both: [{ones}] for an input that repeats."
            )
        shape = broadcast(a, b)
        if shape is None or a[0] != b[0]:
            axis = next(
                i for i in range(len(a)) if a[i] != b[i] and (1 not in (a[i], b[i]) or not i)
            )
            name = LETTERS.get(len(a), "N" + "?" * len(a))[axis].replace("?", f"axis {axis}")
            self.refuse(
                f"{said}, {name} = {a[axis]} and {b[axis]}; expected the same, or 1 where one "
                "repeats, as [N, 1, 1, C] does beside [N, H, W, C]."
            )
        return shape

    def compute(self, x: Pair, out: Array) -> None:
        """Out = a op b."""
        prepared.combine(self.op, *x, out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.lower_with(to)

    def lower_with(self, to: Lowering, activation: Activation = NONE) -> None:
        """One step, with what stands behind it."""
        shapes = [shape[1:] for shape in (*to.shapes, self.infer_shape(tuple(to.shapes)))]  # type: ignore[arg-type]
        to.net.add_combine(*to.x, to.y[0], self.op, *shapes, activation)

    def gradients(self, dy: Array, dx: Any, x: Pair | None, y: None, saved: None) -> None:
        """The first may be dy itself, so it comes last."""
        gradients_of(self.op, dy, x or (dy, dy), (None, dx[1]))
        gradients_of(self.op, dy, x or (dy, dy), (dx[0], None))


class Add(_Binary):
    """y = a + b. da = db = dy, summed over the axes along which the operand repeats."""

    op = "add"


class Subtract(_Binary):
    """y = a - b. da = dy, db = -dy, summed as in `Add`."""

    op = "subtract"


class Multiply(_Binary):
    """y = a * b. da = dy * b, db = dy * a, summed as in `Add`: a gate [N, 1, 1, C] for example."""

    op = "multiply"
    reads = "x"


class Divide(_Binary):
    """y = a / b. da = dy / b, db = -dy * a / b^2, summed as in `Add`."""

    op = "divide"
    reads = "x"


def gradients_of(op: str, dy: Array, x: Pair, dx: tuple[Array | None, Array | None]) -> None:
    """Write those of the gradients of a op b that are wanted; da may be dy, if db is not."""
    (a, b), (da, db) = x, dx
    if op == "divide":
        if da is not None and da.shape == dy.shape:
            prepared.combine(op, dy, b, da)
            return
        part = aligned_empty(dy.shape, dy.dtype)
        prepared.combine(op, dy, b, part)
        if da is not None:
            _total(da, part)
        if db is not None:
            prepared.combine("multiply", part, a, part)
            _total(db, part, op, b, -1.0)
        return
    times = op == "multiply"
    if da is not None:
        _total(da, dy, op, b if times else None)
    if db is not None:
        _total(db, dy, op, a if times else None, -1.0 if op == "subtract" else 1.0)


def _total(
    to: Array, terms: Array, op: str = "", other: Array | None = None, scale: float = 1.0
) -> None:
    """To = scale * (terms, or terms op other), summed over the axes along which `to` has 1."""
    if to.shape != terms.shape:
        prepared.sum_to(terms, op, other, scale, to)
        return
    if other is not None:
        prepared.combine(op, terms, other, to)
        terms = to
    if scale != 1:
        ops.affine(terms, scale, 0.0, out=to)
    elif to is not terms:
        np.copyto(to, terms)


class Combine(Layer):
    """y = x op weight, with a trainable weight of one shape for all images; any x.

    op: "add", "subtract", "multiply" or "divide"; shape: of the weight, the last axes of an image,
    each with its extent or 1: (C,), (1,), (H, W, 1). reflected: y = weight op x. weight: at first
    what leaves x as it is, 0 or 1; weight decay skips it. In a forward of your own,
    `x * self.scale` with a `Parameter` makes this layer.

    Raises ValueError for another op or shape.
    """

    weight: Parameter
    in_place = (0,)
    gradient_in_place = 0

    def __init__(self, op: str, shape: Sequence[int], reflected: bool = False) -> None:
        """Zeros or ones."""
        super().__init__()
        if op not in ("add", "subtract", "multiply", "divide"):
            self.refuse(f'op is {op!r}; expected "add", "subtract", "multiply" or "divide".')
        right = isinstance(shape, (tuple, list)) and all(is_whole(n, 1) for n in shape)
        if not right:
            self.refuse(f"shape is {shape!r}; expected a tuple of whole numbers of at least 1.")
        self.op, self.shape, self.reflected = op, tuple(int(n) for n in shape), bool(reflected)
        start = np.ones if op in ("multiply", "divide") else np.zeros
        self.weight = Parameter(start(self.shape, np.float32), "weight", decays=False)

    @classmethod
    def of(cls, op: str, parameter: Parameter, reflected: bool) -> Combine:
        """The layer whose weight is this parameter."""
        layer = cls(op, parameter.data.shape, reflected)
        layer.weight = parameter
        return layer

    @property
    def reads(self) -> str:  # type: ignore[override]
        """Sums need no x."""
        return "x" if self.op in ("multiply", "divide") else ""

    def infer_shape(self, x: Shape) -> Shape:
        """Along each axis the larger extent."""
        shape = broadcast(x, self._whole(len(x)))
        if len(self.shape) > len(x) or (len(self.shape) == len(x) and self.shape[0] != 1):
            shape = None  # an extent of N
        if shape is None:
            self.refuse(
                f"x has shape {x} and the weight {self.shape}; expected the last axes of x without "
                "N, each with its extent or 1."
            )
        return shape

    def _whole(self, rank: int) -> Shape:
        return (1,) * (rank - len(self.shape)) + self.shape

    def _operands(self, x: Array) -> Pair:
        weight = self.weight.data.reshape(self._whole(x.ndim))
        return (weight, x) if self.reflected else (x, weight)

    def compute(self, x: Array, out: Array) -> None:
        """Out = x op weight."""
        prepared.combine(self.op, *self._operands(x), out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        x, weight = to.shapes[0][1:], self.shape[len(self.shape) == len(to.shapes[0]) :]
        given = [(to.x[0], x), (self.weight.data.reshape(weight), weight)]
        (a, a_shape), (b, b_shape) = reversed(given) if self.reflected else given
        y = self.infer_shape(to.shapes[0])[1:]
        to.net.add_combine(a, b, to.y[0], self.op, a_shape, b_shape, y, NONE)

    def gradients(self, dy: Array, dx: Array | None, x: Array | None, y: None, saved: None) -> None:
        """As of two arrays; dx may be dy, so it comes last."""
        operands = self._operands(dy if x is None else x)

        def both(part: Array | None, of_weight: Array | None) -> None:
            wanted = (of_weight, part) if self.reflected else (part, of_weight)
            gradients_of(self.op, dy, operands, wanted)

        self.weight.add_gradient(lambda out: both(None, out.reshape(self._whole(dy.ndim))))
        if dx is not None:
            both(dx, None)

    def _arguments(self) -> str:
        return f"{self.op!r}, {self.shape}" + (", reflected=True" if self.reflected else "")


# What + - * / make, in a model without a name of their own.
FUNCTIONS = Add, Affine, Combine, Divide, Multiply, Power, Subtract


def add(a: Any, b: Any) -> Any:
    """A + b, of values, arrays, or of a number or Parameter and a value; the same as `a + b`."""
    if not _one_is_value(a, b):
        return np.add(a, b)
    x, number = _apart(a, b)
    return _joined(Add, a, b) if number is None else Affine(1.0, number)(x)


def subtract(a: Any, b: Any) -> Any:
    """A - b, of what `add` takes; the same as `a - b`."""
    if not _one_is_value(a, b):
        return np.subtract(a, b)
    x, number = _apart(a, b)
    if number is None:
        return _joined(Subtract, a, b)
    return Affine(1.0, -number)(x) if x is a else Affine(-1.0, number)(x)


def multiply(a: Any, b: Any) -> Any:
    """A * b, of what `add` takes; the same as `a * b`."""
    if not _one_is_value(a, b):
        return np.multiply(a, b)
    x, number = _apart(a, b)
    return _joined(Multiply, a, b) if number is None else Affine(number)(x)


def divide(a: Any, b: Any) -> Any:
    """A / b, of what `add` takes; the same as `a / b`.

    By a number: the product with 1 / b; a number by a value: its product with the power -1.
    """
    if not _one_is_value(a, b):
        return np.divide(a, b)
    x, number = _apart(a, b)
    if number is None:
        return _joined(Divide, a, b)
    if x is b:
        return multiply(number, Power(-1.0)(b))
    if number == 0:
        raise ZeroDivisionError("a Value / 0; expected another number.")
    return Affine(1 / number)(x)


def _joined(kind: type[_Binary], a: Any, b: Any) -> Any:
    if isinstance(a, Parameter):
        return Combine.of(kind.op, a, True)(b)
    if isinstance(b, Parameter):
        return Combine.of(kind.op, b, False)(a)
    return kind()(a, b)


def _one_is_value(a: object, b: object) -> bool:
    return isinstance(a, Value) or isinstance(b, Value)


def _apart(a: Any, b: Any) -> tuple[Any, float | None]:
    """(the value, the number) where one operand is a number, else (_, None)."""
    for x, number in ((a, b), (b, a)):
        if is_number(number):
            return x, float(number)
    return a, None


Value.operators = {"add": add, "subtract": subtract, "multiply": multiply, "divide": divide}
