"""The data of `python -m pycnn.train`, and whether the settings fit it."""

from __future__ import annotations

import argparse

from pycnn import datasets
from pycnn._formats.files import FileError
from pycnn.recipes import ConfigError, Recipe


def read(options: argparse.Namespace, validation_size: int) -> datasets.Splits:
    """The data of --data-dir, or MNIST."""
    folder, size = options.data_dir, options.image_size
    if folder is None and size is None:
        return datasets.load_mnist(None, validation_size)
    if folder is None:
        raise ConfigError(
            "--image-size without --data-dir: MNIST has 28 x 28 pixels; leave it out."
        )
    try:
        data = datasets.load_folder(folder, validation_size, size)
    except ValueError as error:
        if size is None or not str(error).startswith("size "):
            raise
        raise ConfigError(f"argument --image-size: {error}") from error
    if not len(data.test):
        raise FileError(
            f"{folder}: found pictures for training only; expected some for the test too: "
            "train/CLASS/NAME.png and test/CLASS/NAME.png."
        )
    return data


def load(options: argparse.Namespace, recipe: Recipe) -> datasets.Splits:
    """The data, as much of it as the recipe wants; ConfigError where a setting does not fit it."""
    try:
        data = read(options, recipe.validation_size)
    except (datasets.IdxError, ConfigError):
        raise
    except ValueError as error:
        raise ConfigError(f"argument --validation-size: {str(error).rstrip('.')}.") from error
    kept = recipe.limit_train
    if kept:
        _check_fits("--limit-train", kept, data)
        first = datasets.Split(
            data.train.images[:kept], data.train.labels[:kept], data.train.class_names
        )
        data = datasets.Splits(first, data.validation, data.test)
    _check_fits("--batch-size", recipe.batch_size, data)
    return data


def check_validated(options: argparse.Namespace, recipe: Recipe, data: datasets.Splits) -> None:
    """Refuse what needs a validation set where there is none."""
    if len(data.validation):
        return
    for asked, what in (
        (options.target_accuracy is not None, "--target-accuracy"),
        (recipe.schedule == "plateau", "the schedule plateau"),
    ):
        if asked:
            raise ConfigError(
                f"argument --validation-size: 0 leaves no images for {what}; expected 1 or more."
            )


def _check_fits(option: str, value: int, data: datasets.Splits) -> None:
    if value > len(data.train):
        raise ConfigError(
            f"argument {option}: {value} is more than the {len(data.train)} training images there "
            "are."
        )
