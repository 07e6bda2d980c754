"""Networks that branch, for memory and time: ResNet-18 and a U-Net; ResNet-20 is pycnn's own.

He et al. 2015, "Deep Residual Learning for Image Recognition", table 1; Ronneberger et al. 2015,
"U-Net", with padding, normalisation, and upsampling by copies.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from pycnn import layers, models
from pycnn.layers import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, MaxPool2d, Module, Sequential


class ResNet18(Module):
    """[N, H, W, 3] -> [N, 1000], 11.7 million parameters, with the names of torchvision."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.conv1 = Conv2d(3, 64, 7, stride=2, padding=3, bias=False, rng=rng)
        self.bn1, self.relu = BatchNorm2d(64), layers.ReLU()
        self.maxpool = MaxPool2d(3, 2, padding=1)
        widths = (64, 64, 128, 256, 512)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            Sequential(
                models.BasicBlock(before, width, 1 if before == width else 2, rng),
                models.BasicBlock(width, width, 1, rng),
            )
            for before, width in itertools.pairwise(widths)
        )
        self.avgpool, self.fc = GlobalAvgPool2d(), Linear(512, 1000, rng=rng)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x))


class Upsample(layers.Layer):
    """Each pixel four times: [N, H, W, C] -> [N, 2 H, 2 W, C]."""

    reads = ""

    def infer_shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        N, H, W, C = x
        return N, 2 * H, 2 * W, C

    def compute(self, x: Any, out: Any) -> None:
        N, H, W, C = x.shape
        out.reshape(N, H, 2, W, 2, C)[...] = x[:, :, None, :, None, :]

    def gradients(self, dy: Any, dx: Any, x: None, y: None, saved: None) -> None:
        if dx is not None:
            N, H, W, C = dx.shape
            parts = dy.reshape(N, H, 2, W, 2, C)
            np.add(parts[:, :, 0, :, 0], parts[:, :, 0, :, 1], out=dx)
            dx += parts[:, :, 1, :, 0]
            dx += parts[:, :, 1, :, 1]


def double(C: int, OC: int, rng: np.random.Generator) -> Sequential:
    """Twice convolution, normalisation, relu."""
    stack: list[layers.Layer] = []
    for before in (C, OC):
        conv = Conv2d(before, OC, 3, padding=1, bias=False, rng=rng)
        stack += [conv, BatchNorm2d(OC), layers.ReLU()]
    return Sequential(*stack)


class UNet(Module):
    """[N, H, W, 3] -> [N, H, W, 2], with 16, 32, 64 and 128 channels."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.down = [double(a, b, rng) for a, b in zip((3, *widths), widths, strict=False)]
        pairs = list(itertools.pairwise(widths))
        self.up = [double(a + b, a, rng) for a, b in reversed(pairs)]
        self.pool, self.upsample = MaxPool2d(2), Upsample()
        self.last = Conv2d(widths[0], 2, 1, rng=rng)

    def forward(self, x: Any) -> Any:
        kept = []
        for i, block in enumerate(self.down):
            x = block(self.pool(x) if i else x)
            kept.append(x)
        for block, wide in zip(self.up, reversed(kept[:-1]), strict=True):
            x = block(layers.concat([wide, self.upsample(x)]))
        return self.last(x)


# name: (network, images of a batch)
NETWORKS = {
    "resnet20": (lambda: models.resnet20(rng=0), (128, 32, 32, 3)),
    "unet": (UNet, (8, 128, 128, 3)),
}
