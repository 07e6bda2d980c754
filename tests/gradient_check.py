"""Compares backward with central differences, in float64."""

import copy

import numpy as np

STEP = 1e-5
# Between the kinks of relu and max the loss is linear in x and in each parameter by itself, so what
# is left is rounding: eps * |loss| / STEP = 2e-16 * 50 / 1e-5. A softmax behind adds STEP**2 / 6.
TOLERANCE = 1e-8


def slopes(loss, array):
    """d loss() / d array, one element after the other; `array` is changed and restored."""
    result = np.zeros_like(array)
    for i in np.ndindex(array.shape):
        value = array[i]
        array[i] = value + STEP
        above = loss()
        array[i] = value - STEP
        below = loss()
        array[i] = value
        result[i] = (above - below) / (2 * STEP)
    return result


def check(layer, x, rng):
    """Assert dx and the gradients of all parameters for <y, dy> with a non-uniform dy.

    Each evaluation runs a copy of the layer, so that a Dropout draws the same mask.
    """
    runs = copy.deepcopy(layer)
    dy = rng.standard_normal(runs.forward(x).shape)
    dx = runs.backward(dy)

    def loss():
        return float(np.sum(copy.deepcopy(layer).forward(x) * dy))

    compare(dx, slopes(loss, x), "dx")
    for ours, changed in zip(runs.parameters(), layer.parameters(), strict=True):
        compare(ours.grad, slopes(loss, changed.data), ours.name)


def compare(gradient, expected, name):
    assert gradient.dtype == np.float64
    assert np.abs(expected).max() > 100 * TOLERANCE, f"{name}: nothing to see"
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=TOLERANCE, err_msg=name)
