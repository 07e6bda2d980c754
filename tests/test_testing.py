"""`check_layer`: right layers pass, and each kind of fault is told."""

import numpy as np
import pytest
from graph_cases import Repeat
from layer_cases import CASES

from pycnn import layers
from pycnn.testing import check_layer


class Scale(layers.Layer):
    """y = x * weight, with every hook that a fault may hide in."""

    in_place = (0,)
    gradient_in_place = 0

    def __init__(self, channels=3):
        super().__init__()
        self.channels = channels
        self.weight = layers.Parameter(np.linspace(0.5, 1.5, channels, dtype=np.float32))

    def infer_shape(self, x):
        return x

    def compute(self, x, out):
        np.multiply(x, self.weight.data, out=out)

    def gradients(self, dy, dx, x, y, saved):
        self.weight.add_gradient(lambda out: np.sum(dy * x, axis=(0, 1, 2), out=out))
        if dx is not None:
            np.multiply(dy, self.weight.data, out=dx)


@pytest.mark.parametrize("name", CASES)
def test_pycnns_layers_pass(name):
    make, shape, _ = CASES[name]
    if not name.startswith("dropout"):  # its eval mode is a view; masks differ from call to call
        check_layer(make(), shape)


def test_layers_of_several_inputs_and_results_pass():
    check_layer(Scale(), (2, 5, 4, 3))
    check_layer(Repeat(), (None, 3, 2, 4))
    for layer in (layers.Add(), layers.Subtract(), layers.Multiply()):
        check_layer(layer, (2, 3, 4), (2, 3, 4))
    check_layer(layers.Concat(), (2, 3, 1), (2, 3, 2), (2, 3, 4))
    check_layer(layers.Split((1, 3)), (2, 3, 4))
    check_layer(layers.Affine(2.5, -1.0), (2, 3, 4))


def fault(**changes):
    return type("Scale", (Scale,), changes)


def part_of_out(self, x, out):
    out[..., 1:] = (x * self.weight.data)[..., 1:]


def writes_x(self, x, out):
    np.multiply(x, self.weight.data, out=out)
    x[0] = 0


def wrong_in_place(self, x, out):
    out[..., :1] = x[..., :1] * self.weight.data[:1]
    out[..., 1:] = x[..., 1:] * self.weight.data[1:] + (x[..., :1] - x[..., :1]) + x[..., :1] * 0
    out[..., :1] = x[..., :1] * self.weight.data[:1]


def forgets_a_term(self, dy, dx, x, y, saved):
    self.weight.add_gradient(lambda out: np.sum((dy * x)[1:], axis=(0, 1, 2), out=out))
    np.multiply(dy, self.weight.data, out=dx)


def adds_to_dx(self, dy, dx, x, y, saved):
    self.weight.add_gradient(lambda out: np.sum(dy * x, axis=(0, 1, 2), out=out))
    dx[..., :2] = (dy * self.weight.data)[..., :2]


def wrong_dx(self, dy, dx, x, y, saved):
    self.weight.add_gradient(lambda out: np.sum(dy * x, axis=(0, 1, 2), out=out))
    np.copyto(dx, dy)


def writes_dy(self, dy, dx, x, y, saved):
    self.weight.add_gradient(lambda out: np.sum(dy * x, axis=(0, 1, 2), out=out))
    np.multiply(dy, self.weight.data, out=dx)
    dy[...] = 0


def reads_y(self, dy, dx, x, y, saved):
    self.weight.add_gradient(lambda out: np.sum(dy * y / self.weight.data, axis=(0, 1, 2), out=out))
    np.multiply(dy, self.weight.data, out=dx)


def of_the_batch(self, x, out):
    np.multiply(x, self.weight.data * (1 if len(x) == 2 else 2), out=out)


class Forgets(Scale):
    def __init__(self, channels=3, power=1):
        super().__init__(channels)


FAULTS = [
    (fault(infer_shape=lambda self, x: (*x[:-1], 1)), r"non-broadcast|compute|shape"),
    (fault(compute=part_of_out), r"leaves parts of out|NaN in out"),
    (fault(compute=writes_x), "compute wrote to x|not finite"),
    (fault(compute=wrong_in_place), r"compute in place of input 0 \(in_place\)"),
    (fault(gradients=forgets_a_term), "the gradient of weight is .* the slope of the loss is"),
    (fault(gradients=adds_to_dx), r"dx is|NaN in dx"),
    (fault(gradients=wrong_dx), r"dx is .* the slope of the loss is"),
    (fault(gradients=writes_dy, gradient_in_place=None), "gradients wrote to dy"),
    (fault(gradients=reads_y), "reads = 'x'"),
    (fault(compute=of_the_batch), "image 0 by itself"),
    (Forgets, "cannot be saved and loaded.*power"),
]


@pytest.mark.parametrize(("kind", "message"), FAULTS)
def test_a_fault_is_told(kind, message):
    with pytest.raises((AssertionError, ValueError, TypeError), match=message):
        check_layer(kind(), (2, 5, 4, 3))
