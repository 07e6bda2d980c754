"""The callback that saves a Trainer's state."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pycnn import checkpoint
from pycnn._formats.files import FileError
from pycnn._runtime.checks import is_whole
from pycnn.callbacks.base import path_of
from pycnn.metrics import grows
from pycnn.ops.arrays import Array
from pycnn.trainer.callback import Callback

if TYPE_CHECKING:
    from pycnn.trainer import Trainer


class Checkpoint(Callback):
    """Writes folder/last.safetensors, and folder/best.safetensors after each best epoch.

    folder: made if it does not exist. every: steps between two saves of last; None: after each
    epoch only, and when the run pauses or ends in any case. monitor: what is best, a key of the
    History; `metrics.grows` tells by its name whether it should grow; without validation data there
    is no best.

    One run a folder: a lock, folder/.lock, lives as long as its process. A run that begins in a
    folder with checkpoints is refused, unless it goes on from one of the two (`checkpoint.load`).
    Raises FileError for both, and if a file cannot be written: the one before is then as it was;
    Diverged for a state with NaN or infinity, which is not written.
    """

    saves = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int | None = None,
        monitor: str = "val_accuracy",
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises ValueError for an interval below 1; the folder is made when fit begins."""
        if every is not None and not is_whole(every, 1):
            raise ValueError(
                f"Checkpoint: every is {every!r}; expected a whole number of steps, 1 or more, or "
                "None for each epoch."
            )
        self.folder = path_of("Checkpoint", "folder", folder)
        self._every, self._monitor = None if every is None else int(every), monitor
        self.recipe = dict(recipe or {})
        self._best: float | None = None
        self._saved = -1, -1  # position
        self._began = False  # a run of this callback, in this folder
        self._lock: TextIO | None = None

    @property
    def last(self) -> Path:
        """The newest state."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """The state after the best epoch."""
        return self.folder / "best.safetensors"

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Make the folder, lock it, look what is in it."""
        checkpoint.check(trainer)  # what could not be saved is said now, not after an epoch
        if trainer.ranks.rank == 0:
            self._take_folder(trainer)
        self._best = trainer.ranks.told(self._best)
        if not self._began:
            self._saved = trainer.epoch, trainer.step
        self._began = True

    def _take_folder(self, trainer: Trainer) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            used = self.last.exists() or self.best.exists()
            if used and not self._is_own(trainer):
                raise FileError(
                    f"{self.folder}: found checkpoints of another run{self._advice(trainer)}"
                )
        except OSError as error:
            self._release()
            if isinstance(error, FileError):
                raise
            raise FileError(
                f"{self.folder}: cannot be used for checkpoints: {error.strerror}."
            ) from error
        if not self.best.exists():
            self._best = None  # of a run that goes on in another folder

    def on_step_end(self, trainer: Trainer) -> None:
        """Save, if it is time."""
        if self._every is not None and trainer.steps_done % self._every == 0:
            self._save(trainer, self.last)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Save, and keep the best one."""
        value = row.get(self._monitor)
        sign = 1.0 if grows(self._monitor) else -1.0
        better = value is not None and (self._best is None or sign * (value - self._best) > 0)
        if better:
            self._best = value
            self._save(trainer, self.best)
        self._save(trainer, self.last)

    def on_pause(self, trainer: Trainer) -> None:
        """Save what has not been saved."""
        saved = (trainer.epoch, trainer.step) == self._saved and self.last.exists()
        if not trainer.ranks.told(saved):
            self._save(trainer, self.last)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Give the folder free."""
        self._release()

    def state(self) -> dict[str, Any]:
        """The best value."""
        return {"best": self._best}

    def load_state(self, state: dict[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from it."""
        best = state["best"]
        if not (best is None or isinstance(best, (int, float))):
            raise ValueError(f"Checkpoint: best is {best!r}; expected a number, or None.")
        self._best = best

    def _is_own(self, trainer: Trainer) -> bool:
        """Whether the checkpoints in the folder are those of this run."""
        if trainer.steps_done == 0:
            return False
        source = trainer.resumed_from
        return self._began or (
            source is not None
            and os.path.realpath(source) in map(os.path.realpath, (self.last, self.best))
        )

    def _advice(self, trainer: Trainer) -> str:
        if trainer.resumed_from is None:
            return "; expected an empty folder: go on with --resume, or take another folder."
        return (
            f" than {trainer.resumed_from}; expected an empty folder, or to go on from its "
            "last.safetensors or best.safetensors: take another folder (--checkpoint-dir)."
        )

    def _save(self, trainer: Trainer, path: Path) -> None:
        trainer.gather()
        if trainer.ranks.rank == 0:
            checkpoint.save(trainer, path, self.recipe)
        if path == self.last:
            self._saved = trainer.epoch, trainer.step

    def _take_lock(self) -> None:
        lock = (self.folder / ".lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise FileError(
                f"{self.folder}: another run that has not ended writes its checkpoints here; "
                "expected a folder of its own for each run."
            ) from error
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.close()
            self._lock = None
