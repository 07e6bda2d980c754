"""Operators of compiled networks that begin with another convolution than Conv2d."""

from __future__ import annotations

from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.activation import Activation
from pycnn.layers.conv import Convolution
from pycnn.layers.fused import Fused
from pycnn.ops import prepared
from pycnn.ops.arrays import Array


class WithActivation(Fused):
    """A Conv1d or ConvTranspose2d and the activation behind it, of a compiled network."""

    def __init__(self, conv: Convolution, activation: Activation) -> None:
        """The convolution's parameters are used."""
        super().__init__(conv, activation)
        self.conv, self.function = conv, activation.fused

    def infer_shape(self, x: Shape) -> Shape:
        """That of the convolution."""
        return self.conv.infer_shape(x)  # type: ignore[no-any-return]

    def compute(self, x: Array, out: Array) -> None:
        """f(conv(x))."""
        self.conv.compute(x, out)
        prepared.activation(out, self.function, out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        self.conv.lower_with(to, self.function)
