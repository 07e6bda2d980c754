"""The part of a batch that is computed right now, where `pycnn.ranks` has cut the batch.

Three things that layers do would depend on how a batch is cut: gradients add up, normalisation
moves its running statistics, and dropout counts its calls. So they ask for the slot.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from pycnn.ops.arrays import Array

if TYPE_CHECKING:
    from pycnn.layers.parameter import Parameter


class Slot(Protocol):
    """What a layer tells the slot.

    synchronised: whether normalisation takes the moments of the whole batch; then `runners` holds
    the slot's own runner of each root, because all slots are halfway through it at once.
    """

    leads: bool  # the first one of its process
    synchronised: bool
    runners: dict[int, Any]

    def add_gradient(self, parameter: Parameter, write: Callable[[Array], object]) -> None:
        """Add to this slot's gradient of the parameter: `Parameter.add_gradient`."""

    def statistics(self, running: tuple[Array, Array], momentum: float) -> tuple[Array, Array]:
        """Zeros to move instead of the running statistics, which all slots move in their order."""

    def total(self, rows: Array) -> Array:
        """The sum of these rows over all slots, in float64, when all slots have come this far."""

    def calls(self, layer: Any) -> int:
        """The number of this call of a layer that draws; moves `layer.calls` once a batch."""


CURRENT: ContextVar[Slot | None] = ContextVar("pycnn slot", default=None)
