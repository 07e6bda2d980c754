"""Blocks of a Sequential: what becomes one, that it is the operator, that layers stay usable."""

import copy
import pickle

import numpy as np
import pytest

from pycnn import losses, models, ops, optim
from pycnn.graph import fuse
from pycnn.layers import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential


def kinds(*layers):
    steps = fuse.fused(Sequential(*layers).program(None), "training")
    return [type(step.operation).__name__ for step in steps]


def conv(c=3, oc=4, **options):
    return Conv2d(c, oc, 3, padding="same", **options)


def make(relu=True, **options):
    """(model, x, dy): one conv_pool and a linear layer."""
    rng = np.random.default_rng(5)
    layers = [conv(3, 20, rng=rng, **options), ReLU(), MaxPool2d(2, padding="same")]
    if not relu:
        del layers[1]
    model = Sequential(*layers, Flatten(), Linear(20 * 4 * 3, 5, rng=rng))
    x = rng.standard_normal((4, 7, 6, 3), dtype=np.float32)
    if options.get("bias", True):
        model[0].bias.data[...] = rng.standard_normal(20, dtype=np.float32)
    return model, x, rng.standard_normal((4, 5), dtype=np.float32)


def test_what_becomes_a_block():
    assert kinds(conv(), ReLU(), MaxPool2d(2)) == ["ConvPool"]
    assert kinds(conv(), MaxPool2d(2), ReLU()) == ["ConvPool"]
    assert kinds(conv(), MaxPool2d(2), Flatten()) == ["ConvPool", "Flatten"]
    assert kinds(conv(), ReLU(), MaxPool2d(2, padding="SAME"), ReLU()) == ["ConvPool", "ReLU"]
    assert kinds(ReLU(), conv(), ReLU(), MaxPool2d((2, 2), (2, 2), 0)) == ["ReLU", "ConvPool"]


@pytest.mark.parametrize(
    "pool",
    [MaxPool2d(3), MaxPool2d(2, 1), MaxPool2d((2, 1)), MaxPool2d(2, padding=1), AvgPool2d(2)],
    ids=repr,
)
def test_another_pool_stays_a_layer(pool):
    found = kinds(conv(), ReLU(), pool)
    if isinstance(pool, AvgPool2d):
        assert found == ["ConvActivation", "AvgPool2d"]
    else:  # relu on fewer pixels
        assert found == ["Conv2d", "MaxPool2d", "ReLU"]


def test_a_subclass_stays_a_layer():
    class Normalised(Conv2d):
        pass

    assert kinds(Normalised(3, 4, 3), ReLU(), MaxPool2d(2)) == ["Normalised", "MaxPool2d", "ReLU"]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_block_is_the_operator(relu, bias):
    model, x, dy = make(relu, bias=bias)
    y = model.forward(x)
    dx = model.backward(dy)
    weight = model[0].weight
    bias_data = model[0].bias.data if bias else None
    options = {"padding": "same", "pool_padding": "same", "relu": relu}
    pooled, where = ops.conv_pool(x, weight.data, bias_data, **options, return_where=True)
    np.testing.assert_array_equal(y, model[-1].forward(pooled.reshape(4, -1)))
    d_pooled = ops.matmul(dy, model[-1].weight.data, transpose_b=True).reshape(pooled.shape)
    expected = ops.conv_pool_backward(d_pooled, pooled, where, x, weight.data, **options)
    np.testing.assert_array_equal(weight.grad, expected[0])
    if bias:
        np.testing.assert_array_equal(model[0].bias.grad, expected[1])
    np.testing.assert_array_equal(dx, expected[2])


def test_without_blocks_the_answers_agree():
    """The same masks: all margins of this data exceed the rounding of either way."""
    model, x, dy = make()
    results = []
    for on in (True, False):
        assert model.fuse(on) is model
        model.zero_grad()
        y, dx = model.forward(x), model.backward(dy)
        results.append([y, dx, *(parameter.grad.copy() for parameter in model.parameters())])
    for fused, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=0, atol=1e-5 * np.abs(plain).max())


def test_gradients_add_up():
    model, x, dy = make()
    model.forward(x)
    model.backward(dy)
    once = [parameter.grad.copy() for parameter in model.parameters()]
    model.forward(x)
    model.backward(dy)
    for parameter, one in zip(model.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, one + one)


def test_a_result_that_the_user_changes_does_not_change_the_gradient():
    model = Sequential(conv(3, 16), ReLU(), MaxPool2d(2))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 6, 3), dtype=np.float32)
    y = model.forward(x)
    dy = rng.standard_normal(y.shape, dtype=np.float32)
    expected = model.backward(dy)
    y = model.forward(x)
    y[...] = -1
    np.testing.assert_array_equal(model.backward(dy), expected)


