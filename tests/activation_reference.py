"""Activations and their derivatives in float64, for reference.py."""

import math

import numpy as np

ACTIVATIONS = (
    "relu6", "clip", "leaky_relu", "elu", "hard_sigmoid", "hard_swish", "sigmoid", "silu", "tanh",
    "gelu", "gelu_tanh", "softplus", "exp", "erf", "sqrt", "abs", "log",
)  # fmt: skip
DEFAULTS = {
    "clip": (-np.inf, np.inf),
    "leaky_relu": (0.01,),
    "elu": (1.0,),
    "hard_sigmoid": (1 / 6, 0.5),
    "softplus": (1.0, 20.0),
}
_erf, _erfc = np.vectorize(math.erf, [np.float64]), np.vectorize(math.erfc, [np.float64])


def named(kind):
    """(name, numbers) of what users write: "silu", ("elu", 0.5)."""
    name, *numbers = kind if isinstance(kind, tuple) else (kind,)
    if name == "relu6":
        return "clip", (0.0, 6.0)
    return name, (*numbers, *DEFAULTS.get(name, ())[len(numbers) :])


def relu(x):
    """max(x, 0); NaN stays NaN."""
    x = np.float64(x)
    return np.where(x < 0, 0.0, x)


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x > 0, 1, e) / (1 + e)


def share(x):
    """The share of a normal distribution below x."""
    return _erfc(-x / math.sqrt(2)) / 2


def _tanh_argument(x):
    return np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


def _elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x, beta, threshold):
    t = beta * x
    return np.where(t > threshold, x, (np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))) / beta)


def activated(x, activation):
    """`activation` of each number; infinities give limits, and NaN stays NaN."""
    x = np.float64(x)
    if activation is None:
        return x
    name, numbers = named(activation)
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        low = np.where(x < -1000, -1000, x)  # for x * 0 at -Inf, which is 0 in the limit
        return {
            "relu": lambda: relu(x),
            "clip": lambda low, high: np.minimum(np.maximum(x, low), high),
            "leaky_relu": lambda slope: np.where(x < 0, slope * x, x),
            "elu": lambda alpha: _elu(x, alpha),
            "hard_sigmoid": lambda slope, shift: np.clip(slope * x + shift, 0, 1),
            "hard_swish": lambda: low * np.clip((x + 3) / 6, 0, 1),
            "sigmoid": lambda: sigmoid(x),
            "silu": lambda: low * sigmoid(x),
            "tanh": lambda: np.tanh(x),
            "gelu": lambda: low * share(x),
            "gelu_tanh": lambda: np.where(x < -100, 0, low * sigmoid(2 * _tanh_argument(x))),
            "softplus": lambda beta, threshold: _softplus(x, beta, threshold),
            "exp": lambda: np.exp(x),
            "erf": lambda: _erf(x),
            "sqrt": lambda: np.sqrt(x),
            "abs": lambda: np.abs(x),
            "log": lambda: np.log(x),
        }[name](*numbers)


def steepness(v, kind):
    """The derivative, of x or of y as pycnn computes it; v is finite."""
    v = np.float64(v)
    name, numbers = named(kind)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        t = np.clip(v, -100, 100)
        s, rest = sigmoid(2 * _tanh_argument(t)), sigmoid(-2 * _tanh_argument(t))
        inner = 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * t**2)
        return {
            "relu": lambda: np.where(v > 0, 1.0, 0.0),
            "clip": lambda low, high: np.where((v > low) & (v < high), 1.0, 0.0),
            "leaky_relu": lambda slope: np.where(v > 0, 1.0, slope),
            "elu": lambda alpha: np.where(v > 0, 1.0, v + alpha),
            "hard_sigmoid": lambda slope, _: np.where((v > 0) & (v < 1), slope, 0.0),
            "hard_swish": lambda: np.where(v <= -3, 0, np.where(v >= 3, 1, v / 3 + 0.5)),
            "sigmoid": lambda: v * (1 - v),
            "silu": lambda: sigmoid(v) * (1 + v * sigmoid(-v)),
            "tanh": lambda: (1 - v) * (1 + v),
            "gelu": lambda: share(v) + v * np.exp(-(v**2) / 2) / np.sqrt(2 * np.pi),
            "gelu_tanh": lambda: s + t * s * rest * inner,
            "softplus": lambda beta, top: np.where(beta * v > top, 1, sigmoid(beta * v)),
            "exp": lambda: v,
            "erf": lambda: 2 / np.sqrt(np.pi) * np.exp(-(v**2)),
            "sqrt": lambda: 0.5 / v,
            "abs": lambda: np.sign(v),
            "log": lambda: 1 / v,
        }[name](*numbers)


def by_name(function):
    """For each activation with a name of its own: name -> function of (x, **numbers)."""
    return {
        name: lambda x, name=name, **numbers: function(x, (name, *numbers.values()))
        for name in ACTIVATIONS
    }


def activation_backward(dy, v, kind):
    """Dy times the derivative."""
    return np.float64(dy) * steepness(v, kind)


def prelu(x, slope):
    """X, below zero x * slope of its channel."""
    x = np.float64(x)
    return np.where(x < 0, x * slope, x)


def prelu_backward(dy, x, slope):
    """(dx, dslope); a single slope is summed over all channels."""
    dy, x, slope = map(np.float64, (dy, x, slope))
    terms = np.where(x < 0, dy * x, 0)
    dslope = terms.reshape(-1, x.shape[-1]).sum(axis=0)
    return np.where(x < 0, dy * slope, dy), dslope if slope.size > 1 else dslope.sum(keepdims=True)
