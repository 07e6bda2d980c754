"""SqueezeNet 1.1: Iandola et al. 2016, https://arxiv.org/abs/1602.07360, and its repository.

Version 1.1, https://github.com/forresti/SqueezeNet, needs 2.4 times less arithmetic.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn import layers
from pycnn.layers import Conv2d, Dropout, GlobalAvgPool2d, MaxPool2d, Module, ReLU, Sequential
from pycnn.models import initial


class Fire(Module):
    """1 x 1 to few channels, and from them 1 x 1 and 3 x 3 beside each other (section 3.2)."""

    def __init__(self, before: int, squeezed: int, expanded: int, rng: np.random.Generator) -> None:
        """`expanded` channels of each size."""
        super().__init__()
        self.squeeze, self.squeeze_activation = Conv2d(before, squeezed, 1, rng=rng), ReLU()
        self.expand1x1, self.expand1x1_activation = Conv2d(squeezed, expanded, 1, rng=rng), ReLU()
        self.expand3x3 = Conv2d(squeezed, expanded, 3, padding=1, rng=rng)
        self.expand3x3_activation = ReLU()

    def forward(self, x: Any) -> Any:
        """[N, H, W, before] -> [N, H, W, 2 * expanded]."""
        x = self.squeeze_activation(self.squeeze(x))
        one = self.expand1x1_activation(self.expand1x1(x))
        return layers.concat([one, self.expand3x3_activation(self.expand3x3(x))])


class SqueezeNet(Module):
    """[N, H, W, in_channels] -> [N, num_classes]: the last convolution classifies."""

    def __init__(
        self, num_classes: int, in_channels: int, rng: np.random.Generator | int | None
    ) -> None:
        """Weights are uniform in +-sqrt(6 / fan_in), the classifier's normal; biases are zero."""
        super().__init__()
        rng = initial_rng.generator(rng)
        self.features = Sequential(
            Conv2d(in_channels, 64, 3, stride=2, rng=rng), ReLU(), MaxPool2d(3, 2, ceil_mode=True),
            Fire(64, 16, 64, rng), Fire(128, 16, 64, rng), MaxPool2d(3, 2, ceil_mode=True),
            Fire(128, 32, 128, rng), Fire(256, 32, 128, rng), MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 48, 192, rng), Fire(384, 48, 192, rng),
            Fire(384, 64, 256, rng), Fire(512, 64, 256, rng),
        )  # fmt: skip
        last = Conv2d(512, num_classes, 1, rng=rng)
        self.classifier = Sequential(Dropout(0.5, rng=rng), last, ReLU(), GlobalAvgPool2d())
        for _, layer in self.features.named_layers():
            if isinstance(layer, Conv2d):
                limit = math.sqrt(6 / initial.fan_in(layer))
                initial.uniform(layer, limit, rng, bias=False)
        initial.normal(last, 0.01)

    def forward(self, x: Any) -> Any:
        """Images to logits, which are not negative."""
        return self.classifier(self.features(x))


def squeezenet1_1(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> SqueezeNet:
    """SqueezeNet 1.1: [N, 224, 224, in_channels] -> [N, num_classes]; 1,235,496 parameters."""
    return SqueezeNet(num_classes, in_channels, rng)
