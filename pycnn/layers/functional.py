"""Layers without parameters as functions, of values in a `forward` and of arrays."""

from __future__ import annotations

from typing import Any

from pycnn import ops
from pycnn.graph.values import Value
from pycnn.layers.activation import ReLU
from pycnn.layers.linear import Flatten


def relu(x: Any) -> Any:
    """max(x, 0), of a value or an array; the same as the layer `ReLU`."""
    return ReLU()(x) if isinstance(x, Value) else ops.relu(x)


def flatten(x: Any) -> Any:
    """[N, ...] -> [N, product of the others], of a value or an array; as the layer `Flatten`."""
    return Flatten()(x) if isinstance(x, Value) else x.reshape(len(x), -1)
