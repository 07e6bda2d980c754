"""pycnn itself, through the same door as its peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

import pycnn
from pycnn import interop, layers, losses, models, ops, optim, recipes

from .sizes import LR, MOMENTUM, answer_images, file_of, step_data


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


def network(
    job: dict[str, Any], threads: int, variant: str
) -> dict[str, tuple[Callable[[], Any], Callable[[Any], np.ndarray]]]:
    """A training step, or the answer of the compiled network; see `benchmarks.peers`."""
    from safetensors.numpy import load_file

    from ..networks import make

    pycnn.set_num_threads(threads)
    model = make(job["network"])
    images = step_data(job["network"])[0] if job["what"] == "step" else answer_images(job["batch"])
    arrays = load_file(file_of(job, ".safetensors"))
    interop.load_torch_state_dict(model, arrays, input_shape=images.shape)
    if job["what"] == "answer":
        model.eval()
        return {
            "answer": (
                partial(model.compile_inference((None, *images.shape[1:])), images),
                np.array,
            )
        }
    step = network_step(model, *step_data(job["network"]))
    return {"step": (step, lambda loss: np.array([loss]))}


def network_step(
    model: layers.Module, images: np.ndarray, labels: np.ndarray
) -> Callable[[], float]:
    """Forward, loss, backward, SGD with momentum; labels [N] or of each pixel, [N, H, W]."""
    criterion = losses.SoftmaxCrossEntropy()
    optimizer = optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    flat = labels.reshape(-1)

    def step() -> float:
        logits = model.forward(images)
        loss, dlogits = criterion(logits.reshape(-1, logits.shape[-1]), flat)
        optimizer.zero_grad()
        model.backward(dlogits.reshape(logits.shape), input_gradient=False)
        optimizer.step()
        return float(loss)

    return step


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
