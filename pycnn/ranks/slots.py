"""One part of a batch: what its user sees, and what layers ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn.ops.arrays import Array
from pycnn.ranks.tree import Slice

if TYPE_CHECKING:
    from pycnn.layers import Parameter
    from pycnn.ranks import Ranks


class Slot:
    """A part of a batch, of those that this rank computes.

    number: among all slots of the batch. rows: a slice, where it lies in the batch; here: the same
    in this rank's part of it (`Ranks.part`). mass: what its samples weigh, each 1 unless `weigh`
    says otherwise; weight: its share of that in the batch, by which the gradient of a mean over the
    slot becomes its part of the gradient of the batch's mean.
    """

    def __init__(
        self, ranks: Ranks, number: int, rows: Slice, first: int, mass: float, total: float
    ) -> None:
        """Of a batch that weighs `total`, of which this rank's samples begin at `first`."""
        self._ranks, self.number = ranks, number
        self._index = number - ranks._mine[0]
        self.leads = self._index == 0
        self.synchronised = ranks.sync_batch_norm
        self.runners = ranks._runners[number] if self.synchronised else {}
        self.state = LayerState(ranks.slots)
        self.numbers: tuple[float, ...] = ()
        self.rows = slice(*rows)
        self.here = slice(rows[0] - first, rows[1] - first)
        self.samples = rows[1] - rows[0]
        self.mass, self.weight = mass, mass / total if total else 0.0

    def scaled(self, dy: Array) -> Array:
        """The gradient of a mean over the slot, times `weight`; dy itself, if that is 1."""
        return dy if self.weight == 1 else dy * dy.dtype.type(self.weight)

    def note(self, *numbers: float) -> None:
        """Numbers that `reduce` adds up over all slots, in float64: as often as you like."""
        self.numbers += numbers

    # What layers ask for: see pycnn.layers.slot.

    def add_gradient(self, parameter: Parameter, write: Callable[[Array], object]) -> None:
        """Into the flat arrays of the tree."""
        self._ranks.gradients.add(parameter, write, self._index)

    def statistics(self, running: tuple[Array, Array], momentum: float) -> tuple[Array, Array]:
        """Zeros, which become momentum times the slot's own statistics."""
        return self.state.statistics(running, momentum)

    def total(self, rows: Array) -> Array:
        """Along the tree, as gradients."""
        found: Array = self._ranks._turns.meet(self._index, rows)
        return found

    def calls(self, layer: Any) -> int:
        """Masks are numbered by batch and slot, not by the calls in this process."""
        return self.state.calls(layer, self.number)


class LayerState:
    """What a slot does to layers: running statistics, numbers of masks."""

    def __init__(self, slots: int) -> None:
        """slots: of a whole batch."""
        self._slots = slots
        self.moved: list[tuple[tuple[Array, Array], float, tuple[Array, Array]]] = []
        self.drawn: dict[int, tuple[Any, int]] = {}  # layers that drew, how often

    def statistics(self, running: tuple[Array, Array], momentum: float) -> tuple[Array, Array]:
        """Zeros, to be kept for `finish`."""
        moved = np.zeros_like(running[0]), np.zeros_like(running[1])
        self.moved.append((running, momentum, moved))
        return moved

    def calls(self, layer: Any, number: int) -> int:
        """The number of the mask that a layer draws now, in the slot of this number."""
        count = self.drawn.get(id(layer), (layer, 0))[1]
        self.drawn[id(layer)] = layer, count + 1
        return int(layer.calls) + count * self._slots + number

    def counts(self) -> list[int]:
        """How often normalisation moved and masks were drawn."""
        return [len(self.moved), sum(count for _, count in self.drawn.values())]


def finish(states: list[LayerState], slots: int, gather: Callable[[Array], Array]) -> None:
    """Move the running statistics one step a slot, in the order of slots; count the masks.

    states: of this rank's slots; gather: puts the rows of all ranks together.
    """
    for layer, count in states[-1].drawn.values():
        layer.calls += count * slots
    if not states[0].moved:
        return
    flat = [np.concatenate([v for one in state.moved for v in one[2]]) for state in states]
    for row in gather(np.stack(flat)):
        start = 0
        for running, momentum, _ in states[0].moved:
            for array in running:
                array *= array.dtype.type(1 - momentum)
                array += row[start : start + array.size]
                start += array.size
