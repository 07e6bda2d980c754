"""`Recipe`: the settings of a training, their meanings, ranges and defaults, and what they make.

A setting stands in one place, its field here: the options and the help of `python -m pycnn.train`,
the comments of --print-config and what is refused are made of the field's metadata.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pycnn import losses, models, optim, schedules
from pycnn.augment import Augmentation
from pycnn.callbacks import Callback, Ema
from pycnn.layers import Module
from pycnn.preprocessing import Normalization
from pycnn.recipes.network import STAGES, network_of
from pycnn.recipes.settings import (
    AUGMENTATION,
    DISTORTIONS,
    ConfigError,
    Setting,
    check_range,
    converted,
    setting,
)
from pycnn.trainer import Trainer

# Of the pixels of MNIST's 60,000 training images, mapped to 0 .. 1.
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081

# What a typing error exceeds: the command would be killed for its memory, or build for hours.
MOST_CHANNELS, MOST_CONVOLUTIONS = 4096, 100

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("constant", "step", "cosine", "one-cycle", "plateau")

# Where several settings do anything: a condition on all of them, and what it says.
STAGED = (lambda s: s["network"] == STAGES, "network stages")
SGD = (lambda s: s["optimizer"] == "sgd", "optimizer sgd")
ADAM = (lambda s: s["optimizer"] in ("adam", "adamw"), "optimizer adam or adamw")
DECAYING = (lambda s: s["optimizer"] != "adam", "optimizer adamw, sgd or rmsprop")
AUGMENTED = (
    lambda s: any(s[name] for name in DISTORTIONS),
    f"augmentation, so {', '.join(DISTORTIONS[:-1])} or {DISTORTIONS[-1]} above 0",
)


@dataclass(frozen=True)
class Recipe:
    """The settings of a training; the defaults are the lecture's.

    Network: one of `models.NETWORKS` by its name, or "stages", the settings that come next: a stage
    is `convolutions[i]` times (3 x 3 convolution "same", normalisation, relu) with
    channels[i] channels, and a 2 x 2 max pool "same"; then dropout and one linear layer. See
    `models.stages`, which explains these settings; `to_toml` explains all.

    A setting that does nothing beside the others is refused unless it has its default: gamma
    without schedule "step", momentum without optimizer "sgd".
    """

    network: str = setting(
        STAGES,
        "a network of pycnn.models by its name, or stages: of the next settings, up to zero_last",
        choices=(STAGES, *models.NETWORKS),
    )
    channels: tuple[int, ...] = setting(
        (32, 64, 128),
        "channels of each stage's convolutions; each stage halves the image",
        above_0=True,
        most=MOST_CHANNELS,
        goes_with=STAGED,
    )
    convolutions: tuple[int, ...] = setting(
        (1, 1, 1),
        "3 x 3 convolutions of each stage, one number a stage",
        above_0=True,
        most=MOST_CONVOLUTIONS,
        goes_with=STAGED,
    )
    first_kernel_size: int = setting(
        3, "height and width of the first convolution's kernel", above_0=True, goes_with=STAGED
    )
    batch_norm: bool = setting(False, "a BatchNorm2d behind each convolution", goes_with=STAGED)
    normalize_after_pool: bool = setting(
        True,
        "the last BatchNorm2d of a stage is behind its pool: faster",
        goes_with=(lambda s: bool(s["batch_norm"] and STAGED[0](s)), "batch_norm"),
    )
    dropout: float = setting(
        0.0,
        "share of the features before the linear layer that training drops, below 1",
        below=1,
        goes_with=STAGED,
    )
    init: str = setting(
        "lecture",
        "initial values: lecture, for its network alone, or he",
        choices=("lecture", "he"),
        goes_with=STAGED,
    )
    zero_last: bool = setting(False, "the linear layer begins at zero", goes_with=STAGED)

    epochs: int = setting(
        30, "passes over the training images", above_0=True, option="a number of epochs"
    )
    epoch_share: float = setting(
        1.0,
        "share of the training images that an epoch visits, others in each",
        above_0=True,
        high=1,
    )
    batch_size: int = setting(
        100,
        "images a step; at the end of an epoch those too few for one are dropped",
        above_0=True,
        option="a batch size",
    )
    optimizer: str = setting("adam", "one of " + ", ".join(OPTIMIZERS), choices=OPTIMIZERS)
    lr: float = setting(
        0.001,
        "learning rate, which the schedule multiplies",
        above_0=True,
        option="a learning rate",
    )
    beta1: float = setting(
        0.9, "of adam and adamw: decay of the mean of the gradients", below=1, goes_with=ADAM
    )
    beta2: float = setting(
        0.999, "of adam and adamw: decay of the mean of their squares", below=1, goes_with=ADAM
    )
    momentum: float = setting(0.9, "of sgd", below=1, goes_with=SGD)
    nesterov: bool = setting(False, "of sgd: momentum that looks ahead", goes_with=SGD)
    weight_decay: float = setting(
        0.0, "of adamw, sgd and rmsprop: pull of the weights towards zero", goes_with=DECAYING
    )
    label_smoothing: float = setting(
        0.0, "share of the target that is spread over all classes, below 1", below=1
    )
    schedule: str = setting("constant", "one of " + ", ".join(SCHEDULES), choices=SCHEDULES)
    warmup: float = setting(
        0.0, "share of the steps in which the learning rate rises, 0 to 1", high=1
    )
    gamma: float = setting(
        0.7,
        "the step schedule's factor an epoch",
        high=1,
        option="a factor",
        goes_with=(lambda s: s["schedule"] == "step", "schedule step"),
    )
    clip_norm: float = setting(0.0, "the gradients are scaled down to this norm; 0: never")
    ema: float = setting(
        0.0, "decay of the average of the weights, which is evaluated; 0: none", below=1
    )
    normalize: bool = setting(False, "images minus MNIST's mean, by its standard deviation")

    # Ranges of what Augmentation has as well stand there.
    shift: float = setting(0.0, "augmentation: at most so many pixels")
    rotation: float = setting(0.0, "augmentation: at most so many degrees")
    scale: float = setting(0.0, "augmentation: width and height by at most this share, below 1")
    shear: float = setting(0.0, "augmentation: x grows by at most this share of y")
    elastic_alpha: float = setting(
        0.0, "augmentation: strength of elastic distortion; 34 suits MNIST"
    )
    elastic_sigma: float = setting(
        4.0,
        "of elastic_alpha: its smoothness in pixels",
        goes_with=(lambda s: bool(s["elastic_alpha"]), "elastic_alpha above 0"),
    )
    erase: float = setting(0.0, "augmentation: probability that a rectangle is erased")
    crop: int = setting(0, "augmentation: moved by whole pixels, at most so many")
    flip: float = setting(0.0, "augmentation: probability that left and right change places")
    brightness: float = setting(0.0, "augmentation: pixels times 1 +- at most this")
    contrast: float = setting(0.0, "augmentation: the difference from the mean times as much")
    mixup: float = setting(
        0.0, "augmentation: images and labels mixed by shares of the beta distribution (this, this)"
    )
    plain_epochs: int = setting(
        0, "so many epochs at the end go without augmentation", goes_with=AUGMENTED
    )

    validation_size: int = setting(
        5000,
        "first training images that are set aside for validation",
        option="a number of images",
    )
    limit_train: int = setting(
        0,
        "train on the first so many of the other images only; 0: on all",
        option="a number of images",
    )
    slots: int = setting(
        0,
        "parts of a batch that are computed apart, on any number of ranks, a power of two; 0: none",
        most=2**20,
        option="a number of slots",
    )
    sync_batch_norm: bool = setting(
        False,
        "normalisation takes the mean and variance of the whole batch, not of a slot: slower",
        goes_with=(
            lambda s: s["slots"] > 1 and bool(s["batch_norm"] or not STAGED[0](s)),
            "slots and batch_norm, or another network than stages",
        ),
    )
    seed: int = setting(
        0,
        "of the initial values, of the order of images and of the augmentation",
        most=2**63 - 1,
        option="a seed",
    )

    def __post_init__(self) -> None:
        """Check the types and ranges of all settings."""
        types = get_type_hints(Recipe)
        for field in dataclasses.fields(self):
            value = converted(field.name, getattr(self, field.name), types[field.name])
            check_range(field.name, value, SETTINGS[field.name])
            object.__setattr__(self, field.name, value)
        if len(self.channels) != len(self.convolutions):
            raise ConfigError(
                f"convolutions has {len(self.convolutions)} numbers; expected "
                f"{len(self.channels)}, one a stage, as channels.",
                "convolutions",
            )
        if self.slots & (self.slots - 1):
            raise ConfigError(f"slots is {self.slots}; expected a power of two, or 0.", "slots")
        for name, with_what in idle(dataclasses.asdict(self)).items():
            raise ConfigError(
                f"{name} is {getattr(self, name)!r}, which does nothing here: it goes with "
                f"{with_what}.",
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
        lost = [name for name in idle(values) if name not in settings]
        return Recipe(**{**values, **{name: DEFAULTS[name] for name in lost}})

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def to_toml(self) -> str:
        """The settings as a TOML file: one line a setting, with a comment that explains it."""
        lines = {name: f"{name} = {json.dumps(value)}" for name, value in self.to_dict().items()}
        width = max(map(len, lines.values()))
        return "".join(
            f"{line:<{width}}  # {SETTINGS[name].meaning}\n" for name, line in lines.items()
        )

    def model(self, input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10) -> Module:
        """The network with its initial values, drawn from the seed."""
        model = network_of(self, input_shape, classes)
        if self.normalize:
            model.normalization = Normalization(MNIST_MEAN, MNIST_STD)
        return model

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
        communicator: Any = None,
        shard_optimizer: bool = False,
    ) -> Trainer:
        """A `Trainer` of a new network, for so many training images (`limit_train` is not applied).

            recipe, mnist = recipes.get("fast"), pycnn.datasets.load_mnist()
            trainer = recipe.make_trainer(len(mnist.train))
            trainer.fit(mnist.train, **recipe.lengths(len(mnist.train)))

        input_shape and classes: of other data, as in `model`; communicator, shard_optimizer: as
        in `Trainer`. With `ema` above 0 an `Ema` comes before the callbacks.
        """
        model = self.model(input_shape, classes)
        averages = [Ema(self.ema)] if self.ema else []
        return Trainer(
            model,
            self.make_optimizer(model),
            self.make_loss(),
            self.make_schedule(self.epochs * self.lengths(images)["steps_per_epoch"]),
            [*averages, *callbacks],
            self.seed,
            augmentation=self.make_augmentation(),
            plain_epochs=self.plain_epochs,
            clip_norm=self.clip_norm or None,
            communicator=communicator,
            slots=self.slots or None,
            shard_optimizer=shard_optimizer,
            sync_batch_norm=self.sync_batch_norm,
        )

    def lengths(self, images: int) -> dict[str, int]:
        """How long a training on so many images is: epochs, batch_size, steps_per_epoch of `fit`.

        An epoch has at least one step.
        """
        steps = max(round(self.epoch_share * images) // self.batch_size, 1)
        return {"epochs": self.epochs, "batch_size": self.batch_size, "steps_per_epoch": steps}

    def make_loss(self) -> losses.SoftmaxCrossEntropy:
        """The loss."""
        return losses.SoftmaxCrossEntropy(self.label_smoothing)

    def make_augmentation(self) -> Augmentation | None:
        """The augmentation, if there is any."""
        if not any(getattr(self, name) for name in DISTORTIONS):
            return None
        return Augmentation(**{name: getattr(self, name) for name in AUGMENTATION})


SETTINGS: dict[str, Setting] = {f.name: f.metadata["setting"] for f in dataclasses.fields(Recipe)}
DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Recipe)}
NAMES = tuple(SETTINGS)


def idle(values: Mapping[str, Any]) -> dict[str, str]:
    """The settings that were changed and do nothing, and what each goes with, which lacks."""
    return {
        name: found.goes_with[1]
        for name, found in SETTINGS.items()
        if found.goes_with is not None
        and values[name] != DEFAULTS[name]
        and not found.goes_with[0](values)
    }
