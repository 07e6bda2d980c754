"""Which values count as whole numbers, numbers and names: each caller writes its own sentence.

A bool is never a number: `Dropout(True)` is a mistake, though Python computes with it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np


def is_whole(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether it is an int, Python's or NumPy's, from `low` to `high`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and bool(low <= value <= high)


def is_number(value: Any) -> bool:
    """Whether it is an int or a float, Python's or NumPy's; NaN and Inf are."""
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool)


def is_real(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether it is a number from `low` to `high`; NaN lies in no range."""
    return is_number(value) and bool(low <= value <= high)


def is_finite(value: Any) -> bool:
    """Whether it is a number, neither NaN nor infinite."""
    return is_real(value) and -math.inf < value < math.inf


def is_choice(value: Any, names: Collection[str]) -> bool:
    """Whether it is one of the names; a list, say, is none, where `in` alone may raise."""
    return isinstance(value, str) and value in names
