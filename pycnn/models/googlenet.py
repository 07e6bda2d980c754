"""GoogLeNet: Szegedy et al. 2014, "Going deeper with convolutions", https://arxiv.org/abs/1409.4842.

As torchvision has it: batch normalisation behind each convolution, and 3 x 3 where the paper has
5 x 5. The two auxiliary classifiers (section 5), which the paper discards after training, are left
out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn import layers
from pycnn.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)


class BasicConv2d(Module):
    """Convolution without bias, normalisation, relu."""

    def __init__(
        self, before: int, channels: int, size: int, rng: np.random.Generator, stride: int = 1
    ) -> None:
        """Padded by half of the window."""
        super().__init__()
        options: dict[str, Any] = {"stride": stride, "padding": size // 2, "bias": False}
        self.conv = Conv2d(before, channels, size, **options, rng=rng)
        self.bn, self.relu = BatchNorm2d(channels, eps=0.001), ReLU()

    def forward(self, x: Any) -> Any:
        """One after the other."""
        return self.relu(self.bn(self.conv(x)))


class Inception(Module):
    """Four branches, their channels one after another (figure 2b); widths as in table 1."""

    def __init__(self, before: int, widths: tuple[int, ...], rng: np.random.Generator) -> None:
        """widths: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj."""
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = widths
        self.branch1 = BasicConv2d(before, one, 1, rng)
        self.branch2 = Sequential(
            BasicConv2d(before, reduce3, 1, rng), BasicConv2d(reduce3, three, 3, rng)
        )
        self.branch3 = Sequential(
            BasicConv2d(before, reduce5, 1, rng), BasicConv2d(reduce5, five, 3, rng)
        )
        self.branch4 = Sequential(MaxPool2d(3, 1, padding=1), BasicConv2d(before, pooled, 1, rng))

    def forward(self, x: Any) -> Any:
        """[N, H, W, before] -> [N, H, W, the sum of the branches' widths]."""
        branches = self.branch1, self.branch2, self.branch3, self.branch4
        return layers.concat([branch(x) for branch in branches])


class GoogLeNet(Module):
    """[N, H, W, in_channels] -> [N, num_classes] (table 1)."""

    torch_left_out = ("aux1.", "aux2.")  # arrays of torchvision's that this network does without

    def __init__(
        self, num_classes: int, in_channels: int, rng: np.random.Generator | int | None
    ) -> None:
        """Weights are normal with std 0.01, cut at two of them; biases are zero."""
        super().__init__()
        rng = initial_rng.generator(rng)
        self.conv1 = BasicConv2d(in_channels, 64, 7, rng, stride=2)
        self.maxpool1 = MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, 1, rng)
        self.conv3 = BasicConv2d(64, 192, 3, rng)
        self.maxpool2 = MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a = Inception(192, (64, 96, 128, 16, 32, 32), rng)
        self.inception3b = Inception(256, (128, 128, 192, 32, 96, 64), rng)
        self.maxpool3 = MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = Inception(480, (192, 96, 208, 16, 48, 64), rng)
        self.inception4b = Inception(512, (160, 112, 224, 24, 64, 64), rng)
        self.inception4c = Inception(512, (128, 128, 256, 24, 64, 64), rng)
        self.inception4d = Inception(512, (112, 144, 288, 32, 64, 64), rng)
        self.inception4e = Inception(528, (256, 160, 320, 32, 128, 128), rng)
        self.maxpool4 = MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a = Inception(832, (256, 160, 320, 32, 128, 128), rng)
        self.inception5b = Inception(832, (384, 192, 384, 48, 128, 128), rng)
        self.avgpool, self.dropout = GlobalAvgPool2d(), Dropout(0.2, rng=rng)
        self.fc = Linear(1024, num_classes, rng=rng)
        for _, layer in self.named_layers():
            if isinstance(layer, (Conv2d, Linear)):
                weight = layer.weight.data
                weight[...] = initial_rng.truncated_normal(weight.shape, 0.01, rng)

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        x = self.conv3(self.conv2(self.maxpool1(self.conv1(x))))
        x = self.maxpool3(self.inception3b(self.inception3a(self.maxpool2(x))))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = self.maxpool4(self.inception4e(self.inception4d(x)))
        return self.fc(self.dropout(self.avgpool(self.inception5b(self.inception5a(x)))))


def googlenet(
    num_classes: int = 1000, in_channels: int = 3, *, rng: np.random.Generator | int | None = None
) -> GoogLeNet:
    """GoogLeNet: [N, 224, 224, in_channels] -> [N, num_classes]; 6,624,904 parameters."""
    return GoogLeNet(num_classes, in_channels, rng)
