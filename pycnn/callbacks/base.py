"""Checks that several callbacks share."""

from __future__ import annotations

import os
from pathlib import Path


def path_of(who: str, name: str, value: object) -> Path:
    """The Path; TypeError for what names no file."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{who}: {name} is {value!r}; expected a name: a text or a pathlib.Path.")
    return Path(value)
