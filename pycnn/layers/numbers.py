"""Layers of one input and numbers: scale and shift, powers, means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pycnn import ops
from pycnn._runtime.checks import is_finite, is_whole
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape
from pycnn.layers.base import Layer
from pycnn.ops import prepared
from pycnn.ops.arrays import Array


class Affine(Layer):
    """y = x * scale + shift, with two numbers. dx = dy * scale."""

    reads = ""
    in_place = (0,)
    gradient_in_place = 0

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        """Keep the numbers."""
        super().__init__()
        self.scale, self.shift = float(scale), float(shift)

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        return x

    def compute(self, x: Array, out: Array) -> None:
        """Out = x * scale + shift."""
        ops.affine(x, self.scale, self.shift, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_affine(to.x[0], to.y[0], self.scale, self.shift)

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: None) -> None:
        """Dy * scale."""
        if dx is not None:
            ops.affine(dy, self.scale, 0.0, out=dx)

    def _arguments(self) -> str:
        return f"scale={self.scale}, shift={self.shift}"


class Power(Layer):
    """y = x ** exponent, a number; any shape. dx = dy * exponent * x ** (exponent - 1).

    A negative x has a power only if the exponent is whole, else NaN (`ops.power`).
    """

    in_place = (0,)
    gradient_in_place = 0

    def __init__(self, exponent: float) -> None:
        """Keep the number."""
        super().__init__()
        if not is_finite(exponent):
            self.refuse(f"exponent is {exponent!r}; expected a finite number.")
        self.exponent = float(exponent)

    def infer_shape(self, x: Shape) -> Shape:
        """The shape of x."""
        return x

    def compute(self, x: Array, out: Array) -> None:
        """Out = x ** exponent."""
        ops.power(x, self.exponent, out=out)

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_power(to.x[0], to.y[0], self.exponent)

    def gradients(self, dy: Array, dx: Array | None, x: Array, y: None, saved: None) -> None:
        """Dy * exponent * x ** (exponent - 1)."""
        if dx is not None:
            ops.power_backward(dy, x, self.exponent, out=dx)

    def _arguments(self) -> str:
        return f"{self.exponent}"


class Mean(Layer):
    """Mean over some axes of an image, or one of them: [N, H, W, C] -> [N, C] for axes (1, 2).

    axes: counted with N, which is 0 and not among them; negative ones from the last. keepdims:
    whether they stay with extent 1. dx is dy / count at each element that was averaged.

    Raises ValueError for other axes.
    """

    reads = ""

    def __init__(self, axes: int | Sequence[int], keepdims: bool = False) -> None:
        """Keep the axes."""
        super().__init__()
        given = axes if isinstance(axes, (tuple, list)) else (axes,)
        if not given or not all(is_whole(axis) and axis for axis in given):
            self.refuse(f"axes is {axes!r}; expected whole numbers, none of them 0, which is N.")
        self.axes, self.keepdims = tuple(int(axis) for axis in given), bool(keepdims)

    def _kept(self, x: Shape) -> Shape:
        """The shape with ones."""
        averaged = {axis + len(x) if axis < 0 else axis for axis in self.axes}
        if len(averaged) < len(self.axes) or not averaged <= set(range(1, len(x))):
            self.refuse(f"x has shape {x}; expected axes {self.axes} of it, each once, and not N.")
        if 0 in x[1:]:
            self.refuse(f"x has shape {x}; expected at least one number to average.")
        return tuple(1 if axis in averaged else extent for axis, extent in enumerate(x))

    def infer_shape(self, x: Shape) -> Shape:
        """The other axes."""
        kept = self._kept(x)
        if self.keepdims:
            return kept
        averaged = {axis + len(x) if axis < 0 else axis for axis in self.axes}
        return tuple(extent for axis, extent in enumerate(x) if axis not in averaged)

    def _scale(self, x: Shape) -> float:
        return math.prod(self._kept(x)[1:]) / math.prod(x[1:])

    def compute(self, x: Array, out: Array) -> int:
        """The means; returns N."""
        whole = out.reshape(self._kept(x.shape))
        prepared.sum_to(x, "", None, self._scale(x.shape), whole)
        return len(x)

    def lower(self, to: Lowering) -> None:
        """One step."""
        x = to.shapes[0]
        to.net.add_sum_to(to.x[0], to.y[0], x[1:], self._kept(x)[1:], self._scale(x))

    def gradients(self, dy: Array, dx: Array | None, x: None, y: None, saved: int) -> None:
        """Each one's share."""
        if dx is not None:
            share = np.full(1, self._scale(dx.shape), dx.dtype)
            prepared.combine("multiply", dy.reshape(self._kept(dx.shape)), share, dx)

    def _arguments(self) -> str:
        axes = self.axes if len(self.axes) > 1 else self.axes[0]
        return f"{axes}" + (", keepdims=True" if self.keepdims else "")
