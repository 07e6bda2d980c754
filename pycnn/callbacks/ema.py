"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn._runtime.checks import is_real
from pycnn.ops.arrays import Array
from pycnn.trainer.callback import Callback

if TYPE_CHECKING:
    from pycnn.trainer import Trainer


class Ema(Callback):
    """Averages the weights over the steps: average <- d average + (1 - d) weights.

    decay: d, at least 0 and below 1. warmup: in step t, counted from 1, d is at most
    (1 + t) / (10 + t), so that the first weights are soon forgotten (as TensorFlow's
    ExponentialMovingAverage with num_updates). All parameters and running statistics are averaged
    in float32.

    Evaluations within fit, and so validation, use the average; at the end of fit the model gets it.
    A checkpoint holds both, and `load_model` of one gives the average.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        """Raises ValueError for a decay out of range."""
        if not (is_real(decay, 0) and decay < 1):
            raise ValueError(f"Ema: decay is {decay!r}; expected at least 0 and below 1.")
        self._decay, self._warmup = float(decay), bool(warmup)
        self.average: dict[str, Array] = {}
        self._kept: dict[str, Array] = {}  # the weights, while the model holds the average
        self._scratch: dict[str, Array] = {}

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Start from the model's weights, unless the run is resumed."""
        if not self.average or trainer.steps_done == 0:
            self.average = trainer.model.state_dict()
        self._scratch = {name: np.empty_like(value) for name, value in self.average.items()}

    def on_step_end(self, trainer: Trainer) -> None:
        """Move the average."""
        t = trainer.steps_done
        decay = min(self._decay, (1 + t) / (10 + t)) if self._warmup else self._decay
        for name, value in trainer.state_arrays().items():
            average, scratch = self.average[name], self._scratch[name]
            np.subtract(value, average, out=scratch)
            scratch *= average.dtype.type(1 - decay)
            average += scratch

    def on_evaluation_begin(self, trainer: Trainer) -> None:
        """Lend the average to the model."""
        if self.average and trainer.fitting:
            self._kept = trainer.model.state_dict()
            trainer.model.load_state_dict(self.average)

    def on_evaluation_end(self, trainer: Trainer, result: dict[str, float] | None) -> None:
        """Take it back."""
        if self._kept:
            trainer.model.load_state_dict(self._kept)
            self._kept = {}

    def on_fit_end(self, trainer: Trainer) -> None:
        """The model gets the average."""
        if self.average:
            trainer.model.load_state_dict(self.average)

    def settings(self) -> dict[str, Any]:
        """Both arguments."""
        return {"decay": self._decay, "warmup": self._warmup}

    def state(self) -> dict[str, Any]:
        """Nothing: the number of steps is the trainer's."""
        return {}

    def arrays(self) -> dict[str, Array]:
        """The average."""
        return self.average

    def load_state(self, state: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from this average."""
        self.average = {name: array.copy() for name, array in arrays.items()}
