"""Bounds of arithmetic, sums and powers: part of `tolerance.py`, whose notation holds."""

import numpy as np
import reference
from tolerance import TINY, activated, gamma


def add(a, b, activation=None):
    z = reference.add(a, b)
    return activated(z, gamma(1, a.dtype) * np.abs(z), activation, a.dtype)


def subtract(a, b):
    return gamma(1, a.dtype) * np.abs(reference.subtract(a, b))


def multiply(a, b):
    return gamma(1, a.dtype) * np.abs(reference.multiply(a, b))


def divide(a, b):
    return gamma(1, a.dtype) * np.abs(reference.divide(a, b))


def affine(x, scale, shift):
    """A product, rounded at its size, and a sum."""
    size = np.abs(np.float64(x) * scale)
    return gamma(2, x.dtype) * (size + np.abs(shift))


def sum_to(x, shape, op="multiply", other=None, scale=1.0):
    """A term's own rounding, k - 1 additions, the scale and its product; terms by their size."""
    k = x.size // max(np.prod(shape, dtype=int), 1)
    right = None if other is None else np.abs(other)
    if op in ("add", "subtract"):
        size = reference.sum_to(np.abs(x), shape, "add", right)
    else:
        size = reference.sum_to(np.abs(x), shape, op, right)
    return gamma(k + 3, x.dtype) * abs(scale) * size


def power(x, exponent):
    """A root and a quotient, or two products; a general one in double, rounded once."""
    return gamma(2, x.dtype) * np.abs(reference.power(x, exponent)) + TINY


def power_backward(dy, x, exponent):
    """The power, the factor, its product and that with dy."""
    return gamma(5, x.dtype) * np.abs(reference.power_backward(dy, x, exponent)) + TINY
