"""Recipes: all that a training of `python -m pycnn.train` depends on, in one table of settings.

A recipe is a `Recipe`; four have names: `get("lecture")`, `get("fast")`, `get("best")`,
`get("residual")`. As text it is TOML, one line a setting:

    python -m pycnn.train --recipe fast --print-config > mine.toml
    python -m pycnn.train --config mine.toml --epochs 2
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pycnn._formats import toml
from pycnn._formats.files import FileError, read_small
from pycnn.recipes.recipe import DEFAULTS, NAMES, OPTIMIZERS, SCHEDULES, SETTINGS, Recipe, idle
from pycnn.recipes.settings import ConfigError

__all__ = [
    "NAMES", "OPTIMIZERS", "RECIPES", "SCHEDULES", "SETTINGS", "ConfigError", "Recipe", "get",
    "load_config", "read_config", "restored",
]  # fmt: skip

RECIPES = {
    "lecture": Recipe(),
    "fast": Recipe(
        channels=(16, 16, 64),
        batch_norm=True,
        init="he",
        zero_last=True,
        first_kernel_size=5,
        epochs=1,
        epoch_share=0.45,
        batch_size=64,
        lr=0.025,
        beta1=0.8,
        beta2=0.97,
        label_smoothing=0.1,
        schedule="one-cycle",
        warmup=0.2,
        normalize=True,
    ),
    "best": Recipe(
        channels=(32, 64, 128),
        convolutions=(1, 2, 2),
        batch_norm=True,
        normalize_after_pool=False,
        dropout=0.3,
        init="he",
        zero_last=True,
        epochs=20,
        lr=0.01,
        schedule="one-cycle",
        warmup=0.2,
        label_smoothing=0.05,
        ema=0.999,
        normalize=True,
        shift=2.0,
        rotation=10.0,
        scale=0.1,
        shear=0.1,
        plain_epochs=1,
    ),
    "residual": Recipe(
        network="resnet12_small",
        epochs=20,
        optimizer="sgd",
        lr=0.1,
        nesterov=True,
        weight_decay=5e-4,
        schedule="one-cycle",
        warmup=0.2,
        label_smoothing=0.1,
        normalize=True,
        crop=2,
        flip=0.5,
        plain_epochs=1,
    ),
}


def get(name: str) -> Recipe:
    """The recipe of this name: "lecture", "fast", "best" or "residual"."""
    if not isinstance(name, str) or name not in RECIPES:
        near = difflib.get_close_matches(str(name), RECIPES, 1)
        raise ConfigError(
            f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}"
            + (f": did you mean {near[0]}?" if near else ".")
        )
    return RECIPES[name]


def restored(settings: Mapping[str, Any]) -> Recipe:
    """The recipe of a checkpoint; a setting that did nothing there has its default."""
    lost = idle({**DEFAULTS, **settings})
    return Recipe().with_settings({k: v for k, v in settings.items() if k not in lost})


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings in a TOML file; ConfigError for a file that is none, or cannot be read."""
    return _read(path)[0]


def load_config(path: str | Path, name: str | None = None) -> Recipe:
    """The recipe `name`, or that which the file names, or the lecture's, with the file's settings.

    ConfigError says the file and the line.
    """
    settings, text = _read(path)
    try:
        for key, value in settings.items():
            if isinstance(value, dict):
                raise ConfigError(
                    f"[{key}] is a table; expected settings at the top level: leave [{key}] out.",
                    key,
                )
        named = settings.pop("recipe", "lecture")
        try:
            base = get(name or named)
        except ConfigError as error:
            raise ConfigError(str(error), None if name else "recipe") from error
        return base.with_settings(settings)
    except ConfigError as error:
        name = error.setting
        pattern = rf"""\s*(\[\s*)?["']?{re.escape(name or "")}["']?\s*[.=\]]"""
        lines = [n for n, line in enumerate(text.splitlines(), 1) if re.match(pattern, line)]
        place = f"{path}, line {lines[0]}" if name and lines else f"{path}"
        raise ConfigError(f"{place}: {error}", name) from error


def _read(path: str | Path) -> tuple[dict[str, Any], str]:
    try:
        text = read_small(path, "a TOML file of settings").decode()
        return toml.loads(text), text
    except FileError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except (toml.TomlError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {str(error).rstrip('.')}.") from error
