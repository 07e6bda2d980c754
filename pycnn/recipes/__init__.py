"""Recipes: all that a training of `python -m pycnn.train` depends on, in one table of settings.

A recipe is a `Recipe`; three have names: `get("lecture")`, `get("fast")`, `get("best")`. As text it
is TOML, one line a setting:

    python -m pycnn.train --recipe fast --print-config > mine.toml
    python -m pycnn.train --config mine.toml --epochs 2
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pycnn import losses, models, optim, schedules
from pycnn._formats import toml
from pycnn.augment import Augmentation
from pycnn.callbacks import Callback, Ema
from pycnn.layers import Module, Sequential
from pycnn.preprocessing import Normalization
from pycnn.recipes import settings as _settings
from pycnn.recipes.settings import OPTIMIZERS, SCHEDULES, ConfigError
from pycnn.trainer import Trainer

__all__ = [
    "NAMES", "OPTIMIZERS", "RECIPES", "SCHEDULES", "ConfigError", "Recipe", "get", "load_config",
    "read_config", "restored",
]  # fmt: skip

# Of the pixels of MNIST's 60,000 training images, mapped to 0 .. 1.
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081


@dataclass(frozen=True)
class Recipe:
    """The settings of a training; the defaults are the lecture's.

    Network: a stage is `convolutions[i]` times (3 x 3 convolution "same", normalisation, relu) with
    channels[i] channels, and a 2 x 2 max pool "same"; then dropout and one linear layer. See
    `models.stages`, which explains these settings; `to_toml` explains all.

    A setting that does nothing beside the others is refused unless it has its default: gamma
    without schedule "step", momentum without optimizer "sgd".
    """

    channels: tuple[int, ...] = (32, 64, 128)
    convolutions: tuple[int, ...] = (1, 1, 1)
    first_kernel_size: int = 3
    batch_norm: bool = False
    normalize_after_pool: bool = True
    dropout: float = 0.0
    init: str = "lecture"
    zero_last: bool = False

    epochs: int = 30
    batch_size: int = 100
    optimizer: str = "adam"
    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    gamma: float = 0.7
    clip_norm: float = 0.0
    ema: float = 0.0
    normalize: bool = False

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0
    erase: float = 0.0
    plain_epochs: int = 0

    validation_size: int = 5000
    limit_train: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the types and ranges of all settings."""
        types = get_type_hints(Recipe)
        for field in dataclasses.fields(self):
            value = _settings.converted(field.name, getattr(self, field.name), types[field.name])
            _settings.check_range(field.name, value)
            object.__setattr__(self, field.name, value)
        if len(self.channels) != len(self.convolutions):
            raise ConfigError(
                f"convolutions has {len(self.convolutions)} numbers; expected "
                f"{len(self.channels)}, one a stage, as channels.",
                "convolutions",
            )
        for name in _settings.idle(dataclasses.asdict(self), _defaults()):
            raise ConfigError(
                f"{name} is {getattr(self, name)!r}, which does nothing here: it goes with "
                f"{_settings.GOES_WITH[name][1]}.",
                name,
            )

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """Another recipe with these settings changed; ConfigError names an unknown one.

        What the others need changes along: schedule "one-cycle" brings a warmup of 0.2, unless that
        is given or was there; a setting that no longer does anything gets its default.
        """
        for name in settings:
            if name not in NAMES:
                near = difflib.get_close_matches(name, NAMES, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(NAMES)}."
                raise ConfigError(f"there is no setting {name!r}{hint}", name)
        values = {**dataclasses.asdict(self), **settings}
        if settings.get("schedule") == "one-cycle" != self.schedule and not self.warmup:
            values["warmup"] = settings.get("warmup", 0.2)
        defaults = _defaults()
        lost = [name for name in _settings.idle(values, defaults) if name not in settings]
        return Recipe(**{**values, **{name: defaults[name] for name in lost}})

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def to_toml(self) -> str:
        """The settings as a TOML file: one line a setting, with a comment that explains it."""
        lines = {name: f"{name} = {json.dumps(value)}" for name, value in self.to_dict().items()}
        width = max(map(len, lines.values()))
        meanings = _settings.MEANINGS
        return "".join(f"{line:<{width}}  # {meanings[name]}\n" for name, line in lines.items())

    def model(
        self, input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10
    ) -> Sequential:
        """The network with its initial values, drawn from the seed."""
        if self.is_lecture_network and input_shape == (28, 28, 1) and classes == 10:
            model = models.mnist_cnn(self.seed, init=self.init)
            if self.zero_last:
                model.parameters()[-2].data[...] = 0
        else:
            if self.init == "lecture":
                raise ConfigError(
                    'init is "lecture", whose values belong to the lecture\'s network; expected '
                    '"he" for another one: in the command --set init=he.',
                    "init",
                )
            model = models.stages(
                self.channels,
                self.convolutions,
                input_shape=input_shape,
                classes=classes,
                first_kernel_size=self.first_kernel_size,
                batch_norm=self.batch_norm,
                normalize_after_pool=self.normalize_after_pool,
                dropout=self.dropout,
                zero_last=self.zero_last,
                rng=self.seed,
            )
        if self.normalize:
            model.normalization = Normalization(MNIST_MEAN, MNIST_STD)
        return model

    @property
    def is_lecture_network(self) -> bool:
        """Whether the network is `models.mnist_cnn`."""
        plain = not self.batch_norm and self.dropout == 0 and self.first_kernel_size == 3
        return plain and (self.channels, self.convolutions) == ((32, 64, 128), (1, 1, 1))

    def make_optimizer(self, model: Module) -> optim.Optimizer:
        """The optimizer of the model's parameters."""
        parameters, betas = model.parameters(), (self.beta1, self.beta2)
        if self.optimizer == "adam":
            return optim.Adam(parameters, self.lr, betas)
        if self.optimizer == "adamw":
            return optim.AdamW(parameters, self.lr, betas, weight_decay=self.weight_decay)
        if self.optimizer == "sgd":
            return optim.SGD(
                parameters, self.lr, self.momentum, self.nesterov, weight_decay=self.weight_decay
            )
        return optim.RMSprop(parameters, self.lr, weight_decay=self.weight_decay)

    def make_schedule(self, total_steps: int) -> schedules.Schedule:
        """The schedule; warmup is a share of the steps."""
        if self.schedule == "one-cycle":
            return schedules.OneCycle(warmup=self.warmup)
        main: schedules.Schedule
        if self.schedule == "step":
            main = schedules.StepDecay(gamma=self.gamma)
        elif self.schedule == "cosine":
            main = schedules.Cosine()
        elif self.schedule == "plateau":
            main = schedules.ReduceOnPlateau()
        else:
            main = schedules.Constant()
        steps = round(self.warmup * total_steps)
        return schedules.Warmup(steps, main) if steps else main

    def make_trainer(
        self,
        images: int,
        callbacks: Iterable[Callback] = (),
        *,
        input_shape: tuple[int, int, int] = (28, 28, 1),
        classes: int = 10,
    ) -> Trainer:
        """A `Trainer` of a new network, for so many training images (`limit_train` is not applied).

            recipe, mnist = recipes.get("fast"), pycnn.datasets.load_mnist()
            trainer = recipe.make_trainer(len(mnist.train))
            trainer.fit(mnist.train, epochs=recipe.epochs, batch_size=recipe.batch_size)

        input_shape and classes: of other data, as in `model`. With `ema` above 0 an `Ema` comes
        before the callbacks.
        """
        model = self.model(input_shape, classes)
        averages = [Ema(self.ema)] if self.ema else []
        return Trainer(
            model,
            self.make_optimizer(model),
            self.make_loss(),
            self.make_schedule(self.epochs * (images // self.batch_size)),
            [*averages, *callbacks],
            self.seed,
            augmentation=self.make_augmentation(),
            plain_epochs=self.plain_epochs,
            clip_norm=self.clip_norm or None,
        )

    def make_loss(self) -> losses.SoftmaxCrossEntropy:
        """The loss."""
        return losses.SoftmaxCrossEntropy(self.label_smoothing)

    def make_augmentation(self) -> Augmentation | None:
        """The augmentation, if there is any."""
        if not any(getattr(self, name) for name in _settings.DISTORTIONS):
            return None
        return Augmentation(**{name: getattr(self, name) for name in _settings.AUGMENTATION})


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(Recipe)}


NAMES = tuple(field.name for field in dataclasses.fields(Recipe))
RECIPES = {
    "lecture": Recipe(),
    "fast": Recipe(
        channels=(16, 16, 64),
        batch_norm=True,
        init="he",
        zero_last=True,
        epochs=1,
        lr=0.02,
        label_smoothing=0.05,
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
}


def get(name: str) -> Recipe:
    """The recipe of this name: "lecture", "fast" or "best"."""
    if not isinstance(name, str) or name not in RECIPES:
        near = difflib.get_close_matches(str(name), RECIPES, 1)
        raise ConfigError(
            f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}"
            + (f": did you mean {near[0]}?" if near else ".")
        )
    return RECIPES[name]


def restored(settings: Mapping[str, Any]) -> Recipe:
    """The recipe of a checkpoint; a setting that did nothing there has its default."""
    values = {**_defaults(), **settings}
    lost = set(_settings.idle(values, _defaults()))
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
        text = Path(path).read_text(encoding="utf-8")
        return toml.loads(text), text
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except (toml.TomlError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {str(error).rstrip('.')}.") from error
