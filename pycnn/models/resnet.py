"""Residual networks: He, Zhang, Ren & Sun 2015, https://arxiv.org/abs/1512.03385."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pycnn import init as initial
from pycnn.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)
from pycnn.models.initial import by_fan_out, torch_default


class BasicBlock(Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))): [N, H, W, C] -> [N, H/stride, W/stride, channels].

    Where shape or channels change, x goes through `downsample`, a 1 x 1 convolution and a
    normalisation (option B of the paper, section 3.3).
    """

    expansion = 1  # the channels that it gives, in `channels`

    def __init__(self, before: int, channels: int, stride: int, rng: np.random.Generator) -> None:
        """Weights are `init.he_normal`."""
        super().__init__()
        self.conv1 = Conv2d(before, channels, 3, stride=stride, padding=1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(channels)
        self.relu = ReLU()
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(channels)
        self.downsample: Sequential | None = None
        if stride != 1 or before != channels:
            self.downsample = Sequential(
                Conv2d(before, channels, 1, stride=stride, bias=False, rng=rng),
                BatchNorm2d(channels),
            )

    def forward(self, x: Any) -> Any:
        """The formula above."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(Module):
    """As BasicBlock, of 1 x 1, 3 x 3 and 1 x 1 convolutions, the last to 4 * channels (figure 5).

    The stride is the 3 x 3 convolution's, as in torchvision.
    """

    expansion = 4

    def __init__(self, before: int, channels: int, stride: int, rng: np.random.Generator) -> None:
        """Weights are `init.he_normal`."""
        super().__init__()
        wide = channels * self.expansion
        self.conv1, self.bn1 = (
            Conv2d(before, channels, 1, bias=False, rng=rng),
            BatchNorm2d(channels),
        )
        self.conv2 = Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False, rng=rng)
        self.bn2 = BatchNorm2d(channels)
        self.conv3, self.bn3 = Conv2d(channels, wide, 1, bias=False, rng=rng), BatchNorm2d(wide)
        self.relu = ReLU()
        self.downsample: Sequential | None = None
        if stride != 1 or before != wide:
            conv = Conv2d(before, wide, 1, stride=stride, bias=False, rng=rng)
            self.downsample = Sequential(conv, BatchNorm2d(wide))

    def forward(self, x: Any) -> Any:
        """relu(x + ...)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


Block = type[BasicBlock] | type[Bottleneck]


def stage(
    block: Block, count: int, before: int, channels: int, stride: int, rng: np.random.Generator
) -> Sequential:
    """`count` blocks; the first has the stride."""
    inside = channels * block.expansion
    first = block(before, channels, stride, rng)
    return Sequential(first, *(block(inside, channels, 1, rng) for _ in range(count - 1)))


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


class CifarResNet(Module):
    """The paper's networks for CIFAR-10 (section 4.2): [N, 32, 32, in_channels] -> [N, K].

    A 3 x 3 convolution, three stages of `blocks` blocks with 16, 32 and 64 channels, of which the
    second and third halve the image, the mean over the image and a linear layer: 6 * blocks + 2
    layers with weights. The paper's shortcuts between stages have no weights (option A); here they
    are 1 x 1 convolutions, as in torchvision. Images may have any size from 4 x 4 on.
    """

    def __init__(
        self,
        blocks: int,
        num_classes: int,
        in_channels: int,
        rng: np.random.Generator | int | None,
    ) -> None:
        """Weights are `init.he_normal`."""
        super().__init__()
        rng = initial.generator(rng)
        self.conv1 = Conv2d(in_channels, 16, 3, padding=1, bias=False, rng=rng)
        self.bn1 = BatchNorm2d(16)
        self.relu = ReLU()
        self.layer1 = stage(BasicBlock, blocks, 16, 16, 1, rng)
        self.layer2 = stage(BasicBlock, blocks, 16, 32, 2, rng)
        self.layer3 = stage(BasicBlock, blocks, 32, 64, 2, rng)
        self.avgpool = GlobalAvgPool2d()
        self.flatten = Flatten()
        self.fc = Linear(64, num_classes, rng=rng)

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.flatten(self.avgpool(x)))


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


def resnet20(
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    rng: np.random.Generator | int | None = None,
) -> CifarResNet:
    """ResNet-20 for small images: [N, 32, 32, in_channels] -> [N, num_classes]; 272,474 parameters.

    The paper's accuracy on CIFAR-10, with augmentation and 64,000 steps of 128 images: 91.25 %.
    rng: a np.random.Generator, an int that seeds a new one, or None for the package's own (see
    `pycnn.seed`).
    """
    return CifarResNet(3, num_classes, in_channels, rng)
