"""Concat and split: where branches meet side by side, and part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import ops
from pycnn.graph.compile import Lowering
from pycnn.graph.values import Shape, Value
from pycnn.layers import arithmetic
from pycnn.layers.base import Layer
from pycnn.ops.arrays import Array


class Concat(Layer):
    """Values side by side along their last axis, the channels: [..., C1], [..., C2] -> [..., sum].

    dx: the parts of dy.
    """

    reads = ""

    def infer_shape(self, x: tuple[Shape, ...]) -> Shape:
        """All axes but the last are the same."""
        shapes = x if isinstance(x[0], tuple) else (x,)
        first = shapes[0]
        for i, shape in enumerate(shapes):
            if len(shape) < 2 or shape[:-1] != first[:-1]:
                self.refuse(
                    f"input {i} has shape {shape}, input 0 {first}; expected the same but for the "
                    "last axis, the channels."
                )
        return (*first[:-1], sum(shape[-1] for shape in shapes))

    def compute(self, x: tuple[Array, ...], out: Array) -> list[int]:
        """Copy each to its channels; returns how many each has."""
        ops.concat(list(x), out=out)
        return [part.shape[-1] for part in x]

    def lower(self, to: Lowering) -> None:
        """One step."""
        to.net.add_concat(to.x, to.y[0], [shape[-1] for shape in to.shapes])

    def gradients(self, dy: Array, dx: Any, x: None, y: None, saved: list[int]) -> None:
        """Copy the channels of each."""
        ops.split(dy, saved, out=list(dx))


class Split(Layer):
    """Parts of the last axis, the channels: [..., sum of sizes] -> a result for each size."""

    reads = ""

    def __init__(self, sizes: Sequence[int]) -> None:
        """sizes: channels of each part."""
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)
        self.results = len(self.sizes)
        if not self.sizes or min(self.sizes) < 1:
            self.refuse(f"sizes is {sizes!r}; expected whole numbers of at least 1.")

    def infer_shape(self, x: Shape) -> Any:
        """A shape for each size."""
        if len(x) < 2 or x[-1] != sum(self.sizes):
            self.refuse(
                f"x has shape {x}; expected C = {sum(self.sizes)} channels, the sum of sizes = "
                f"{self.sizes}, in its last axis."
            )
        shapes = tuple((*x[:-1], size) for size in self.sizes)
        return shapes if self.results > 1 else shapes[0]

    def compute(self, x: Array, out: Any) -> None:
        """Copy the channels of each."""
        ops.split(x, self.sizes, out=list(out) if self.results > 1 else [out])

    def gradients(self, dy: Any, dx: Array | None, x: None, y: None, saved: None) -> None:
        """The gradients side by side."""
        if dx is not None:
            ops.concat(list(dy) if self.results > 1 else [dy], out=dx)

    def _arguments(self) -> str:
        return f"{self.sizes}"


# What operators and functions make, in a model without a name of their own.
FUNCTIONS = *arithmetic.FUNCTIONS, Concat, Split


def concat(xs: Sequence[Any]) -> Any:
    """Values (or arrays) side by side along their channels: [..., C1], [..., C2] -> [..., sum]."""
    if isinstance(xs, (Value, np.ndarray)) or not isinstance(xs, Sequence) or not xs:
        raise TypeError(
            f"concat: got {type(xs).__name__}; expected a list of values: concat([a, b])."
        )
    if any(isinstance(x, Value) for x in xs):
        return xs[0] if len(xs) == 1 else Concat()(*xs)
    return ops.concat(list(xs))


def split(x: Any, sizes: Sequence[int]) -> Any:
    """Parts of the channels of a value or an array: [..., sum of sizes] -> a tuple of parts."""
    if isinstance(x, Value):
        parts = Split(sizes)(x)
        return parts if isinstance(parts, tuple) else (parts,)
    return tuple(ops.split(x, sizes))
