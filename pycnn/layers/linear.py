"""The fully connected layer, and what brings images to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import init
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.arguments import positive
from pycnn.layers.base import Layer
from pycnn.layers.parameter import Parameter
from pycnn.ops import prepared
from pycnn.ops.activations import NONE, Activation
from pycnn.ops.arrays import Array


class Linear(Layer):
    """y = x @ weight + bias: [N, ..., in_features] -> [N, ..., out_features], at least two axes.

    weight: [in_features, out_features], He normal at first (`init.he_normal`); bias:
    [out_features], zero at first, or None with `bias=False`. rng: where the initial weights come
    from, a np.random.Generator, an int that seeds a new one, or None (see `Conv2d`).

    dweight = x^T @ dy, dbias = sum of dy over all rows, dx = dy @ weight^T, where the rows of x and
    dy are those of all axes but the last.
    """

    weight: Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        """Draw the weight, with a bias of zeros."""
        super().__init__()
        self.in_features = positive("Linear", "in_features", in_features)
        self.out_features = positive("Linear", "out_features", out_features)
        weight = init.he_normal((self.in_features, self.out_features), init.generator(rng))
        self.weight = Parameter(weight, "weight")
        self.bias = None
        if bias:
            self.bias = Parameter(np.zeros(self.out_features, np.float32), "bias", decays=False)

    @property
    def bias_data(self) -> Array | None:
        """The values of the bias, if there is one."""
        return None if self.bias is None else self.bias.data

    def compute(self, x: Array, out: Array) -> None:
        """Out = x @ weight + bias."""
        prepared.linear(_rows(x), self.weight.data, self.bias_data, _rows(out))

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.lower_with(to)

    def lower_with(self, to: Lowering, activation: Activation = NONE) -> None:
        """One step, with what stands behind it."""
        to.net.add_linear(to.x[0], to.y[0], self.weight.data, self.bias_data, activation)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """Three products and a sum."""
        x, dy = _rows(x), _rows(dy)
        self.weight.add_gradient(lambda out: prepared.matmul(x, dy, out, transpose_a=True))
        if self.bias is not None:
            self.bias.add_gradient(lambda out: prepared.sum_to(dy, "", None, 1.0, out[None]))
        if dx is not None:
            prepared.matmul(dy, self.weight.data, _rows(dx), transpose_b=True)

    def infer_shape(self, x: Shape) -> Shape:
        """[N, ..., in_features] -> [N, ..., out_features]."""
        if len(x) < 2 or x[-1] != self.in_features:
            axes = "[N, in_features]" if len(x) < 3 else "[N, ..., in_features]"
            flat = math.prod(x[1:]) == self.in_features and len(x) > 2
            self.refuse(
                f"x has shape {x}, {x[-1]} features in {axes}; "
                f"expected in_features = {self.in_features}"
                + (": put Flatten() before this layer for images." if flat else ".")
            )
        return (*x[:-1], self.out_features)

    def flop_per_image(self, input_shape: tuple[int | None, ...]) -> int:
        """2 * in_features * out_features, for each row."""
        return 2 * self.weight.data.size * math.prod(n or 1 for n in input_shape[1:-1])

    def _arguments(self) -> str:
        no_bias = ", bias=False" if self.bias is None else ""
        return f"{self.in_features}, {self.out_features}{no_bias}"


def _rows(x: Array) -> Array:
    """[..., C] as [rows, C], a view."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


class Flatten(Layer):
    """[N, H, W, C] -> [N, H * W * C], a view in memory order: element (h * W + w) * C + c.

    Any number of axes, at least two. (PyTorch's order, of [N, C, H, W], is another.)
    """

    reads = ""

    def is_view(self) -> bool:
        """Always."""
        return True

    def infer_shape(self, x: Shape) -> Shape:
        """[N, ...] -> [N, product of the others]."""
        if len(x) < 2:
            self.refuse(f"x has shape {x}; expected at least two axes, [N, ...].")
        return x[0], math.prod(x[1:])
