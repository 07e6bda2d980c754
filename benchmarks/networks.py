"""The networks that are timed, by pycnn: whole training steps, and answers of ImageNet's networks.

PyTorch's side is `peers/torch_networks.py`, with the same names of arrays. Sizes stand in
`peers/sizes.py`, for both.
"""

from __future__ import annotations

import numpy as np

from pycnn import models
from pycnn.layers import Flatten, Linear, Module, Sequential
from pycnn.models import vgg

from .peers.sizes import CLASSES


def make(name: str) -> Module:
    """A network of `sizes.STEPS` or `sizes.ANSWERS`; all draw from seed 0."""
    classes = CLASSES.get(name, 1000)
    if name == "vgg11/32":  # one linear layer, as is usual for images of 32 x 32
        convolutions = vgg.convolutions(vgg.A, 3, np.random.default_rng(0), batch_norm=False)
        return Sequential(convolutions, Flatten(), Linear(512, classes, rng=0))
    if name == "unet":
        return models.unet(3, classes, (16, 32, 64, 128), rng=0)
    return models.make(name.partition("/")[0], num_classes=classes, rng=0)
