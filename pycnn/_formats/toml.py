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
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise TomlError("its brackets are nested too deeply") from None
    except ValueError as error:  # also a number of thousands of digits
        raise error if isinstance(error, TomlError) else TomlError(str(error)) from None
    return found
