"""Networks that are ready to train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn.layers import Module
from pycnn.models.chains import mnist_cnn, stages
from pycnn.models.resnet import BasicBlock, CifarResNet, resnet20
from pycnn.models.small import SmallResNet, resnet10_small

# By the names that `make` takes; all take num_classes=, in_channels= and rng=.
NETWORKS: dict[str, Callable[..., Module]] = {
    make.__name__: make for make in (resnet10_small, resnet20)
}


def make(name: str, **options: Any) -> Module:
    """The network with this name: `make("resnet20", num_classes=10, rng=0)` is `resnet20(...)`.

    options: num_classes, in_channels, rng. Raises ValueError for another name, and lists those
    there are.
    """
    if name not in NETWORKS:
        raise ValueError(f"make: name is {name!r}; expected one of {', '.join(NETWORKS)}.")
    return NETWORKS[name](**options)


__all__ = [
    "NETWORKS",
    "BasicBlock",
    "CifarResNet",
    "SmallResNet",
    "make",
    "mnist_cnn",
    "resnet10_small",
    "resnet20",
    "stages",
]
