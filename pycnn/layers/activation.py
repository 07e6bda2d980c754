"""Layers that treat each element by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init, ops
from pycnn._arrays import Array
from pycnn.inference import Builder
from pycnn.layers.base import Layer
from pycnn.layers.memory import Place
from pycnn.layers.run import Shape


class ReLU(Layer):
    """y = max(x, 0), any shape; NaN stays NaN. dx = dy where x > 0, else 0."""

    _works_in_place = True

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        y = self._output(x, place)
        ops.relu(x, out=y)
        return y, x  # x > 0 exactly where y > 0; in place they are the same array

    def _backward(self, dy: Array, x: Array, place: Place | None) -> Array | None:
        if place is None:
            return None
        dx = self._input_gradient(dy, place)
        ops.relu_backward(dy, x, out=dx)
        return dx

    def _compile(self, net: Builder, x: Shape) -> None:
        net.relu()

    def _output_shape(self, x: Shape) -> Shape:
        return x


class Dropout(Layer):
    """In training each element is kept with probability 1 - p and scaled; any shape.

    y = x * mask, mask = 1 / (1 - p) where a draw from [0, 1) is at least p, else 0; dx = dy * mask.
    The mean of y over the masks is x. In eval mode y is x itself.

    p: at least 0 and below 1. rng: the layer's own source of draws, a np.random.Generator, or an
    int that seeds a new one. Layers of one shape with the same seed draw the same masks: give each
    its own seed, or all of them one Generator. The draws have 24 bits and are only compared, so the
    masks are the same on every machine. Raises ValueError for another p.
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | int = 0) -> None:
        """Seed the source of draws."""
        super().__init__()
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
            self._refuse(f"p is {p!r}; expected a probability of dropping, 0 <= p < 1.")
        self.p = float(p)
        self.rng = init.generator(rng)

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        if not self.training:
            return x, None
        draws = self._buffers.get("draws", x.shape, np.float32)
        keep = self._buffers.get("keep", x.shape, np.bool_)
        self.rng.random(dtype=np.float32, out=draws)
        np.greater_equal(draws, np.float32(self.p), out=keep)
        return self._masked(x, keep, self._output(x, place)), keep

    def _backward(self, dy: Array, keep: Array, place: Place | None) -> Array | None:
        return None if place is None else self._masked(dy, keep, self._input_gradient(dy, place))

    def _masked(self, a: Array, keep: Array, out: Array) -> Array:
        np.multiply(a, keep, out=out)
        np.multiply(out, out.dtype.type(1 / (1 - self.p)), out=out)
        return out

    def _compile(self, net: Builder, x: Shape) -> None:
        pass  # in eval mode y is x

    def _is_view(self) -> bool:
        return not self.training

    def _output_shape(self, x: Shape) -> Shape:
        return x

    def _arguments(self) -> str:
        return f"p={self.p}"
