"""DenseNet: Huang, Liu, van der Maaten & Weinberger 2016, https://arxiv.org/abs/1608.06993."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn import layers
from pycnn.layers import AvgPool2d, BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, MaxPool2d, ReLU
from pycnn.models import initial


class DenseLayer(layers.Module):
    """norm, relu, 1 x 1 to 4 * growth channels, norm, relu, 3 x 3 to `growth` (section 3)."""

    def __init__(self, before: int, growth: int, rng: np.random.Generator) -> None:
        """Weights are `init.he_normal`."""
        super().__init__()
        self.norm1, self.relu1 = BatchNorm2d(before), ReLU()
        self.conv1 = Conv2d(before, 4 * growth, 1, bias=False, rng=rng)
        self.norm2, self.relu2 = BatchNorm2d(4 * growth), ReLU()
        self.conv2 = Conv2d(4 * growth, growth, 3, padding=1, bias=False, rng=rng)

    def forward(self, x: Any) -> Any:
        """The new channels."""
        x = self.conv1(self.relu1(self.norm1(x)))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(layers.Module):
    """Each layer reads the channels of all before it."""

    def __init__(self, count: int, before: int, growth: int, rng: np.random.Generator) -> None:
        """Layers with torchvision's names."""
        super().__init__()
        for i in range(count):
            setattr(self, f"denselayer{i + 1}", DenseLayer(before + i * growth, growth, rng))

    def forward(self, x: Any) -> Any:
        """All channels, the oldest first."""
        for layer in self.children().values():
            x = layers.concat([x, layer(x)])
        return x


class Transition(layers.Module):
    """Half of the channels, half of the image (section 3, "compression")."""

    def __init__(self, before: int, rng: np.random.Generator) -> None:
        """Weights are `init.he_normal`."""
        super().__init__()
        self.norm, self.relu = BatchNorm2d(before), ReLU()
        self.conv = Conv2d(before, before // 2, 1, bias=False, rng=rng)
        self.pool = AvgPool2d(2)

    def forward(self, x: Any) -> Any:
        """Half of both."""
        return self.pool(self.conv(self.relu(self.norm(x))))


class Features(layers.Module):
    """Images to the channels of the last block, normalised."""

    def __init__(
        self, blocks: tuple[int, ...], growth: int, in_channels: int, rng: np.random.Generator
    ) -> None:
        """The stem, then blocks with transitions between them."""
        super().__init__()
        channels = 2 * growth
        self.conv0 = Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False, rng=rng)
        self.norm0, self.relu0 = BatchNorm2d(channels), ReLU()
        self.pool0 = MaxPool2d(3, 2, padding=1)
        for i, count in enumerate(blocks, 1):
            setattr(self, f"denseblock{i}", DenseBlock(count, channels, growth, rng))
            channels += count * growth
            if i < len(blocks):
                setattr(self, f"transition{i}", Transition(channels, rng))
                channels //= 2
        self.norm5 = BatchNorm2d(channels)
        self.channels = channels

    def forward(self, x: Any) -> Any:
        """One after the other."""
        for layer in self.children().values():
            x = layer(x)
        return x


class DenseNet(layers.Module):
    """[N, H, W, in_channels] -> [N, num_classes]."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        rng: np.random.Generator | int | None,
    ) -> None:
        """Convolutions are `init.he_normal`; 32 new channels a layer."""
        super().__init__()
        rng = initial_rng.generator(rng)
        self.features = Features(blocks, 32, in_channels, rng)
        self.relu, self.avgpool = ReLU(), GlobalAvgPool2d()
        self.classifier = Linear(self.features.channels, num_classes, rng=rng)
        limit = 1 / np.sqrt(self.features.channels)
        initial.uniform(self.classifier, limit, rng, bias=False)

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        return self.classifier(self.avgpool(self.relu(self.features(x))))


def densenet121(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> DenseNet:
    """DenseNet-121: [N, 224, 224, in_channels] -> [N, num_classes]; 7,978,856 parameters."""
    return DenseNet((6, 12, 24, 16), num_classes, in_channels, rng)
