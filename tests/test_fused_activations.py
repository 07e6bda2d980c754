"""Activations in fused operators: what the plans say, and the numbers of the layers."""

import copy
import itertools

import numpy as np
import pytest
from test_activations import every_activation

from pycnn import layers, ops
from pycnn.graph import fuse
from pycnn.layers import BatchNorm2d, Conv2d, Linear, Module, ReLU6, Sequential, SiLU

LAYERS = {
    "relu": layers.ReLU,
    "relu6": layers.ReLU6,
    "clip": lambda: layers.Clip(-0.5, 0.7),
    "leaky": lambda: layers.LeakyReLU(0.1),
    "leaky_negative": lambda: layers.LeakyReLU(-0.2),
    "elu": lambda: layers.ELU(0.5),
    "sigmoid": layers.Sigmoid,
    "hard_sigmoid": layers.Hardsigmoid,
    "hard_swish": layers.Hardswish,
    "silu": layers.SiLU,
    "gelu": layers.GELU,
    "gelu_tanh": lambda: layers.GELU("tanh"),
    "tanh": layers.Tanh,
    "softplus": lambda: layers.Softplus(2.0),
    "exp": layers.Exp,
    "erf": layers.Erf,
    "abs": layers.Abs,
}
every_layer = pytest.mark.parametrize("name", LAYERS)
CONV = {"padding": "same"}


def kinds(layer, mode, shape=(2, 5, 4, 8)):
    layer.train(mode == "training")
    steps = fuse.fused(layer.program(shape), mode)
    return [type(step.operation).__name__ for step in steps]


class Ends(Module):
    """The ends of residuals: f(conv(x) + x), conv(x) + x, f(norm(x) + x), norm(x) + x, f(x + x)."""

    def __init__(self, make, norm, act, rng=0):
        super().__init__()
        self.conv = Conv2d(8, 8, 3, padding="same", rng=rng) if make else None
        self.norm = BatchNorm2d(8) if norm else None
        self.act = act

    def forward(self, x):
        x = 0.5 * x
        y = self.conv(x) if self.conv else x
        y = self.norm(y) if self.norm else y
        y = y + x
        return self.act(y) if self.act else y


def test_plans_of_chains():
    conv = Conv2d(8, 8, 3, padding="same", rng=0)
    point = Conv2d(8, 8, 1, bias=False, rng=0)
    chain = Sequential(conv, BatchNorm2d(8), ReLU6())
    assert kinds(chain, "training") == ["Conv2d", "NormActivation"]
    assert kinds(chain, "eval") == ["ConvNorm"]
    assert kinds(chain, "compiled") == ["ConvActivation"]
    chain = Sequential(point, BatchNorm2d(8), SiLU())
    assert kinds(chain, "training") == ["PointwiseNorm"]
    assert kinds(Sequential(conv, ReLU6()), "training") == ["ConvActivation"]
    assert kinds(Sequential(conv, SiLU()), "training") == ["Conv2d", "SiLU"]
    assert kinds(Sequential(conv, SiLU()), "eval") == ["ConvActivation"]
    assert kinds(Sequential(conv, layers.LeakyReLU(-1.0)), "training") == ["Conv2d", "LeakyReLU"]
    dense = Sequential(Linear(8, 4, rng=0), layers.GELU())
    assert kinds(dense, "compiled", (2, 8)) == ["LinearActivation"]
    assert kinds(dense, "eval", (2, 8)) == ["Linear", "GELU"]
    signal = Sequential(layers.Conv1d(8, 4, 3, rng=0), layers.SiLU())
    assert kinds(signal, "compiled", (2, 7, 8)) == ["LinearActivation"]


def test_plans_of_residuals():
    for mode, (act, with_act, without) in {
        "compiled": (SiLU, ["Affine", "ConvAdd"], ["Affine", "ConvAdd"]),
        "eval": (SiLU, ["Affine", "ConvAdd"], ["Affine", "ConvAdd"]),
        "training": (ReLU6, ["Affine", "ConvAdd"], ["Affine", "Conv2d", "Add"]),
    }.items():
        assert kinds(Ends(True, False, act()), mode) == with_act
        assert kinds(Ends(True, False, None), mode) == without
    assert kinds(Ends(True, True, ReLU6()), "training") == ["Affine", "Conv2d", "NormAdd"]
    assert kinds(Ends(True, True, SiLU()), "training") == [
        "Affine",
        "Conv2d",
        "BatchNorm2d",
        "Add",
        "SiLU",
    ]
    assert kinds(Ends(True, True, SiLU()), "eval") == ["Affine", "ConvNorm"]
    assert kinds(Ends(True, True, None), "eval") == ["Affine", "ConvNorm"]
    assert kinds(Ends(True, True, None), "compiled") == ["Affine", "ConvAdd"]
    assert kinds(Ends(False, False, ReLU6()), "training") == ["Affine", "AddActivation"]


