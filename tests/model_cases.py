"""Two small networks with all kinds of layers."""

import copy

import numpy as np
import pytest

from pycnn.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)


def lecture_like(rng=0):
    """The lecture's kind of network, small: [N, 9, 7, 2] -> [N, 3]."""
    rng = np.random.default_rng(rng)
    return Sequential(
        Conv2d(2, 4, 3, padding="same", rng=rng), ReLU(), MaxPool2d(2, padding="same"),
        Conv2d(4, 6, 3, stride=(2, 1), groups=2, rng=rng), ReLU(),
        AvgPool2d(2, stride=1, padding="same"), Flatten(), Linear(24, 3, rng=rng),
    )  # fmt: skip


def nested(rng=0):
    """[N, 6, 6, 2] -> [N, 3], with Sequentials inside and layers that work in place."""
    rng = np.random.default_rng(rng)
    return Sequential(
        Sequential(Conv2d(2, 4, 3, padding=1, rng=rng), ReLU()),
        Sequential(Sequential(ReLU(), MaxPool2d(3, 2, padding=1)), Dropout(0.3, rng=1)),
        Flatten(), Linear(36, 5, rng=rng), ReLU(), Linear(5, 3, rng=rng),
    )  # fmt: skip


MODELS = {"lecture_like": (lecture_like, (2, 9, 7, 2)), "nested": (nested, (2, 6, 6, 2))}
every_model = pytest.mark.parametrize("name", MODELS)


def make(name, dtype=np.float32):
    """(model, x, dy)"""
    model = MODELS[name][0]().astype(dtype)
    rng = np.random.default_rng(3)
    x = rng.standard_normal(MODELS[name][1]).astype(dtype)
    return model, x, rng.standard_normal((len(x), 3)).astype(dtype)


def bits(array):
    return array.view(np.uint32)


def gradients(model):
    return [parameter.grad.copy() for parameter in model.parameters()]


def one_by_one(model, x, dy):
    """y and dx of a copy, each layer called by hand, in the order in which it is written."""
    parts = copy.deepcopy(list(model))
    for layer in parts:
        x = layer.forward(x)
    for layer in reversed(parts):
        dy = layer.backward(dy)
    return x, dy, [parameter.grad for layer in parts for parameter in layer.parameters()]
