"""Initial values of published networks: what torchvision draws, made of what layers have drawn.

Layers draw `init.he_normal` when they are made. Another normal distribution is that one scaled, so
nothing is drawn twice; only uniform values are drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pycnn.layers import Conv2d, Layer, Linear

Weighted = Conv2d | Linear


def fan_in(layer: Weighted) -> int:
    """The number of inputs of one output."""
    return math.prod(layer.weight.data.shape[:-1])


def fan_out(layer: Weighted) -> int:
    """KH * KW * OC, as PyTorch counts it: for a depthwise convolution too."""
    *window, _, out = layer.weight.data.shape
    return math.prod(window) * int(out)


def normal(layer: Weighted, std: float) -> None:
    """Give the weight that the layer has drawn another standard deviation."""
    layer.weight.data *= np.float32(std * math.sqrt(fan_in(layer) / 2))


def uniform(layer: Weighted, limit: float, rng: np.random.Generator, *, bias: bool) -> None:
    """Values in +-limit for the weight, and for the bias if `bias`."""
    parameters = [layer.weight, layer.bias] if bias and layer.bias is not None else [layer.weight]
    for parameter in parameters:
        values = parameter.data
        rng.random(out=values, dtype=np.float32)
        values *= np.float32(2 * limit)
        values -= np.float32(limit)


def torch_default(layer: Weighted, rng: np.random.Generator) -> None:
    """PyTorch's own: weight and bias uniform in +-1 / sqrt(fan_in)."""
    uniform(layer, 1 / math.sqrt(fan_in(layer)), rng, bias=True)


def by_fan_out(model: Layer, linear: Callable[[Linear], None]) -> None:
    """Convolutions normal with std sqrt(2 / fan_out), linear layers by `linear`."""
    for _, layer in model.named_layers():
        if isinstance(layer, Conv2d):
            normal(layer, math.sqrt(2 / fan_out(layer)))
        elif isinstance(layer, Linear):
            linear(layer)
