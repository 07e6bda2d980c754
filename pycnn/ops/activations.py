"""The activations that operators apply to their results, by the names that users write."""

from __future__ import annotations

import math
from typing import TypeAlias

import _pycnn

from pycnn._runtime.checks import is_choice
from pycnn.ops.arrays import number

ActivationLike: TypeAlias = str | tuple[str, float] | None

# csrc/kernels/epilogue.h has the formulas.
NAMES = ("relu", "relu6", "hard_sigmoid", "hard_swish", "sigmoid", "silu", "tanh", "gelu_tanh")
Activation: TypeAlias = _pycnn.Activation  # what C++ takes
NONE = _pycnn.Activation("none", 0.0)
RELU = _pycnn.Activation("relu", 0.0)
_BY_NAME = {name: _pycnn.Activation(name, 0.0) for name in NAMES}


def relu_if(condition: bool) -> Activation:
    """RELU or NONE."""
    return RELU if condition else NONE


def parse(activation: ActivationLike, op: str) -> Activation:
    """None, a name, or ("leaky_relu", slope)."""
    if activation is None:
        return NONE
    if isinstance(activation, str) and is_choice(activation, NAMES):
        return _BY_NAME[activation]
    pair = activation if isinstance(activation, (tuple, list)) and len(activation) == 2 else ()
    if pair and is_choice(pair[0], ("leaky_relu",)) and math.isfinite(number(pair[1])):
        return _pycnn.Activation("leaky_relu", number(pair[1]))
    names = ", ".join(f'"{name}"' for name in NAMES)
    raise ValueError(
        f'{op}: activation is {activation!r}; expected None, {names}, or ("leaky_relu", slope).'
    )
