"""Layers that treat each element by itself."""

from __future__ import annotations

from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.base import Layer
from pycnn.ops import prepared
from pycnn.ops.arrays import Array


class ReLU(Layer):
    """y = max(x, 0), any shape; NaN stays NaN. dx = dy where x > 0, else 0."""

    reads = "y"  # x > 0 exactly where y > 0
    in_place = (0,)
    gradient_in_place = 0

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        return x

    def compute(self, x: Array, out: Array) -> None:
        """Out = max(x, 0)."""
        prepared.relu(x, out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_relu(to.x[0], to.y[0])

    def gradients(self, dy: Array, dx: Array | None, x: None, y: Array, saved: None) -> None:
        """Dy where y > 0."""
        if dx is not None:
            prepared.relu_backward(dy, y, dx)
