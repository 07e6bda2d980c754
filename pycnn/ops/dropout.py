"""Dropout: numbers, or whole channels, that a hash of their position chooses."""

from __future__ import annotations

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.ops.arrays import Array, Result, contiguous, is_nchw, number
from pycnn.ops.join import multiply


def dropout(
    x: npt.ArrayLike, p: float = 0.5, *, seed: int, calls: int = 0, out: Array | None = None
) -> Array:
    """Y = x * mask: mask is 1 / (1 - p) where the element's draw is at least p, else 0.

    x: any shape; p: at least 0 and below 1; seed, calls: 0 to 2**64 - 1. A draw is 24 bits of a
    hash of (seed, calls, position in memory order): the same for any thread count and machine, and
    for float32 and float64. So the gradient is `dropout(dy, p, seed=seed, calls=calls)`. `out` may
    be x itself. Raises ValueError for options out of range, TypeError for types.
    """
    op = "dropout"
    x_array = contiguous(x, op, "x")
    draws = _checked(op, p, seed, calls)
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    _pycnn.dropout(result.array, x_array, *draws)
    return result.finish()


def dropout2d(
    x: npt.ArrayLike,
    p: float = 0.5,
    *,
    seed: int,
    calls: int = 0,
    data_format: str = "NHWC",
    out: Array | None = None,
) -> Array:
    """Y = x * mask, one draw for each image and channel: all pixels of it are kept, or none.

    x: [N, H, W, C]. Channel c of image n has the draw that `dropout` gives element n * C + c; so
    the gradient is `dropout2d(dy, p, seed=seed, calls=calls)`. The rest as in `dropout`.
    """
    op = "dropout2d"
    nchw = is_nchw(data_format, op)
    x_array = contiguous(x, op, "x")
    draws = _checked(op, p, seed, calls)
    axes = "[N, C, H, W]" if nchw else "[N, H, W, C]"
    if x_array.ndim != 4:
        raise ValueError(
            f"{op}: x has shape {x_array.shape}, {x_array.ndim} axes; expected 4: {axes}."
        )
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    target = ("out", result.array, x_array.shape, axes)
    _pycnn.check_move(op, [("x", x_array)], [target], True)
    N, C = x_array.shape[0], x_array.shape[1 if nchw else 3]
    mask = np.ones((N, C), x_array.dtype)
    _pycnn.dropout(mask, mask, *draws)
    multiply(x_array, mask.reshape((N, C, 1, 1) if nchw else (N, 1, 1, C)), out=result.array)
    return result.finish()


def _checked(op: str, p: float, seed: int, calls: int) -> tuple[float, int, int]:
    share = number(p)
    if not 0.0 <= share < 1.0:
        raise ValueError(f"{op}: p is {p!r}; expected a probability of dropping, 0 <= p < 1.")
    for name, value in (("seed", seed), ("calls", calls)):
        if not is_whole(value, 0, 2**64 - 1):
            raise ValueError(f"{op}: {name} is {value!r}; expected an int from 0 to 2**64 - 1.")
    return share, int(seed), int(calls)
