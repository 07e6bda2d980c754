"""An optimizer whose work and moments are cut over ranks (ZeRO, Rajbhandari and others 2020).

After the halvings of `exchange.Sum` each rank owns 1 / size of the gradients. It makes the step of
these numbers alone, and what travels back are the parameters. Optimizers work number by number, so
not a bit changes. The moments of other ranks' numbers are never touched, so they take no memory.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from pycnn.layers.parameter import Parameter
from pycnn.ops.arrays import Array
from pycnn.optim import Optimizer

if TYPE_CHECKING:
    from pycnn.ranks.gradients import Gradients

Piece = tuple[int, int, int]  # number of the parameter, [start, stop) of its flat data


class Shard:
    """Steps of an optimizer, each rank its part; `Trainer(shard_optimizer=True)` makes one."""

    def __init__(
        self, gradients: Gradients, optimizer: Optimizer, *, whole_gradients: bool
    ) -> None:
        """whole_gradients: all ranks need them, for their norm, so they travel back as well.

        Raises TypeError for an optimizer that does not update all parameters in one call.
        """
        if type(optimizer)._update_all is Optimizer._update_all:
            raise TypeError(
                f"Trainer: shard_optimizer=True with {type(optimizer).__name__}; expected SGD, "
                "Adam, AdamW or RMSprop, which work number by number."
            )
        self._gradients, self._optimizer, self._whole = gradients, optimizer, whole_gradients
        gradients.keeps_sums, gradients.halves_only = True, not whole_gradients
        self._cut: list[Piece] = []
        self._part: Optimizer | None = None  # the optimizer of this rank's pieces

    def step(self) -> None:
        """As `optimizer.step()`, after `ranks.reduce`: all parameters of all ranks have moved."""
        gradients, optimizer = self._gradients, self._optimizer
        cut = self._pieces()
        if self._part is None or cut != self._cut:
            self.gather()
            self._cut, self._part = cut, self._optimizer_of(cut)
        part = self._part
        part.lr, part.step_count = optimizer.lr, optimizer.step_count
        for piece, (i, start, stop) in zip(part.parameters, cut, strict=True):
            parameter = optimizer.parameters[i]
            gradient = parameter.grad if self._whole else gradients.sum_of(parameter)
            assert gradient is not None
            piece.grad = _flat(gradient)[start:stop]
        if cut:
            part.step()
        optimizer.step_count += 1
        self._exchange([parameter.data for parameter in optimizer.parameters])

    def gather(self) -> None:
        """The moments of all ranks, on all ranks, where the optimizer's state_dict reads them."""
        if self._part is not None:
            for moments in self._optimizer._moments.values():
                self._exchange(moments)

    def _pieces(self) -> list[Piece]:
        """What this rank owns of each of the optimizer's parameters."""
        cut = []
        for i, parameter in enumerate(self._optimizer.parameters):
            first, last = self._gradients.place_of(parameter)
            for start, stop in self._gradients.owned():
                low, high = max(start, first), min(stop, last)
                if low < high:
                    cut.append((i, low - first, high - first))
        return cut

    def _optimizer_of(self, cut: list[Piece]) -> Optimizer:
        """The same optimizer for views of the pieces, with views of their moments."""
        part = copy.copy(self._optimizer)
        whole = self._optimizer.parameters
        part.parameters = [
            Parameter(_flat(whole[i].data)[start:stop], whole[i].name, decays=whole[i].decays)
            for i, start, stop in cut
        ]
        part._moments = {
            name: [_flat(moments[i])[start:stop] for i, start, stop in cut]
            for name, moments in self._optimizer._moments.items()
        }
        return part

    def _exchange(self, arrays: list[Array]) -> None:
        """Every rank gets the pieces of `arrays` that the others own."""
        gradients, parameters = self._gradients, self._optimizer.parameters
        for i, start, stop in self._cut:
            _flat(gradients.sum_of(parameters[i]))[start:stop] = _flat(arrays[i])[start:stop]
        gradients.send_back()
        for parameter, array in zip(parameters, arrays, strict=True):
            np.copyto(array, gradients.sum_of(parameter))


def _flat(array: Array) -> Array:
    """A view."""
    return array.reshape(-1)
