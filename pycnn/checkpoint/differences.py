"""How two descriptions of runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from pycnn._formats.checkpoints import short
from pycnn._formats.description import complete


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
    found = complete(found)
    what = _layers_difference(found.get("layers"), expected["layers"], "")
    if what is not None:
        return what
    calls = {name: found.get(name) for name in ("training", "eval")}
    if calls != {name: expected.get(name) for name in calls}:
        return "a network that calls its layers in another way; expected the same"
    left_out = dict.fromkeys(("layers", "input_shape", "class_names", "inputs", *calls))
    return settings_difference({**found, **left_out}, {**expected, **left_out})


def _layers_difference(found: Any, expected: Any, prefix: str) -> str | None:
    if not isinstance(found, list):
        return f"{short(repr(found))} for a list of layers; expected {len(expected)} layers"
    for i, (one, other) in enumerate(zip_longest(found, expected)):
        if one == other:
            continue
        called = other.get("name") if isinstance(other, dict) else None
        name = f"layer {called or f'{prefix}{i}'}"
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
