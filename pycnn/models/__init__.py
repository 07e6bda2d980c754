"""Networks that are ready to train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn.layers import Module
from pycnn.models.alexnet import AlexNet, alexnet
from pycnn.models.chains import mnist_cnn, stages
from pycnn.models.cifar import CifarResNet, resnet20
from pycnn.models.densenet import DenseNet, densenet121
from pycnn.models.googlenet import GoogLeNet, googlenet
from pycnn.models.mobilenet import MobileNetV2, mobilenet_v2
from pycnn.models.residual import BasicBlock, Bottleneck
from pycnn.models.resnet import ResNet, resnet18, resnet34, resnet50
from pycnn.models.small import SmallResNet, resnet12_small
from pycnn.models.squeezenet import SqueezeNet, squeezenet1_1
from pycnn.models.unet import UNet, unet
from pycnn.models.vgg import VGG, vgg11, vgg11_bn, vgg16

# By the names that `make` takes; all take num_classes=, in_channels= and rng=.
NETWORKS: dict[str, Callable[..., Module]] = {
    make.__name__: make
    for make in (
        alexnet, vgg11, vgg11_bn, vgg16, resnet18, resnet34, resnet50, resnet20, resnet12_small,
        densenet121, squeezenet1_1, googlenet, mobilenet_v2, unet,
    )
}  # fmt: skip


def make(name: str, **options: Any) -> Module:
    """The network with this name: `make("resnet18", num_classes=10, rng=0)` is `resnet18(...)`.

    options: num_classes, in_channels, rng. Raises ValueError for another name, and lists those
    there are.
    """
    if name not in NETWORKS:
        raise ValueError(f"make: name is {name!r}; expected one of {', '.join(NETWORKS)}.")
    return NETWORKS[name](**options)


__all__ = [
    "NETWORKS",
    "VGG",
    "AlexNet",
    "BasicBlock",
    "Bottleneck",
    "CifarResNet",
    "DenseNet",
    "GoogLeNet",
    "MobileNetV2",
    "ResNet",
    "SmallResNet",
    "SqueezeNet",
    "UNet",
    "alexnet",
    "densenet121",
    "googlenet",
    "make",
    "mnist_cnn",
    "mobilenet_v2",
    "resnet12_small",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "squeezenet1_1",
    "stages",
    "unet",
    "vgg11",
    "vgg11_bn",
    "vgg16",
]
