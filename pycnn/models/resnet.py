"""Residual networks: He, Zhang, Ren & Sun 2015, https://arxiv.org/abs/1512.03385."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pycnn import init as initial
from pycnn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, MaxPool2d, Module, ReLU
from pycnn.models.initial import by_fan_out, torch_default
from pycnn.models.residual import BasicBlock, Block, Bottleneck, stage


class ResNet(Module):
    """The paper's networks for ImageNet (table 1): [N, H, W, in_channels] -> [N, num_classes].

    A 7 x 7 convolution and a pool, each of stride 2, four stages with 64, 128, 256 and 512
    channels, the mean over the image and a linear layer.
    """

    def __init__(
        self,
        block: Block,
        counts: Sequence[int],
        num_classes: int,
        in_channels: int,
        rng: np.random.Generator | int | None,
    ) -> None:
        """Convolutions are normal by fan_out, the linear layer uniform by fan_in."""
        super().__init__()
        rng = initial.generator(rng)
        self.conv1 = Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False, rng=rng)
        self.bn1, self.relu = BatchNorm2d(64), ReLU()
        self.maxpool = MaxPool2d(3, 2, padding=1)
        wide = block.expansion
        self.layer1 = stage(block, counts[0], 64, 64, 1, rng)
        self.layer2 = stage(block, counts[1], 64 * wide, 128, 2, rng)
        self.layer3 = stage(block, counts[2], 128 * wide, 256, 2, rng)
        self.layer4 = stage(block, counts[3], 256 * wide, 512, 2, rng)
        self.avgpool = GlobalAvgPool2d()
        self.fc = Linear(512 * wide, num_classes, rng=rng)
        by_fan_out(self, partial(torch_default, rng=rng))

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x))


def resnet18(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> ResNet:
    """ResNet-18: [N, 224, 224, in_channels] -> [N, num_classes]; 11,689,512 parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, rng)


def resnet34(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> ResNet:
    """ResNet-34: [N, 224, 224, in_channels] -> [N, num_classes]; 21,797,672 parameters."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels, rng)


def resnet50(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> ResNet:
    """ResNet-50: [N, 224, 224, in_channels] -> [N, num_classes]; 25,557,032 parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, rng)