def test_layers_still_give_their_own_output():
    model, x, _ = make()
    before = model.forward(x)
    map_ = model[0].forward(x)
    assert map_.shape == (4, 7, 6, 20)
    np.testing.assert_array_equal(model[:2].forward(x), np.maximum(map_, 0))
    np.testing.assert_array_equal(model.forward(x), before)


def test_eval_mode_and_mixed_modes():
    model, x, dy = make()
    y = model.forward(x)
    np.testing.assert_array_equal(model.eval().forward(x), y)
    with pytest.raises(RuntimeError, match="eval mode"):
        model.backward(dy)
    model.train()
    model[0].eval()
    model.forward(x)
    with pytest.raises(RuntimeError, match=r"layer 0 \(Conv2d\).*eval mode"):
        model.backward(dy)


def test_float64_runs_the_layers():
    model, x, dy = make()
    model.astype(np.float64)
    y = model.forward(x.astype(np.float64))
    assert y.dtype == np.float64
    assert model.backward(dy.astype(np.float64)).dtype == np.float64
    model.astype(np.float32)
    assert model.forward(x).dtype == np.float32
    assert model.backward(dy).dtype == np.float32


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_blocks_of_their_own(copied):
    model, x, dy = make()
    y, dx = model.forward(x), model.backward(dy)
    twin = copied(model)
    model[0].weight.data[...] = 0
    np.testing.assert_array_equal(twin.forward(x), y)
    np.testing.assert_array_equal(twin.backward(dy), dx)
    assert "conv_pool" in twin.plan()


def test_an_assigned_weight_is_used():
    model, x, _ = make()
    model[0].weight.data = np.zeros_like(model[0].weight.data)
    model[0].bias.data[...] = 0
    pooled = model[:3].forward(x)
    assert not pooled.any()


def test_the_plan_can_be_read():
    model = models.mnist_cnn()
    lines = model.plan((100, 28, 28, 1)).splitlines()
    assert lines[0].split(maxsplit=3)[:3] == ["0", "2", "1"] or lines[0].startswith("0 2 1")
    assert len(lines) == 5
    assert "Conv2d + MaxPool2d + ReLU" in lines[0]
    assert "conv_pool, forward few_channels" in lines[0]
    assert "forward winograd, gradients without products with zero" in lines[1]
    assert "a view" in lines[3]
    normed = models.stages((16, 16, 64), batch_norm=True).plan((100, 28, 28, 1)).splitlines()
    assert "dx winograd, dweight without products with zero" in normed[2]
    unfused = model.fuse(False).plan((100, 28, 28, 1)).splitlines()
    assert len(unfused) == 11
    assert "gradients winograd, winograd" in unfused[3]
    nested = Sequential(model, ReLU())
    assert nested.fuse(True)[0].plan().count("conv_pool") == 3


def test_the_plan_refuses_what_the_layers_refuse():
    model = models.mnist_cnn()
    assert model.plan((None, 28, 28, 1)) == model.plan((1, 28, 28, 1))
    with pytest.raises(ValueError, match=r"layer 0 \(Conv2d\): x has shape \(1, 28, 28, 3\)"):
        model.plan((None, 28, 28, 3))
    with pytest.raises(TypeError, match="only N may be None"):
        model.plan((1, None, 28, 1))
    with pytest.raises(TypeError, match="input_shape is 28"):
        model.plan(28)


def test_a_wrong_input_names_the_layer():
    model, x, _ = make()
    with pytest.raises(ValueError, match=r"layer 0 \(Conv2d\): x has shape"):
        model.forward(x[..., :2])
    with pytest.raises(TypeError, match=r"layer 0 \(Conv2d\): x is float64"):
        Sequential(model[0], model[1], model[2]).forward(x.astype(np.float64))


def test_a_step_learns_like_the_layers():
    """Twenty steps of the lecture's network, with and without blocks, from the same start."""
    rng = np.random.default_rng(1)
    x, labels = rng.random((20, 28, 28, 1), dtype=np.float32), np.arange(20) % 10
    finals = []
    for on in (True, False):
        model = models.mnist_cnn(rng=0, init="he").fuse(on)
        optimizer, criterion = optim.Adam(model.parameters()), losses.SoftmaxCrossEntropy()
        for _ in range(20):
            loss, dlogits = criterion(model.forward(x), labels)
            optimizer.zero_grad()
            model.backward(dlogits, input_gradient=False)
            optimizer.step()
        finals.append(loss)
    assert finals[0] < 1.5
    assert abs(finals[0] - finals[1]) < 0.05 * finals[1] + 0.01
