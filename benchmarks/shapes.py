"""Every distinct convolution of ten networks: what the sweep times.

Paddings are symmetric, as PyTorch's models have them; 3x3 with padding 1 and stride 1 is SAME.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .peers.network import CHANNELS, SIZES

DIRECTIONS = ("forward", "backward_input", "backward_weight")
SMALL_NETWORKS = ("lenet5", "lecture", "resnet20")  # also at batch 100
ONE_IMAGE = ("mobilenetv2",)  # at batch 1 alone: 28 convolutions, most like MobileNetV1's


@dataclass(frozen=True)
class Convolution:
    """A square convolution; `size` is that of its input's height and width."""

    size: int
    C: int
    OC: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def __str__(self) -> str:
        """As in `56x56x64->128 3x3/2`; `dw` means one group a channel, `g32` 32 groups."""
        what = f"g{self.groups} " if self.groups > 1 else ""
        if self.groups == self.C > 1:
            what = "dw "
        step = f"/{self.stride}" if self.stride > 1 else ""
        unpadded = " valid" if self.kernel > 1 and not self.padding else ""
        image = f"{self.size}x{self.size}x{self.C}->{self.OC}"
        return f"{image} {what}{self.kernel}x{self.kernel}{step}{unpadded}"

    @property
    def output_size(self) -> int:
        """Height and width of y."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """[KH, KW, C/groups, OC]."""
        return (self.kernel, self.kernel, self.C // self.groups, self.OC)

    def input_shape(self, batch: int) -> tuple[int, int, int, int]:
        """[N, H, W, C]."""
        return (batch, self.size, self.size, self.C)

    def output_shape(self, batch: int) -> tuple[int, int, int, int]:
        """[N, OH, OW, OC]."""
        return (batch, self.output_size, self.output_size, self.OC)

    def flop(self, batch: int) -> float:
        """Of one direction, 2 a multiply-add, padding counted."""
        KH, KW, C_group, OC = self.weight_shape
        return 2.0 * batch * self.output_size**2 * KH * KW * C_group * OC

    def as_job(self, batch: int) -> dict[str, Any]:
        """What a contestant needs to build it."""
        return {
            "input_shape": self.input_shape(batch),
            "weight_shape": self.weight_shape,
            "output_shape": self.output_shape(batch),
            "stride": self.stride,
            "padding": self.padding,
            "groups": self.groups,
        }


def _same(size: int, C: int, OC: int, stride: int = 1) -> Convolution:
    return Convolution(size, C, OC, kernel=3, stride=stride, padding=1)


def _pointwise(size: int, C: int, OC: int, stride: int = 1) -> Convolution:
    return Convolution(size, C, OC, kernel=1, stride=stride)


def _depthwise(size: int, C: int, stride: int = 1) -> Convolution:
    return Convolution(size, C, C, kernel=3, stride=stride, padding=1, groups=C)


def _grouped(size: int, C: int, stride: int = 1) -> Convolution:
    return Convolution(size, C, C, kernel=3, stride=stride, padding=1, groups=32)


def _lenet5() -> list[Convolution]:
    # LeCun et al. 1998 on 28x28 images; C3 with all its connections, C5 is a 5x5 convolution too.
    first = Convolution(28, 1, 6, kernel=5, padding=2)
    return [first, Convolution(14, 6, 16, kernel=5), Convolution(5, 16, 120, kernel=5)]


def _lecture() -> list[Convolution]:
    layers = zip(SIZES, CHANNELS[:-1], CHANNELS[1:], strict=True)
    return [_same(size, C, OC) for size, C, OC in layers]


def _residual(size: int, widths: tuple[int, ...]) -> list[Convolution]:
    """Stages of basic blocks: 3x3 convolutions; stride 2 and a 1x1 projection between stages."""
    found = [_same(size, widths[0], widths[0])]
    for C, OC in pairwise(widths):
        found += [_same(size, C, OC, stride=2), _pointwise(size, C, OC, stride=2)]
        size //= 2
        found.append(_same(size, OC, OC))
    return found


def _resnet20() -> list[Convolution]:
    # Shortcuts by projection (He et al.'s option B); their option A has no convolution.
    return [_same(32, 3, 16), *_residual(32, (16, 32, 64))]


def _vgg11() -> list[Convolution]:
    layers = [(224, 3, 64), (112, 64, 128), (56, 128, 256), (56, 256, 256)]
    layers += [(28, 256, 512), (28, 512, 512), (14, 512, 512)]
    return [_same(*layer) for layer in layers]


def _resnet18() -> list[Convolution]:
    stem = Convolution(224, 3, 64, kernel=7, stride=2, padding=3)
    return [stem, *_residual(56, (64, 128, 256, 512))]


def _alexnet() -> list[Convolution]:
    # As in torchvision: the first layer has 64 channels.
    first = Convolution(224, 3, 64, kernel=11, stride=4, padding=2)
    found = [first, Convolution(27, 64, 192, kernel=5, padding=2)]
    return found + [_same(13, C, OC) for C, OC in ((192, 384), (384, 256), (256, 256))]


def _resnet50() -> list[Convolution]:
    """Bottlenecks; the stride is the 3x3 convolution's."""
    found = [Convolution(224, 3, 64, kernel=7, stride=2, padding=3), _pointwise(56, 64, 64)]
    found += [_same(56, 64, 64), _pointwise(56, 64, 256), _pointwise(56, 256, 64)]
    size = 56
    for width in (128, 256, 512):
        C, half, wide = 2 * width, size // 2, 4 * width
        found += [_pointwise(size, C, width), _same(size, width, width, stride=2)]
        found += [_pointwise(half, width, wide), _pointwise(size, C, wide, stride=2)]
        found += [_pointwise(half, wide, width), _same(half, width, width)]
        size = half
    return found


