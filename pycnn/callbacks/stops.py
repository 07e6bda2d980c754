"""Callbacks that end a run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pycnn._runtime.checks import is_real, is_whole
from pycnn.metrics import grows
from pycnn.ops.arrays import Array
from pycnn.trainer.callback import Callback

if TYPE_CHECKING:
    from pycnn.trainer import Trainer


class TimeLimit(Callback):
    """Stops after the step in which `seconds` have passed since fit began."""

    def __init__(self, seconds: float) -> None:
        """Raises ValueError for a time that is not above 0."""
        if not (is_real(seconds) and seconds > 0):
            raise ValueError(f"TimeLimit: seconds is {seconds!r}; expected a number above 0.")
        self._seconds = float(seconds)
        self._end = math.inf

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self._seconds

    def on_step_end(self, trainer: Trainer) -> None:
        """Look at it."""
        if time.monotonic() >= self._end:
            trainer.stop(f"time limit of {self._seconds:g} s")


class TargetAccuracy(Callback):
    """Stops after the epoch whose validation accuracy is at least `accuracy` (0 to 1)."""

    needs_validation = True

    def __init__(self, accuracy: float) -> None:
        """Raises ValueError for a share that is none."""
        if not (is_real(accuracy, 0, 1) and accuracy > 0):
            raise ValueError(
                f"TargetAccuracy: accuracy is {accuracy!r}; expected a share above 0, at most 1: "
                "0.99, not 99."
            )
        self.accuracy = float(accuracy)
        self.reached = False

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Look at what a resumed run has reached."""
        found = [row.get("val_accuracy", 0.0) for row in trainer.history.rows]
        self.reached = max(found, default=0.0) >= self.accuracy
        if self.reached:
            trainer.stop(f"target accuracy {self.accuracy:g}")

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Compare."""
        if _monitored(self, row, "val_accuracy") >= self.accuracy:
            self.reached = True
            trainer.stop(f"target accuracy {self.accuracy:g}")


class EarlyStopping(Callback):
    """Stops when a figure has not improved for `patience` epochs.

    monitor: a key of the History; `metrics.grows` tells by its name whether it should grow.
    patience: epochs without improvement, 1 or more. min_delta: an improvement is more than that.
    restore_best: at the end, give the model the parameters of its best epoch; behind `Ema` in the
    list of callbacks, which else gives it the newest average. A resumed run, or another fit, does
    not go on after that end.
    """

    def __init__(
        self,
        patience: int = 10,
        monitor: str = "val_accuracy",
        min_delta: float = 0.0,
        restore_best: bool = False,
    ) -> None:
        """Raises ValueError for numbers out of range."""
        if not is_whole(patience, 1):
            raise ValueError(
                f"EarlyStopping: patience is {patience!r}; expected a whole number of epochs, 1 "
                "or more."
            )
        if not is_real(min_delta, 0):
            raise ValueError(f"EarlyStopping: min_delta is {min_delta!r}; expected 0 or more.")
        if not isinstance(monitor, str):
            raise ValueError(f"EarlyStopping: monitor is {monitor!r}; expected 'val_loss', say.")
        self._patience, self._monitor = patience, monitor
        self._min_delta, self._restore = float(min_delta), bool(restore_best)
        self.needs_validation = monitor.startswith("val_")
        self.best: float | None = None
        self.epochs_without = 0
        self._weights: dict[str, Array] = {}

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Look whether a resumed run had ended."""
        self._stop_if_over(trainer)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Compare with the best epoch so far."""
        value = _monitored(self, row, self._monitor)
        sign = 1.0 if grows(self._monitor) else -1.0
        first = self.best is None and not math.isnan(value)
        if first or (self.best is not None and sign * (value - self.best) > self._min_delta):
            self.best, self.epochs_without = value, 0
            if self._restore:
                self._weights = trainer.evaluated_state()
            return
        self.epochs_without += 1
        self._stop_if_over(trainer)

    def _stop_if_over(self, trainer: Trainer) -> None:
        if self.epochs_without >= self._patience:
            trainer.stop(f"no better {self._monitor} in {self._patience} epochs")

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the model its best parameters."""
        if self._weights:
            trainer.model.load_state_dict(self._weights)

    def state(self) -> dict[str, Any]:
        """The best value and how long ago it was."""
        return {"best": self.best, "epochs_without": self.epochs_without}

    def arrays(self) -> dict[str, Array]:
        """The best parameters."""
        return self._weights

    def load_state(self, state: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from there."""
        best, without = state["best"], state["epochs_without"]
        if not (best is None or isinstance(best, (int, float))) or type(without) is not int:
            raise ValueError(f"EarlyStopping: its state is {state!r}; expected numbers.")
        self.best, self.epochs_without = best, without
        self._weights = dict(arrays)


def _monitored(callback: Callback, row: dict[str, float], name: str) -> float:
    if name not in row:
        raise ValueError(
            f"{type(callback).__name__}: {name} is not measured in this run; expected one of "
            f"{', '.join(row)}: pass validation data to fit()."
        )
    return row[name]
