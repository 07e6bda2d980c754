"""Layers of several inputs, and the operators + - * of values."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import ops
from pycnn._runtime.checks import is_number
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape, Value
from pycnn.layers.base import Layer
from pycnn.ops.activations import NONE
from pycnn.ops.arrays import Array

Pair = tuple[Array, Array]


class _Elementwise(Layer):
    reads = ""

    def infer_shape(self, x: tuple[Shape, Shape]) -> Shape:
        """The shape of both."""
        if len(x) != 2 or not isinstance(x[0], tuple):
            self.refuse("expected two inputs.", TypeError)
        a, b = x
        if a != b:
            self.refuse(f"the inputs have shapes {a} and {b}; expected the same.")
        return a


class Add(_Elementwise):
    """y = a + b, of one shape. da = db = dy."""

    in_place = (0, 1)
    gradient_in_place = 0

    def compute(self, x: Pair, out: Array) -> None:
        """Out = a + b."""
        ops.add(*x, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_add(to.x[0], to.x[1], to.y[0], NONE)

    def gradients(self, dy: Array, dx: Any, x: None, y: None, saved: None) -> None:
        """A copy of dy for each; the first may be dy itself, so it comes last."""
        for d in reversed(dx):
            if d is not None and d is not dy:
                np.copyto(d, dy)


class Subtract(_Elementwise):
    """y = a - b, of one shape. da = dy, db = -dy."""

    in_place = (0, 1)
    gradient_in_place = 0

    def compute(self, x: Pair, out: Array) -> None:
        """Out = a - b."""
        ops.subtract(*x, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_subtract(to.x[0], to.x[1], to.y[0])

    def gradients(self, dy: Array, dx: Any, x: None, y: None, saved: None) -> None:
        """The first may be dy itself, so it comes last."""
        da, db = dx
        if db is not None:
            ops.affine(dy, -1.0, 0.0, out=db)
        if da is not None and da is not dy:
            np.copyto(da, dy)


class Multiply(_Elementwise):
    """y = a * b, of one shape. da = dy * b, db = dy * a."""

    reads = "x"
    in_place = (0, 1)
    gradient_in_place = 0

    def compute(self, x: Pair, out: Array) -> None:
        """Out = a * b."""
        ops.multiply(*x, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_multiply(to.x[0], to.x[1], to.y[0])

    def gradients(self, dy: Array, dx: Any, x: Pair, y: None, saved: None) -> None:
        """The first may be dy itself, so it comes last."""
        da, db = dx
        if db is not None:
            ops.multiply(dy, x[0], out=db)
        if da is not None:
            ops.multiply(dy, x[1], out=da)


class Affine(Layer):
    """y = x * scale + shift, with two numbers. dx = dy * scale."""

    reads = ""
    in_place = (0,)
    gradient_in_place = 0

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        """Keep the numbers."""
        super().__init__()
        self.scale, self.shift = float(scale), float(shift)

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        return x

    def compute(self, x: Array, out: Array) -> None:
        """Out = x * scale + shift."""
        ops.affine(x, self.scale, self.shift, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_affine(to.x[0], to.y[0], self.scale, self.shift)

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: None) -> None:
        """Dy * scale."""
        if dx is not None:
            ops.affine(dy, self.scale, 0.0, out=dx)

    def _arguments(self) -> str:
        return f"scale={self.scale}, shift={self.shift}"


# What + - * and functions make, in a model without a name of their own.
FUNCTIONS = Add, Affine, Multiply, Subtract


def add(a: Any, b: Any) -> Any:
    """A + b, of values, arrays or a number and one of them; the same as `a + b`."""
    if _one_is_value(a, b):
        x, number = _apart(a, b)
        return Add()(a, b) if number is None else Affine(1.0, number)(x)
    return np.add(a, b)


def subtract(a: Any, b: Any) -> Any:
    """A - b, of values, arrays or a number and one of them; the same as `a - b`."""
    if _one_is_value(a, b):
        x, number = _apart(a, b)
        if number is None:
            return Subtract()(a, b)
        return Affine(1.0, -number)(x) if x is a else Affine(-1.0, number)(x)
    return np.subtract(a, b)


def multiply(a: Any, b: Any) -> Any:
    """A * b, of values, arrays or a number and one of them; the same as `a * b`."""
    if _one_is_value(a, b):
        x, number = _apart(a, b)
        return Multiply()(a, b) if number is None else Affine(number)(x)
    return np.multiply(a, b)


def _one_is_value(a: object, b: object) -> bool:
    return isinstance(a, Value) or isinstance(b, Value)


def _apart(a: Any, b: Any) -> tuple[Any, float | None]:
    """(the value, the number) where one operand is a number, else (_, None)."""
    for x, number in ((a, b), (b, a)):
        if is_number(number):
            return x, float(number)
    return a, None


Value.operators = {"add": add, "subtract": subtract, "multiply": multiply}
