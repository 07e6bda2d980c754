"""A Trainer's whole state in one file, from which it goes on bit for bit.

Tensors: "model.<name>", "optimizer.<name>", "callback.<i>.<name>" (for example the average of
`Ema`). Metadata: the model's description, the position, the sums of the epoch, the History, the
states of schedule, callbacks and Dropout, and the recipe. No times, paths or thread counts: two
runs that reach the same step with the same settings write the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn import _files, modelfile
from pycnn._arrays import Array
from pycnn._files import FileError, FilePath
from pycnn.callbacks.base import Callback
from pycnn.layers import Sequential

if TYPE_CHECKING:
    from pycnn.trainer import Trainer

FORMAT = 1
KIND = "checkpoint"


def save(trainer: Trainer, path: FilePath, recipe: Mapping[str, Any] | None = None) -> None:
    """Write the state of `trainer` after its last step; the file is whole, or what it was before.

    recipe: what describes the run to `python -m pycnn.train --resume`; JSON-able. Raises FileError.
    """
    tensors = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    tensors.update(_prefixed("optimizer", trainer.optimizer.state_dict()))
    states = []
    callbacks = _with_state(trainer)
    for i, callback in enumerate(callbacks):
        tensors.update(_prefixed(f"callback.{i}", callback.arrays()))
        states.append([type(callback).__name__, callback.state()])
    average = [i for i, callback in enumerate(callbacks) if getattr(callback, "average", None)]
    metadata = {
        "kind": KIND,
        "format": FORMAT,
        "model": modelfile.describe(trainer.model),
        "average": average[0] if average else None,
        "optimizer": type(trainer.optimizer).__name__,
        "position": {
            "epoch": trainer.epoch,
            "step": trainer.step,
            "steps_done": trainer.steps_done,
            "data": trainer.data_id,
            "sums": trainer.sums,
        },
        "seed": trainer.seed,
        "base_lr": trainer.base_lr,
        "rng": trainer.model.rng_state(),
        "schedule": trainer.schedule.state(),
        "callbacks": states,
        "history": trainer.history.rows,
        "recipe": dict(recipe or {}),
    }
    _files.write_safetensors(path, tensors, metadata)


def load(trainer: Trainer, path: FilePath) -> None:
    """Bring `trainer`, made with the same arguments, to the state in the file.

    Its next `fit` with the same data, epochs and batch size ends as if it had never stopped. Raises
    FileError, and changes nothing, for a file that is no checkpoint, one of another model,
    optimizer or list of callbacks, one with NaN, or one from a newer pycnn.
    """
    tensors, metadata = read(path)
    for what, found, expected in (
        ("a model", metadata["model"], modelfile.describe(trainer.model)),
        ("an optimizer", metadata["optimizer"], type(trainer.optimizer).__name__),
        ("seed", metadata["seed"], trainer.seed),
        ("lr", metadata["base_lr"], trainer.base_lr),
        (
            "callbacks with a state",
            [name for name, state in metadata["callbacks"]],
            [type(callback).__name__ for callback in _with_state(trainer)],
        ),
    ):
        if found != expected:
            raise FileError(
                f"{path}: found a checkpoint of another run, with {what} {_short(found)}; expected "
                f"{_short(expected)}, that of this run. Nothing was loaded."
            )
    try:
        trainer.model.load_state_dict(_part(tensors, "model"))
        trainer.optimizer.load_state_dict(_part(tensors, "optimizer"))
    except ValueError as error:
        raise FileError(f"{path}: found a checkpoint that does not fit: {error}") from error
    trainer.model.load_rng_state(metadata["rng"])
    trainer.schedule.load_state(metadata["schedule"])
    for i, (callback, (_, state)) in enumerate(
        zip(_with_state(trainer), metadata["callbacks"], strict=True)
    ):
        callback.load_state(state, _part(tensors, f"callback.{i}"))
    position = metadata["position"]
    trainer.epoch, trainer.step = position["epoch"], position["step"]
    trainer.steps_done, trainer.sums = position["steps_done"], list(position["sums"])
    trainer.data_id = position["data"]
    trainer.history.rows[:] = metadata["history"]


def read(path: FilePath) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the metadata of a checkpoint; FileError for anything else."""
    tensors, metadata = _files.read_safetensors(path)
    kind, version = metadata.get("kind"), metadata.get("format")
    if kind != KIND:
        found = "a model's file, without the state of its training" if metadata else "no checkpoint"
        raise FileError(
            f"{path}: found {found}; expected a checkpoint, for example last.safetensors."
        )
    if not isinstance(version, int) or version > FORMAT:
        raise FileError(
            f"{path}: found a checkpoint of format {version}; this pycnn reads up to {FORMAT}: "
            "install a newer one."
        )
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FileError(
                f"{path}: found NaN or infinity in {name}; expected finite numbers: the run had "
                "diverged. Go on from an earlier checkpoint."
            )
    return tensors, metadata


def model_of(path: FilePath) -> Sequential:
    """The model of a checkpoint, with the average of `Ema` if there was one; in eval mode."""
    tensors, metadata = read(path)
    average = metadata["average"]
    part = "model" if average is None else f"callback.{average}"
    weights = _part(tensors, part)
    model = modelfile.build(metadata["model"], weights)
    model.load_state_dict(weights)
    return model.eval()


def _with_state(trainer: Trainer) -> list[Callback]:
    """Those that a resumed run must find as they were; logs and time limits may differ."""
    return [
        callback
        for callback in trainer.callbacks
        if type(callback).load_state is not Callback.load_state
    ]


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _part(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    start = f"{prefix}."
    return {
        name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)
    }


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:200]}..."


def checkpoint_in(place: FilePath) -> Path:
    """The file itself, or last.safetensors of a folder; FileError if there is none."""
    path = Path(place)
    if path.is_dir():
        path = path / "last.safetensors"
    if not path.is_file():
        raise FileError(
            f"{place}: found no checkpoint; expected a file, or a folder with last.safetensors. A "
            "run that ended before its first checkpoint begins anew, without --resume."
        )
    return path
