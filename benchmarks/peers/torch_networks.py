"""The networks of `benchmarks.networks` in PyTorch; for processes that may lack pycnn.

Names of arrays are pycnn's, where torchvision has the network torchvision's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .sizes import CLASSES, LR, MOMENTUM, answer_images, file_of, step_data


class Basic(nn.Module):
    def __init__(self, C: int, OC: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(C, OC, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(OC)
        self.conv2 = nn.Conv2d(OC, OC, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(OC)
        self.downsample = None
        if stride != 1 or C != OC:
            conv = nn.Conv2d(C, OC, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(OC))

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        y += self.downsample(x) if self.downsample else x
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    """ResNet-18, or with `small` ResNet-20 for 32 x 32."""

    def __init__(self, widths: tuple[int, ...], count: int, classes: int, *, small: bool) -> None:
        super().__init__()
        size = {"kernel_size": 3} if small else {"kernel_size": 7, "stride": 2}
        first = widths[0]
        self.conv1 = nn.Conv2d(3, first, padding=size["kernel_size"] // 2, bias=False, **size)
        self.bn1 = nn.BatchNorm2d(first)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.stages = len(widths)
        for i, (C, OC) in enumerate(itertools.pairwise((first, *widths)), 1):
            blocks = [Basic(C, OC, 1 if i == 1 else 2)]
            blocks += [Basic(OC, OC, 1) for _ in range(count - 1)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Any) -> Any:
        x = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


def vgg11_small(classes: int) -> nn.Sequential:
    """VGG-11 with one linear layer, for 32 x 32."""
    stack: list[nn.Module] = []
    before = 3
    for width in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
        if isinstance(width, str):
            stack.append(nn.MaxPool2d(2))
        else:
            conv = nn.Conv2d(before, width, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            stack += [conv, nn.ReLU(inplace=True)]
            before = width
    return nn.Sequential(nn.Sequential(*stack), nn.Flatten(), nn.Linear(512, classes))


def conv_norm(C: int, OC: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(C, OC, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(OC), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    def __init__(self, C: int, OC: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = C * expand
        stack: list[nn.Module] = [] if expand == 1 else [conv_norm(C, wide, 1)]
        stack += [conv_norm(wide, wide, 3, stride, wide), nn.Conv2d(wide, OC, 1, bias=False)]
        self.conv, self.adds = nn.Sequential(*stack, nn.BatchNorm2d(OC)), stride == 1 and C == OC

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        stack, C = [conv_norm(3, 32, 3, 2)], 32
        plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
        for expand, OC, count, stride in [*plan, (6, 160, 3, 2), (6, 320, 1, 1)]:
            for i in range(count):
                stack.append(InvertedResidual(C, OC, stride if i == 0 else 1, expand))
                C = OC
        self.features = nn.Sequential(*stack, conv_norm(C, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


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
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.join = nn.ModuleList(double(2 * a, a) for a, _ in reversed(pairs))
        self.last = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x: Any) -> Any:
        kept = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, join, wide in zip(self.up, self.join, reversed(kept[:-1]), strict=True):
            x = join(torch.cat([wide, up(x)], 1))
        return self.last(x)


def make(name: str) -> nn.Module:
    """A network of `sizes.STEPS`."""
    if name == "vgg11/32":
        return vgg11_small(CLASSES[name])
    if name == "resnet20":
        return ResNet((16, 32, 64), 3, CLASSES[name], small=True)
    if name == "resnet18":
        return ResNet((64, 128, 256, 512), 2, 1000, small=False)
    return MobileNetV2() if name == "mobilenet_v2" else UNet()


def imagenet(name: str) -> nn.Module:
    """A network of `sizes.ANSWERS`, of torchvision, with random weights."""
    register = torch.library.register_fake

    def tolerant(*names: Any, **options: Any) -> Any:
        """Skip what torchvision's compiled part would have brought, if it does not load."""
        decorate = register(*names, **options)

        def decorated(function: Any) -> Any:
            try:
                return decorate(function)
            except RuntimeError:
                return function

        return decorated

    torch.library.register_fake = tolerant
    try:
        from torchvision import models
    finally:
        torch.library.register_fake = register
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return getattr(models, name)(**options)


def network(
    job: dict[str, Any], threads: int, variant: str
) -> dict[str, tuple[Callable[[], Any], Callable[[Any], np.ndarray]]]:
    """A training step, channels_last, fused SGD; see `benchmarks.peers`."""
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    if job["what"] == "answer":
        return {"answer": _answer(job, load_file)}
    net = make(job["network"])
    net.load_state_dict(load_file(file_of(job, ".safetensors")))
    net = net.to(memory_format=torch.channels_last)
    images, labels = step_data(job["network"])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    targets = torch.from_numpy(labels)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(x), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return {"step": (step, lambda loss: np.array([loss]))}


def _answer(job: dict[str, Any], load_file: Any) -> tuple[Callable[[], Any], Any]:
    net = imagenet(job["network"]).eval()
    net.load_state_dict(load_file(file_of(job, ".safetensors")))
    net = net.to(memory_format=torch.channels_last)
    x = torch.from_numpy(answer_images(job["batch"])).permute(0, 3, 1, 2)

    def answer() -> np.ndarray:
        with torch.inference_mode():
            return net(x).numpy()

    return answer, np.asarray
