"""Initial values: float32 arrays drawn from one seeded np.random.Generator.

Draws are made in float64 and rounded once: NumPy takes the rare ones in the tails from the C
library's log, whose last bit differs between machines, and the rounding hides it.

Layers and models that are given no rng draw from the package's own generator, which is seeded with
0 when pycnn is imported: the same program gives the same bits every time. `pycnn.seed(n)` begins
another sequence.

Shapes of weights are [KH, KW, C / groups, OC] and [in, out], so fan_in, the number of inputs of one
output, is the product of all extents but the last; fan_out is KH * KW * OC or out.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_finite, is_whole

Floats = npt.NDArray[np.float32]
BLOCK = 1 << 16  # draws in float64 at a time: VGG's weights would take 1.6 GB otherwise


def normal(shape: int | Sequence[int], std: float, rng: np.random.Generator) -> Floats:
    """Normal values with mean 0 and standard deviation `std`, as tf.random_normal.

    Raises ValueError for a shape without or with empty axes, or a std that is negative or not
    finite; TypeError for an rng that is no Generator. So do the others.
    """
    values = np.zeros(_shape("normal", shape), np.float32)
    if rng is BLANK:
        return values
    draw, scale, flat = _rng("normal", rng).standard_normal, _std("normal", std), values.reshape(-1)
    for at in range(0, flat.size, BLOCK):
        part = flat[at : at + BLOCK]
        part[...] = draw(part.size) * scale
    return values


def truncated_normal(shape: int | Sequence[int], std: float, rng: np.random.Generator) -> Floats:
    """Normal values cut at two `std`: what lies outside is drawn again (tf.truncated_normal).

    Their own standard deviation is 0.88 * std.
    """
    size = _shape("truncated_normal", shape)
    scale = _std("truncated_normal", std)
    draws = _rng("truncated_normal", rng).standard_normal(size)
    outside = np.abs(draws) > 2
    while outside.any():
        draws[outside] = rng.standard_normal(np.count_nonzero(outside))
        outside = np.abs(draws) > 2
    return (draws * scale).astype(np.float32)


def he_normal(shape: Sequence[int], rng: np.random.Generator) -> Floats:
    """Normal values with std = sqrt(2 / fan_in): relu layers keep the size of their signal.

    He et al. 2015, "Delving Deep into Rectifiers".
    """
    fan_in, _ = _fans("he_normal", shape)
    return normal(shape, math.sqrt(2 / fan_in), _rng("he_normal", rng))


def glorot_uniform(shape: Sequence[int], rng: np.random.Generator) -> Floats:
    """Uniform values in +-sqrt(6 / (fan_in + fan_out)).

    Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward networks".
    """
    fan_in, fan_out = _fans("glorot_uniform", shape)
    limit = math.sqrt(6 / (fan_in + fan_out))
    draws = _rng("glorot_uniform", rng).random(_shape("glorot_uniform", shape))
    return ((2 * draws - 1) * limit).astype(np.float32)


def seed(n: int) -> None:
    """Begin the package's own generator anew: what has no rng draws the same again after it.

    It is for layers and models made with rng=None, the default; what has an rng, and the seed of a
    `Trainer` or a recipe, do not depend on it. Raises TypeError for what is no int, ValueError for
    a negative one.
    """
    global _sequence
    fresh = np.random.SeedSequence(_seed("seed: n", n, "an int"))
    with _lock:
        _sequence = fresh


def generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """`rng` itself, or a new Generator with this seed; an error for anything else.

    None: a new Generator from the package's own sequence of seeds, see `seed`. No seed is given
    twice, in whatever threads; which thread gets which depends on who comes first, so threads that
    must repeat their numbers need an rng each. A forked child goes on as its parent does.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        with _lock:
            (child,) = _sequence.spawn(1)
        return np.random.default_rng(child)
    return np.random.default_rng(_seed("rng", rng, _EXPECTED))


# For layers whose values come from a file right after: `normal` gives zeros, at no cost.
BLANK = np.random.default_rng(0)
_lock = threading.Lock()  # a SeedSequence counts its children without one
_sequence = np.random.SeedSequence(0)
_EXPECTED = "a np.random.Generator or an int to seed one: write np.random.default_rng(0)"


def _seed(name: str, value: Any, expected: str) -> int:
    if not is_whole(value):
        raise TypeError(f"{name} is {value!r}; expected {expected}.")
    if value < 0:
        raise ValueError(f"{name} is {value}; expected a seed of at least 0.")
    return int(value)


def _rng(who: str, rng: Any) -> np.random.Generator:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"{who}: rng is {rng!r}; expected a np.random.Generator: make one for the whole model, "
            "rng = np.random.default_rng(0)."
        )
    return rng


def _shape(who: str, shape: Any) -> tuple[int, ...]:
    try:
        extents = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        extents = tuple(map(operator.index, extents))
    except TypeError:
        extents = ()
    if not extents or min(extents) < 1:
        raise ValueError(f"{who}: shape is {shape!r}; expected whole numbers of at least 1.")
    return extents


def _std(who: str, std: Any) -> float:
    if is_finite(std) and std >= 0:
        return float(std)
    raise ValueError(f"{who}: std is {std!r}; expected a finite number of at least 0.")


def _fans(who: str, shape: Any) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight's shape."""
    extents = _shape(who, shape)
    if len(extents) not in (2, 4):
        raise ValueError(
            f"{who}: shape is {shape!r}, {len(extents)} axes; expected a weight's, [KH, KW, C, OC] "
            "or [in, out]: for other arrays use normal(shape, std, rng)."
        )
    return math.prod(extents[:-1]), math.prod(extents[:-2]) * extents[-1]
