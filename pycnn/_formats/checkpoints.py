"""Reading the file of a checkpoint: `pycnn.checkpoint` writes it, and its head says what it holds.

This stands below `modelfile`, which finds the model in one, and knows no Trainer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pycnn._formats import files
from pycnn._formats.files import FileError, FilePath
from pycnn.ops.arrays import Array

FORMAT = 3  # 1 had no "settings"; up to 2 the sums of an epoch were [losses, right answers]
KIND = "checkpoint"
PARTS = {
    "average", "base_lr", "callbacks", "format", "history", "kind", "model", "optimizer",
    "position", "recipe", "rng", "schedule", "seed", "settings",
}  # fmt: skip
DAMAGED = (AttributeError, IndexError, KeyError, TypeError, ValueError)  # by odd metadata
LARGEST = 2**63 - 1
POSITION = {"epoch", "step", "steps_done", "data", "evaluation_batch", "sums"}
ROW = {"epoch", "step", "lr", "loss"}


def read(path: FilePath) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and the metadata of a checkpoint; FileError for anything else."""
    tensors, metadata = files.read_safetensors(path)
    kind, version = metadata.get("kind"), metadata.get("format")
    if kind != KIND:
        found = "a model's file, without the state of its training" if metadata else "no checkpoint"
        raise FileError(
            f"{path}: found {found}; expected a checkpoint, for example last.safetensors."
        )
    if type(version) is not int:
        raise FileError(f"{path}: found a checkpoint without the number of its format: damaged.")
    if version > FORMAT:
        raise FileError(
            f"{path}: found a checkpoint of format {version}; this pycnn reads up to {FORMAT}: "
            "install a newer one."
        )
    parts = PARTS if version > 1 else PARTS - {"settings"}
    if set(metadata) != parts:
        odd = ", ".join(sorted(set(metadata) ^ parts))
        raise FileError(f"{path}: found a checkpoint that lacks or adds {odd}: damaged.")
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FileError(
                f"{path}: found NaN or infinity in {name}; expected finite numbers: the run had "
                "diverged. Go on from an earlier checkpoint."
            )
    wrong = fault(metadata, tensors)
    if wrong is not None:
        raise FileError(f"{path}: found a damaged checkpoint: {wrong}.")
    return tensors, metadata


def evaluated(path: FilePath) -> tuple[dict[str, Array], Any]:
    """The weights that validation saw (the average, if there was one), and their model."""
    tensors, metadata = read(path)
    average = metadata["average"]
    part = "model" if average is None else f"callback.{average}"
    return part_of(tensors, part), metadata["model"]


def part_of(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays whose names begin with `prefix` and a dot, without both."""
    start = f"{prefix}."
    return {
        name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)
    }


def _whole(value: object, low: int = 0) -> bool:
    return type(value) is int and low <= value <= LARGEST


def _number(value: object) -> bool:
    return _whole(value, -LARGEST) or (isinstance(value, float) and math.isfinite(value))


def _named_state(value: object) -> bool:
    """[name, state]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
    )


def _row(value: object) -> bool:
    return isinstance(value, dict) and value.keys() >= ROW and all(map(_number, value.values()))


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(map(_number, value))


def _totals(value: object) -> bool:
    return isinstance(value, dict) and all(map(_numbers, value.values()))


def totals_of(position: Mapping[str, Any]) -> dict[str, list[float]]:
    """The sums of an epoch: {"loss": [losses, weight], "accuracy": [right, all]}, say.

    A file of format 2 knows them after a step of arrays; of batches ValueError, if it is within an
    epoch.
    """
    sums, step, data = position["sums"], position["step"], position["data"]
    if isinstance(sums, dict):
        return {name: list(values) for name, values in sums.items()}
    if not step:
        return {}
    if data is None or len(data) == 1:
        raise ValueError("an older pycnn has saved it within an epoch of batches")
    return {"loss": [sums[0], float(step)], "accuracy": [sums[1], float(step * data[3])]}


