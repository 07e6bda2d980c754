"""Normalisation of each image by itself: layer, group and local response normalisation."""

from __future__ import annotations

from typing import Any, NamedTuple

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.ops.arrays import LARGEST, Array, Result, contiguous, count, inputs, kind_of, number


class Normalised(NamedTuple):
    """What `layer_norm` and `group_norm` return: y, and the (mean, 1 / sqrt(var + eps)) kept."""

    y: Array
    kept: Array


class NormGradients(NamedTuple):
    """What their backward returns; dx is None without `input_gradient`."""

    dx: Array | None
    dweight: Array
    dbias: Array


def layer_norm(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    out: tuple[Array, Array] | None = None,
) -> Normalised:
    """Each row of channels with mean 0 and variance 1, then scaled and shifted.

    y = (x - mean) / sqrt(var + eps) * weight + bias, mean and biased var over the last axis.
    x: [N, ..., C]; weight, bias: [C]. Returns y, and kept [rows, 2], which backward needs. `out[0]`
    may be x itself. Raises ValueError for shapes that do not fit, TypeError for types.
    """
    op = "layer_norm"
    x_array, w_array = inputs(op, x=x, weight=weight)
    b_array = None if bias is None else contiguous(bias, op, "bias")
    _check_eps(op, eps)
    y_out, kept_out = _two(op, out)
    rows = x_array.size // max(x_array.shape[-1], 1) if x_array.ndim else 0
    y = Result(y_out, x_array.shape, x_array.dtype, op, False)
    kept = Result(kept_out, (rows, 2), x_array.dtype, op, False)
    _pycnn.layer_norm(y.array, kept.array, x_array, w_array, b_array, number(eps))
    return Normalised(y.array, kept.array)


def layer_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    kept: npt.ArrayLike,
    *,
    out: tuple[Array, Array, Array] | None = None,
) -> NormGradients:
    """Gradients of `layer_norm`; kept: what it returned.

    With n = (x - mean) / s, s = sqrt(var + eps), g = dy * weight, and means over C:
    dx = (g - mean(g) - n mean(g n)) / s; dweight = sum of dy n, dbias = sum of dy over all rows.
    `out[0]` may be dy. Raises ValueError for shapes that do not fit, TypeError for types.
    """
    op = "layer_norm_backward"
    g, x_array, w, k = inputs(op, dy=dy, x=x, weight=weight, kept=kept)
    dx, dweight, dbias = _gradients(op, x_array, out)
    _pycnn.layer_norm_backward(dx, dweight, dbias, g, x_array, w, k)
    return NormGradients(dx, dweight, dbias)


def group_norm(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike,
    num_groups: int,
    *,
    eps: float = 1e-5,
    out: tuple[Array, Array] | None = None,
) -> Normalised:
    """Groups of channels of each image with mean 0 and variance 1, then scaled and shifted.

    As `layer_norm`, but mean and var are those of C / num_groups channels over all pixels of an
    image: with num_groups = C instance normalisation. x: [N, ..., C]; weight, bias: [C]. Returns y,
    and kept [N, num_groups, 2]. `out[0]` may be x itself. Raises ValueError for shapes or groups
    that do not fit, TypeError for types.
    """
    op = "group_norm"
    x_array, w, b = inputs(op, x=x, weight=weight, bias=bias)
    groups = count(num_groups, op, "num_groups")
    _check_eps(op, eps)
    y_out, kept_out = _two(op, out)
    y = Result(y_out, x_array.shape, x_array.dtype, op, False)
    kept = Result(kept_out, (*x_array.shape[:1], groups, 2), x_array.dtype, op, False)
    _pycnn.group_norm(y.array, kept.array, x_array, w, b, groups, number(eps))
    return Normalised(y.array, kept.array)


def group_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    kept: npt.ArrayLike,
    num_groups: int,
    *,
    out: tuple[Array, Array, Array] | None = None,
) -> NormGradients:
    """Gradients of `group_norm`: those of `layer_norm_backward`, with means over the group."""
    op = "group_norm_backward"
    g, x_array, w, k = inputs(op, dy=dy, x=x, weight=weight, kept=kept)
    groups = count(num_groups, op, "num_groups")
    dx, dweight, dbias = _gradients(op, x_array, out)
    _pycnn.group_norm_backward(dx, dweight, dbias, g, x_array, w, k, groups)
    return NormGradients(dx, dweight, dbias)


def local_response_norm(
    x: npt.ArrayLike,
    size: int,
    *,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    out: Array | None = None,
) -> Array:
    """Each channel divided by what its neighbours give.

    y = x / (k + alpha / size * sum of x^2)^beta, the sum over the `size` channels that begin with
    c - size // 2; channels beyond the ends count as zeros. The same as in PyTorch, and for an odd
    size in ONNX. x: [N, ..., C]. `out` may be x itself. Raises ValueError for options out of range,
    TypeError for types.
    """
    op = "local_response_norm"
    x_array = contiguous(x, op, "x")
    options = _response(op, size, alpha, beta, k)
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    _pycnn.response_norm(result.array, None, x_array, *options)
    return result.finish()


def local_response_norm_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    size: int,
    *,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    out: Array | None = None,
) -> Array:
    """Gradient of `local_response_norm`, with its d = k + alpha / size * sum of x^2.

    dx = dy d^-beta - 2 alpha beta / size * x * sum of dy y / d over the windows that hold c. `out`
    may be dy itself.
    """
    op = "local_response_norm_backward"
    dy_array, x_array = inputs(op, dy=dy, x=x)
    options = _response(op, size, alpha, beta, k)
    result = Result(out, x_array.shape, x_array.dtype, op, False)
    _pycnn.response_norm(result.array, dy_array, x_array, *options)
    return result.finish()


def _response(op: str, size: int, alpha: float, beta: float, k: float) -> tuple[Any, ...]:
    if not is_whole(size, 1, LARGEST):
        raise ValueError(f"{op}: size is {size!r}; expected an int from 1 to 2**31 - 1.")
    for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        if not 0 <= number(value) < np.inf:
            raise ValueError(f"{op}: {name} is {value!r}; expected a finite number, 0 or more.")
    return int(size), number(alpha), number(beta), number(k)


def _check_eps(op: str, eps: float) -> None:
    if not 0 < number(eps) < np.inf:
        raise ValueError(f"{op}: eps is {eps!r}; expected a finite number above 0.")


def _two(op: str, out: Any) -> tuple[Any, Any]:
    if out is None:
        return None, None
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"{op}: out is {kind_of(out)}; expected a tuple (y, kept).")
    return out[0], out[1]


def _gradients(op: str, x: Array, out: Any) -> tuple[Any, Any, Any]:
    if out is None:
        C = x.shape[-1:]
        return tuple(  # type: ignore[return-value]
            Result(None, shape, x.dtype, op, False).array for shape in (x.shape, C, C)
        )
    if not isinstance(out, (tuple, list)) or len(out) != 3:
        raise TypeError(f"{op}: out is {kind_of(out)}; expected a tuple (dx, dweight, dbias).")
    for i, array in enumerate(out):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{op}: out[{i}] is {kind_of(array)}; expected a NumPy array.")
    return tuple(out)
