"""The networks of `benchmarks.networks` in PyTorch; for processes that may lack pycnn."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Basic(nn.Module):
    def __init__(self, C: int, OC: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(C, OC, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(OC)
        self.conv2 = nn.Conv2d(OC, OC, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(OC)
        self.shortcut = None
        if stride != 1 or C != OC:
            conv = nn.Conv2d(C, OC, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(OC))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        y += self.shortcut(x) if self.shortcut else x
        return F.relu(y, inplace=True)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        plan = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2
        plan += [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(Basic(*shape) for shape in plan))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        x = self.blocks(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return self.fc(x.mean((2, 3)))


def double(C: int, OC: int) -> nn.Sequential:
    stack: list[nn.Module] = []
    for before in (C, OC):
        conv = nn.Conv2d(before, OC, 3, padding=1, bias=False)
        stack += [conv, nn.BatchNorm2d(OC), nn.ReLU(inplace=True)]
    return nn.Sequential(*stack)


class UNet(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(double(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(double(a + b, a) for a, b in reversed(pairs))
        self.last = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: Any) -> Any:
        kept = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for block, wide in zip(self.up, reversed(kept[:-1]), strict=True):
            x = block(torch.cat([wide, F.interpolate(x, scale_factor=2)], 1))
        return self.last(x)


NETWORKS = {"resnet20": (ResNet20, (128, 32, 32, 3)), "unet": (UNet, (8, 128, 128, 3))}
