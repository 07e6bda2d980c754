"""Where the branches of a network meet and part: arithmetic of two arrays, concat, split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.ops.activations import NONE, ActivationLike, parse
from pycnn.ops.arrays import LARGEST, Array, Result, contiguous, inputs, kind_of, number

_T = TypeVar("_T")


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


def concat(arrays: Sequence[npt.ArrayLike], out: Array | None = None) -> Array:
    """The arrays side by side along the last axis: [..., C1], [..., C2], ... -> [..., C1 + C2 ...].

    arrays: at least one, of one type, of the same axes but the last. Raises ValueError for shapes
    that do not fit, TypeError for types.
    """
    op = "concat"
    if not isinstance(arrays, (list, tuple)):
        raise TypeError(f"{op}: arrays is {kind_of(arrays)}; expected a list of NumPy arrays.")
    parts = [contiguous(array, op, f"arrays[{i}]") for i, array in enumerate(arrays)]
    shape = parts[0].shape[:-1] if parts and parts[0].ndim else ()
    width = sum(part.shape[-1] for part in parts if part.ndim)
    like = parts[0].dtype if parts else np.float32
    result = Result(out, (*shape, width), like, op, False)
    _pycnn.concat(result.array, parts)
    return result.finish()


def split(
    x: npt.ArrayLike, sizes: Sequence[int], out: Sequence[Array | None] | None = None
) -> list[Array | None]:
    """Cut the last axis of x into pieces of these sizes: the reverse of `concat`, its gradient.

    x: [..., C]; sizes: ints that add up to C. Returns a list of arrays [..., size], all new
    memory. out: a list of one array for each size, or None where a piece is not wanted: it is
    skipped, and None in the result. Raises ValueError for sizes and shapes that do not fit,
    TypeError for types.
    """
    op = "split"
    x_array = contiguous(x, op, "x")
    counts = [_size(size, i) for i, size in enumerate(_list(sizes, "sizes", "ints"))]
    wanted: list[Array | None]
    if out is None:
        axes = x_array.shape[:-1]
        wanted = [Result(None, (*axes, n), x_array.dtype, op, False).array for n in counts]
    else:
        wanted = list(_list(out, "out", "arrays or None"))
        for i, array in enumerate(wanted):
            if array is not None and not isinstance(array, np.ndarray):
                raise TypeError(
                    f"{op}: out[{i}] is {kind_of(array)}; expected a NumPy array, or None."
                )
    _pycnn.split(x_array, counts, wanted)
    return wanted


def _list(value: Sequence[_T], name: str, of: str) -> Sequence[_T]:
    if isinstance(value, (list, tuple)):
        return value
    raise TypeError(f"split: {name} is {kind_of(value)}; expected a list of {of}.")


def _size(value: int, i: int) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not whole or not 0 <= value <= LARGEST:
        raise ValueError(f"split: sizes[{i}] is {value!r}; expected an int from 0 to 2**31 - 1.")
    return int(value)
