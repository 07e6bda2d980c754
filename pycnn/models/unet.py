"""U-Net: Ronneberger, Fischer & Brox 2015, https://arxiv.org/abs/1505.04597."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pycnn import init as initial_rng
from pycnn import layers
from pycnn.layers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Layer,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)


def double(before: int, channels: int, rng: np.random.Generator) -> Sequential:
    """Twice convolution, normalisation, relu."""
    stack: list[Layer] = []
    for C in (before, channels):
        conv = Conv2d(C, channels, 3, padding=1, bias=False, rng=rng)
        stack += [conv, BatchNorm2d(channels), ReLU()]
    return Sequential(*stack)


class UNet(Module):
    """[N, H, W, in_channels] -> [N, H, W, num_classes], logits of each pixel (figure 1)."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int],
        rng: np.random.Generator | int | None,
    ) -> None:
        """Weights are `init.he_normal`, as in section 3."""
        super().__init__()
        rng = initial_rng.generator(rng)
        widths = list(itertools.pairwise((in_channels, *channels)))
        self.down = [double(before, width, rng) for before, width in widths]
        steps = widths[:0:-1]  # from the coarsest level to the finest
        self.up = [ConvTranspose2d(wide, width, 2, stride=2, rng=rng) for width, wide in steps]
        self.join = [double(2 * width, width, rng) for width, _ in steps]
        self.pool = MaxPool2d(2)
        self.last = Conv2d(channels[0], num_classes, 1, rng=rng)

    def forward(self, x: Any) -> Any:
        """Down, keeping each level's image, and up again beside them."""
        kept = []
        for i, block in enumerate(self.down):
            x = block(self.pool(x) if i else x)
            kept.append(x)
        for up, join, wide in zip(self.up, self.join, reversed(kept[:-1]), strict=True):
            x = join(layers.concat([wide, up(x)]))
        return self.last(x)


def unet(
    in_channels: int = 1,
    num_classes: int = 2,
    channels: Sequence[int] = (64, 128, 256, 512, 1024),
    *,
    rng: np.random.Generator | int | None = None,
) -> UNet:
    """A U-Net: [N, H, W, in_channels] -> [N, H, W, num_classes] logits; 31,036,546 parameters.

    channels: of each level, the finest first; H and W must be multiples of 2 ** (levels - 1). With
    padding, so that the result has the size of the image, and with batch normalisation.
    """
    return UNet(in_channels, num_classes, channels, rng)
