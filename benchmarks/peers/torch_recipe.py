"""A recipe of pycnn's as a user of PyTorch would write it: network, Adam, one-cycle, one loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .network import Splits

MEAN, STD = 0.1307, 0.3081
UNSUPPORTED = (
    "dropout", "weight_decay", "clip_norm", "ema", "shift", "rotation", "scale", "shear",
    "elastic_alpha", "erase",
)  # fmt: skip


def recipe(
    splits: Splits, threads: int, variant: str
) -> Callable[[dict[str, Any], int], dict[str, float]]:
    """One training a call; see `benchmarks.peers`. The images are float32 before the clock runs."""
    torch.set_num_threads(threads)
    layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    data = {name: _tensors(*split, layout) for name, split in splits.items()}

    def train(settings: dict[str, Any], seed: int) -> dict[str, float]:
        _check(settings)
        torch.manual_seed(seed)
        images, labels = (part[: settings["limit_train"] or None] for part in data["train"])
        model = _network(settings).to(memory_format=layout)
        batch, epochs = settings["batch_size"], settings["epochs"]
        visited = round(settings["epoch_share"] * len(images)) // batch * batch
        steps = epochs * (visited // batch)
        betas = settings["beta1"], settings["beta2"]
        optimizer = torch.optim.Adam(model.parameters(), settings["lr"], betas, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings["lr"], steps, pct_start=settings["warmup"],
            anneal_strategy="linear", cycle_momentum=False,
        )  # fmt: skip
        began = time.perf_counter()
        for _ in range(epochs):
            order = torch.randperm(len(images))
            for first in range(0, visited, batch):
                at = order[first : first + batch]
                logits = model(images[at])
                loss = F.cross_entropy(
                    logits, labels[at], label_smoothing=settings["label_smoothing"]
                )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            **{name: _accuracy(model, *data[name]) for name in ("test", "validation")},
        }

    return train


def _check(settings: dict[str, Any]) -> None:
    asked = [name for name in UNSUPPORTED if settings[name]]
    if asked or (settings["optimizer"], settings["schedule"]) != ("adam", "one-cycle"):
        raise ValueError(f"PyTorch's twin knows adam and one-cycle, and none of {asked}")


def _tensors(images: np.ndarray, labels: np.ndarray, layout: Any) -> tuple[Any, Any]:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(MEAN).div(STD)
    return x.contiguous(memory_format=layout), torch.from_numpy(labels.astype(np.int64))


def _network(settings: dict[str, Any]) -> nn.Sequential:
    layers: list[nn.Module] = []
    before, size = 1, 28
    for stage, width in enumerate(settings["channels"]):
        for i in range(settings["convolutions"][stage]):
            kernel = settings["first_kernel_size"] if stage == i == 0 else 3
            norm = [nn.BatchNorm2d(width)] if settings["batch_norm"] else []
            conv = nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=not norm)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            last = i == settings["convolutions"][stage] - 1
            pool = [nn.MaxPool2d(2, ceil_mode=True)] if last else []
            after = settings["normalize_after_pool"]
            rest = [*pool, *norm, nn.ReLU()] if after else [*norm, nn.ReLU(), *pool]
            layers += [conv, *rest]
            before = width
        size = (size + 1) // 2
    linear = nn.Linear(before * size * size, 10)
    if settings["zero_last"]:
        nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(*layers, nn.Flatten(), linear)


def _accuracy(model: nn.Module, images: Any, labels: Any) -> float:
    model.eval()
    with torch.inference_mode():
        right = sum(
            int((model(images[i : i + 500]).argmax(1) == labels[i : i + 500]).sum())
            for i in range(0, len(images), 500)
        )
    return right / len(images)
