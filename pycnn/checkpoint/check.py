"""What is wrong with the metadata of a checkpoint, and how two descriptions of runs differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from pycnn.ops.arrays import Array

LARGEST = 2**63 - 1
POSITION = {"epoch", "step", "steps_done", "data", "evaluation_batch", "sums"}
ROW = {"epoch", "step", "lr", "loss", "accuracy"}


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
    if not (isinstance(sums, list) and len(sums) == 2 and all(map(_number, sums))):
        return _is("position.sums", sums, "two finite numbers")
    good = isinstance(data, list) and len(data) == 4 and all(map(_whole, data))
    if not (data is None or (good and 1 <= data[3] <= data[0])):
        return _is("position.data", data, "[images, sum, sum, batch size], or null")
    epoch, step, done = position["epoch"], position["step"], position["steps_done"]
    steps = 0 if data is None else data[0] // data[3]  # of an epoch
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


def settings_difference(found: Any, expected: Any, name: str = "") -> str | None:
    """'optimizer.betas [0.9, 0.99]; expected [0.9, 0.999]': the first one that differs."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            inner = f"{name}.{key}" if name else key
            what = settings_difference(found.get(key), expected.get(key), inner)
            if what is not None:
                return what
        return None
    if found == expected:
        return None
    return f"{name} {_plain(found)}; expected {_plain(expected)}"


def _plain(value: object) -> str:
    return "none" if value is None else short(str(value))


def model_difference(found: Any, expected: Mapping[str, Any]) -> str | None:
    """'dtype float64; expected float32', 'a layer 3 ...': the first part that differs.

    Not the shape of an image and the names, which a model that was never fitted need not know.
    """
    what = _layers_difference(found.get("layers"), expected["layers"], "")
    if what is not None:
        return what
    left_out = {"layers": None, "input_shape": None, "class_names": None}
    return settings_difference({**found, **left_out}, {**expected, **left_out})


def _layers_difference(found: Any, expected: list[Any], prefix: str) -> str | None:
    if not isinstance(found, list):
        return f"{short(repr(found))} for a list of layers; expected {len(expected)} layers"
    for i, (one, other) in enumerate(zip_longest(found, expected)):
        if one == other:
            continue
        name = f"layer {prefix}{i}"
        kinds = [layer.get("kind") if isinstance(layer, dict) else None for layer in (one, other)]
        if kinds[0] != kinds[1]:
            words = [f"a {kind}" if kind else "none" for kind in kinds]
            return f"{words[0]} as {name}; expected {words[1]}"
        if kinds[0] == "Sequential":
            return _layers_difference(one.get("layers"), other["layers"], f"{prefix}{i}.")
        return settings_difference(
            {f"{name} ({kinds[0]}): {k}": v for k, v in one.items()},
            {f"{name} ({kinds[0]}): {k}": v for k, v in other.items()},
        )
    return None
