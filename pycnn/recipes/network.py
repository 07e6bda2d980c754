"""The network of a `Recipe`: one of `models.NETWORKS`, or the stages that its settings describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycnn import models
from pycnn.layers import Module
from pycnn.recipes.settings import ConfigError

if TYPE_CHECKING:
    from pycnn.recipes.recipe import Recipe

STAGES = "stages"  # the network that is none of `models.NETWORKS`
LARGE = 224  # pixels a side, for which most networks were made; every one takes them


def network_of(recipe: Recipe, input_shape: tuple[int, int, int], classes: int) -> Module:
    """With its initial values, drawn from the recipe's seed."""
    make = _staged if recipe.network == STAGES else _named
    return make(recipe, input_shape, classes)


def _named(recipe: Recipe, input_shape: tuple[int, int, int], classes: int) -> Module:
    """One of `models.NETWORKS`, if it takes such images and tells a class for each."""
    H, W, C = input_shape
    model = models.make(recipe.network, num_classes=classes, in_channels=C, rng=recipe.seed)
    rank = len(model.output_shape((1, LARGE, LARGE, C)))
    if rank != 2:
        raise ConfigError(
            f"{recipe.network} gives a map of {rank - 2} axes for an image, a class for each pixel;"
            " expected a network that gives one class: choose another, resnet20 for example.",
            "network",
        )
    try:
        model.output_shape((1, *input_shape))
    except ValueError as error:
        why = str(error).partition(";")[0].rstrip(".")
        raise ConfigError(
            f"{recipe.network} does not take images of {H} x {W} pixels ({why}); expected larger "
            "ones, for most of torchvision's networks 224 x 224: give a folder of pictures and "
            "write --image-size 224, or --model resnet20, which takes any from 4 x 4 on.",
            "network",
        ) from error
    return model


def _staged(recipe: Recipe, input_shape: tuple[int, int, int], classes: int) -> Module:
    """The network that the settings describe."""
    side = max(input_shape[:2])
    if recipe.first_kernel_size > 2 * side:  # a larger one sees the whole image from any pixel
        raise ConfigError(
            f"first_kernel_size is {recipe.first_kernel_size}; expected at most {2 * side}, "
            f"twice the {side} pixels of the images.",
            "first_kernel_size",
        )
    if _is_lectures(recipe) and input_shape == (28, 28, 1) and classes == 10:
        model = models.mnist_cnn(recipe.seed, init=recipe.init)
        if recipe.zero_last:
            model.parameters()[-2].data[...] = 0
    else:
        if recipe.init == "lecture":
            raise ConfigError(
                'init is "lecture", whose values belong to the lecture\'s network; expected '
                '"he" for another one: in the command --set init=he.',
                "init",
            )
        model = models.stages(
            recipe.channels,
            recipe.convolutions,
            input_shape=input_shape,
            classes=classes,
            first_kernel_size=recipe.first_kernel_size,
            batch_norm=recipe.batch_norm,
            normalize_after_pool=recipe.normalize_after_pool,
            dropout=recipe.dropout,
            zero_last=recipe.zero_last,
            rng=recipe.seed,
        )
    return model


def _is_lectures(recipe: Recipe) -> bool:
    """Whether the network is `models.mnist_cnn`."""
    plain = not recipe.batch_norm and recipe.dropout == 0 and recipe.first_kernel_size == 3
    return plain and (recipe.channels, recipe.convolutions) == ((32, 64, 128), (1, 1, 1))
