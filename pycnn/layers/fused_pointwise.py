"""A 1 x 1 convolution and the normalisation behind it, in training, as one operator."""

from __future__ import annotations

from typing import Any

from pycnn.graph.values import Shape
from pycnn.layers.activation import Activation
from pycnn.layers.base import Keeps
from pycnn.layers.conv import Conv2d
from pycnn.layers.fused import Fused
from pycnn.layers.norm import BatchNorm2d
from pycnn.ops import prepared
from pycnn.ops.activations import NONE
from pycnn.ops.arrays import Array


class PointwiseNorm(Fused):
    """A 1 x 1 Conv2d, a BatchNorm2d in training, and perhaps the activation behind them.

    The sums of the norm are taken while the map is in the cache, and backward multiplies the map's
    gradient there, so that it is never written (`ops.conv2d_norm`). Where the map is small beside
    the weights the operator runs the parts one by one.
    """

    def __init__(
        self, conv: Conv2d, norm: BatchNorm2d, activation: Activation | None = None
    ) -> None:
        """activation: None if there is none."""
        super().__init__(*(layer for layer in (conv, norm, activation) if layer is not None))
        self.conv, self.norm = conv, norm
        self.function = NONE if activation is None else activation.fused

    def infer_shape(self, x: Shape) -> Shape:
        """That of the convolution."""
        return self.norm.infer_shape(self.conv.infer_shape(x))

    def keeps(self, x: Shape) -> Keeps:
        """The map before the norm, and what the norm keeps."""
        map_ = self.infer_shape(x)
        return [((None, *map_[1:]), None), *self.norm.keeps(map_)]

    def compute(self, x: Array, out: Array, *saved: Array) -> None:
        """f(norm(conv(x)))."""
        (z, kept), conv, norm, f = saved, self.conv, self.norm, self.function
        norm.refuse_one_pixel(out.shape)
        kept[0], kept[1] = norm.weight.data, norm.bias.data
        running = norm.moving()
        arrays = x, conv.weight.data, conv.bias_data
        prepared.conv2d_norm(*arrays, kept, running, norm.momentum, norm.eps, f, (out, z))

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: Any) -> None:
        """Through the statistics; that of the convolution's bias is zero."""
        (z, kept), conv, norm, f = saved, self.conv, self.norm, self.function

        def run(dweight: Array, dgamma: Array, dbeta: Array) -> None:
            out = dx, dweight, dgamma, dbeta
            weight = conv.weight.data
            prepared.conv2d_norm_backward(dy, z, x, weight, kept, norm.eps, f, out)

        conv.weight.add_gradient(
            lambda dw: norm.weight.add_gradient(
                lambda dg: norm.bias.add_gradient(lambda db: run(dw, dg, db))
            )
        )
        if conv.bias is not None:
            conv.bias.add_gradient(lambda dbias: dbias.fill(0))

    def notes(self, x: Shape | None) -> str:
        """How it runs."""
        return "one operator"
