"""Learning-rate schedules: `schedule(step)` is the factor of the optimizer's lr in that step.

Steps count from 0. A length that is left at None is taken from the run: `Trainer.fit` calls
`bind(total_steps, steps_per_epoch)` before the first step. With a loop of your own:

    schedule = schedules.OneCycle(total=550)
    for step in range(550):
        optimizer.lr = 0.02 * schedule(step)
        ...
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pycnn._runtime.checks import is_choice, is_real, is_whole
from pycnn.metrics import grows


class Schedule:
    """What all schedules share. To write one, define `__call__`, and `bind` if it needs lengths."""

    needs_validation = False  # True: fit refuses to begin without validation data
    _given: int | None = None  # a length of its own, instead of the run's
    _arguments: ClassVar[dict[str, str]] = {}  # of the constructor, and where they are kept

    def bind(self, total_steps: int, steps_per_epoch: int) -> None:
        """Learn how long the run is; `Trainer.fit` calls this, again for a resumed run.

        Not if the number of steps is unknown, and then `needs_steps` must be False.
        """

    @property
    def needs_steps(self) -> bool:
        """Whether it asks how long the run is: it has a `bind`, and no length of its own."""
        return type(self).bind is not Schedule.bind and self._given is None

    def __call__(self, step: int) -> float:
        """The factor of lr in step `step`, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__.")

    def observe(self, row: dict[str, float]) -> None:
        """Look at an epoch's row of the History; `Trainer.fit` calls this after each epoch."""

    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor, JSON-able: a resumed run has the same."""
        return {name: getattr(self, attribute) for name, attribute in self._arguments.items()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the step: JSON-able, empty for a pure function."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""

    def _whole(self, name: str, value: Any, low: int = 1) -> int:
        if not is_whole(value, low):
            raise ValueError(
                f"{type(self).__name__}: {name} is {value!r}; expected a whole number, {low} or "
                "more."
            )
        return int(value)

    def _real(self, name: str, value: Any, low: float, high: float) -> float:
        if not is_real(value, low, high):
            raise ValueError(
                f"{type(self).__name__}: {name} is {value!r}; expected {low:g} to {high:g}."
            )
        return float(value)

    def _known(self, name: str, value: int | None) -> int:
        if value is None:
            raise RuntimeError(
                f"{type(self).__name__}: {name} is not known; pass it, or call "
                "bind(total_steps, steps_per_epoch) first, as Trainer.fit does."
            )
        return value


class Constant(Schedule):
    """1 in every step."""

    def __call__(self, step: int) -> float:
        """1."""
        return 1.0


class StepDecay(Schedule):
    """gamma^(step // every): torch.optim.lr_scheduler.StepLR, counted in steps.

    every: steps between two decays; None: one epoch. gamma: 0 to 1, by default 0.7, that of the
    PyTorch MNIST example.
    """

    _arguments: ClassVar = {"every": "_given", "gamma": "_gamma"}

    def __init__(self, every: int | None = None, gamma: float = 0.7) -> None:
        """Raises ValueError for numbers out of range."""
        self._given = None if every is None else self._whole("every", every)
        self._every = self._given
        self._gamma = self._real("gamma", gamma, 0, 1)

    def bind(self, total_steps: int, steps_per_epoch: int) -> None:
        """One epoch is the default of `every`."""
        self._every = self._given or steps_per_epoch

    def __call__(self, step: int) -> float:
        """gamma^(step // every)."""
        return self._gamma ** (step // self._known("every", self._every))


class Cosine(Schedule):
    """end + (1 - end) (1 + cos(pi step / total)) / 2, then end: Loshchilov & Hutter 2017, eq. 5.

    total: steps; None: the whole run. end: the factor after them, 0 to 1. The first cycle of
    torch.optim.lr_scheduler.CosineAnnealingLR.
    """

    _arguments: ClassVar = {"total": "_given", "end": "_end"}

    def __init__(self, total: int | None = None, end: float = 0.0) -> None:
        """Raises ValueError for numbers out of range."""
        self._given = None if total is None else self._whole("total", total)
        self._total = self._given
        self._end = self._real("end", end, 0, 1)

    def bind(self, total_steps: int, steps_per_epoch: int) -> None:
        """The run is the default of `total`."""
        self._total = self._given or total_steps

    def __call__(self, step: int) -> float:
        """Half a cosine from 1 to end."""
        share = min(step / self._known("total", self._total), 1.0)
        return self._end + (1 - self._end) * (1 + math.cos(math.pi * share)) / 2


class OneCycle(Schedule):
    """From start up to 1 in the first `warmup` share of the steps, then down to end: Smith 2018.

    total: steps; None: the whole run. warmup: share of the steps, 0 to 1. start, end: factors of
    the first and of the last step. shape: "linear" (a triangle) or "cosine". As
    torch.optim.lr_scheduler.OneCycleLR(max_lr=lr, pct_start=warmup, div_factor=1 / start,
    anneal_strategy="linear" or "cos"): the peak is step warmup * total - 1. A
    run of a single step is at the peak.
    """

    _arguments: ClassVar = {
        "total": "_given",
        "warmup": "_warmup",
        "start": "_start",
        "end": "_end",
        "cosine": "_cosine",
    }

    def __init__(
        self,
        total: int | None = None,
        warmup: float = 0.2,
        start: float = 0.04,
        end: float = 0.0,
        shape: str = "linear",
    ) -> None:
        """Raises ValueError for numbers out of range and another shape."""
        self._given = None if total is None else self._whole("total", total)
        self._total = self._given
        self._warmup = self._real("warmup", warmup, 0, 1)
        self._start = self._real("start", start, 0, 1)
        self._end = self._real("end", end, 0, 1)
        if not is_choice(shape, ("linear", "cosine")):
            raise ValueError(f'OneCycle: shape is {shape!r}; expected "linear" or "cosine".')
        self._cosine = shape == "cosine"

    def bind(self, total_steps: int, steps_per_epoch: int) -> None:
        """The run is the default of `total`."""
        self._total = self._given or total_steps

    def __call__(self, step: int) -> float:
        """Two straight lines, or two halves of a cosine."""
        last = self._known("total", self._total) - 1
        if step <= 0 == last:
            return 1.0  # a run of one step: its rate would be end, so nothing would be learned
        peak = self._warmup * (last + 1) - 1
        if step < peak:
            return self._between(self._start, 1.0, step / peak)
        return self._between(1.0, self._end, min((step - peak) / max(last - peak, 1e-9), 1.0))

    def _between(self, a: float, b: float, share: float) -> float:
        if self._cosine:
            share = (1 - math.cos(math.pi * share)) / 2
        return a + (b - a) * share


class Warmup(Schedule):
    """(step + 1) / steps in the first `steps` steps, then `then(step - steps)`.

    then: another schedule, whose steps count from the end of the warm-up; None: constant 1.
    """

    def __init__(self, steps: int, then: Schedule | None = None) -> None:
        """Raises ValueError for steps below 1, TypeError for a `then` that is no schedule."""
        self._steps = self._whole("steps", steps)
        if then is not None and not isinstance(then, Schedule):
            raise TypeError(f"Warmup: then is {then!r}; expected a schedule, for example Cosine().")
        self._then = then or Constant()
        self.needs_validation = self._then.needs_validation

    @property
    def needs_steps(self) -> bool:
        """Whether `then` does."""
        return self._then.needs_steps

    def bind(self, total_steps: int, steps_per_epoch: int) -> None:
        """`then` has the steps after the warm-up."""
        self._then.bind(max(total_steps - self._steps, 1), steps_per_epoch)

    def __call__(self, step: int) -> float:
        """A straight line up, then the other schedule."""
        if step < self._steps:
            return (step + 1) / self._steps
        return self._then(step - self._steps)

    def settings(self) -> dict[str, Any]:
        """Steps, and those of `then`."""
        return {"steps": self._steps, type(self._then).__name__: self._then.settings()}

    def observe(self, row: dict[str, float]) -> None:
        """Hand it to `then`."""
        self._then.observe(row)

    def state(self) -> dict[str, Any]:
        """That of `then`."""
        return self._then.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Hand it to `then`."""
        self._then.load_state(state)


class ReduceOnPlateau(Schedule):
    """The factor shrinks when a figure has not improved for more than `patience` epochs.

    factor: what it is multiplied by, above 0 and below 1. patience: epochs without improvement
    that are let pass. threshold: an improvement is at least this share. minimum: the smallest
    factor. monitor: a key of the History; `metrics.grows` tells by its name whether it should
    grow. As torch.optim.lr_scheduler.ReduceLROnPlateau with its relative threshold.

    With a loop of your own call `observe({"val_loss": loss})` after each epoch.
    """

    _arguments: ClassVar = {
        "factor": "_shrink",
        "patience": "_patience",
        "threshold": "_threshold",
        "minimum": "_minimum",
        "monitor": "_monitor",
    }

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        minimum: float = 0.0,
        monitor: str = "val_loss",
    ) -> None:
        """Raises ValueError for numbers out of range."""
        self._shrink = self._real("factor", factor, 0, 1)
        if self._shrink in (0, 1):
            raise ValueError(f"ReduceOnPlateau: factor is {factor!r}; expected between 0 and 1.")
        self._patience = self._whole("patience", patience, 0)
        self._threshold = self._real("threshold", threshold, 0, 1)
        self._minimum = self._real("minimum", minimum, 0, 1)
        self._monitor = monitor
        self.needs_validation = monitor.startswith("val_")
        self._grows = grows(monitor)
        self._factor, self._bad = 1.0, 0
        self._best: float | None = None

    def __call__(self, step: int) -> float:
        """The factor that the last epoch left."""
        return self._factor

    def observe(self, row: dict[str, float]) -> None:
        """Count the epoch of this row; ValueError if the monitored figure is not in it."""
        if self._monitor not in row:
            raise ValueError(
                f"ReduceOnPlateau: monitor is {self._monitor!r}, which this run does not measure; "
                f"expected one of {', '.join(row)}: pass validation data to fit()."
            )
        value, best = row[self._monitor], self._best
        if best is None:
            better = value > -math.inf if self._grows else value < math.inf
        elif self._grows:
            better = value > best * (1 + self._threshold)
        else:
            better = value < best * (1 - self._threshold)
        if better:
            self._best, self._bad = value, 0
            return
        self._bad += 1
        if self._bad > self._patience:
            self._factor, self._bad = max(self._factor * self._shrink, self._minimum), 0

    def state(self) -> dict[str, Any]:
        """Factor, best value, epochs without improvement."""
        return {"factor": self._factor, "best": self._best, "bad": self._bad}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`; ValueError for another one."""
        best = state["best"]
        if not (best is None or isinstance(best, (int, float))):
            raise ValueError(f"ReduceOnPlateau: best is {best!r}; expected a number, or None.")
        factor = self._real("factor", state["factor"], 0, 1)
        bad = self._whole("bad", state["bad"], 0)
        self._factor, self._best, self._bad = factor, best, bad
