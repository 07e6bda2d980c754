"""How `Trainer` gathers a batch: normalised, and in most epochs distorted and mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycnn import ops
from pycnn.augment import Augmentation, Mixup
from pycnn.ops.arrays import Array
from pycnn.trainer.batches import Gather

if TYPE_CHECKING:
    from pycnn.trainer import Trainer


def _augmentation(trainer: Trainer) -> Augmentation | None:
    """Of the epoch that the trainer is in."""
    plain = trainer.epoch >= trainer.epochs - trainer.plain_epochs
    return None if plain else trainer.augmentation


def gather_of(trainer: Trainer) -> Gather:
    """The gather of this epoch; stream: a batch's number in an iterable, whose rows repeat."""
    how, augmentation, epoch = trainer.model.normalization, _augmentation(trainer), trainer.epoch

    def gather(x: Array, rows: Array, out: Array, stream: int) -> Array:
        if augmentation is None:
            return ops.gather_images(x, rows, mean=how.mean, std=how.std, out=out)
        seed = (trainer.seed + (stream << 32)) % 2**64
        return augmentation.gather(
            x, rows, seed=seed, epoch=epoch, mean=how.mean, std=how.std, out=out
        )

    return gather


def mixup_of(trainer: Trainer) -> Mixup | None:
    """The mixup of this epoch, if its samples are mixed."""
    augmentation = _augmentation(trainer)
    if augmentation is None or not augmentation.mixup:
        return None
    return Mixup(
        augmentation.mixup, trainer.seed, trainer.epoch, lambda shape: trainer.outputs_of(shape)[-1]
    )
