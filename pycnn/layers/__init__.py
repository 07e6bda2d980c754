"""Layers: small objects that own their parameters and know how to run forward and backward."""

from pycnn.layers.activation import Dropout, ReLU
from pycnn.layers.base import Layer
from pycnn.layers.conv import Conv2d
from pycnn.layers.linear import Flatten, Linear
from pycnn.layers.norm import BatchNorm2d
from pycnn.layers.parameter import Parameter
from pycnn.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from pycnn.layers.sequential import Sequential

__all__ = [
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Sequential",
]
