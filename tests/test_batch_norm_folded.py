"""BatchNorm2d compiled: folded into the convolution before it, or a step of its own."""

import copy

import numpy as np
import pytest
from test_batch_norm import network

from pycnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)


def trained(order, sign=1):
    """A network in eval mode whose running statistics are those of some batches."""
    model, x, _ = network(None, order)
    for layer in model:
        if isinstance(layer, BatchNorm2d):
            layer.weight.data[...] = sign * np.abs(layer.weight.data)
    for _ in range(20):
        model.forward(x)
    return model.eval(), x


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("order", ["after", "before", "no_relu"])
def test_compiled_is_eval(isa, num_threads, order, sign):
    model, x = trained(order, sign)
    expected = model.forward(x)
    compiled = model.compile_inference((None, 8, 6, 3))
    for n in (0, 1, 4):
        np.testing.assert_allclose(compiled(x[:n]), expected[:n], rtol=0, atol=2e-5)
    exact = copy.deepcopy(model).astype(np.float64).forward(x.astype(np.float64))
    np.testing.assert_allclose(compiled(x), exact, rtol=0, atol=2e-5)
    plain = model.fuse(False).compile_inference((None, 8, 6, 3))
    np.testing.assert_allclose(plain(x), expected, rtol=0, atol=2e-5)


class Steps:
    """Stands for `_pycnn.Network` and notes what is added."""

    def __init__(self, monkeypatch):
        import _pycnn

        self.names, self.convs = [], []
        real = _pycnn.Network

        class Noting:
            def __init__(net, *arguments):
                net.real = real(*arguments)

            def __getattr__(net, name):
                def call(*arguments):
                    if name.startswith("add_"):
                        self.names.append(name.removeprefix("add_"))
                    if name == "add_conv2d":
                        self.convs.append(arguments[3:])
                    return getattr(net.real, name)(*arguments)

                return call

        monkeypatch.setattr(_pycnn, "Network", Noting)


@pytest.mark.parametrize(
    ("layers", "sign", "names"),
    [
        ([BatchNorm2d(4), ReLU()], -1, ["conv2d"]),
        ([BatchNorm2d(4), BatchNorm2d(4)], -1, ["conv2d"]),
        ([MaxPool2d(2), BatchNorm2d(4), ReLU()], 1, ["conv2d"]),
        ([MaxPool2d(2), BatchNorm2d(4), ReLU()], -1, ["conv2d", "batch_norm"]),
        ([MaxPool2d(3), BatchNorm2d(4), ReLU()], 1, ["conv2d", "max_pool2d", "activation"]),
        ([MaxPool2d(3), BatchNorm2d(4), ReLU()], -1, ["conv2d", "max_pool2d", "batch_norm"]),
        ([ReLU(), BatchNorm2d(4)], 1, ["conv2d", "batch_norm"]),
        ([ReLU(), MaxPool2d(2), BatchNorm2d(4)], 1, ["conv2d", "batch_norm"]),
        ([AvgPool2d(2), BatchNorm2d(4), ReLU()], 1, ["conv2d", "avg_pool2d", "batch_norm"]),
        ([Dropout(), BatchNorm2d(4), Dropout(), ReLU()], 1, ["conv2d"]),
        ([MaxPool2d(3, 1), MaxPool2d(2), BatchNorm2d(4)], 1, ["conv2d"] + 2 * ["max_pool2d"]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("bias", [True, False])
def test_what_is_folded(monkeypatch, layers, sign, names, bias):
    rng = np.random.default_rng(2)
    conv = Conv2d(2, 4, 3, bias=bias, rng=rng)
    if bias:
        conv.bias.data[...] = rng.standard_normal(4)
    model = Sequential(conv, *copy.deepcopy(layers))
    for layer in model:
        if isinstance(layer, BatchNorm2d):
            layer.weight.data[...] = sign * (0.5 + rng.random(4))
            layer.bias.data[...] = rng.standard_normal(4)
            layer.running_mean[...] = rng.standard_normal(4)
            layer.running_var[...] = 0.1 + rng.random(4)
    x = rng.standard_normal((3, 9, 9, 2), dtype=np.float32)
    expected = model.eval().forward(x)
    kept = model.state_dict()
    steps = Steps(monkeypatch)
    compiled = model.compile_inference((None, 9, 9, 2))
    if names == ["conv2d"] + 2 * ["max_pool2d"]:
        names = [*names, "batch_norm"]  # through one pool only
    assert steps.names == names
    np.testing.assert_allclose(compiled(x), expected, rtol=0, atol=2e-5)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, kept[name])


def test_a_zero_weight_is_folded_through_a_pool(monkeypatch):
    model = Sequential(Conv2d(1, 2, 3, rng=1), MaxPool2d(2), BatchNorm2d(2)).eval()
    model[2].weight.data[...] = [0, 1]
    model[2].bias.data[...] = [3, 4]
    steps = Steps(monkeypatch)
    x = np.random.default_rng(0).random((2, 6, 6, 1), np.float32)
    compiled = model.compile_inference((None, 6, 6, 1))
    assert steps.names == ["conv2d"]
    np.testing.assert_allclose(compiled(x), model.forward(x), rtol=0, atol=1e-6)


def test_depthwise_and_grouped_weights_are_folded_by_output_channel():
    rng = np.random.default_rng(4)
    for groups in (2, 4):
        model = Sequential(Conv2d(4, 8, 3, groups=groups, rng=rng), BatchNorm2d(8), ReLU())
        x = rng.standard_normal((5, 7, 7, 4), dtype=np.float32)
        for _ in range(30):
            model.forward(x)
        model.eval()
        compiled = model.compile_inference((None, 7, 7, 4))
        np.testing.assert_allclose(compiled(x), model.forward(x), rtol=0, atol=1e-5)


def test_alone_and_first_it_is_a_step():
    rng = np.random.default_rng(4)
    model = Sequential(BatchNorm2d(3), ReLU(), Flatten(), Linear(12, 2, rng=rng))
    x = rng.standard_normal((6, 2, 2, 3), dtype=np.float32)
    model.forward(x)
    model.eval()
    np.testing.assert_array_equal(model.compile_inference((None, 2, 2, 3))(x), model.forward(x))
