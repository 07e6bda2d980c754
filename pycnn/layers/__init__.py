"""Layers: objects that own their parameters and know forward and backward, and networks of them.

A network is a `Module` (a forward of your own), a `Sequential` (a chain) or a `Graph` (from
`Input` on). `Layer` says how to write a layer.
"""

from pycnn.layers.activation import ReLU
from pycnn.layers.arithmetic import (
    Add,
    Combine,
    Divide,
    Multiply,
    Subtract,
    add,
    divide,
    multiply,
    subtract,
)
from pycnn.layers.base import Layer
from pycnn.layers.conv import Conv1d, Conv2d
from pycnn.layers.conv_transpose import ConvTranspose2d
from pycnn.layers.dropout import Dropout, Dropout2d
from pycnn.layers.functional import flatten, relu
from pycnn.layers.linear import Flatten, Linear
from pycnn.layers.module import Module
from pycnn.layers.moves import (
    ChannelShuffle,
    Concat,
    Crop,
    DepthToSpace,
    Pad,
    Permute,
    Reshape,
    Slice,
    SpaceToDepth,
    Split,
    concat,
    split,
)
from pycnn.layers.network import Graph, Input
from pycnn.layers.norm import BatchNorm1d, BatchNorm2d, ChannelAffine
from pycnn.layers.numbers import Affine, Mean, Power
from pycnn.layers.parameter import Parameter
from pycnn.layers.pool import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    MaxPool1d,
    MaxPool2d,
)
from pycnn.layers.resize import Resize, Upsample
from pycnn.layers.row_norm import GroupNorm, LayerNorm, LocalResponseNorm
from pycnn.layers.sequential import Sequential

from pycnn.layers import patterns  # isort: skip  # noqa: F401  # fills the table of patterns

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "Add",
    "Affine",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "ChannelAffine",
    "ChannelShuffle",
    "Combine",
    "Concat",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Crop",
    "DepthToSpace",
    "Divide",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "Graph",
    "GroupNorm",
    "Input",
    "Layer",
    "LayerNorm",
    "Linear",
    "LocalResponseNorm",
    "MaxPool1d",
    "MaxPool2d",
    "Mean",
    "Module",
    "Multiply",
    "Pad",
    "Parameter",
    "Permute",
    "Power",
    "ReLU",
    "Reshape",
    "Resize",
    "Sequential",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Subtract",
    "Upsample",
    "add",
    "concat",
    "divide",
    "flatten",
    "multiply",
    "relu",
    "split",
    "subtract",
]
