"""`Callback`: what a Trainer calls while it trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pycnn.ops.arrays import Array

if TYPE_CHECKING:
    from pycnn.trainer import Trainer


class Callback:
    """Define the methods that you need; the others do nothing.

    All get the `Trainer`: `trainer.model`, `.optimizer`, `.epoch` and `.step` (epochs, and steps
    of this epoch, that are finished), `.steps_done` (of all epochs), `.loss` (of the last step),
    `.history`; `trainer.stop("why")` ends the run after this step. Callbacks are called in their
    order in the list, but those that save the others' state (`saves`) come last.

        class LossList(Callback):
            def __init__(self):
                self.losses = []

            def on_step_end(self, trainer):
                self.losses.append(trainer.loss)
    """

    needs_validation = False  # True: fit refuses to begin without validation data
    first_rank_only = False  # True: of many ranks (MPI) only rank 0 calls it: what writes
    saves = False  # True: called after the others, whose state it writes down

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step of a run, or of the rest of a resumed one."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Before the first step of an epoch."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After the optimizer's step."""

    def on_evaluation_begin(self, trainer: Trainer) -> None:
        """Before data is evaluated; `on_evaluation_end` follows in any case."""

    def on_evaluation_end(self, trainer: Trainer, result: dict[str, float] | None) -> None:
        """After that: {"loss", "accuracy"}, or None if it was broken off."""

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """After an epoch and its validation, with the new row of the History."""

    def on_pause(self, trainer: Trainer) -> None:
        """After the last step of a run that is complete or was stopped: the time to save."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After that, in any case, an error as well: the time to close files.

        If one of these raises, those of the other callbacks are called all the same.
        """

    def settings(self) -> dict[str, Any]:
        """Arguments that decide the numbers of a run, JSON-able: a resumed run has the same.

        Asked for of callbacks with `load_state`.
        """
        return {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, JSON-able, so that a resumed run goes on the same way."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """The same for arrays."""
        return {}

    def load_state(self, state: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from `state()` and `arrays()`."""


def keeps_state(callback: Callback) -> bool:
    """Whether a resumed run, and every rank, must have it as it was; logs and limits may differ."""
    return type(callback).load_state is not Callback.load_state


def overridden(callbacks: Iterable[Callback], hook: str) -> list[Callable[..., None]]:
    """The methods of the callbacks that do something."""
    return [
        getattr(callback, hook)
        for callback in callbacks
        if getattr(type(callback), hook) is not getattr(Callback, hook)
    ]


def call_all(callbacks: Iterable[Callback], hook: str, *arguments: Any) -> None:
    """All of them in order, even if one raises; its error follows."""
    with contextlib.ExitStack() as stack:
        for method in reversed(overridden(callbacks, hook)):
            stack.callback(method, *arguments)
