"""ResNet-20 for small images: He, Zhang, Ren & Sun 2015, https://arxiv.org/abs/1512.03385."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn import init as initial
from pycnn.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear, Module, ReLU
from pycnn.models.residual import BasicBlock, stage


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
