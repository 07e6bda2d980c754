"""`NanGuard`, which every Trainer has but with `nan_guard=False`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pycnn.trainer.callback import Callback

if TYPE_CHECKING:
    from pycnn.trainer import Trainer


class Diverged(RuntimeError):
    """The loss, an output or a weight of the network is NaN or infinite."""


class NanGuard(Callback):
    """Raises Diverged at the first loss that is no finite number.

    Also for outputs of an evaluation (its loss is not finite then), and for parameters after each
    epoch: blocks skip products with zero gradients, so a NaN in a weight may not reach the loss.
    """

    def on_step_end(self, trainer: Trainer) -> None:
        """Check the loss."""
        if not math.isfinite(trainer.loss):
            bad = trainer.x is not None and not np.isfinite(trainer.x).all()
            raise Diverged(
                f"the loss is {trainer.loss} at epoch {trainer.epoch}, step {trainer.step - 1}; "
                "expected a finite number: "
                + ("x holds NaN or infinity in this batch" if bad else "try a smaller lr")
            )

    def on_evaluation_end(self, trainer: Trainer, result: dict[str, float] | None) -> None:
        """Check the outputs."""
        if result is not None and not math.isfinite(result["loss"]):
            raise Diverged("an output of the network is NaN or infinite in an evaluation")

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Check the parameters."""
        for parameter in trainer.model.parameters():
            if not np.isfinite(parameter.data).all():
                raise Diverged(
                    f"{parameter.name} holds a NaN or infinity after epoch {trainer.epoch}"
                )
