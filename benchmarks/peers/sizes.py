"""The networks of the section `networks`: what a step or an answer takes, for every contestant."""

from __future__ import annotations

from typing import Any

import numpy as np

# A training step: (title, shape of the images). `vgg11/32` is VGG-11 for images of 32 x 32.
STEPS = {
    "vgg11/32": ("VGG-11, 64 images 32x32", (64, 32, 32, 3)),
    "resnet20": ("ResNet-20, 128 images 32x32", (128, 32, 32, 3)),
    "resnet18": ("ResNet-18, 8 images 224x224", (8, 224, 224, 3)),
    "mobilenet_v2": ("MobileNetV2, 8 images 224x224", (8, 224, 224, 3)),
    "unet": ("U-Net, 8 images 128x128", (8, 128, 128, 3)),
}
CLASSES = {"vgg11/32": 10, "resnet20": 10, "unet": 2}  # the others' 1000
ANSWERS = (
    "resnet18", "resnet50", "mobilenet_v2", "vgg11", "alexnet", "squeezenet1_1", "densenet121",
    "googlenet",
)  # fmt: skip
PARTS = (
    "step",
    "answer",
    "file",
)  # "file": from ResNet-50's ONNX file to an answer
LR, MOMENTUM = 1e-3, 0.9  # of SGD


def step_data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images NHWC and labels, [N] or [N, H, W]."""
    shape = STEPS[name][1]
    rng = np.random.default_rng(0)
    images = rng.standard_normal(shape, np.float32)
    labels = rng.integers(0, CLASSES.get(name, 1000), shape[:3] if name == "unet" else shape[:1])
    return images, labels


def answer_images(batch: int) -> np.ndarray:
    """Images NHWC."""
    return np.random.default_rng(0).standard_normal((batch, 224, 224, 3), np.float32)


def file_of(job: dict[str, Any], ending: str) -> str:
    """What `torch_export` has written for a network: .safetensors of its arrays, .onnx of it."""
    return f"{job['folder']}/{job['what']}-{job['network'].replace('/', '-')}{ending}"
