"""Dropout, of numbers and of whole channels."""

from __future__ import annotations

import numpy as np

from pycnn import init, ops
from pycnn._runtime.checks import is_real
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
        if not is_real(p, 0.0) or p >= 1:
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
        self._mask(x, calls, out)
        if slot is None:
            self._calls += 1
        return calls

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: int) -> None:
        """Dy * mask."""
        if dx is not None:
            self._mask(dy, saved, dx)

    def _mask(self, x: Array, calls: int, out: Array) -> None:
        ops.dropout(x, self.p, seed=self.seed, calls=calls, out=out)

    def own_rng_state(self) -> list[int]:
        """[seed, calls]."""
        return [self.seed, self._calls]

    def load_own_rng_state(self, state: list[int]) -> None:
        """Go on with this seed and number of calls."""
        self.seed, self._calls = state

    def _arguments(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """`Dropout` of whole channels: [N, H, W, C], one draw for each image and channel.

    Neighbouring pixels of a map are alike, so dropping some of them changes little. Tompson et al.
    2015, "Efficient object localization using convolutional networks"; PyTorch's Dropout2d. The
    mask of channel c of image n is that of element n * C + c, see `ops.dropout2d`.
    """

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        self.expect_axes(x, "[N, H, W, C]", "write Dropout for rows, x[None] for one image")
        return x

    def _mask(self, x: Array, calls: int, out: Array) -> None:
        ops.dropout2d(x, self.p, seed=self.seed, calls=calls, out=out)
