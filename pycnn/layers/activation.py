"""Layers that treat each element by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init, ops
from pycnn.inference import Builder
from pycnn.layers.base import Layer
from pycnn.layers.memory import Place
from pycnn.layers.run import Shape
from pycnn.ops.arrays import Array


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

    p: at least 0 and below 1. rng: gives the layer its 64-bit `seed`, a np.random.Generator, an
    int that seeds a new one, or None for the package's own (see `pycnn.seed`). Layers of one shape
    with the same int draw the same masks. A mask is a function of `seed`, `calls` (the
    training forwards so far, counted by the layer) and the element's position, see `ops.dropout`:
    the same on every machine and for any thread count. Raises ValueError for another p.
    """

    _works_in_place = True

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | int | None = None) -> None:
        """Draw the seed."""
        super().__init__()
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
            self._refuse(f"p is {p!r}; expected a probability of dropping, 0 <= p < 1.")
        self.p = float(p)
        self.seed = int(init.generator(rng).integers(2**64, dtype=np.uint64))
        self.calls = 0

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        if not self.training:
            return x, None
        y, calls = self._output(x, place), self.calls
        ops.dropout(x, self.p, seed=self.seed, calls=calls, out=y)
        self.calls += 1
        return y, calls

    def _backward(self, dy: Array, calls: int, place: Place | None) -> Array | None:
        if place is None:
            return None
        dx = self._input_gradient(dy, place)
        ops.dropout(dy, self.p, seed=self.seed, calls=calls, out=dx)
        return dx

    def _own_rng_state(self) -> list[int]:
        return [self.seed, self.calls]

    def _load_own_rng_state(self, state: list[int]) -> None:
        self.seed, self.calls = state

    def _compile(self, net: Builder, x: Shape) -> None:
        pass  # in eval mode y is x

    def _is_view(self) -> bool:
        return not self.training

    def _output_shape(self, x: Shape) -> Shape:
        return x

    def _arguments(self) -> str:
        return f"p={self.p}"
