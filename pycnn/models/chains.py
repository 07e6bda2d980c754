"""Chains: convolutions and pools, then one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pycnn import init as initial
from pycnn.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)


def mnist_cnn(rng: np.random.Generator | int | None = None, init: str = "lecture") -> Sequential:
    """The lecture's network: [N, 28, 28, 1] images -> [N, 10] logits, 113,162 parameters.

    Three times (convolution 3 x 3 "same", relu, max pool 2 x 2 "same") with 32, 64 and 128
    channels, 28 -> 14 -> 7 -> 4 pixels, then one linear layer of the 4 * 4 * 128 = 2048 features.
    `parameters()` are the lecture's F2 b2 F3 b3 F4 b4 W5 b5.

    rng: a np.random.Generator, an int that seeds a new one, or None for the package's own (see
    `pycnn.seed`). init: "lecture", weights normal with standard deviation 0.01, b2 b3 b4 0.1, b5
    standard normal, drawn in the order of the parameters; or "he", weights `init.he_normal`, biases
    zero. Raises ValueError for another init.
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


def stages(
    channels: Sequence[int],
    convolutions: Sequence[int] | None = None,
    *,
    input_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    first_kernel_size: int = 3,
    batch_norm: bool = False,
    normalize_after_pool: bool = True,
    dropout: float = 0.0,
    zero_last: bool = False,
    rng: np.random.Generator | int | None = None,
) -> Sequential:
    """A classifier in stages: [N, H, W, C] images -> [N, classes] logits.

    A stage is `convolutions[i]` (by default 1) times a 3 x 3 convolution "same" of channels[i]
    channels with relu, and a 2 x 2 max pool "same" at its end. After the last stage: dropout, if it
    is above 0, and one linear layer of all features.

    first_kernel_size: of the very first convolution. batch_norm: a `BatchNorm2d` before each relu;
    its convolution then has no bias. normalize_after_pool: at the end of a stage convolution, pool,
    normalisation, relu: normalises a quarter of the pixels, and the map before the pool is never
    written. zero_last: the linear layer begins at zero, so the first loss is log(classes). rng: as
    in `mnist_cnn`; weights are `init.he_normal`.
    """
    rng = initial.generator(rng)
    counts = [1] * len(channels) if convolutions is None else list(convolutions)
    layers: list[Layer] = []
    H, W, before = input_shape
    for stage, (width, count) in enumerate(zip(channels, counts, strict=True)):
        for i in range(count):
            size = first_kernel_size if stage == i == 0 else 3
            layers.append(Conv2d(before, width, size, padding="same", bias=not batch_norm, rng=rng))
            last, norm = i == count - 1, [BatchNorm2d(width)] if batch_norm else []
            pool = [MaxPool2d(2, padding="same")] if last else []
            first, second = (pool, norm) if normalize_after_pool else (norm, [])
            layers += [*first, *second, ReLU(), *(pool if not normalize_after_pool else [])]
            before = width
        H, W = (H + 1) // 2, (W + 1) // 2
    layers.append(Flatten())
    if dropout > 0:
        layers.append(Dropout(dropout, rng=rng))
    linear = Linear(H * W * before, classes, rng=rng)
    if zero_last:
        linear.weight.data[...] = 0
    return Sequential(*layers, linear)
