"""Between pycnn's layout, NHWC and HWIO, and that of PyTorch and ONNX, NCHW and OIHW."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pycnn.graph.program import Program
from pycnn.graph.values import Node, Value
from pycnn.layers import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    Affine,
    AvgPool1d,
    AvgPool2d,
    BatchNorm2d,
    ChannelAffine,
    ChannelShuffle,
    Concat,
    Divide,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    GroupNorm,
    LayerNorm,
    Linear,
    LocalResponseNorm,
    MaxPool1d,
    MaxPool2d,
    Multiply,
    Power,
    ReLU,
    Resize,
    Subtract,
    Upsample,
)
from pycnn.layers.conv import Convolution
from pycnn.ops.arrays import Array

POOLS = (MaxPool2d, AvgPool2d, MaxPool1d, AvgPool1d, AdaptiveMaxPool2d, AdaptiveAvgPool2d)
KEEPS_CHANNELS = (
    *(*POOLS, ReLU, Dropout, Dropout2d, Affine, Power, LocalResponseNorm),
    *(Add, Subtract, Multiply, Divide),
    *(ChannelShuffle, Concat, Resize, Upsample),
)
FLAT = (Flatten, Linear, GlobalAvgPool2d, GlobalMaxPool2d)


def linear_channels(who: str, program: Program) -> dict[int, int]:
    """For each node of a Linear whose features are a flattened image: the image's channels C.

    By the node's id. Feature p * C + c of pixel p is feature c * (H * W) + p in NCHW, so C and
    in_features are all that matters; H and W are not needed one by one. In a program without shapes
    C is what the last Conv2d, BatchNorm2d or Concat of them before the Flatten says. ValueError if
    nothing says it.
    """
    makers = {id(y): node for node in program.nodes for y in node.outputs}
    found = {}
    for node in program.nodes:
        if isinstance(node.operation, Linear):
            image = _flattened(node.inputs[0], makers)
            if image is not None:
                found[id(node)] = _channels(who, node, _channels_of(image, makers))
    return found


def _flattened(value: Value, makers: Mapping[int, Node]) -> Value | None:
    """The image that a vector is made of by Flatten, relu and dropout alone."""
    node = makers.get(id(value))
    while node is not None and isinstance(node.operation, (ReLU, Dropout)):
        value = node.inputs[0]
        node = makers.get(id(value))
    if node is None or not isinstance(node.operation, Flatten):
        return None
    image = node.inputs[0]
    if image.known_shape is not None:
        return image if len(image.known_shape) in (3, 4) else _flattened(image, makers)
    before = makers.get(id(image))
    if before is not None and isinstance(before.operation, FLAT):
        return _flattened(image, makers)
    return image


def _channels_of(image: Value, makers: Mapping[int, Node]) -> int | None:
    if image.known_shape is not None:
        return image.known_shape[-1]
    node = makers.get(id(image))
    if node is None:
        return None
    layer = node.operation
    if isinstance(layer, Convolution):
        return layer.out_channels
    if isinstance(layer, (BatchNorm2d, ChannelAffine)):
        return layer.channels
    if isinstance(layer, (GroupNorm, LayerNorm)):
        return layer.weight.data.size
    if isinstance(layer, Concat) and layer.axis in (-1, 3):
        parts = [_channels_of(x, makers) for x in node.inputs]
        return None if None in parts else sum(parts)  # type: ignore[arg-type]
    return _channels_of(node.inputs[0], makers) if type(layer) in KEEPS_CHANNELS else None


def _channels(who: str, node: Node, channels: int | None) -> int:
    layer = node.operation
    if channels is None:
        raise ValueError(
            f"{who}: {node.label} comes after a Flatten of images, and no layer tells how "
            "many channels they have; expected input_shape=(None, H, W, C)."
        )
    if layer.in_features % channels:
        raise ValueError(
            f"{who}: {node.label} has in_features = {layer.in_features}; expected a "
            f"multiple of the {channels} channels before its Flatten."
        )
    return channels


def conv_to_oihw(weight: Array) -> Array:
    """[KH, KW, C / groups, OC] -> [OC, C / groups, KH, KW], and [K, ...] -> [..., K] of a Conv1d.

    Of a ConvTranspose2d [KH, KW, OC / groups, C] -> [C, OC / groups, KH, KW].
    """
    *taps, inside, outside = range(weight.ndim)
    return np.ascontiguousarray(weight.transpose(outside, inside, *taps))


def conv_from_oihw(weight: Array) -> Array:
    """The other way."""
    outside, inside, *taps = range(weight.ndim)
    return np.ascontiguousarray(weight.transpose(*taps, inside, outside))


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
