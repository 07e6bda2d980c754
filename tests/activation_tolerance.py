"""Bounds of activations, for tolerance.py, which has the notation."""

import activation_reference as exactly
import numpy as np
from rounding import EXP_ROUNDINGS, TINY, gamma

# What csrc/kernels/exp.h promises with FMA, in units in the last place; the baseline: twice that.
ULP = {"exp": 1, "log": 3, "tanh": 2, "erf": 1}

# How many times as fast as its argument an activation changes, at most; for those that have a
# bound. Of those with numbers: times alpha, slope.
STEEPNESS = {
    "hard_swish": 1.5,
    "sigmoid": 0.25,
    "silu": 1.1,
    "gelu": 1.13,
    "gelu_tanh": 1.13,
    "erf": 1.13,
}
# Roundings after the argument. leaky_relu: the slope and a product; hard_swish: x + 3, the sixth
# and two products; sigmoid: exp, a sum and a quotient. tanh, with e <= 0.287: (e E + 1) / (1 - e)
# <= 3 of the numerator 1 - e, 2 of the denominator and a quotient (E of exp); its polynomial has
# fewer. x times the others: one more. elu: exp(x) - 1 of twice EXP_ROUNDINGS at most, alpha and a
# product. softplus: beta, log(1 + e), a sum and a quotient. erf: 1 minus half of it at most, whose
# relative error is 8, see gelu below. The square root is exact.
ROUNDINGS = {
    "leaky_relu": 2,
    "elu": 2 * EXP_ROUNDINGS + 2,
    "hard_sigmoid": 2,
    "hard_swish": 4,
    "sigmoid": EXP_ROUNDINGS + 2,
    "silu": EXP_ROUNDINGS + 3,
    "tanh": EXP_ROUNDINGS + 3,
    "gelu": 4,
    "gelu_tanh": EXP_ROUNDINGS + 3,
    "softplus": EXP_ROUNDINGS + 6,
    "exp": EXP_ROUNDINGS,
    "erf": EXP_ROUNDINGS,
    "sqrt": 1,
    "log": EXP_ROUNDINGS,
}


def activated(z, error, activation, dtype=np.float32):
    """The bound of activation(z) where z is known within `error`.

    gelu_tanh = x sigmoid(t), t = x (c + d x^2): t has 5 roundings, and sigmoid(t (1 + 5 u)) is
    wrong by |t| 5 u (1 - sigmoid(t)), relative. gelu = x P(x): the share P is known within
    4 u, no more of it where it is small. hard_sigmoid: what is added may cancel. softplus: beta x.
    """
    name, numbers = exactly.named(activation) if activation is not None else ("none", ())
    y = np.abs(exactly.activated(z, activation))
    steep = STEEPNESS.get(name, 1.0)
    if name in ("leaky_relu", "elu", "hard_sigmoid"):
        steep = np.abs(numbers[0]) if name == "hard_sigmoid" else max(1.0, np.abs(numbers[0]))
    bound = steep * error + gamma(ROUNDINGS.get(name, 0), dtype) * y
    if name == "hard_sigmoid":
        bound = bound + gamma(2, dtype) * (numbers[0] * np.abs(z) + np.abs(numbers[1]))
    if name == "softplus":
        bound = bound + gamma(2, dtype) * np.abs(z) * exactly.sigmoid(numbers[0] * z)
    if name == "gelu":
        bound = bound + gamma(4, dtype) * np.minimum(np.abs(z), 15)
    if name == "gelu_tanh":
        t = 2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
        bound = bound + gamma(5, dtype) * np.abs(t) * y * exactly.activated(-t, "sigmoid")
    return bound + (TINY if name in ROUNDINGS else 0.0)


def activation(x, kind):
    return activated(np.float64(x), 0.0, kind, x.dtype)


def activation_backward(dy, v, kind):
    """Each term of the derivative with its roundings, times dy; and those of `activated`."""
    name, numbers = exactly.named(kind)
    dy, exact = np.abs(np.float64(dy)), np.abs(exactly.steepness(v, kind))
    terms, more = exact, np.abs(np.float64(v))
    if name == "elu":
        terms = np.where(v > 0, 1.0, more + numbers[0])
    elif name in ("silu", "gelu_tanh", "gelu", "hard_swish"):
        terms = 1.5  # the largest
    elif name == "erf":  # exp(-x^2), x^2 of one rounding
        terms = exact * (1 + more**2)
    elif name == "softplus":  # exp(beta x)
        terms = exact * (1 + numbers[0] * more)
    return gamma(2 * EXP_ROUNDINGS + 8, v.dtype) * dy * terms + TINY


def prelu(x, slope):
    return gamma(1, x.dtype) * np.abs(exactly.prelu(x, slope))


def prelu_backward(dy, x, slope):
    """A product each; sums of as many as rows, over all channels for a single slope."""
    dx, _ = exactly.prelu_backward(dy, x, slope)
    _, sums = exactly.prelu_backward(np.abs(dy), -np.abs(x), slope)
    return gamma(1, x.dtype) * np.abs(dx), gamma(x.size + 1, x.dtype) * np.abs(sums)
