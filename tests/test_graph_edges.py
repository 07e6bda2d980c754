"""Edges of networks that branch where a small mistake once passed."""

import numpy as np

from pycnn import layers
from pycnn.layers import BatchNorm2d, Linear, Module, ReLU, Sequential


def test_a_value_beside_itself():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.linear = Linear(2, 2, rng=0)

        def forward(self, x):
            y = self.linear(x)
            return y + y

    model, x, dy = Net(), np.array([[1, 2]], np.float32), np.array([[3, -5]], np.float32)
    np.testing.assert_array_equal(model.forward(x), 2 * model.linear.forward(x))
    model.forward(x)
    np.testing.assert_allclose(model.backward(dy), 2 * dy @ model.linear.weight.data.T, rtol=1e-6)
    np.testing.assert_array_equal(model.linear.bias.grad, 2 * dy[0])


def test_one_value_as_two_outputs_is_two_arrays():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.linear = Linear(2, 2, rng=0)

        def forward(self, x):
            y = self.linear(x)
            return y, y, layers.flatten(y)

    model, x = Net(), np.ones((1, 2), np.float32)
    for found in (model.forward(x), model.eval().forward(x)):
        for i, y in enumerate(found):
            assert not any(np.shares_memory(y, other) for other in found[:i])
            np.testing.assert_array_equal(y, found[0])
    model.train().forward(x)
    model.backward(x, 2 * x, 4 * x)
    np.testing.assert_array_equal(model.linear.bias.grad, [7, 7])


def test_layers_of_different_modes_are_not_fused():
    model = Sequential(BatchNorm2d(2), ReLU(), BatchNorm2d(2))
    model[1].eval()
    x = np.random.default_rng(0).standard_normal((3, 2, 2, 2), np.float32)
    y = model.forward(x)
    assert np.abs(model[0].running_mean).max() > 0, "the norm is in training mode"
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-6)


def test_layers_in_a_tuple_and_shared_ones_are_listed_once():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.pair = (BatchNorm2d(2), Linear(2, 2))
            self.again = self.pair[0]

    names = [name for name, _ in Net().named_layers()]
    assert names == ["", "pair.0", "pair.1"]
    assert [name for name, _ in Net().named_buffers()] == [
        "pair.0.running_mean",
        "pair.0.running_var",
    ]
