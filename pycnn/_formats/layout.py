"""Between pycnn's layout, NHWC and HWIO, and that of PyTorch and ONNX, NCHW and OIHW."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from pycnn.layers.base import Layer
from pycnn.layers.conv import Conv2d
from pycnn.layers.linear import Flatten, Linear
from pycnn.layers.run import Shape
from pycnn.layers.sequential import Sequential
from pycnn.ops.arrays import Array

KEEPS_CHANNELS = ("MaxPool2d", "AvgPool2d", "ReLU", "Dropout")


class _Data(NamedTuple):
    """What flows between two layers: an image, a flattened image, or features of their own."""

    kind: Literal["image", "flattened", "features"]
    channels: int | None = None  # None: not known


def leaves(model: Sequential, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers that hold no others, in order, with the names that their arrays begin with."""
    for name, layer in model._children().items():
        if isinstance(layer, Sequential):
            yield from leaves(layer, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", layer


def linear_channels(who: str, model: Sequential, image: Shape | None) -> dict[str, int]:
    """For each Linear whose features are a flattened image: its name and the image's channels C.

    Feature p * C + c of pixel p is feature c * (H * W) + p in NCHW, so C and in_features are all
    that matters; H and W are not needed one by one.

    image: the shape [H, W, C] (or [features]) of one image, or None: then C is what the last
    Conv2d or BatchNorm2d before the Flatten says. ValueError if nothing says it.
    """
    found: dict[str, int] = {}
    x = None if image is None else (1, *image)
    data = _Data("features") if x and len(x) == 2 else _Data("image", x[-1] if x else None)
    for name, layer in leaves(model):
        if isinstance(layer, Linear) and data.kind == "flattened":
            found[name] = _channels(who, name, layer, data.channels)
        data = _after(layer, data)
        if x is not None:
            x = layer._output_shape(x)
            if data.kind == "image":
                data = _Data("image", x[-1])
    return found


def _after(layer: Layer, data: _Data) -> _Data:
    kind = type(layer).__name__
    if isinstance(layer, Flatten):
        return _Data("flattened", data.channels) if data.kind == "image" else data
    if isinstance(layer, Linear) or kind == "GlobalAvgPool2d":
        return _Data("features")
    if isinstance(layer, Conv2d):
        return _Data("image", layer.out_channels)
    if kind == "BatchNorm2d":
        return _Data("image", layer.channels)  # type: ignore[attr-defined]
    return data if kind in KEEPS_CHANNELS else _Data(data.kind)


def _channels(who: str, name: str, layer: Linear, channels: int | None) -> int:
    if channels is None:
        raise ValueError(
            f"{who}: layer {name} (Linear) comes after a Flatten of images, and no layer tells how "
            "many channels they have; expected input_shape=(None, H, W, C)."
        )
    if layer.in_features % channels:
        raise ValueError(
            f"{who}: layer {name} (Linear) has in_features = {layer.in_features}; expected a "
            f"multiple of the {channels} channels before its Flatten."
        )
    return channels


def conv_to_oihw(weight: Array) -> Array:
    """[KH, KW, C / groups, OC] -> [OC, C / groups, KH, KW]."""
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))


def conv_from_oihw(weight: Array) -> Array:
    """[OC, C / groups, KH, KW] -> [KH, KW, C / groups, OC]."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


def linear_to_nchw(weight: Array, channels: int | None) -> Array:
    """[in, out] -> [out, in], with `in` in the order of a flattened NCHW image of C channels."""
    features, out = weight.shape
    if channels is not None:
        weight = weight.reshape(features // channels, channels, out)
        weight = weight.transpose(1, 0, 2).reshape(features, out)
    return np.ascontiguousarray(weight.T)


def linear_from_nchw(weight: Array, channels: int | None) -> Array:
    """[out, in] in the order of NCHW -> [in, out] in that of NHWC."""
    out, features = weight.shape
    weight = weight.T
    if channels is not None:
        weight = weight.reshape(channels, features // channels, out)
        weight = weight.transpose(1, 0, 2).reshape(features, out)
    return np.ascontiguousarray(weight)
