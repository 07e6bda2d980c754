"""Callbacks that write down what happens."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable
from io import FileIO
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pycnn._formats.files import FileError, replacing
from pycnn._runtime.checks import is_whole
from pycnn.callbacks.base import path_of
from pycnn.trainer.callback import Callback

if TYPE_CHECKING:
    from pycnn.trainer import Trainer


def _interval(who: str, value: Any) -> int:
    if not is_whole(value, 1):
        raise ValueError(f"{who}: every is {value!r}; expected a whole number of steps, 1 or more.")
    return int(value)


class ProgressBar(Callback):
    """A bar of the images seen, with images/s and the time left, if stderr is a terminal."""

    first_rank_only = True

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._bar: tqdm | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Draw it."""
        if sys.stderr is not None and sys.stderr.isatty():
            size = trainer.batch_size
            self._bar = tqdm(
                total=trainer.epochs * trainer.steps_per_epoch * size or None,  # None: not known
                initial=trainer.steps_done * size,
                unit=" images",
                unit_scale=True,
                dynamic_ncols=True,
                leave=False,
                file=sys.stderr,
            )

    def on_step_end(self, trainer: Trainer) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(trainer.batch_size)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def print_line(text: str) -> None:
    """Print above a progress bar, at once."""
    with tqdm.external_write_mode(file=sys.stdout):
        print(text, flush=True)


class LectureLog(Callback):
    """The lecture's lines: the loss every `every` steps, the validation accuracy every epoch.

    write: what prints a line; by default to stdout, above a progress bar.
    """

    first_rank_only = True

    def __init__(self, every: int = 100, write: Callable[[str], None] = print_line) -> None:
        """Raises ValueError for an interval below 1."""
        self._every, self._write = _interval("LectureLog", every), write

    def on_step_end(self, trainer: Trainer) -> None:
        """The loss of steps 0, every, 2 every, ..."""
        step = trainer.step - 1
        if step % self._every == 0:
            self._write(f"epochs = {trainer.epoch}, step = {step}, loss_val = {trainer.loss:.6f}")

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """The accuracy, if there is validation data."""
        if "val_accuracy" in row:
            self._write(f"epochs = {row['epoch']}, validation accuracy = {row['val_accuracy']:.4f}")


class LearningRateLog(Callback):
    """`.steps`, `.values`, `.losses`: rate and loss of every step of this process, for a plot."""

    def __init__(self) -> None:
        """Empty lists."""
        self.steps: list[int] = []
        self.values: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, trainer: Trainer) -> None:
        """One more."""
        self.steps.append(trainer.steps_done - 1)
        self.values.append(trainer.optimizer.lr)
        self.losses.append(trainer.loss)