def test_an_activation_of_ones_own_stays_a_layer():
    class Twice(layers.ReLU):
        def compute(self, x, out):
            np.multiply(x, 2, out=out)

    class Named(layers.ReLU):
        """Another name, the same numbers."""

    conv = Conv2d(8, 8, 3, rng=0)
    assert kinds(Sequential(conv, Twice()), "eval") == ["Conv2d", "Twice"]
    assert kinds(Sequential(conv, Named()), "eval") == ["ConvActivation"]


@every_layer
@pytest.mark.parametrize("ends", list(itertools.product([True, False], repeat=2)), ids=str)
def test_residuals_have_the_numbers_of_their_layers(num_threads, rng, name, ends):
    for act in (LAYERS[name](), None) if name == "relu6" else (LAYERS[name](),):
        compare(Ends(*ends, act), rng.standard_normal((3, 5, 4, 8), np.float32))


@every_layer
def test_chains_have_the_numbers_of_their_layers(num_threads, rng, name):
    x = rng.standard_normal((3, 5, 4, 8), np.float32)
    for conv in (Conv2d(8, 17, 3, padding="same", rng=0), Conv2d(8, 17, 1, rng=0)):
        compare(Sequential(conv, LAYERS[name]()), x)
        conv.bias = None  # its gradient would be zero, to rounding
        compare(Sequential(conv, BatchNorm2d(17), LAYERS[name]()), x)


def compare(model, x):
    """Fused and not, in training, eval mode and compiled; the statistics have moved."""
    model.train().zero_grad()
    plain = copy.deepcopy(model).fuse(False)
    for _ in range(2):
        found, expected = model(x), plain(x)
        close(found, expected)
        dy = np.cos(np.arange(found.size, dtype=np.float32)).reshape(found.shape)
        close(model.backward(dy), plain.backward(dy))
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        close(one.grad, other.grad, one.name)
    expected = plain.eval()(x)
    close(model.eval()(x), expected)
    close(model.compile_inference(x.shape)(x), expected)


def close(found, expected, what=""):
    most = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * most, err_msg=what)


@every_activation
def test_norm_and_activation_have_the_bits_of_the_two(isa, num_threads, rng, activation):
    """Channels that share vectors, that leave a rest in several chunks, and wide rows."""
    shapes = [(2, 3, 5, 8), (7, 9, 11, 19), (3, 2, 2, 300)]
    for shape in shapes if activation in ("relu6", "silu", "sigmoid") else shapes[1:2]:
        check_norm(rng, activation, shape)


def check_norm(rng, activation, shape):
    C = shape[-1]
    x, dy, r = rng.standard_normal((3, *shape), np.float32)
    weight, bias = rng.standard_normal((2, C), np.float32)
    if activation in ("sqrt", "log"):
        weight, bias = weight * 0.01, bias * 0 + 1
    given = {"activation": activation}
    z, mean, var = ops.batch_norm(x, weight, bias)
    y = ops.activation(z, activation)
    vectors = weight, bias, mean, var
    np.testing.assert_array_equal(ops.batch_norm(x, weight, bias, **given).y, y)
    np.testing.assert_array_equal(ops.batch_norm_inference(x, *vectors, **given), y)
    from_y = ops.activation_reads(activation) == "y"
    g = ops.activation_backward(dy, y if from_y else z, activation)
    found = ops.batch_norm_backward(dy, x, *vectors, **given)
    for one, other in zip(found, ops.batch_norm_backward(g, x, *vectors), strict=True):
        np.testing.assert_array_equal(one, other)
    if not from_y:
        return
    y = ops.batch_norm(x, weight, bias, residual=r, **given).y
    np.testing.assert_array_equal(y, ops.add(z, r, **given))
    g, dr = ops.activation_backward(dy, y, activation), dy.copy()
    found = ops.batch_norm_backward(dr, x, *vectors, **given, y=y, residual_gradient=dr)
    np.testing.assert_array_equal(dr, g)
    for one, other in zip(found, ops.batch_norm_backward(g, x, *vectors), strict=True):
        np.testing.assert_array_equal(one, other)


@every_activation
def test_a_convolution_gives_all_gradients_behind_an_activation(rng, activation):
    x, weight = rng.standard_normal((2, 5, 6, 7), np.float32), rng.random((3, 2, 7, 9), np.float32)
    y = ops.conv2d(x, weight, activation=activation)
    if ops.activation_reads(activation) == "x":
        with pytest.raises(ValueError, match="gradient follows from y"):
            ops.conv2d_relu_backward(y, y, x, weight, activation=activation)
        return
    if activation == "sqrt":
        y = np.abs(y) + 1
    g = ops.activation_backward(y, y, activation)
    dweight, dbias, dx = ops.conv2d_relu_backward(y, y, x, weight, activation=activation)
    np.testing.assert_array_equal(dweight, ops.conv2d_backward_weight(x, g, weight.shape))
    np.testing.assert_array_equal(dbias, ops.conv2d_backward_bias(g))
    np.testing.assert_array_equal(dx, ops.conv2d_backward_input(g, weight, x.shape))
