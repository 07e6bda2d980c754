"""Evaluation and prediction: a model's answers to one batch after the other, in eval mode.

Ranks take the batches in turn, and put what they found together in the order of the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pycnn import ops
from pycnn.ops.arrays import Array
from pycnn.trainer.data import loss_of, no_bytes

if TYPE_CHECKING:
    from pycnn.trainer import Trainer

Found = TypeVar("Found")


class Broken(Exception):
    """Ends an evaluation within fit, when `stop` was called."""


def each_batch(
    trainer: Trainer,
    parts: Iterable[tuple[Array, Array | None]],
    look: Callable[[Array, Array | None], Found],
) -> list[Found]:
    """What `look(logits, labels)` finds in every batch, those of the other ranks included."""
    model, ranks = trainer.model, trainer.ranks
    how = model.normalization
    training = model.training
    model.eval()
    found = []
    count = 0
    try:
        for x, labels in parts:
            if count == 0 and not trainer.any_scale:
                no_bytes(x, "x")
            if trainer.validating and trainer.stop_reason is not None:
                raise Broken
            if count % ranks.size == ranks.rank:
                batch = ops.gather_images(x, np.arange(len(x)), mean=how.mean, std=how.std)
                found.append(look(model.forward(batch), labels))
            count += 1
    finally:
        if training:
            model.train()
    return ranks.collect(found, count)


def means(trainer: Trainer, parts: Iterable[tuple[Array, Array | None]]) -> dict[str, float]:
    """{"loss", "accuracy"}; sums in the order of the batches, so of the same bits on any ranks."""

    def look(logits: Array, target: Array | None) -> tuple[float, int, int]:
        assert target is not None
        loss, _ = loss_of(trainer.loss_function, logits, target)
        right = int(np.count_nonzero(logits.argmax(axis=1) == target))
        return loss * len(logits), right, len(logits)

    total, right, count = 0.0, 0, 0
    for part in each_batch(trainer, parts, look):
        total, right, count = total + part[0], right + part[1], count + part[2]
    if not count:
        raise ValueError("Trainer: data gave no batches; expected at least one.")
    return {"loss": total / count, "accuracy": right / count}
