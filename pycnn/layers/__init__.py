"""Layers: objects that own their parameters and know forward and backward, and networks of them.

A network is a `Module` (a forward of your own), a `Sequential` (a chain) or a `Graph` (from
`Input` on). `Layer` says how to write a layer.
"""

from pycnn.layers.activation import (
    ELU,
    GELU,
    Abs,
    Clip,
    Erf,
    Exp,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    Log,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Sqrt,
    Tanh,
)
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
from pycnn.layers.conv import Conv2d
from pycnn.layers.dropout import Dropout
from pycnn.layers.functional import (
    abs,
    clip,
    elu,
    erf,
    exp,
    flatten,
    gelu,
    hardsigmoid,
    hardswish,
    leaky_relu,
    log,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    softplus,
    sqrt,
    tanh,
)
from pycnn.layers.join import Concat, Split, concat, split
from pycnn.layers.linear import Flatten, Linear
from pycnn.layers.module import Module
from pycnn.layers.network import Graph, Input
from pycnn.layers.norm import BatchNorm1d, BatchNorm2d, ChannelAffine
from pycnn.layers.numbers import Affine, Mean, Power
from pycnn.layers.parameter import Parameter
from pycnn.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from pycnn.layers.row_norm import GroupNorm, LayerNorm, LocalResponseNorm
from pycnn.layers.sequential import Sequential

from pycnn.layers import patterns  # isort: skip  # noqa: F401  # fills the table of patterns

__all__ = [
    "ELU",
    "GELU",
    "Abs",
    "Add",
    "Affine",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "ChannelAffine",
    "Clip",
    "Combine",
    "Concat",
    "Conv2d",
    "Divide",
    "Dropout",
    "Erf",
    "Exp",
    "Flatten",
    "GlobalAvgPool2d",
    "Graph",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Input",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "Log",
    "MaxPool2d",
    "Mean",
    "Module",
    "Multiply",
    "PReLU",
    "Parameter",
    "Power",
    "ReLU",
    "ReLU6",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Subtract",
    "Tanh",
    "abs",
    "add",
    "clip",
    "concat",
    "divide",
    "elu",
    "erf",
    "exp",
    "flatten",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "log",
    "multiply",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "subtract",
    "tanh",
]
