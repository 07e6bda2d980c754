"""MobileNetV2: Sandler et al. 2018, https://arxiv.org/abs/1801.04381."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    Layer,
    Linear,
    Module,
    Sequential,
)
from pycnn.layers import (
    ReLU as ReLU6,
)
from pycnn.models import initial


def conv_norm(
    before: int,
    channels: int,
    size: int,
    rng: np.random.Generator,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[Layer] | None = ReLU6,
    **norm: float,
) -> Sequential:
    """Convolution padded by half of its window, normalisation, activation."""
    padding = size // 2
    conv = Conv2d(before, channels, size, stride, padding, groups=groups, bias=False, rng=rng)
    layers: list[Layer] = [conv, BatchNorm2d(channels, **norm)]
    return Sequential(*layers, *([] if activation is None else [activation()]))


class InvertedResidual(Module):
    """1 x 1 to `expand` times the channels, 3 x 3 of each by itself, 1 x 1 back (section 3.3)."""

    def __init__(
        self, before: int, channels: int, stride: int, expand: int, rng: np.random.Generator
    ) -> None:
        """The input is added where shapes agree."""
        super().__init__()
        wide = before * expand
        stack: list[Layer] = [] if expand == 1 else [conv_norm(before, wide, 1, rng)]
        stack.append(conv_norm(wide, wide, 3, rng, stride=stride, groups=wide))
        stack += [Conv2d(wide, channels, 1, bias=False, rng=rng), BatchNorm2d(channels)]
        self.conv = Sequential(*stack)
        self.adds = stride == 1 and before == channels

    def forward(self, x: Any) -> Any:
        """[N, H, W, before] -> [N, H / stride, W / stride, channels]."""
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(Module):
    """[N, H, W, in_channels] -> [N, num_classes] (table 2)."""

    def __init__(
        self, num_classes: int, in_channels: int, rng: np.random.Generator | int | None
    ) -> None:
        """Convolutions are normal by fan_out, the linear layer with std 0.01; biases are zero."""
        super().__init__()
        rng = initial_rng.generator(rng)
        features: list[Layer] = [conv_norm(in_channels, 32, 3, rng, stride=2)]
        before = 32
        for expand, channels, count, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
            (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for i in range(count):
                step = stride if i == 0 else 1
                features.append(InvertedResidual(before, channels, step, expand, rng))
                before = channels
        features.append(conv_norm(before, 1280, 1, rng))
        self.features, self.avgpool = Sequential(*features), GlobalAvgPool2d()
        self.classifier = Sequential(Dropout(0.2, rng=rng), Linear(1280, num_classes, rng=rng))
        initial.by_fan_out(self, partial(initial.normal, std=0.01))

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        return self.classifier(self.avgpool(self.features(x)))


def mobilenet_v2(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> MobileNetV2:
    """MobileNetV2: [N, 224, 224, in_channels] -> [N, num_classes]; 3,504,872 parameters."""
    return MobileNetV2(num_classes, in_channels, rng)
