"""Where the branches of a network meet: arithmetic of two arrays."""

from __future__ import annotations

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn.ops.activations import NONE, ActivationLike, parse
from pycnn.ops.arrays import Array, Result, contiguous, inputs, number


def add(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    activation: ActivationLike = None,
    out: Array | None = None,
) -> Array:
    """Y = activation(a + b); activation: as in `conv2d`.

    a, b: of one shape and type, any rank. `out` may be a or b. The gradient of both is that of y,
    with relu `relu_backward(dy, y)`. Raises ValueError if the shapes differ or for another
    activation, TypeError for types.
    """
    return _combined("add", a, b, out, parse(activation, "add"))


def subtract(a: npt.ArrayLike, b: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = a - b; a, b: of one shape and type, any rank. `out` may be a or b.

    Raises ValueError if the shapes differ, TypeError for types.
    """
    return _combined("subtract", a, b, out)


def multiply(a: npt.ArrayLike, b: npt.ArrayLike, out: Array | None = None) -> Array:
    """Y = a * b, element by element; a, b: of one shape and type, any rank. `out` may be a or b.

    The gradients are multiply(dy, b) and multiply(dy, a). Raises ValueError if the shapes differ,
    TypeError for types.
    """
    return _combined("multiply", a, b, out)


def _combined(
    op: str,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    out: Array | None,
    activation: _pycnn.Activation = NONE,
) -> Array:
    left, right = inputs(op, a=a, b=b)
    result = Result(out, left.shape, left.dtype, op, False)
    _pycnn.combine(result.array, left, right, op, activation)
    return result.finish()


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
