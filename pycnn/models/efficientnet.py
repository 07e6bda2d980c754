"""EfficientNet: Tan & Le 2019, https://arxiv.org/abs/1905.11946."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn.layers import (
    Dropout,
    GlobalAvgPool2d,
    Layer,
    Linear,
    Module,
    Sequential,
    Sigmoid,
    SiLU,
)
from pycnn.models import initial
from pycnn.models.excitation import SqueezeExcitation
from pycnn.models.mobilenet import conv_norm


class MBConv(Module):
    """MobileNetV2's block with squeeze and excitation (section 4).

    Stochastic depth, which leaves out whole blocks of some images while training, is not there.
    """

    def __init__(
        self,
        before: int,
        channels: int,
        expand: int,
        size: int,
        stride: int,
        rng: np.random.Generator,
    ) -> None:
        """Squeezed to a quarter of the channels before the block."""
        super().__init__()
        wide = before * expand
        stack: list[Layer] = []
        if expand != 1:
            stack.append(conv_norm(before, wide, 1, rng, activation=SiLU))
        stack.append(conv_norm(wide, wide, size, rng, stride=stride, groups=wide, activation=SiLU))
        stack.append(SqueezeExcitation(wide, before // 4, SiLU(), Sigmoid(), rng))
        stack.append(conv_norm(wide, channels, 1, rng, activation=None))
        self.block, self.adds = Sequential(*stack), stride == 1 and before == channels

    def forward(self, x: Any) -> Any:
        """[N, H, W, before] -> [N, H / stride, W / stride, channels]."""
        return x + self.block(x) if self.adds else self.block(x)


class EfficientNet(Module):
    """[N, H, W, in_channels] -> [N, num_classes] (table 1)."""

    def __init__(
        self, num_classes: int, in_channels: int, rng: np.random.Generator | int | None
    ) -> None:
        """Convolutions are normal by fan_out, the linear layer uniform; biases are zero."""
        super().__init__()
        rng = initial_rng.generator(rng)
        stages: list[Layer] = [conv_norm(in_channels, 32, 3, rng, stride=2, activation=SiLU)]
        before = 32
        for expand, size, stride, channels, count in (
            (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
            (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
        ):  # fmt: skip
            blocks = [MBConv(before, channels, expand, size, stride, rng)]
            blocks += [MBConv(channels, channels, expand, size, 1, rng) for _ in range(count - 1)]
            stages.append(Sequential(*blocks))
            before = channels
        stages.append(conv_norm(before, 1280, 1, rng, activation=SiLU))
        self.features, self.avgpool = Sequential(*stages), GlobalAvgPool2d()
        last = Linear(1280, num_classes, rng=rng)
        self.classifier = Sequential(Dropout(0.2, rng=rng), last)
        limit = 1 / math.sqrt(num_classes)
        initial.by_fan_out(self, lambda linear: initial.uniform(linear, limit, rng, bias=False))

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        return self.classifier(self.avgpool(self.features(x)))


def efficientnet_b0(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> EfficientNet:
    """EfficientNet-B0: [N, 224, 224, in_channels] -> [N, num_classes]; 5,288,548 parameters."""
    return EfficientNet(num_classes, in_channels, rng)
