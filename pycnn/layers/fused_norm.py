"""Normalisation and what stands beside it as one operator; `patterns.py` says when."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.activation import Activation
from pycnn.layers.arithmetic import Add
from pycnn.layers.base import Keeps, Layer
from pycnn.layers.conv import Conv2d
from pycnn.layers.fused import Fused
from pycnn.layers.norm import BatchNorm, BatchNorm2d, Channelwise
from pycnn.ops import prepared
from pycnn.ops.activations import NONE
from pycnn.ops.arrays import Array, aligned_empty


class NormActivation(Fused):
    """A batch norm and the activation behind it, as one pass over the map in each direction.

    y = f((x - mean) / sqrt(var + eps) * weight + bias); backward computes what f got again.
    """

    gradient_in_place = 0

    def __init__(self, norm: BatchNorm, activation: Activation) -> None:
        """The parameters and statistics of the norm are used."""
        super().__init__(norm, activation)
        self.norm, self.function = norm, activation.fused

    @property
    def in_place(self) -> tuple[int, ...]:  # type: ignore[override]
        """As the norm."""
        return tuple(self.norm.in_place)

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        places: tuple[int, ...] = self.norm.in_place
        return places

    def keeps(self, x: Shape) -> Keeps:
        """What the norm keeps."""
        return self.norm.keeps(x)

    def compute(self, x: Array, out: Array, *kept: Array) -> None:
        """f(norm(x))."""
        self.norm.normalise(x, out, *kept, function=self.function)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.norm.lower_with(to, self.function)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """Through the statistics, of dy * f'."""
        self.norm.add_gradients(dy, dx, x, saved[0], function=self.function)

    def notes(self, x: Shape | None) -> str:
        """How it runs."""
        return "one pass"


class NormAdd(Fused):
    """The end of a residual: f(norm(x) + r), in one pass forward and two backward.

    In training where the gradient of f follows from y.
    """

    reads = "xy"
    gradient_in_place = 1  # dr = dy * f', which dx is computed from

    def __init__(self, norm: BatchNorm2d, add: Add, activation: Activation) -> None:
        """The parameters and statistics of the norm are used."""
        super().__init__(norm, add, activation)
        self.norm, self.function = norm, activation.fused

    @property
    def in_place(self) -> tuple[int, ...]:  # type: ignore[override]
        """The residual's memory, and in eval mode that of x."""
        return (0, 1) if not self.training else (1,)

    def infer_shape(self, x: tuple[Shape, Shape]) -> Shape:
        """The shape of x."""
        return self.norm.infer_shape(x[0])

    def keeps(self, x: tuple[Shape, Shape]) -> Keeps:
        """What the norm keeps."""
        return self.norm.keeps(x[0])

    def compute(self, x: tuple[Array, Array], out: Array, *kept: Array) -> None:
        """f(norm(x) + r)."""
        self.norm.normalise(x[0], out, *kept, function=self.function, residual=x[1])

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.norm.lower_with(to, self.function, residual=to.x[1])

    def gradients(self, dy: Array, dx: Any, x: Any, y: Array, saved: Any) -> None:
        """Of x and of the residual."""
        d, dr = dx
        if dr is None:
            dr = aligned_empty(dy.shape, dy.dtype)
        given = {"function": self.function, "y": y, "residual_gradient": dr}
        self.norm.add_gradients(dy, d, x[0], saved[0], **given)

    def notes(self, x: Any) -> str:
        """How it runs."""
        return "one pass"


class ConvNorm(Fused):
    """A Conv2d, a BatchNorm2d in eval mode, and perhaps an Add and an activation behind them.

    The norm's scale and shift go into the convolution's weights anew in each call, since training
    may change both in between; where the map is small beside the weights the two run one by one.
    """

    reads = ""

    def __init__(self, conv: Conv2d, norm: BatchNorm2d, *more: Layer) -> None:
        """more: an Add, an activation, both or none."""
        super().__init__(conv, norm, *more)
        self.conv, self.norm = conv, norm
        functions = [layer.fused for layer in more if isinstance(layer, Activation)]
        self.function = functions[0] if functions else NONE
        self.adds = any(isinstance(layer, Add) for layer in more)

    def infer_shape(self, x: Any) -> Shape:
        """That of the convolution."""
        return self.norm.infer_shape(self.conv.infer_shape(x[0] if self.adds else x))

    def compute(self, x: Any, out: Array) -> None:
        """f(norm(conv(x)) + r)."""
        x, residual = x if self.adds else (x, None)
        conv = self.conv
        if out.size < FOLD_FROM * conv.weight.data.size:
            prepared.conv2d(x, conv.weight.data, conv.bias_data, conv.options, out)
            self.norm.normalise(out, out, function=self.function, residual=residual)
            return
        weight, bias = folded(conv, self.norm)
        f = self.function
        prepared.conv2d(x, weight, bias, conv.options, out, activation=f, residual=residual)

    def notes(self, x: Any) -> str:
        """The algorithms."""
        x = x[0] if self.adds and x else x
        return ", ".join(filter(None, ("one operator", self.conv.notes(x))))


# Numbers of the map for each of the weights, from which folding pays. Zen 3, two threads, time one
# by one / folded at 0.3, 0.7, 1.4, 7, 7, 68 and 711: 0.65, 0.80, 1.00, 0.95, 1.17, 1.08, 1.04.
FOLD_FROM = 8


def folded(conv: Conv2d, norm: Channelwise) -> tuple[Array, Array]:
    """(weight, bias) of the one convolution that norm(conv(x)) is in eval mode.

    w' = w * s, b' = shift + b * s, with the norm's s = weight / sqrt(var + eps) and
    shift = bias - mean * s.
    """
    scale, shift = norm.folded()
    if conv.bias is not None:
        shift = shift + conv.bias.data * scale
    return conv.weight.data * scale.astype(np.float32), shift.astype(np.float32)
