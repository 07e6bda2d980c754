"""`History`: what each epoch has reached."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class History:
    """What each epoch has reached: `history["val_accuracy"]` is the list over the epochs.

    rows: one dict an epoch: "epoch" (from 0), "step" (steps done, of all epochs), "lr" (of the
    last step), "loss" and "accuracy", or what else `Trainer(metrics=...)` names (over what the
    epoch has seen, while the weights changed, with augmentation and dropout), and with validation
    data "val_loss", "val_accuracy" and so on. A metric that is NaN is left out of its row.
    seconds: of each epoch of this process with its validation; not in checkpoints.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        """The values of one column, NaN in epochs without it; KeyError names those there are."""
        names = list(dict.fromkeys(key for row in self.rows for key in row))
        if names and name not in names:
            raise KeyError(f"{name!r}; this run has {', '.join(names)}")
        return [row.get(name, math.nan) for row in self.rows]

    def __len__(self) -> int:
        """The number of epochs."""
        return len(self.rows)
