"""The lecture's training with each choice of kernels: the accuracies differ as seeds do."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import pycnn
from pycnn import datasets, layers, losses, models, ops, optim

from .timing import table

BATCH, EPOCHS, SEEDS = 100, 2, 5
# Of 20 steps' losses, against those of "auto": far above what float32's rounding can become in so
# few steps, far below what a wrong gradient does to them.
NAIVE_STEPS = 20
# name: (algorithm of the convolutions, precision)
CHOICES = {"auto": ("auto", "fast"), "exact": ("auto", "exact"), "direct": ("direct", "fast")}


def network(seed: int, algorithm: str) -> layers.Sequential:
    """The lecture's, with its convolutions computed by `algorithm`."""
    model = models.mnist_cnn(seed)
    for layer in model:
        if isinstance(layer, layers.Conv2d):
            layer.algorithm = algorithm
    return layers.Sequential(*model)  # plans blocks anew


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """`set_precision(name)` for a while."""
    before = pycnn.get_precision()
    pycnn.set_precision(name)
    try:
        yield
    finally:
        pycnn.set_precision(before)


def train(
    model: layers.Sequential,
    split: datasets.Split,
    seed: int,
    epochs: int,
    steps: int | None = None,
) -> list[float]:
    """The losses of `epochs` passes, or of the first `steps` steps, in an order drawn from seed."""
    loss_of, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(model.parameters())
    rng = np.random.default_rng([seed, 1])
    found: list[float] = []
    for _ in range(epochs):
        order = rng.permutation(len(split))
        for first in range(0, len(split) - BATCH + 1, BATCH):
            batch = order[first : first + BATCH]
            loss, dlogits = loss_of(
                model.forward(ops.gather_images(split.images, batch)), split.labels[batch]
            )
            optimizer.zero_grad()
            model.backward(dlogits, input_gradient=False)
            optimizer.step()
            found.append(loss)
            if len(found) == steps:
                return found
    return found


def accuracy(model: layers.Sequential, split: datasets.Split) -> float:
    """The share of images whose largest logit is that of their label."""
    model.eval()
    right = 0
    for first in range(0, len(split), 500):
        batch = np.arange(first, min(first + 500, len(split)))
        logits = model.forward(ops.gather_images(split.images, batch))
        right += int(np.count_nonzero(logits.argmax(axis=1) == split.labels[batch]))
    model.train()
    return right / len(split)


def run(*, quick: bool) -> dict[str, Any]:
    """Measure, print, return what goes to the JSON file."""
    data = datasets.load_mnist()
    split, epochs, seeds = data.train, EPOCHS, SEEDS
    if quick:
        epochs, seeds = 1, 2
        split = datasets.Split(split.images[:2000], split.labels[:2000])
    report: dict[str, Any] = {"epochs": epochs, "seeds": seeds, "choices": {}}
    for name, (algorithm, how) in CHOICES.items():
        began = time.perf_counter()
        found = []
        with precision(how):
            for seed in range(seeds):
                model = network(seed, algorithm)
                train(model, split, seed, epochs)
                found.append(accuracy(model, data.test))
        report["choices"][name] = {
            "accuracies": found,
            "seconds": time.perf_counter() - began,
        }
    curves = {name: train(network(0, name), split, 0, 1, NAIVE_STEPS) for name in ("auto", "naive")}
    report["naive"] = {
        "steps": NAIVE_STEPS,
        "losses": curves,
        "largest_difference": float(np.abs(np.subtract(*curves.values())).max()),
    }
    print(text(report))
    return report


def text(report: dict[str, Any]) -> str:
    """A line a choice, and how far the naive loops' losses are from those of "auto"."""
    rows = []
    for name, choice in report["choices"].items():
        values = [100 * value for value in choice["accuracies"]]
        rows.append(
            [
                name,
                ", ".join(f"{value:.2f}" for value in values),
                f"{statistics.mean(values):.2f}",
                f"{statistics.stdev(values):.2f}",
                f"{choice['seconds']:.0f}",
            ]
        )
    naive = report["naive"]
    last = {name: losses_[-1] for name, losses_ in naive["losses"].items()}
    return "\n".join(
        [
            f"\nTest accuracy of the lecture's network after {report['epochs']} epoch(s), %",
            table(("kernels", "seeds", "mean", "std", "seconds"), rows),
            f"naive loops beside auto, {naive['steps']} steps: the losses differ by "
            f"{naive['largest_difference']:.2g} at most; the last ones are {last['naive']:.6f} and "
            f"{last['auto']:.6f}",
        ]
    )
