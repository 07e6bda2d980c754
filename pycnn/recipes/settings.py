"""The settings of a recipe: what each means, which values it takes, and what it goes with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pycnn.augment import Augmentation
from pycnn.ops.arrays import LARGEST

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("constant", "step", "cosine", "one-cycle", "plateau")
AUGMENTATION = tuple(field.name for field in dataclasses.fields(Augmentation))
DISTORTIONS = tuple(name for name in AUGMENTATION if name != "elastic_sigma")

# One line a setting: the comments of --print-config and the help of the options.
MEANINGS = {
    "channels": "channels of each stage's convolutions; each stage halves the image",
    "convolutions": "3 x 3 convolutions of each stage, one number a stage",
    "first_kernel_size": "height and width of the first convolution's kernel",
    "batch_norm": "a BatchNorm2d behind each convolution",
    "normalize_after_pool": "the last BatchNorm2d of a stage is behind its pool: faster",
    "dropout": "share of the features before the linear layer that training drops, below 1",
    "init": "initial values: lecture, for its network alone, or he",
    "zero_last": "the linear layer begins at zero",
    "epochs": "passes over the training images",
    "batch_size": "images a step; at the end of an epoch those too few for one are dropped",
    "optimizer": "one of " + ", ".join(OPTIMIZERS),
    "lr": "learning rate, which the schedule multiplies",
    "beta1": "of adam and adamw: decay of the mean of the gradients",
    "beta2": "of adam and adamw: decay of the mean of their squares",
    "momentum": "of sgd",
    "nesterov": "of sgd: momentum that looks ahead",
    "weight_decay": "of adamw, sgd and rmsprop: pull of the weights towards zero",
    "label_smoothing": "share of the target that is spread over all classes, below 1",
    "schedule": "one of " + ", ".join(SCHEDULES),
    "warmup": "share of the steps in which the learning rate rises, 0 to 1",
    "gamma": "the step schedule's factor an epoch",
    "clip_norm": "the gradients are scaled down to this norm; 0: never",
    "ema": "decay of the average of the weights, which is evaluated; 0: none",
    "normalize": "images minus MNIST's mean, by its standard deviation",
    "shift": "augmentation: at most so many pixels",
    "rotation": "augmentation: at most so many degrees",
    "scale": "augmentation: width and height by at most this share, below 1",
    "shear": "augmentation: x grows by at most this share of y",
    "elastic_alpha": "augmentation: strength of elastic distortion; 34 suits MNIST",
    "elastic_sigma": "of elastic_alpha: its smoothness in pixels",
    "erase": "augmentation: probability that a rectangle is erased",
    "plain_epochs": "so many epochs at the end go without augmentation",
    "validation_size": "first training images that are set aside for validation",
    "limit_train": "train on the first so many of the other images only; 0: on all",
    "seed": "of the initial values, of the order of images and of the augmentation",
}

# Where a setting does anything: (condition on all settings, what it goes with).
Condition = Callable[[Mapping[str, Any]], bool]
_SGD: tuple[Condition, str] = lambda s: s["optimizer"] == "sgd", "optimizer sgd"
_ADAM: tuple[Condition, str] = (
    lambda s: s["optimizer"] in ("adam", "adamw"),
    "optimizer adam or adamw",
)
_DECAYING: tuple[Condition, str] = (
    lambda s: s["optimizer"] != "adam",
    "optimizer adamw, sgd or rmsprop",
)
GOES_WITH: dict[str, tuple[Condition, str]] = {
    "normalize_after_pool": (lambda s: bool(s["batch_norm"]), "batch_norm"),
    "beta1": _ADAM,
    "beta2": _ADAM,
    "momentum": _SGD,
    "nesterov": _SGD,
    "weight_decay": _DECAYING,
    "gamma": (lambda s: s["schedule"] == "step", "schedule step"),
    "elastic_sigma": (lambda s: bool(s["elastic_alpha"]), "elastic_alpha above 0"),
    "plain_epochs": (
        lambda s: any(s[name] for name in DISTORTIONS),
        f"augmentation, so {', '.join(DISTORTIONS[:-1])} or {DISTORTIONS[-1]} above 0",
    ),
}


class ConfigError(ValueError):
    """A setting that does not exist, or whose value cannot be; says which and what was expected.

    setting: its name, if the error is of a single one.
    """

    def __init__(self, message: str, setting: str | None = None) -> None:
        """Remember the setting."""
        super().__init__(message)
        self.setting = setting


def idle(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """The settings that were changed and do nothing, since what they go with is not there."""
    for name, (condition, _) in GOES_WITH.items():
        if values[name] != defaults[name] and not condition(values):
            yield name


def converted(name: str, value: Any, kind: Any) -> Any:
    """The value as its type has it; ConfigError for another type."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if kind is bool:
        right, expected = isinstance(value, bool), "true or false"
        if isinstance(value, str) and value.lower() in ("true", "false"):
            expected += f": write {value.lower()}, in small letters and without quotes"
    elif kind is int:
        right, expected = whole, "a whole number"
    elif kind is float:
        right, expected = whole or isinstance(value, float), "a number"
    elif kind is str:
        right, expected = isinstance(value, str), "a text"
    else:
        right = isinstance(value, (list, tuple)) and len(value) > 0
        right = right and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        expected = "a list of whole numbers"
    if not right:
        raise ConfigError(f"{name} is {value!r}; expected {expected}.", name)
    try:
        return tuple(value) if kind == tuple[int, ...] else kind(value)
    except OverflowError:
        raise ConfigError(f"{name} is {value!r}; expected a smaller number.", name) from None


_ABOVE_0 = ("epochs", "batch_size", "lr", "first_kernel_size")
_SHARES = ("dropout", "beta1", "beta2", "momentum", "label_smoothing", "warmup", "gamma", "ema")
_BELOW_1 = ("dropout", "beta1", "beta2", "momentum", "label_smoothing", "ema")
_MOST = {"seed": 2**63 - 1}  # of other whole numbers 2**31 - 1, as in operators
_CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "init": ("lecture", "he")}


def check_range(name: str, value: Any) -> None:
    """ConfigError for a number out of its range, or a word that is no choice."""
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ConfigError(
                f"{name} is {value!r}; expected one of {', '.join(_CHOICES[name])}.", name
            )
        return
    if name in AUGMENTATION:
        try:
            Augmentation(**{name: value})
        except ValueError as error:
            raise ConfigError(str(error).removeprefix("Augmentation: "), name) from None
        return
    values = value if isinstance(value, tuple) else (value,)
    above = name in _ABOVE_0 or isinstance(value, tuple)
    for number in values:
        right = number > 0 if above else number >= 0
        right = right and (name not in _SHARES or number <= 1)
        right = right and (name not in _BELOW_1 or number < 1) and number < float("inf")
        if right and isinstance(number, int) and number > _MOST.get(name, LARGEST):
            raise ConfigError(
                f"{name} is {value!r}; expected at most {_MOST.get(name, LARGEST)}.", name
            )
        if not right:
            low = "a finite number above 0" if above else "a finite number, 0 or more"
            high = ", below 1" if name in _BELOW_1 else ", at most 1" if name in _SHARES else ""
            raise ConfigError(f"{name} is {value!r}; expected {low}{high}.", name)
