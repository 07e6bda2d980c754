"""AlexNet: Krizhevsky 2014, "One weird trick", https://arxiv.org/abs/1404.5997 (section 5.1).

The one column of Krizhevsky, Sutskever & Hinton 2012 ("ImageNet classification with deep
convolutional neural networks"), as torchvision has it: no local response normalisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn.layers import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)
from pycnn.models import initial


class AlexNet(Module):
    """[N, H, W, in_channels] -> [N, num_classes]: five convolutions, three linear layers."""

    def __init__(
        self, num_classes: int, in_channels: int, rng: np.random.Generator | int | None
    ) -> None:
        """Weights and biases are uniform in +-1 / sqrt(fan_in)."""
        super().__init__()
        rng = initial_rng.generator(rng)
        self.features = Sequential(
            Conv2d(in_channels, 64, 11, stride=4, padding=2, rng=rng), ReLU(), MaxPool2d(3, 2),
            Conv2d(64, 192, 5, padding=2, rng=rng), ReLU(), MaxPool2d(3, 2),
            Conv2d(192, 384, 3, padding=1, rng=rng), ReLU(),
            Conv2d(384, 256, 3, padding=1, rng=rng), ReLU(),
            Conv2d(256, 256, 3, padding=1, rng=rng), ReLU(), MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool, self.flatten = AdaptiveAvgPool2d(6), Flatten()
        self.classifier = Sequential(
            Dropout(0.5, rng=rng), Linear(256 * 6 * 6, 4096, rng=rng), ReLU(),
            Dropout(0.5, rng=rng), Linear(4096, 4096, rng=rng), ReLU(),
            Linear(4096, num_classes, rng=rng),
        )  # fmt: skip
        for _, layer in self.named_layers():
            if isinstance(layer, (Conv2d, Linear)):
                initial.torch_default(layer, rng)

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


def alexnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    rng: np.random.Generator | int | None = None,
) -> AlexNet:
    """AlexNet: [N, 224, 224, in_channels] -> [N, num_classes]; 61,100,840 parameters.

    rng: a np.random.Generator, an int that seeds a new one, or None for the package's own (see
    `pycnn.seed`).
    """
    return AlexNet(num_classes, in_channels, rng)
