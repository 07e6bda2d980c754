"""Squeeze and excitation: Hu, Shen & Sun 2017, https://arxiv.org/abs/1709.01507."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycnn.layers import Conv2d, Layer, Mean, Module


class SqueezeExcitation(Module):
    """Each channel times a number from 0 to 1, which two layers make of all means."""

    def __init__(
        self, channels: int, squeezed: int, activation: Layer, gate: Layer, rng: np.random.Generator
    ) -> None:
        """Two 1 x 1 convolutions of the image's mean."""
        super().__init__()
        self.avgpool = Mean((1, 2), keepdims=True)
        self.fc1 = Conv2d(channels, squeezed, 1, rng=rng)
        self.fc2 = Conv2d(squeezed, channels, 1, rng=rng)
        self.activation, self.scale_activation = activation, gate

    def forward(self, x: Any) -> Any:
        """X * gate(fc2(activation(fc1(mean(x)))))."""
        means = self.activation(self.fc1(self.avgpool(x)))
        return x * self.scale_activation(self.fc2(means))
