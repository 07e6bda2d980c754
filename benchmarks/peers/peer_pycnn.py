"""pycnn itself, through the same door as its peers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import pycnn
from pycnn import losses, models, optim


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
    """One forward a call, in eval mode; see `benchmarks.peers`."""
    model = _model(parameters, threads)
    model.eval()
    return lambda i: model.forward(images[i % len(images)])


def _model(parameters: list[np.ndarray], threads: int) -> pycnn.layers.Sequential:
    pycnn.set_num_threads(threads)
    model = models.mnist_cnn(rng=0, init="lecture")
    for parameter, value in zip(model.parameters(), parameters, strict=True):
        parameter.data[...] = value
    return model
