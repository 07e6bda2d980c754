"""Dropout."""

from __future__ import annotations

import numpy as np

from pycnn import init, ops
from pycnn.graph.values import Shape
from pycnn.layers.base import Layer
from pycnn.layers.slot import CURRENT
from pycnn.ops.arrays import Array


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

    reads = ""
    in_place = (0,)
    gradient_in_place = 0

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | int | None = None) -> None:
        """Draw the seed."""
        super().__init__()
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
            self.refuse(f"p is {p!r}; expected a probability of dropping, 0 <= p < 1.")
        self.p = float(p)
        self.seed = int(init.generator(rng).integers(2**64, dtype=np.uint64))
        self._calls = 0

    @property
    def calls(self) -> int:
        """The training forwards so far."""
        return self._calls

    @calls.setter
    def calls(self, value: int) -> None:
        self._calls = value

    def is_identity(self) -> bool:
        """In eval mode."""
        return not self.training

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        return x

    def compute(self, x: Array, out: Array) -> int:
        """X * mask; returns the number of the mask."""
        slot = CURRENT.get()
        calls = self._calls if slot is None else slot.calls(self)
        ops.dropout(x, self.p, seed=self.seed, calls=calls, out=out)
        if slot is None:
            self._calls += 1
        return calls

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: int) -> None:
        """Dy * mask."""
        if dx is not None:
            ops.dropout(dy, self.p, seed=self.seed, calls=saved, out=dx)

    def own_rng_state(self) -> list[int]:
        """[seed, calls]."""
        return [self.seed, self._calls]

    def load_own_rng_state(self, state: list[int]) -> None:
        """Go on with this seed and number of calls."""
        self.seed, self._calls = state

    def _arguments(self) -> str:
        return f"p={self.p}"
