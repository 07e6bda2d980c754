"""What a setting of a recipe is: meaning, range, what it goes with; and how it is checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pycnn._runtime.checks import is_number, is_whole
from pycnn.augment import Augmentation
from pycnn.ops.arrays import LARGEST

AUGMENTATION = tuple(field.name for field in dataclasses.fields(Augmentation))
DISTORTIONS = tuple(name for name in AUGMENTATION if name != "elastic_sigma")

Condition = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Setting:
    """All of a setting but its name, type and default, which the field of `Recipe` has.

    meaning: one line, the comment of --print-config and the help of its option. A number is 0 or
    more, or above_0; below and high bound it from above, without and with the bound itself, most
    does so for whole numbers. choices: the words that it may be. option: what the command's option
    of this name calls a value, for a number that has one. goes_with: a condition on all settings,
    and its words; without it the setting does nothing.
    """

    meaning: str
    above_0: bool = False
    below: float = math.inf
    high: float = math.inf
    most: int = LARGEST
    choices: tuple[str, ...] = ()
    option: str = ""
    goes_with: tuple[Condition, str] | None = None


def setting(default: Any, meaning: str, **more: Any) -> Any:
    """A field of `Recipe`; `more` are other parts of its `Setting`."""
    return dataclasses.field(default=default, metadata={"setting": Setting(meaning, **more)})


class ConfigError(ValueError):
    """A setting that does not exist, or whose value cannot be; says which and what was expected.

    setting: its name, if the error is of a single one.
    """

    def __init__(self, message: str, setting: str | None = None) -> None:
        """Remember the setting."""
        super().__init__(message)
        self.setting = setting


def converted(name: str, value: Any, kind: Any) -> Any:
    """The value as its type has it; ConfigError for another type."""
    if kind is bool:
        right, expected = isinstance(value, bool), "true or false"
        if isinstance(value, str) and value.lower() in ("true", "false"):
            expected += f": write {value.lower()}, in small letters and without quotes"
    elif kind is int:
        right, expected = is_whole(value), "a whole number"
    elif kind is float:
        right, expected = is_number(value), "a number"
    elif kind is str:
        right, expected = isinstance(value, str), "a text"
    else:
        right = isinstance(value, (list, tuple)) and len(value) > 0
        right = right and all(map(is_whole, value))
        expected = "a list of whole numbers"
    if not right:
        raise ConfigError(f"{name} is {value!r}; expected {expected}.", name)
    try:
        return tuple(map(int, value)) if kind == tuple[int, ...] else kind(value)
    except OverflowError:
        raise ConfigError(f"{name} is {value!r}; expected a smaller number.", name) from None


def check_range(name: str, value: Any, setting: Setting) -> None:
    """ConfigError for a number out of its range, or a word that is no choice."""
    if setting.choices and value not in setting.choices:
        raise ConfigError(
            f"{name} is {value!r}; expected one of {', '.join(setting.choices)}.", name
        )
    if name in AUGMENTATION:
        try:
            Augmentation(**{name: value})
        except ValueError as error:
            raise ConfigError(str(error).removeprefix("Augmentation: "), name) from None
    elif not isinstance(value, (str, bool)):
        for number in value if isinstance(value, tuple) else (value,):
            _check_number(name, value, number, setting)


def _check_number(name: str, value: Any, number: float, setting: Setting) -> None:
    """One number of a setting's value, which the sentence quotes."""
    right = number > 0 if setting.above_0 else number >= 0
    if not (right and number <= setting.high and number < setting.below and number < math.inf):
        low = "a finite number above 0" if setting.above_0 else "a finite number, 0 or more"
        high = "" if setting.high == math.inf else f", at most {setting.high:g}"
        high = high if setting.below == math.inf else f", below {setting.below:g}"
        raise ConfigError(f"{name} is {value!r}; expected {low}{high}.", name)
    if isinstance(number, int) and number > setting.most:
        raise ConfigError(f"{name} is {value!r}; expected at most {setting.most}.", name)
