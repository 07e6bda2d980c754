"""LeNet-5: LeCun, Bottou, Bengio & Haffner 1998, section II.B of "Gradient-based learning".

http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf
"""

from __future__ import annotations

import numpy as np

from pycnn import init as initial_rng
from pycnn.layers import AvgPool2d, Conv2d, Flatten, Linear, Sequential, Tanh
from pycnn.models import initial


def lenet5(
    num_classes: int = 10, in_channels: int = 1, *, rng: np.random.Generator | int | None = None
) -> Sequential:
    """LeNet-5: [N, 28, 28, in_channels] -> [N, num_classes]; 61,706 parameters.

    As it is built today: every map of C3 reads all of S2, pools have no weights, and the last layer
    gives logits. The paper's images of 32 x 32 are those of 28 x 28 with a rim of 2. Weights and
    biases are uniform in +-1 / sqrt(fan_in).
    """
    rng = initial_rng.generator(rng)
    model = Sequential(
        Conv2d(in_channels, 6, 5, padding=2, rng=rng), Tanh(), AvgPool2d(2),
        Conv2d(6, 16, 5, rng=rng), Tanh(), AvgPool2d(2),
        Flatten(), Linear(16 * 5 * 5, 120, rng=rng), Tanh(),
        Linear(120, 84, rng=rng), Tanh(), Linear(84, num_classes, rng=rng),
    )  # fmt: skip
    for layer in model:
        if isinstance(layer, (Conv2d, Linear)):
            initial.torch_default(layer, rng)
    return model
