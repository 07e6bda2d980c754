"""Arithmetic, sums and powers: float64, from NumPy; part of `reference.py`."""

import numpy as np
from activation_reference import activated

COMBINED = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}


def add(a, b, activation=None):
    return activated(np.float64(a) + b, activation)


def subtract(a, b):
    return np.float64(a) - b


def multiply(a, b):
    return np.float64(a) * b


def divide(a, b):
    return np.float64(a) / b


def sum_to(x, shape, op="multiply", other=None, scale=1.0):
    """Scale * the sum of x, or of x op other, over the axes along which `shape` has 1."""
    terms = np.float64(x) if other is None else COMBINED[op](np.float64(x), np.float64(other))
    whole = (1,) * (terms.ndim - len(shape)) + tuple(shape)
    axes = tuple(i for i, extent in enumerate(whole) if extent == 1 != terms.shape[i])
    return scale * terms.sum(axis=axes, keepdims=True).reshape(shape)


def power(x, exponent):
    return np.power(np.float64(x), exponent)


def power_backward(dy, x, exponent):
    """d x^p / dx = p x^(p - 1)."""
    return np.float64(dy) * exponent * np.power(np.float64(x), exponent - 1)


def affine(x, scale, shift):
    """`scale` and `shift` in x's type."""
    return np.float64(x) * x.dtype.type(scale) + x.dtype.type(shift)