class JsonLog(Callback):
    """A file with one JSON object a line: "kind": "step" every `every` steps, "epoch", "end".

    step: epoch, step (steps that are done, of all epochs), loss, lr. epoch: the row of the History.
    end: why; of a run that raised an error "failed". NaN and infinity are null. No times: two runs
    with the same settings write the same bytes; but of several ranks (MPI) each epoch has a line
    "times": milliseconds a step that rank 0 was computing, waiting for others, moving numbers. A
    resumed run cuts the file back to its checkpoint and goes on; any other run begins it anew. A
    file with other lines than these is refused with `FileError` when fit begins.
    """

    first_rank_only = True

    def __init__(self, path: str | os.PathLike[str], every: int = 100) -> None:
        """Raises ValueError for an interval below 1; the first line opens the file."""
        self.path, self._every = path_of("JsonLog", "path", path), _interval("JsonLog", every)
        self._file: FileIO | None = None
        self._behind = 0, 0  # epochs and steps that were done when fit began
        self._before: dict[str, float] = {}  # of `Ranks.seconds`, and the steps, an epoch ago

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Remember where the run goes on; refuse the file of another program."""
        self._behind = trainer.epoch, trainer.steps_done
        self._before = {**trainer.ranks.seconds, "steps": trainer.steps_done}
        try:
            if not self.path.is_file():
                return
            with open(self.path, "rb") as file:
                number = next((i for i, line in enumerate(file, 1) if not _is_ours(line)), None)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or str(error)
            raise FileError(f"{self.path}: cannot be read: {reason}.") from error
        if number is not None:
            raise FileError(
                f"{self.path}: line {number} is not one of JsonLog; expected no file, or the log "
                "of a run, which is written over: move it away, or take another folder or name."
            )

    def on_step_end(self, trainer: Trainer) -> None:
        """A line, sometimes."""
        if (trainer.step - 1) % self._every == 0:
            self._line(
                kind="step",
                epoch=trainer.epoch,
                step=trainer.steps_done,
                loss=trainer.loss,
                lr=trainer.optimizer.lr,
            )

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """The row; and the times of ranks."""
        self._line(kind="epoch", **row)
        if trainer.ranks.size > 1:
            now = {**trainer.ranks.seconds, "steps": trainer.steps_done}
            spent = {name: value - self._before[name] for name, value in now.items()}
            steps, self._before = max(spent.pop("steps"), 1), now
            times = {f"{name}_ms": round(1e3 * value / steps, 3) for name, value in spent.items()}
            self._line(kind="times", epoch=row["epoch"], step=trainer.steps_done, **times)

    def on_pause(self, trainer: Trainer) -> None:
        """The reason, also of a run that had nothing left to do; and the file is closed."""
        self._line(kind="end", step=trainer.steps_done, reason=trainer.stop_reason or "done")
        self._close()

    def on_fit_end(self, trainer: Trainer) -> None:
        """After an error the file is still open."""
        if self._file is not None:
            self._line(kind="end", step=trainer.steps_done, reason="failed")
            self._close()

    def _line(self, **values: Any) -> None:
        plain = {name: None if _is_odd(value) else value for name, value in values.items()}
        text = (json.dumps(plain) + "\n").encode()
        try:
            if self._file is None:
                self._file = self._opened()
            while text:  # a disk that fills up takes a part of them, then none
                text = text[self._file.write(text) :]
        except OSError as error:
            self._close()
            raise FileError(f"{self.path}: cannot be written: {error.strerror}.") from error

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _opened(self) -> FileIO:
        """The file, without buffer; cut in place, so that no moment exists without its lines."""
        if not self._behind[1] or not self.path.is_file():
            return FileIO(self.path, "w")
        file = FileIO(self.path, "r+")
        size = 0
        for line in file.readall().splitlines(keepends=True):
            if not self._is_behind(line):
                break
            size += len(line)
        file.truncate(size)
        file.seek(size)
        return file

    def _is_behind(self, line: bytes) -> bool:
        epochs, steps = self._behind
        try:
            values = json.loads(line)
            if values["kind"] in ("epoch", "times"):
                return bool(values["epoch"] < epochs)
            return bool(values["kind"] == "step" and values["step"] <= steps)
        except (ValueError, KeyError, TypeError):  # cut off, when the process was killed
            return False


class CsvLog(Callback):
    """A table for a spreadsheet: one row an epoch, written anew, as a whole, after each epoch."""

    first_rank_only = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Where to."""
        self.path = path_of("CsvLog", "path", path)

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        """All rows of the History; FileError if the file cannot be written."""
        names = dict.fromkeys(name for one in trainer.history.rows for name in one)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(names))
        writer.writeheader()
        writer.writerows(trainer.history.rows)
        with replacing(self.path) as file:
            file.write(text.getvalue().encode())


_KEYS = {
    "step": {"epoch", "loss", "lr"},
    "epoch": {"epoch", "loss", "lr"},
    "times": {"epoch", "computing_ms"},
    "end": {"reason"},
}


def _is_ours(line: bytes) -> bool:
    """Whether JsonLog may have written this line, or the part of it that a killed process left."""
    start = b'{"kind": "'
    try:
        values = json.loads(line)
        return bool(values["step"] >= 0 and values.keys() >= _KEYS[values["kind"]])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        cut_off = not line.endswith(b"\n")
        return cut_off and (
            line.startswith(start) or start.startswith(line) or not line.strip(b"\0")
        )


def _is_odd(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
