"""Activations in float64, for reference.py."""

import numpy as np


def relu(x):
    """max(x, 0); NaN stays NaN."""
    x = np.float64(x)
    return np.where(x < 0, 0.0, x)


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1, e) / (1 + e)


def activated(x, activation):
    """`activation` of each number; infinities give limits, and NaN stays NaN."""
    x = np.float64(x)
    if activation is None:
        return x
    slope = None
    if isinstance(activation, tuple):
        activation, slope = activation
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        low = np.where(x < -1000, -1000, x)  # for x * 0 at -Inf, which is 0 in the limit
        hard = np.where(x < -3, 0, np.where(x > 3, 1, (x + 3) / 6))
        v = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        return {
            "relu": lambda: relu(x),
            "relu6": lambda: np.where(x > 6, 6, relu(x)),
            "leaky_relu": lambda: np.where(x < 0, slope * x, x),
            "hard_sigmoid": lambda: hard,
            "hard_swish": lambda: low * hard,
            "sigmoid": lambda: _sigmoid(x),
            "silu": lambda: low * _sigmoid(x),
            "tanh": lambda: np.tanh(x),
            "gelu_tanh": lambda: np.where(v < -1000, 0, low * _sigmoid(2 * v)),
        }[activation]()
