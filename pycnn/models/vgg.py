"""VGG: Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556 (table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn.layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)
from pycnn.models import initial

# Columns A and D of the table: the channels of the convolutions before each pool.
A = ((64,), (128,), (256, 256), (512, 512), (512, 512))
D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def convolutions(
    stages: Sequence[Sequence[int]], in_channels: int, rng: np.random.Generator, batch_norm: bool
) -> Sequential:
    """3 x 3 convolutions with relu, a pool behind each stage."""
    layers: list[Layer] = []
    before = in_channels
    for widths in stages:
        for width in widths:
            layers.append(Conv2d(before, width, 3, padding=1, rng=rng))
            layers += [BatchNorm2d(width), ReLU()] if batch_norm else [ReLU()]
            before = width
        layers.append(MaxPool2d(2))
    return Sequential(*layers)


class VGG(Module):
    """[N, H, W, in_channels] -> [N, num_classes]: 3 x 3 convolutions, three linear layers."""

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        num_classes: int,
        in_channels: int,
        rng: np.random.Generator | int | None,
        *,
        batch_norm: bool = False,
    ) -> None:
        """Convolutions are normal by fan_out, linear layers with std 0.01; biases are zero."""
        super().__init__()
        rng = initial_rng.generator(rng)
        self.features = convolutions(stages, in_channels, rng, batch_norm)
        self.avgpool, self.flatten = AdaptiveAvgPool2d(7), Flatten()
        self.classifier = Sequential(
            Linear(stages[-1][-1] * 7 * 7, 4096, rng=rng), ReLU(), Dropout(0.5, rng=rng),
            Linear(4096, 4096, rng=rng), ReLU(), Dropout(0.5, rng=rng),
            Linear(4096, num_classes, rng=rng),
        )  # fmt: skip
        initial.by_fan_out(self, partial(initial.normal, std=0.01))

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


def vgg11(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> VGG:
    """VGG-11 (column A): [N, 224, 224, in_channels] -> [N, num_classes]; 132,863,336 parameters."""
    return VGG(A, num_classes, in_channels, rng)


def vgg11_bn(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> VGG:
    """VGG-11 with batch normalisation behind each convolution; 132,868,840 parameters."""
    return VGG(A, num_classes, in_channels, rng, batch_norm=True)


def vgg16(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> VGG:
    """VGG-16 (column D): [N, 224, 224, in_channels] -> [N, num_classes]; 138,357,544 parameters."""
    return VGG(D, num_classes, in_channels, rng)