def _resnext() -> list[Convolution]:
    """The 3x3 convolutions of ResNeXt-50: 32 groups of 4 to 32 channels."""
    found = [_grouped(56, 128)]
    for size, C in ((56, 256), (28, 512), (14, 1024)):
        found += [_grouped(size, C, stride=2), _grouped(size // 2, C)]
    return found


def _mobilenetv2() -> list[Convolution]:
    found = [_same(224, 3, 32, stride=2), _depthwise(112, 32), _pointwise(112, 32, 16)]
    size = 112
    stages = [(16, 24, 2), (24, 32, 2), (32, 64, 2), (64, 96, 1), (96, 160, 2), (160, 320, 1)]
    for C, OC, stride in stages:
        wide, half = 6 * C, size // stride
        found += [_pointwise(size, C, wide), _depthwise(size, wide, stride)]
        found.append(_pointwise(half, wide, OC))
        if OC < 320:  # the stage's other blocks
            found += [_pointwise(half, OC, 6 * OC), _depthwise(half, 6 * OC)]
            found.append(_pointwise(half, 6 * OC, OC))
        size = half
    return [*dict.fromkeys(found), _pointwise(7, 320, 1280)]


def _mobilenet() -> list[Convolution]:
    found, size = [_same(224, 3, 32, stride=2)], 112
    blocks = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1)]
    blocks += [(256, 512, 2), (512, 512, 1), (512, 1024, 2), (1024, 1024, 1)]
    for C, OC, stride in blocks:
        found.append(_depthwise(size, C, stride))
        size //= stride
        found.append(_pointwise(size, C, OC))
    return found


NETWORKS: dict[str, list[Convolution]] = {
    "lenet5": _lenet5(),
    "lecture": _lecture(),
    "resnet20": _resnet20(),
    "vgg11": _vgg11(),
    "resnet18": _resnet18(),
    "mobilenet": _mobilenet(),
    "alexnet": _alexnet(),
    "resnet50": _resnet50(),
    "resnext": _resnext(),
    "mobilenetv2": _mobilenetv2(),
}


@dataclass(frozen=True)
class Point:
    """One convolution at one batch size, and the first network that has it."""

    network: str
    convolution: Convolution
    batch: int


def points(networks: Iterable[str] = NETWORKS, *, quick: bool = False) -> list[Point]:
    """All of the sweep, each convolution once: batch 1 and 16, the small networks' also 100,
    MobileNetV2's 1 alone.

    quick: batch 1 alone.
    """
    found: dict[tuple[Convolution, int], Point] = {}
    for network in networks:
        batches: tuple[int, ...] = (1, 16, 100) if network in SMALL_NETWORKS else (1, 16)
        if quick or network in ONE_IMAGE:
            batches = (1,)
        for convolution in NETWORKS[network]:
            for batch in batches:
                found.setdefault((convolution, batch), Point(network, convolution, batch))
    return list(found.values())
