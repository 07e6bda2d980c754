"""The lecture's network for every contestant: the same shapes, initial values and images.

28x28x1 -> conv 3x3 SAME 32, relu, pool 2 -> conv 64, relu, pool 2 -> conv 128, relu, pool 2 SAME
(7 -> 4) -> dense 2048 -> 10 -> softmax cross-entropy. NHWC, weights [KH, KW, C, OC], W5 [2048, 10]
with its rows in the order (h, w, c).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Splits = dict[str, tuple[np.ndarray, np.ndarray]]

CHANNELS = (1, 32, 64, 128)
SIZES = (28, 14, 7)
DENSE = (4 * 4 * 128, 10)


def parameter_shapes() -> list[tuple[int, ...]]:
    """Shapes in the lecture's order: F2 b2 F3 b3 F4 b4 W5 b5."""
    shapes: list[tuple[int, ...]] = []
    for C, OC in pairwise(CHANNELS):
        shapes += [(3, 3, C, OC), (OC,)]
    return [*shapes, DENSE, DENSE[1:]]


def lecture_parameters(seed: int = 0) -> list[np.ndarray]:
    """The lecture's initial values: weights normal 0.01, biases 0.1, the last bias normal 1."""
    rng = np.random.default_rng(seed)
    values = [_normal(rng, shape, 0.01) for shape in parameter_shapes()]
    for i in (1, 3, 5):
        values[i][:] = 0.1
    values[7] = _normal(rng, DENSE[1:], 1.0)
    return values


def he_parameters(seed: int = 0) -> list[np.ndarray]:
    """Values that keep the activations' size, so that the logits depend on the image."""
    rng = np.random.default_rng(seed)
    # Fan-in: all axes but the last; a bias has none.
    stds = [
        float(np.sqrt(2 / np.prod(shape[:-1]))) if len(shape) > 1 else 0.1
        for shape in parameter_shapes()
    ]
    return [_normal(rng, s, std) for s, std in zip(parameter_shapes(), stds, strict=True)]


def forward_flop(batch: int) -> float:
    """Floating-point operations of one forward, 2 a multiply-add, padding counted."""
    convolutions = sum(
        size * size * 9 * C * OC
        for size, C, OC in zip(SIZES, CHANNELS[:-1], CHANNELS[1:], strict=True)
    )
    return 2.0 * batch * (convolutions + DENSE[0] * DENSE[1])


def step_flop(batch: int) -> float:
    """The same of one training step: three passes, without the gradient of the images."""
    return 3 * forward_flop(batch) - 2.0 * batch * 28 * 28 * 9 * CHANNELS[1]


def save(
    folder: Path, parameters: list[np.ndarray], images: np.ndarray, labels: np.ndarray
) -> Path:
    """Write what every contestant starts from; returns the file."""
    path = folder / "network.npz"
    named = {f"parameter_{i}": value for i, value in enumerate(parameters)}
    np.savez(path, images=images, labels=labels, **named)
    return path


def load(path: Path) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Read the file of `save`: parameters, images, labels."""
    with np.load(path) as file:
        parameters = [file[f"parameter_{i}"] for i in range(len(parameter_shapes()))]
        return parameters, file["images"], file["labels"]


def save_splits(folder: Path, splits: Any) -> Path:
    """Write the images and labels of `load_mnist()` for the task "recipe"; returns the file."""
    path = folder / "splits.npz"
    named = {}
    for name in ("train", "validation", "test"):
        split = getattr(splits, name)
        named.update({f"{name}_images": split.images, f"{name}_labels": split.labels})
    np.savez(path, **named)
    return path


def load_splits(path: Path) -> Splits:
    """Read the file of `save_splits`: (images uint8 [n, 28, 28, 1], labels) by name."""
    with np.load(path) as file:
        return {
            name: (file[f"{name}_images"], file[f"{name}_labels"])
            for name in ("train", "validation", "test")
        }


def nchw_parameters(parameters: list[np.ndarray]) -> list[np.ndarray]:
    """The same network in NCHW: weights OIHW, W5 [10, 2048] with columns in the order (c, h, w)."""
    values = [
        np.ascontiguousarray(w.transpose(3, 2, 0, 1)) if w.ndim == 4 else w for w in parameters
    ]
    values[6] = np.ascontiguousarray(parameters[6].reshape(4, 4, 128, 10).transpose(3, 2, 0, 1))
    values[6] = values[6].reshape(DENSE[1], DENSE[0])
    return values


def _normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    return (std * rng.standard_normal(shape)).astype(np.float32)
