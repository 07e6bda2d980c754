"""MobileNetV3: Howard et al. 2019, https://arxiv.org/abs/1905.02244."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn.layers import (
    Dropout,
    GlobalAvgPool2d,
    Hardsigmoid,
    Hardswish,
    Layer,
    Linear,
    Module,
    ReLU,
    Sequential,
)
from pycnn.models import initial
from pycnn.models.excitation import SqueezeExcitation
from pycnn.models.mobilenet import conv_norm


class Bottleneck(Module):
    """MobileNetV2's block, with squeeze and excitation where `squeezes` (figure 4)."""

    def __init__(
        self,
        before: int,
        size: int,
        wide: int,
        channels: int,
        squeezes: bool,
        activation: type[Layer],
        stride: int,
        rng: np.random.Generator,
    ) -> None:
        """The columns of table 2."""
        super().__init__()
        norm: dict[str, Any] = {"activation": activation, "eps": 0.001, "momentum": 0.01}
        stack: list[Layer] = [] if wide == before else [conv_norm(before, wide, 1, rng, **norm)]
        stack.append(conv_norm(wide, wide, size, rng, stride=stride, groups=wide, **norm))
        if squeezes:
            few = rounded(wide / 4)
            stack.append(SqueezeExcitation(wide, few, ReLU(), Hardsigmoid(), rng))
        stack.append(conv_norm(wide, channels, 1, rng, **{**norm, "activation": None}))
        self.block, self.adds = Sequential(*stack), stride == 1 and before == channels

    def forward(self, x: Any) -> Any:
        """[N, H, W, before] -> [N, H / stride, W / stride, channels]."""
        return x + self.block(x) if self.adds else self.block(x)


def rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8, not below 0.9 of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


class MobileNetV3(Module):
    """[N, H, W, in_channels] -> [N, num_classes] (table 2)."""

    def __init__(
        self, num_classes: int, in_channels: int, rng: np.random.Generator | int | None
    ) -> None:
        """Convolutions are normal by fan_out, linear layers with std 0.01; biases are zero."""
        super().__init__()
        rng = initial_rng.generator(rng)
        norm: dict[str, Any] = {"activation": Hardswish, "eps": 0.001, "momentum": 0.01}
        stack: list[Layer] = [conv_norm(in_channels, 16, 3, rng, stride=2, **norm)]
        before = 16
        for size, wide, channels, squeezes, activation, stride in (
            (3, 16, 16, True, ReLU, 2), (3, 72, 24, False, ReLU, 2), (3, 88, 24, False, ReLU, 1),
            (5, 96, 40, True, Hardswish, 2), *[(5, 240, 40, True, Hardswish, 1)] * 2,
            (5, 120, 48, True, Hardswish, 1), (5, 144, 48, True, Hardswish, 1),
            (5, 288, 96, True, Hardswish, 2), *[(5, 576, 96, True, Hardswish, 1)] * 2,
        ):  # fmt: skip
            columns = size, wide, channels, squeezes, activation, stride
            stack.append(Bottleneck(before, *columns, rng))
            before = channels
        stack.append(conv_norm(before, 6 * before, 1, rng, **norm))
        self.features, self.avgpool = Sequential(*stack), GlobalAvgPool2d()
        self.classifier = Sequential(
            Linear(6 * before, 1024, rng=rng), Hardswish(), Dropout(0.2, rng=rng),
            Linear(1024, num_classes, rng=rng),
        )  # fmt: skip
        initial.by_fan_out(self, partial(initial.normal, std=0.01))

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        return self.classifier(self.avgpool(self.features(x)))


def mobilenet_v3_small(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> MobileNetV3:
    """MobileNetV3-Small: [N, 224, 224, in_channels] -> [N, num_classes]; 2,542,856 parameters."""
    return MobileNetV3(num_classes, in_channels, rng)
