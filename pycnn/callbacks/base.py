"""Checks that several callbacks share."""

from __future__ import annotations

import math
import numbers
import os
from pathlib import Path


def path_of(who: str, name: str, value: object) -> Path:
    """The Path; TypeError for what names no file."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{who}: {name} is {value!r}; expected a name: a text or a pathlib.Path.")
    return Path(value)


def is_number(value: object) -> bool:
    """Whether it is a number, perhaps infinite, and no bool."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and not math.isnan(value)  # type: ignore[arg-type]
