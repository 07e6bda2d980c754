"""The activations that operators apply to their results, by the names that users write."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import _pycnn

from pycnn._runtime.checks import is_choice
from pycnn.ops.arrays import number

Activation: TypeAlias = _pycnn.Activation  # what C++ takes
ActivationLike: TypeAlias = str | tuple[str | float, ...] | Activation | None


class Number(NamedTuple):
    """A number of an activation: its name, what it is if nobody says, and what it may be."""

    name: str
    default: float
    fits: Callable[[float], bool]
    expected: str


def _positive(name: str, default: float) -> Number:
    return Number(name, default, lambda v: 0 < v < math.inf, "a finite number above 0")


def _finite(name: str, default: float) -> Number:
    return Number(name, default, math.isfinite, "a finite number")


def _any(name: str, default: float) -> Number:
    return Number(name, default, lambda v: not math.isnan(v), "a number")


# The rows of csrc/kernels/epilogue.h, which has the formulas, with relu6 beside them.
NUMBERS: dict[str, tuple[Number, ...]] = {
    "relu": (),
    "relu6": (),
    "clip": (_any("low", -math.inf), _any("high", math.inf)),
    "leaky_relu": (_finite("slope", 0.01),),
    "elu": (_positive("alpha", 1.0),),
    "hard_sigmoid": (_positive("slope", 1 / 6), _finite("shift", 0.5)),
    "hard_swish": (),
    "sigmoid": (),
    "silu": (),
    "tanh": (),
    "gelu": (),
    "gelu_tanh": (),
    "softplus": (_positive("beta", 1.0), _any("threshold", 20.0)),
    "exp": (),
    "erf": (),
    "sqrt": (),
    "abs": (),
    "log": (),
}
NAMES = tuple(NUMBERS)


@functools.cache
def activation(name: str, *numbers: float) -> Activation:
    """The row of this name; numbers as in NUMBERS, all of them, already checked."""
    if name == "relu6":
        return _pycnn.Activation("clip", 0.0, 6.0)
    # The same numbers, and kernels do relu themselves.
    if (name == "clip" and numbers == (0.0, math.inf)) or (name == "leaky_relu" and not numbers[0]):
        return _pycnn.Activation("relu")
    return _pycnn.Activation(name, *numbers)


NONE = _pycnn.Activation("none")
RELU = activation("relu")


def relu_if(condition: bool) -> Activation:
    """RELU or NONE."""
    return RELU if condition else NONE


def checked(
    name: str, values: tuple[object, ...], op: str, names: tuple[str, ...] = ()
) -> tuple[float, ...]:
    """The numbers of an activation, the last ones perhaps left out; a sentence if one is wrong.

    names: what the caller calls them, where that is not what the table does.
    """
    rows = NUMBERS[name]
    found = [number(value) for value in values] + [row.default for row in rows[len(values) :]]
    for i, (row, value) in enumerate(zip(rows, found, strict=True)):
        if not row.fits(value):
            called = names[i] if names else row.name
            raise ValueError(f"{op}: {called} is {values[i]!r}; expected {row.expected}.")
    return tuple(found)


def parse(given: ActivationLike, op: str) -> Activation:
    """None, a name, or a name with its numbers: ("leaky_relu", 0.1), ("clip", -1, 1)."""
    if given is None:
        return NONE
    if isinstance(given, Activation):
        return given
    name, *values = given if isinstance(given, (tuple, list)) and given else (given,)
    if isinstance(name, str) and is_choice(name, NAMES) and len(values) <= len(NUMBERS[name]):
        return activation(name, *checked(name, tuple(values), f"{op}: activation {name}"))
    names = ", ".join(f'"{name}"' for name in NAMES)
    raise ValueError(
        f"{op}: activation is {given!r}; expected None, {names}, or a tuple of a name and its "
        'numbers: ("leaky_relu", slope), ("clip", low, high).'
    )
