"""Operators of compiled networks that begin with another convolution than Conv2d."""

from __future__ import annotations

from pycnn import ops
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.activation import ReLU
from pycnn.layers.conv import Convolution
from pycnn.layers.fused import Fused
from pycnn.ops.arrays import Array


class WithRelu(Fused):
    """relu of a Conv1d or ConvTranspose2d, of a compiled network."""

    def __init__(self, conv: Convolution, relu: ReLU) -> None:
        """The convolution's parameters are used."""
        super().__init__(conv, relu)
        self.conv = conv

    def infer_shape(self, x: Shape) -> Shape:
        """That of the convolution."""
        return self.conv.infer_shape(x)  # type: ignore[no-any-return]

    def compute(self, x: Array, out: Array) -> None:
        """relu(conv(x))."""
        self.conv.compute(x, out)
        ops.relu(out, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.conv.lower_with(to, relu=True)
