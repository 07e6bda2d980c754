"""Networks that are ready to train."""

from __future__ import annotations

import numpy as np

from pycnn import init as initial
from pycnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential


def mnist_cnn(rng: np.random.Generator | int = 0, init: str = "lecture") -> Sequential:
    """The lecture's network: [N, 28, 28, 1] images -> [N, 10] logits, 113,162 parameters.

    Three times (convolution 3 x 3 "same", relu, max pool 2 x 2 "same") with 32, 64 and 128
    channels, 28 -> 14 -> 7 -> 4 pixels, then one linear layer of the 4 * 4 * 128 = 2048 features.
    `parameters()` are the lecture's F2 b2 F3 b3 F4 b4 W5 b5.

    rng: a np.random.Generator, or an int that seeds a new one. init: "lecture", weights normal with
    standard deviation 0.01, b2 b3 b4 0.1, b5 standard normal, drawn in the order of the parameters;
    or "he", weights `init.he_normal`, biases zero. Raises ValueError for another init.
    """
    if init not in ("lecture", "he"):
        raise ValueError(f'mnist_cnn: init is {init!r}; expected "lecture" or "he".')
    rng = initial.generator(rng)
    first = rng if init == "he" else 0
    model = Sequential(
        Conv2d(1, 32, 3, padding="same", rng=first), ReLU(), MaxPool2d(2, padding="same"),
        Conv2d(32, 64, 3, padding="same", rng=first), ReLU(), MaxPool2d(2, padding="same"),
        Conv2d(64, 128, 3, padding="same", rng=first), ReLU(), MaxPool2d(2, padding="same"),
        Flatten(), Linear(4 * 4 * 128, 10, rng=first),
    )  # fmt: skip
    if init == "lecture":
        F2, b2, F3, b3, F4, b4, W5, b5 = model.parameters()
        for weight in (F2, F3, F4, W5):
            weight.data[...] = initial.normal(weight.data.shape, 0.01, rng)
        for bias in (b2, b3, b4):
            bias.data[...] = 0.1
        b5.data[...] = initial.normal(b5.data.shape, 1.0, rng)
    return model
