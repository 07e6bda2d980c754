"""Every distinct convolution of six networks: what the sweep times.

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
        """As in `56x56x64->128 3x3/2`; `dw` means one group a channel."""
        what = "dw " if self.groups > 1 else ""
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
}


@dataclass(frozen=True)
class Point:
    """One convolution at one batch size, and the first network that has it."""

    network: str
    convolution: Convolution
    batch: int


def points(networks: Iterable[str] = NETWORKS, *, quick: bool = False) -> list[Point]:
    """All of the sweep, each convolution once: batch 1 and 16, the small networks' also 100.

    quick: batch 1 alone.
    """
    found: dict[tuple[Convolution, int], Point] = {}
    for network in networks:
        batches = (1,) if quick else (1, 16, 100) if network in SMALL_NETWORKS else (1, 16)
        for convolution in NETWORKS[network]:
            for batch in batches:
                found.setdefault((convolution, batch), Point(network, convolution, batch))
    return list(found.values())
