"""TOML as text: the standard library's reader, which Python 3.10 does not have yet."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TomlError = tomllib.TOMLDecodeError


def loads(text: str) -> dict[str, Any]:
    """The tables of a TOML text; TomlError for another text."""
    found: dict[str, Any] = tomllib.loads(text)
    return found
