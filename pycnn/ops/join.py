"""Where the branches of a network meet: arithmetic of two arrays."""

from __future__ import annotations

from collections.abc import Sequence

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.ops.activations import NONE, ActivationLike, parse
from pycnn.ops.arrays import LARGEST, Array, Result, contiguous, inputs, number


def add(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    activation: ActivationLike = None,
    out: Array | None = None,
) -> Array:
    """Y = activation(a + b); activation: as in `conv2d`.

    a, b: of one type; each may repeat along axes of the other, where it has extent 1 or, before its
    first axis, none, as in NumPy. `out` may be a or b, if that does not repeat. The gradients are
    `sum_to` of that of y, with relu of `relu_backward(dy, y)`. Raises ValueError for shapes that do
    not fit or for another activation, TypeError for types.
    """
    return _combined("add", a, b, out, parse(activation, "add"))


def subtract(a: npt.ArrayLike, b: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = a - b; a, b and `out` as in `add`. The gradients are `sum_to` of dy and of -dy."""
    return _combined("subtract", a, b, out)


def multiply(a: npt.ArrayLike, b: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = a * b, element by element; a, b and `out` as in `add`.

    The gradients are sum_to(dy, a.shape, op="multiply", other=b), and the same of the other.
    """
    return _combined("multiply", a, b, out)


def divide(a: npt.ArrayLike, b: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = a / b, element by element; a, b and `out` as in `add`.

    The gradients are sum_to(dy, a.shape, op="divide", other=b) and, with y,
    sum_to(dy * y, b.shape, op="divide", other=b, scale=-1).
    """
    return _combined("divide", a, b, out)


def _combined(
    op: str,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    out: Array | None,
    activation: _pycnn.Activation = NONE,
) -> Array:
    left, right = inputs(op, a=a, b=b)
    shape = broadcast(left.shape, right.shape)
    if shape is None:
        raise ValueError(
            f"{op}: b has shape {right.shape}; expected {left.shape} as a, or for each axis, "
            "counted from the last, the same extent, or 1 in one of them."
        )
    if isinstance(out, np.ndarray) and out.shape != shape:
        raise ValueError(f"{op}: out has shape {out.shape}; expected {shape}, that of a {op} b.")
    result = Result(out, shape, left.dtype, op, False)
    _pycnn.combine(result.array, left, right, op, activation)
    return result.finish()


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of what is made of arrays of these shapes, as in NumPy; None if they do not fit."""
    if a == b:
        return a
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    extents = [y if x == 1 else x if y in (1, x) else -1 for x, y in pairs]
    return None if -1 in extents else tuple(extents)


def sum_to(
    x: npt.ArrayLike,
    shape: Sequence[int],
    *,
    op: str = "multiply",
    other: npt.ArrayLike | None = None,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    """The sums of x over all axes along which `shape` has extent 1, times scale.

    shape: the axes of x, each with its extent or 1; missing first ones count as 1. other: an array
    that may repeat beside x; then it is x op other that is summed, with op "add", "subtract",
    "multiply" or "divide", without writing it. The order of a sum depends on shapes alone: the
    gradient of an operand that repeats, a mean (scale = 1 / count). Raises ValueError for shapes
    that do not fit or another op, TypeError for types.
    """
    name = "sum_to"
    array = contiguous(x, name, "x")
    right = None if other is None else contiguous(other, name, "other")
    given = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if not isinstance(shape, (tuple, list)) or not all(is_whole(n, 0, LARGEST) for n in given):
        raise ValueError(f"{name}: shape is {shape!r}; expected a tuple of sizes, as that of x.")
    if op not in ("add", "subtract", "multiply", "divide"):
        raise ValueError(
            f'{name}: op is {op!r}; expected "add", "subtract", "multiply" or "divide".'
        )
    if not abs(number(scale)) < np.inf:
        raise ValueError(f"{name}: scale is {scale!r}; expected a finite number.")
    if isinstance(out, np.ndarray) and out.shape != given:
        raise ValueError(f"{name}: out has shape {out.shape}; expected shape = {given}.")
    result = Result(out, given, array.dtype, name, False)
    whole = result.array.reshape((1,) * (array.ndim - len(given)) + given)
    _pycnn.sum_to(whole, array, op, right, number(scale))
    return result.finish()


def power(x: npt.ArrayLike, exponent: float, out: Array | None = None) -> Array:
    """Y = x ** exponent, a number; x: any shape. `out` may be x itself.

    As pow of C: x ** 0 is 1, and a negative x has a power only if the exponent is whole, else NaN;
    but 0.5 and -0.5 are roots, of which that of -inf is NaN. Raises ValueError for an exponent that
    is no finite number, TypeError for types.
    """
    op = "power"
    x_array = contiguous(x, op, "x")
    _check_exponent(op, exponent)
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    _pycnn.power(result.array, x_array, None, number(exponent), 1.0)
    return result.finish()


def power_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, exponent: float, out: Array | None = None
) -> Array:
    """Gradient of `power`: dx = dy * (exponent * x ** (exponent - 1)).

    dy, x: of one shape. `out` may be dy or x. Raises ValueError as `power`, and if the shapes
    differ.
    """
    op = "power_backward"
    dy_array, x_array = inputs(op, dy=dy, x=x)
    _check_exponent(op, exponent)
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    p = number(exponent)
    _pycnn.power(result.array, x_array, dy_array, p - 1, p)
    return result.finish()


def _check_exponent(op: str, exponent: float) -> None:
    if not abs(number(exponent)) < np.inf:
        raise ValueError(f"{op}: exponent is {exponent!r}; expected a finite number.")


def affine(x: npt.ArrayLike, scale: float, shift: float, out: Array | None = None) -> Array:
    """Y = x * scale + shift with two numbers, rounded to x's type; product and sum each round.

    x: any shape. `out` may be x itself. Raises ValueError for a scale or shift that is no finite
    number of x's type, TypeError for types.
    """
    op = "affine"
    x_array = contiguous(x, op, "x")
    largest = float(np.finfo(np.float64 if x_array.dtype == np.float64 else np.float32).max)
    for name, value in (("scale", scale), ("shift", shift)):
        if not abs(number(value)) <= largest:
            raise ValueError(f"{op}: {name} is {value!r}; expected a finite number of x's type.")
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    _pycnn.affine(result.array, x_array, number(scale), number(shift))
    return result.finish()
