"""Normalisation of each image by itself: layer, group and local response normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn._runtime.checks import is_finite
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.arguments import positive
from pycnn.layers.base import Keeps, Layer
from pycnn.layers.parameter import Parameter
from pycnn.ops import prepared
from pycnn.ops.arrays import Array, aligned_empty, number


class _OwnStatistics(Layer):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, with statistics of x, in eval mode too."""

    weight: Parameter
    gradient_in_place = 0

    def _prepare(self, channels: int, eps: float) -> None:
        self.eps = number(eps)
        if not 0 < self.eps < np.inf:
            self.refuse(f"eps is {eps!r}; expected a finite number above 0.")
        self.weight = Parameter(np.ones(channels, np.float32), "weight", decays=False)
        self.bias = Parameter(np.zeros(channels, np.float32), "bias", decays=False)

    @property
    def in_place(self) -> tuple[int, ...]:  # type: ignore[override]
        """In training backward reads x."""
        return () if self.training else (0,)

    def _expect_last(self, x: Shape, channels: int, name: str) -> None:
        if len(x) < 2 or x[-1] != channels:
            nchw = len(x) == 4 and x[1] == channels
            self.refuse(
                f"x has shape {x}; expected [N, ..., C] with C = {name} = {channels}"
                + (": for [N, C, H, W] write x.transpose(0, 2, 3, 1)." if nchw else ".")
            )


class LayerNorm(_OwnStatistics):
    """Each row of channels with mean 0 and variance 1, then scaled and shifted: [N, ..., C].

    y = (x - mean) / sqrt(var + eps) * weight + bias      (Ba, Kiros & Hinton 2016)

    mean and biased var are those of the last axis, for each row by itself, in training and in eval
    mode alike. normalized_shape: C, the size of the last axis. weight: [C], ones at first; bias:
    [C], zeros, or None with `bias=False`; weight decay skips both. Raises ValueError for arguments
    out of range.

    With n = (x - mean) / s, s = sqrt(var + eps) and g = dy * weight:
    dx = (g - mean(g) - n mean(g n)) / s, dweight = sum of dy n, dbias = sum of dy.
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-5, bias: bool = True) -> None:
        """The identity, but for the statistics."""
        super().__init__()
        self.normalized_shape = positive("LayerNorm", "normalized_shape", normalized_shape)
        self._prepare(self.normalized_shape, eps)
        if not bias:
            self.bias = None

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        self._expect_last(x, self.normalized_shape, "normalized_shape")
        return x

    def keeps(self, x: Shape) -> Keeps:
        """The mean and 1 / sqrt(var + eps) of each row."""
        return [((None, math.prod(x[1:-1]), 2), None)] if self.training else []

    def _bias(self) -> Array | None:
        return None if self.bias is None else self.bias.data

    def compute(self, x: Array, out: Array, *kept: Array) -> None:
        """The formula above."""
        rows = kept[0].reshape(-1, 2) if kept else None
        prepared.layer_norm(out, rows, x, self.weight.data, self._bias(), self.eps)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_layer_norm(to.x[0], to.y[0], self.weight.data, self._bias(), self.eps)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """All in one pass."""
        kept = saved[0].reshape(-1, 2)

        def run(dweight: Array, dbias: Array | None) -> None:
            prepared.layer_norm_backward(dx, dweight, dbias, dy, x, self.weight.data, kept)

        if self.bias is None:
            self.weight.add_gradient(lambda dw: run(dw, None))
        else:
            add_bias = self.bias.add_gradient
            self.weight.add_gradient(lambda dw: add_bias(lambda db: run(dw, db)))

    def _arguments(self) -> str:
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.normalized_shape}, eps={self.eps}{bias}"


class GroupNorm(_OwnStatistics):
    """Groups of channels of each image with mean 0 and variance 1: [N, ..., C], same shape.

    y = (x - mean) / sqrt(var + eps) * weight + bias      (Wu & He 2018)

    mean and biased var are those of num_channels / num_groups neighbouring channels over all pixels
    of one image, in training and in eval mode alike. With num_groups = num_channels it is instance
    normalisation (Ulyanov, Vedaldi & Lempitsky 2016). weight, bias: [C], ones and zeros at first;
    weight decay skips both. Raises ValueError for arguments out of range.
    """

    bias: Parameter

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        """The identity, but for the statistics."""
        super().__init__()
        self.num_groups = positive("GroupNorm", "num_groups", num_groups)
        self.num_channels = positive("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            self.refuse(
                f"num_groups is {num_groups} and num_channels {num_channels}; expected a divisor."
            )
        self._prepare(self.num_channels, eps)

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        self._expect_last(x, self.num_channels, "num_channels")
        if 0 in x[1:]:
            self.refuse(f"x has shape {x}; expected at least one pixel.")
        return x

    def keeps(self, x: Shape) -> Keeps:
        """The mean and 1 / sqrt(var + eps) of each group."""
        return [((None, self.num_groups, 2), None)] if self.training else []

    def compute(self, x: Array, out: Array, *kept: Array) -> None:
        """The formula above."""
        rows = kept[0] if kept else aligned_empty((len(x), self.num_groups, 2), x.dtype)
        vectors = self.weight.data, self.bias.data
        prepared.group_norm(out, rows, x, *vectors, self.num_groups, self.eps)

    def lower(self, to: Lowering) -> None:
        """One step."""
        vectors = self.weight.data, self.bias.data
        to.net.add_group_norm(to.x[0], to.y[0], *vectors, self.num_groups, self.eps)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """Through the statistics."""
        groups = self.num_groups

        def run(dweight: Array, dbias: Array) -> None:
            weight = self.weight.data
            prepared.group_norm_backward(dx, dweight, dbias, dy, x, weight, saved[0], groups)

        self.weight.add_gradient(lambda dw: self.bias.add_gradient(lambda db: run(dw, db)))

    def _arguments(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class LocalResponseNorm(Layer):
    """Each channel divided by what its neighbours give: [N, ..., C], same shape.

    y = x / (k + alpha / size * sum of x^2)^beta      (Krizhevsky, Sutskever & Hinton 2012)

    The sum is over the `size` channels from c - size // 2 on, of the same pixel; channels beyond
    the ends count as zeros: the same as in PyTorch, and for an odd size in ONNX. (The paper has no
    division by size.) alpha, beta, k: finite, 0 or more. Raises ValueError for others.
    """

    gradient_in_place = 0
    in_place = (0,)

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        """Keep the numbers."""
        super().__init__()
        self.size = positive("LocalResponseNorm", "size", size)
        for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
            if not is_finite(value) or value < 0:
                self.refuse(f"{name} is {value!r}; expected a finite number, 0 or more.")
        self.alpha, self.beta, self.k = float(alpha), float(beta), float(k)

    @property
    def _numbers(self) -> tuple[int, float, float, float]:
        return self.size, self.alpha, self.beta, self.k

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        if len(x) < 2 or x[-1] < 1:
            self.refuse(f"x has shape {x}; expected [N, ..., C] with at least one channel.")
        return x

    def compute(self, x: Array, out: Array) -> None:
        """The formula above."""
        prepared.response_norm(out, None, x, *self._numbers)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_response_norm(to.x[0], to.y[0], to.shapes[0][-1], *self._numbers)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: None) -> None:
        """Of the channel itself and through its neighbours."""
        if dx is not None:
            prepared.response_norm(dx, dy, x, *self._numbers)

    def _arguments(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
