"""A Trainer's whole state in one file, from which it goes on bit for bit.

Tensors: "model.<name>", "optimizer.<name>", "callback.<i>.<name>" (for example the average of
`Ema`). Metadata: the model's description, the position, the sums of the epoch, the History, the
states of schedule, callbacks and Dropout, the settings that decide the numbers, and the recipe. No
times, paths or thread counts: two runs that reach the same step with the same settings write the
same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pycnn import modelfile
from pycnn._formats import files
from pycnn._formats.checkpoints import DAMAGED, FORMAT, KIND, part_of, read, short, totals_of
from pycnn._formats.files import FileError, FilePath
from pycnn.checkpoint.differences import model_difference, settings_difference
from pycnn.ops.arrays import Array
from pycnn.trainer.callback import Callback, keeps_state
from pycnn.trainer.guard import Diverged

if TYPE_CHECKING:
    from pycnn.trainer import Trainer

__all__ = ["check", "checkpoint_in", "load", "read", "save", "settings_of"]


def save(trainer: Trainer, path: FilePath, recipe: Mapping[str, Any] | None = None) -> None:
    """Write the state of `trainer` after its last step; the file is whole, or what it was before.

    Call it from a callback: at the end of fit `Ema` and EarlyStopping(restore_best=True) give the
    model other weights, from which a run would go on in another way. recipe: what describes the run
    to `python -m pycnn.train --resume`; JSON-able.

    Raises FileError if it cannot be written, Diverged for a state with NaN or infinity.
    """
    tensors = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    tensors.update(_prefixed("optimizer", trainer.optimizer.state_dict()))
    states = []
    callbacks = _with_state(trainer)
    for i, callback in enumerate(callbacks):
        tensors.update(_prefixed(f"callback.{i}", _arrays_of(callback)))
        states.append([type(callback).__name__, _state_of(callback)])
    for name, array in tensors.items():
        _check_finite(name, array, path)
    for row in (*trainer.measures.totals.values(), *(r.values() for r in trainer.history.rows)):
        _check_finite("the loss", np.array(list(row), np.float64), path)
    average = [i for i, callback in enumerate(callbacks) if getattr(callback, "average", None)]
    metadata = {
        "kind": KIND,
        "format": FORMAT,
        "model": modelfile.describe(trainer.model),
        "average": average[0] if average else None,
        "optimizer": type(trainer.optimizer).__name__,
        "position": _position(trainer),
        "seed": trainer.seed,
        "base_lr": trainer.base_lr,
        "rng": trainer.model.rng_state(),
        "schedule": [type(trainer.schedule).__name__, trainer.schedule.state()],
        "callbacks": states,
        "history": trainer.history.rows,
        "recipe": dict(recipe or {}),
        "settings": settings_of(trainer),
    }
    files.write_safetensors(path, tensors, metadata)


def load(trainer: Trainer, path: FilePath, *, same_settings: bool = True) -> None:
    """Bring `trainer`, made with the same arguments, to the state in the file.

    Its next `fit` with the same data, epochs and batch size ends as if it had never stopped. Raises
    FileError, and changes nothing, for a file that is no checkpoint, one of another model,
    optimizer or list of callbacks, one with NaN, or one from a newer pycnn. same_settings: also for
    one with other settings (`settings_of`); with False the run goes on with those of `trainer`.
    """
    tensors, metadata = read(path)
    mine = modelfile.describe(trainer.model, metadata["model"])
    model = model_difference(metadata["model"], mine)
    if model is not None:
        _refuse_other(path, model)
    for what, found, expected in (
        ("an optimizer", metadata["optimizer"], type(trainer.optimizer).__name__),
        ("seed", metadata["seed"], trainer.seed),
        ("lr", metadata["base_lr"], trainer.base_lr),
        ("schedule", _first(metadata["schedule"]), type(trainer.schedule).__name__),
        (
            "callbacks with a state",
            [_first(entry) for entry in metadata["callbacks"]],
            [type(callback).__name__ for callback in _with_state(trainer)],
        ),
    ):
        if found != expected:
            _refuse_other(path, f"{what} {short(str(found))}; expected {short(str(expected))}")
    if same_settings and "settings" in metadata:
        other = settings_difference(metadata["settings"], settings_of(trainer))
        if other is not None:
            _refuse_other(path, other)
    before = _State.of(trainer)
    try:
        _State(
            part_of(tensors, "model"),
            part_of(tensors, "optimizer"),
            metadata["rng"],
            metadata["schedule"][1],
            [
                (e[1], part_of(tensors, f"callback.{i}"))
                for i, e in enumerate(metadata["callbacks"])
            ],
            metadata["position"],
            metadata["history"],
        ).put_into(trainer)
    except DAMAGED as error:
        before.put_into(trainer)
        why = f"{error!r}" if isinstance(error, KeyError) else str(error)
        raise FileError(
            f"{path}: found a checkpoint that does not fit this run: {why.rstrip('.')}. Nothing "
            "was loaded."
        ) from error
    trainer.resumed_from = str(path)


def _refuse_other(path: FilePath, what: str) -> NoReturn:
    raise FileError(
        f"{path}: found a checkpoint of another run, with {what}, that of this run. Nothing was "
        "loaded."
    )


def settings_of(trainer: Trainer) -> dict[str, Any]:
    """All that decides the numbers of a run and is no state, as JSON can hold it.

    A part of one's own (an optimizer, a schedule, a loss, a callback) tells by `settings()`.
    """
    augmentation, clip_norm = trainer.augmentation, trainer.clip_norm
    loss: Any = trainer.loss_function
    kind = getattr(loss, "__name__", type(loss).__name__)
    settings: dict[str, Any] = {
        "augmentation": None if augmentation is None else dataclasses.asdict(augmentation),
        "callbacks": {
            f"{i} ({type(callback).__name__})": callback.settings()
            for i, callback in enumerate(_with_state(trainer))
        },
        "clip_norm": None if clip_norm is None else float(clip_norm),
        "loss": {"kind": kind, **(loss.settings() if hasattr(loss, "settings") else {})},
        "optimizer": trainer.optimizer.settings(),
        "plain_epochs": trainer.plain_epochs,
        "schedule": trainer.schedule.settings(),
    }
    if not trainer.measures.are_default:
        settings["metrics"] = trainer.measures.settings()
    if trainer.ranks.slots > 1:
        settings["slots"] = trainer.ranks.slots
        settings["sync_batch_norm"] = trainer.ranks.sync_batch_norm
    found: dict[str, Any] = json.loads(_as_json(settings, "a settings()"))
    return found


@dataclass
class _State:
    """What `load` puts into a trainer, and takes back if one part does not fit."""

    model: Mapping[str, Array]
    optimizer: Mapping[str, Array]
    rng: dict[str, list[int]]
    schedule: dict[str, Any]
    callbacks: list[tuple[dict[str, Any], Mapping[str, Array]]]
    position: dict[str, Any]
    history: list[dict[str, float]]

    @classmethod
    def of(cls, trainer: Trainer) -> _State:
        """The state of a trainer."""
        return cls(
            trainer.model.state_dict(),
            trainer.optimizer.state_dict(),
            trainer.model.rng_state(),
            trainer.schedule.state(),
            [(callback.state(), callback.arrays()) for callback in _with_state(trainer)],
            _position(trainer),
            list(trainer.history.rows),
        )

    def put_into(self, trainer: Trainer) -> None:
        """Make it that of `trainer`."""
        trainer.model.load_state_dict(self.model)
        trainer.optimizer.load_state_dict(self.optimizer)
        trainer.model.load_rng_state(self.rng)
        trainer.schedule.load_state(self.schedule)
        for callback, (state, arrays) in zip(_with_state(trainer), self.callbacks, strict=True):
            callback.load_state(state, arrays)
        position = self.position
        trainer.epoch, trainer.step = position["epoch"], position["step"]
        trainer.steps_done = position["steps_done"]
        trainer.measures.totals = totals_of(position)
        trainer.data_id = position["data"]
        trainer.evaluation_batch = position["evaluation_batch"]
        trainer.history.rows[:] = self.history


def _position(trainer: Trainer) -> dict[str, Any]:
    return {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "steps_done": trainer.steps_done,
        "data": trainer.data_id,
        "evaluation_batch": trainer.evaluation_batch,  # rounds the validation's loss
        "sums": trainer.measures.totals,
    }


def _with_state(trainer: Trainer) -> list[Callback]:
    """Those that a resumed run must find as they were; logs and time limits may differ."""
    for kind in [type(callback) for callback in trainer.callbacks]:
        for name in ("state", "arrays"):
            kept = getattr(kind, name) is not getattr(Callback, name)
            if kept and kind.load_state is Callback.load_state:
                raise TypeError(
                    f"{kind.__name__}: has {name}() but no load_state(state, arrays), so a resumed "
                    "run would lose its state; expected both, or neither."
                )
    return [callback for callback in trainer.callbacks if keeps_state(callback)]


def _first(entry: Any) -> Any:
    """The name in a [name, state]."""
    return entry[0] if isinstance(entry, list) and entry else None


def _check_finite(name: str, array: Array, path: FilePath) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Diverged(f"{name} holds a NaN or infinity; {path} was not written")


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def check(trainer: Trainer) -> None:
    """Raise the TypeError or ValueError that `save` would raise now: of a layer or a callback."""
    modelfile.describe(trainer.model)
    for callback in _with_state(trainer):
        _arrays_of(callback)
        _state_of(callback)
    settings_of(trainer)


def _state_of(callback: Callback) -> dict[str, Any]:
    state, who = callback.state(), f"{type(callback).__name__}.state()"
    _as_json(state, who)
    if not isinstance(state, dict):
        raise TypeError(f"{who} is {short(repr(state))}; expected a dict.")
    return state


def _arrays_of(callback: Callback) -> dict[str, Array]:
    arrays = callback.arrays()
    if not isinstance(arrays, dict) or not all(isinstance(a, np.ndarray) for a in arrays.values()):
        raise TypeError(
            f"{type(callback).__name__}.arrays() is {short(repr(arrays))}; expected a dict of "
            "NumPy arrays."
        )
    return arrays


def _as_json(value: Any, who: str) -> str:
    try:
        return files.to_json(value)
    except (TypeError, ValueError, RecursionError):
        raise TypeError(
            f"{who} is {short(repr(value))}, which JSON cannot hold; expected dicts, lists, texts, "
            "finite numbers, True, False or None: for a set write sorted(s)."
        ) from None


def checkpoint_in(place: FilePath) -> Path:
    """The file itself, or last.safetensors of a folder; FileError if there is none."""
    path = Path(place)
    try:
        if path.is_dir():
            path = path / "last.safetensors"
        found = path.is_file()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"{place}: cannot be read: {reason}.") from error
    if not found:
        raise FileError(
            f"{place}: found no checkpoint; expected a file, or a folder with last.safetensors. A "
            "run that ended before its first checkpoint begins anew, without --resume."
        )
    return path
