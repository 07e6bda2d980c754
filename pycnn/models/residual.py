"""Blocks of residual networks: He, Zhang, Ren & Sun 2015, https://arxiv.org/abs/1512.03385."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.layers import BatchNorm2d, Conv2d, Module, ReLU, Sequential


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
