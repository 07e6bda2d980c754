"""Layers without parameters as functions, of values in a `forward` and of arrays."""

from __future__ import annotations

import math
from typing import Any

from pycnn import ops
from pycnn.graph.values import Value
from pycnn.layers import activation
from pycnn.layers.linear import Flatten


def _of(x: Any, layer: activation.Activation) -> Any:
    return layer(x) if isinstance(x, Value) else ops.activation(x, layer.fused)


def relu(x: Any) -> Any:
    """max(x, 0), of a value or an array; the same as the layer `ReLU`."""
    return _of(x, activation.ReLU())


def relu6(x: Any) -> Any:
    """As the layer `ReLU6`."""
    return _of(x, activation.ReLU6())


def clip(x: Any, low: float = -math.inf, high: float = math.inf) -> Any:
    """As the layer `Clip`."""
    return _of(x, activation.Clip(low, high))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """As the layer `LeakyReLU`."""
    return _of(x, activation.LeakyReLU(negative_slope))


def elu(x: Any, alpha: float = 1.0) -> Any:
    """As the layer `ELU`."""
    return _of(x, activation.ELU(alpha))


def sigmoid(x: Any) -> Any:
    """As the layer `Sigmoid`."""
    return _of(x, activation.Sigmoid())


def hardsigmoid(x: Any, slope: float = 1 / 6, shift: float = 0.5) -> Any:
    """As the layer `Hardsigmoid`."""
    return _of(x, activation.Hardsigmoid(slope, shift))


def hardswish(x: Any) -> Any:
    """As the layer `Hardswish`."""
    return _of(x, activation.Hardswish())


def silu(x: Any) -> Any:
    """As the layer `SiLU`."""
    return _of(x, activation.SiLU())


def gelu(x: Any, approximate: str = "none") -> Any:
    """As the layer `GELU`."""
    return _of(x, activation.GELU(approximate))


def tanh(x: Any) -> Any:
    """As the layer `Tanh`."""
    return _of(x, activation.Tanh())


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """As the layer `Softplus`."""
    return _of(x, activation.Softplus(beta, threshold))


def exp(x: Any) -> Any:
    """As the layer `Exp`."""
    return _of(x, activation.Exp())


def erf(x: Any) -> Any:
    """As the layer `Erf`."""
    return _of(x, activation.Erf())


def sqrt(x: Any) -> Any:
    """As the layer `Sqrt`."""
    return _of(x, activation.Sqrt())


def abs(x: Any) -> Any:
    """As the layer `Abs`."""
    return _of(x, activation.Abs())


def log(x: Any) -> Any:
    """As the layer `Log`."""
    return _of(x, activation.Log())


def softmax(x: Any) -> Any:
    """As the layer `Softmax`: over the last axis."""
    return activation.Softmax()(x) if isinstance(x, Value) else ops.softmax(x)


def flatten(x: Any) -> Any:
    """[N, ...] -> [N, product of the others], of a value or an array; as the layer `Flatten`."""
    return Flatten()(x) if isinstance(x, Value) else x.reshape(len(x), -1)
