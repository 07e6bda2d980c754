"""Strict loading: all names, shapes and types are right, or nothing changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pycnn.ops.arrays import Array, kind_of

if TYPE_CHECKING:
    from pycnn.layers.base import Layer


def load(
    who: str,
    targets: Mapping[str, Array],
    d: Mapping[str, Array],
    not_negative: Sequence[str] = (),
) -> None:
    """Copy d[name] into targets[name] for all names, if `check` has nothing to say."""
    check(who, targets, d, not_negative)
    for name, target in targets.items():
        target[...] = d[name]


def check(
    who: str,
    targets: Mapping[str, Array],
    d: Mapping[str, Array],
    not_negative: Sequence[str] = (),
) -> None:
    """Refuse a `d` that does not fit.

    who: begins the sentences of the ValueError, for example "Sequential.load_state_dict". It lists
    names that are missing or unexpected, entries of another shape or type, and negative values in
    entries that must not have them.
    """
    if not isinstance(d, Mapping):
        raise TypeError(
            f"{who}: got {kind_of(d)}; expected a dict of arrays, as state_dict() returns."
        )
    wrong = [
        _listed("missing", [name for name in targets if name not in d]),
        _listed("unexpected", [name for name in d if name not in targets]),
        *(_difference(name, targets[name], d[name]) for name in targets if name in d),
    ]
    sentences = [sentence for sentence in wrong if sentence]
    if not sentences:
        sentences = [
            f"{name!r} is {d[name]}; expected 0 or more."
            for name in not_negative
            if np.any(d[name] < 0)
        ]
    if sentences:
        raise ValueError(f"{who}: {' '.join(sentences)} Nothing was loaded.")


def load_rng(who: str, layers: Mapping[str, Layer], d: Mapping[str, list[int]]) -> None:
    """Set layers[name] to d[name], its seed and calls, for all names, or raise and set none."""
    if not isinstance(d, Mapping):
        raise TypeError(f"{who}: got {kind_of(d)}; expected a dict, as rng_state() returns.")
    wrong = [
        _listed("missing", [name for name in layers if name not in d]),
        _listed("unexpected", [name for name in d if name not in layers]),
        *(
            f"{name!r} is {value!r}; expected [seed, calls], two ints from 0 to 2**64 - 1."
            for name, value in d.items()
            if name in layers and not _is_rng_state(value)
        ),
    ]
    sentences = [sentence for sentence in wrong if sentence]
    if sentences:
        raise ValueError(f"{who}: {' '.join(sentences)} Nothing was loaded.")
    for name, layer in layers.items():
        layer.load_own_rng_state(list(d[name]))


def _is_rng_state(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return all(type(number) is int and 0 <= number < 2**64 for number in value)


def _listed(kind: str, names: list[str]) -> str:
    return f"{kind}: {', '.join(map(repr, names))}." if names else ""


def _difference(name: str, target: Array, value: Array) -> str:
    if not isinstance(value, np.ndarray):
        return f"{name!r} is {kind_of(value)}; expected a NumPy array."
    if value.shape != target.shape:
        return f"{name!r} has shape {value.shape}; expected {target.shape}."
    if value.dtype != target.dtype:
        return f"{name!r} is {value.dtype}; expected {target.dtype}: convert it with astype."
    return ""
