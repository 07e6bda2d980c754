"""Readers of products with constant matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn.onnx.read_elementwise import combine
from pycnn.onnx.reading import Reading
from pycnn.onnx.views import Unreadable, View, shown
from pycnn.ops.arrays import Array


def linear(r: Reading, x: View, weight: Array, bias: Array | None, like: str) -> View:
    """X @ weight + bias over the last axis; weight: [in, out]."""
    if weight.dtype != np.float32 or weight.ndim != 2:
        raise Unreadable(f"its weight is {weight.dtype} of shape {weight.shape}; expected float32")
    value, order, y = r.channels_last(x)
    if value.full_shape[-1] != len(weight):
        raise Unreadable(
            f"its weight has shape {weight.shape}, what it reads {shown(x)}; expected as many "
            "features in both"
        )
    rows = weight if order is None else weight[order]
    layer = r.filled(
        "Linear", *weight.shape, bias=bias is not None,
        arrays={"weight": rows, "bias": bias},
    )  # fmt: skip
    return y.on(r.call(layer, value, like=like))


def gemm(r: Reading) -> Any:
    """Gemm: alpha A B + beta C."""
    x, weight, c = r.view(), r.floats(1), r.tensor(2)
    if x.rank != 2 or weight.ndim != 2:
        raise Unreadable("expected two axes of both factors")
    alpha, beta = r.node.get("alpha", 1.0), r.node.get("beta", 1.0)
    if r.node.get("transA", 0):
        x = x.with_axes(x.axes[::-1])
    weight = weight.T if r.node.get("transB", 0) else weight
    weight = weight if alpha == 1 else (weight * np.float32(alpha)).astype(np.float32)
    bias = None
    if isinstance(c, np.ndarray) and (c.size == 1 or c.size == c.shape[-1] == weight.shape[1]):
        bias = np.broadcast_to(c.reshape(-1) * np.float32(beta), weight.shape[1:])
        bias, c = bias.astype(np.float32), None
    y = linear(r, x, weight, bias, r.node.inputs[1])
    if c is not None:
        y = combine(r, "Add", y, c if beta == 1 else combine(r, "Mul", c, np.float32(beta)))
    return y


def matmul(r: Reading) -> View:
    """MatMul of computed values with constant weights, from either side."""
    a, b = r.tensor(0), r.tensor(1)
    if isinstance(a, View) and isinstance(b, View):
        raise Unreadable("both factors are computed; expected one of constant weights")
    x, weight, left = (a, b, False) if isinstance(a, View) else (b, a, True)
    if weight.ndim > 2 and weight.size == math.prod(weight.shape[-2:]):
        weight = weight.reshape(weight.shape[-2:])
    if weight.ndim > 2:
        raise Unreadable(f"its constant has shape {weight.shape}; expected [in, out]")
    vector = weight.ndim == 1
    if vector:
        weight = weight[:, None]
    elif left:
        weight = weight.T
    if left and x.rank > 1:
        x = x.with_axes((*x.axes[:-2], x.axes[-1], x.axes[-2]))
    y = linear(r, x, weight, None, r.node.inputs[0 if left else 1])
    if vector:
        return y.with_axes(y.axes[:-1])
    return y.with_axes((*y.axes[:-2], y.axes[-1], y.axes[-2])) if left and x.rank > 1 else y