def fault(metadata: Mapping[str, Any], tensors: Mapping[str, Array]) -> str | None:
    """The first part of the metadata that no run has written; None if all are right."""
    average, states, history = metadata["average"], metadata["callbacks"], metadata["history"]
    if not (isinstance(states, list) and all(map(_named_state, states))):
        return _is("callbacks", states, "a list of [name, state]")
    if not (average is None or (_whole(average) and average < len(states))):
        return _is("average", average, "the number of a callback, or null")
    if not (_number(metadata["base_lr"]) and metadata["base_lr"] >= 0):
        return _is("base_lr", metadata["base_lr"], "a finite number, not negative")
    if not _whole(metadata["seed"]):
        return _is("seed", metadata["seed"], "a whole number, 0 or more")
    for name in ("model", "recipe", "rng", "settings"):
        if not isinstance(metadata.get(name, {}), dict):
            return _is(name, metadata[name], "an object")
    if not isinstance(metadata["optimizer"], str):
        return _is("optimizer", metadata["optimizer"], "a name")
    if not _named_state(metadata["schedule"]):
        return _is("schedule", metadata["schedule"], "[name, state]")
    found = _fault_of_position(metadata["position"])
    if found is not None:
        return found
    if not (isinstance(history, list) and all(map(_row, history))):
        return _is("history", history, f"a list of rows of numbers: {', '.join(sorted(ROW))}")
    if len(history) != metadata["position"]["epoch"]:
        return f"history has {len(history)} rows after {metadata['position']['epoch']} epochs"
    if average is not None and _shapes(tensors, "model") != _shapes(tensors, f"callback.{average}"):
        return "the average has not the names and shapes of the model"
    return None


def _fault_of_position(position: Any) -> str | None:
    if not (isinstance(position, dict) and set(position) == POSITION):
        return _is("position", position, f"an object with {', '.join(sorted(POSITION))}")
    for name in ("epoch", "step", "steps_done", "evaluation_batch"):
        low = int(name == "evaluation_batch")
        if not _whole(position[name], low):
            return _is(f"position.{name}", position[name], f"a whole number, {low} or more")
    sums, data = position["sums"], position["data"]
    if not (_numbers(sums) and len(sums) == 2 if isinstance(sums, list) else _totals(sums)):
        return _is("position.sums", sums, "two finite numbers, or a list of them by name")
    good = isinstance(data, list) and len(data) in (1, 4, 5) and all(map(_whole, data))
    good = good and (len(data) == 1 or 1 <= data[3] <= data[0])
    if not (data is None or (good and (len(data) < 5 or 1 <= data[4] <= data[0] // data[3]))):
        lists = "[samples, sum, sum, batch size], the same and steps of an epoch, [batches]"
        return _is("position.data", data, f"{lists}, or null")
    epoch, step, done = position["epoch"], position["step"], position["steps_done"]
    if data == [0]:  # the number of batches was not known
        right = epoch + step <= done if epoch else step == done
        return None if right else f"position has {done} steps done at epoch {epoch}, step {step}"
    steps = 0 if data is None else data[0] // data[3] if len(data) == 4 else data[-1]  # of an epoch
    if step > steps or epoch * steps + step != done or (data is None and epoch):
        return f"position has {done} steps done at epoch {epoch}, step {step} of {steps}"
    return None


def _is(name: str, value: object, expected: str) -> str:
    return f"{name} is {short(repr(value))}; expected {expected}"


def short(text: str) -> str:
    """The beginning of what may be long."""
    return text if len(text) < 200 else f"{text[:200]}..."


def _shapes(tensors: Mapping[str, Array], part: str) -> dict[str, Any]:
    start = f"{part}."
    return {
        name.removeprefix(start): (array.shape, array.dtype)
        for name, array in tensors.items()
        if name.startswith(start)
    }
