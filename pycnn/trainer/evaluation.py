"""Evaluation and prediction: a model's answers to one batch after the other, in eval mode.

Ranks take the batches in turn, and put what they found together in the order of the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pycnn import ops
from pycnn.ops.arrays import Array
from pycnn.trainer.data import no_bytes
from pycnn.trainer.loss import loss_of, says, weight_of
from pycnn.trainer.measures import Sums, add
from pycnn.trainer.targets import Batch

if TYPE_CHECKING:
    from pycnn.trainer import Trainer

Found = TypeVar("Found")


class Broken(Exception):
    """Ends an evaluation within fit, when `stop` was called."""


def each_batch(
    trainer: Trainer, parts: Iterable[Batch], look: Callable[[Array, Batch], Found]
) -> list[Found]:
    """What `look(outputs, batch)` finds in every batch, those of the other ranks included."""
    model, ranks = trainer.model, trainer.ranks
    how = model.normalization
    training = model.training
    model.eval()
    found = []
    count = 0
    try:
        for part in parts:
            if count == 0 and not trainer.any_scale:
                no_bytes(part.x, "x")
            if trainer.validating and trainer.stop_reason is not None:
                raise Broken
            if count % ranks.size == ranks.rank:
                x = ops.gather_images(part.x, np.arange(len(part)), mean=how.mean, std=how.std)
                found.append(look(model.forward(x), part))
            count += 1
    finally:
        if training:
            model.train()
    return ranks.collect(found, count)


def means(trainer: Trainer, parts: Iterable[Batch]) -> dict[str, float]:
    """{"loss", and the metrics}; sums in the order of batches, so of the same bits on any ranks."""
    measures = trainer.measures

    def look(outputs: Array, batch: Batch) -> tuple[float, float, Sums]:
        loss, _ = loss_of(trainer.loss_function, outputs, batch)
        weight = weight_of(trainer.loss_function, batch)
        return loss * weight, weight, measures.of(outputs, batch)

    totals: Sums = {}
    for loss, weight, sums in each_batch(trainer, parts, look):
        add(totals, loss, weight, sums)
    if not totals:
        raise ValueError("Trainer: data gave no batches; expected at least one.")
    measures.keep(totals)
    return measures.columns(totals)


def answers(trainer: Trainer, parts: Iterable[Batch], what: str, x: object) -> Array:
    """The loss's "answers" or "probabilities" of all samples; x: what was asked for."""
    tell: Callable[[Array], Array] = getattr(says(trainer.loss_function), what)
    found = each_batch(trainer, parts, lambda outputs, _: tell(outputs))
    if found:
        return np.concatenate(found)
    shape = trainer.outputs_of(x.shape[1:]) if isinstance(x, np.ndarray) else (0,)
    return tell(np.empty((0, *shape), np.float32))
