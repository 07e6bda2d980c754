"""Where the branches of a network meet and part: arithmetic of two arrays, concat, split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import _pycnn
import numpy as np
import numpy.typing as npt

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
