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
    """What a layer tells the slot."""

    def add_gradient(self, parameter: Parameter, write: Callable[[Array], object]) -> None:
        """Add to this slot's gradient of the parameter: `Parameter.add_gradient`."""

    def statistics(self, running: tuple[Array, Array], momentum: float) -> tuple[Array, Array]:
        """Zeros to move instead of the running statistics, which all slots move in their order."""

    def calls(self, layer: Any) -> int:
        """The number of this call of a layer that draws; moves `layer.calls` once a batch."""


CURRENT: ContextVar[Slot | None] = ContextVar("pycnn slot", default=None)
