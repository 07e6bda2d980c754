"""A residual network for images of 28 x 28 pixels: the recipe `residual`'s."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init as initial
from pycnn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, Module, ReLU
from pycnn.models.residual import BasicBlock, stage


class SmallResNet(Module):
    """[N, H, W, in_channels] -> [N, num_classes], from 4 x 4 pixels on.

    A 3 x 3 convolution of 16 channels, stages of two blocks with 32, two with 64 and one with 128
    channels, each of which halves the image first, the mean over the image and a linear layer:
    twelve layers with weights. The whole image has the first convolution alone, where a block would
    cost as much as a stage.
    """

    def __init__(
        self, num_classes: int, in_channels: int, rng: np.random.Generator | int | None
    ) -> None:
        """Weights are `init.he_normal`, those of the linear layer zero."""
        super().__init__()
        rng = initial.generator(rng)
        self.conv1 = Conv2d(in_channels, 16, 3, padding=1, bias=False, rng=rng)
        self.bn1, self.relu = BatchNorm2d(16), ReLU()
        self.layer1 = stage(BasicBlock, 2, 16, 32, 2, rng)
        self.layer2 = stage(BasicBlock, 2, 32, 64, 2, rng)
        self.layer3 = stage(BasicBlock, 1, 64, 128, 2, rng)
        self.avgpool, self.fc = GlobalAvgPool2d(), Linear(128, num_classes, rng=rng)
        self.fc.weight.data[...] = 0

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.avgpool(self.layer3(self.layer2(self.layer1(x)))))


def resnet12_small(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    rng: np.random.Generator | int | None = None,
) -> SmallResNet:
    """The network of the recipe `residual`: [N, 28, 28, 1] -> [N, 10], 396,410 parameters.

    rng: a np.random.Generator, an int that seeds a new one, or None for the package's own (see
    `pycnn.seed`).
    """
    return SmallResNet(num_classes, in_channels, rng)
