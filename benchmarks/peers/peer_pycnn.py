"""pycnn itself, through the same door as its peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

import pycnn
from pycnn import layers, losses, models, ops, optim, recipes


def version() -> str:
    """The installed version and the ISA in use."""
    return f"{pycnn.__version__} ({pycnn.isa()})"


def training(
    parameters: list[np.ndarray], images: np.ndarray, labels: np.ndarray, threads: int, variant: str
) -> Callable[[int], float]:
    """One step of Adam a call; see `benchmarks.peers`."""
    model = _model(parameters, threads)
    criterion = losses.SoftmaxCrossEntropy()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def step(i: int) -> float:
        logits = model.forward(images[i % len(images)])
        loss, dlogits = criterion(logits, labels[i % len(labels)])
        optimizer.zero_grad()
        model.backward(dlogits, input_gradient=False)
        optimizer.step()
        return float(loss)

    return step


def inference(
    parameters: list[np.ndarray], images: np.ndarray, threads: int, variant: str
) -> Callable[[int], np.ndarray]:
    """One forward a call, compiled where pycnn can; see `benchmarks.peers`."""
    model = _model(parameters, threads)
    model.eval()
    if hasattr(model, "compile_inference"):
        compiled = model.compile_inference((None, *images.shape[2:]))
        return lambda i: compiled(images[i % len(images)])
    return lambda i: model.forward(images[i % len(images)])


def convolution(
    job: dict[str, Any], arrays: dict[str, np.ndarray], threads: int, variant: str
) -> dict[str, tuple[Callable[[], np.ndarray], Callable[[np.ndarray], np.ndarray]]]:
    """The three directions of one convolution; see `benchmarks.peers`.

    variant "compiled": forward in a compiled network of this one layer.
    """
    pycnn.set_num_threads(threads)
    if variant == "compiled":
        return {"forward": (_compiled(job, arrays), np.asarray)}
    x, weight, bias, dy = (arrays[name] for name in ("x", "weight", "bias", "dy"))
    options = {name: job[name] for name in ("stride", "padding", "groups")}
    y, dx, dweight = (np.empty_like(array) for array in (dy, x, weight))
    calls = {
        "forward": partial(ops.conv2d, x, weight, bias, out=y, **options),
        "backward_input": partial(
            ops.conv2d_backward_input, dy, weight, x.shape, out=dx, **options
        ),
        "backward_weight": partial(
            ops.conv2d_backward_weight, x, dy, weight.shape, out=dweight, **options
        ),
    }
    return {direction: (call, np.asarray) for direction, call in calls.items()}


def _compiled(job: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    weight = arrays["weight"]
    options = {name: job[name] for name in ("stride", "padding", "groups")}
    channels = arrays["x"].shape[3], weight.shape[3]
    layer = layers.Conv2d(*channels, weight.shape[:2], **options, rng=0)
    layer.weight.data[...], layer.bias.data[...] = weight, arrays["bias"]
    layer.eval()
    return partial(layer.compile_inference(arrays["x"].shape), arrays["x"])


def recipe(
    splits: dict[str, tuple[np.ndarray, np.ndarray]], threads: int, variant: str
) -> Callable[[dict[str, Any], int], dict[str, float]]:
    """One training a call; see `benchmarks.peers`."""
    pycnn.set_num_threads(threads)

    def train(settings: dict[str, Any], seed: int) -> dict[str, float]:
        chosen = recipes.Recipe(**{**settings, "seed": seed})
        images, labels = (array[: chosen.limit_train or None] for array in splits["train"])
        trainer = chosen.make_trainer(len(images))
        began = perf_counter()
        trainer.fit((images, labels), **chosen.lengths(len(images)))
        seconds = perf_counter() - began
        found = {
            name: trainer.evaluate(splits[name])["accuracy"] for name in ("test", "validation")
        }
        return {"seconds": seconds, **found}

    return train


def _model(parameters: list[np.ndarray], threads: int) -> pycnn.layers.Sequential:
    pycnn.set_num_threads(threads)
    model = models.mnist_cnn(rng=0, init="lecture")
    for parameter, value in zip(model.parameters(), parameters, strict=True):
        parameter.data[...] = value
    return model
