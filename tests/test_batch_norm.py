"""BatchNorm2d: statistics, running ones, one pass with relu, in a Sequential."""

import copy
import pickle

import numpy as np
import pytest
import reference

from pycnn import losses, ops, optim
from pycnn.graph import fuse
from pycnn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)


def layer_and_x(rng, shape=(4, 5, 3, 7)):
    layer = BatchNorm2d(shape[-1], momentum=0.3, eps=1e-4)
    for vector in (layer.weight.data, layer.bias.data, layer.running_mean):
        vector[...] = rng.standard_normal(vector.shape)
    layer.running_var[...] = 0.5 + rng.random(shape[-1])
    return layer, 2 * rng.standard_normal(shape, dtype=np.float32) + 1


# Statistics


@pytest.mark.parametrize("offset", [0, 1e3, -1e5])
@pytest.mark.parametrize("C", [1, 8, 16, 20, 48])
def test_a_large_mean_costs_no_digits_of_the_variance(isa, rng, offset, C):
    """Beyond those that x itself lost: multiples of 1/64 are exact there, and so are their sums."""
    x = rng.integers(-64, 65, (31, 13, 7, C)).astype(np.float32) / 64 + np.float32(offset)
    exact = x.astype(np.float64).reshape(-1, C)
    _, mean, var = ops.batch_norm(x, np.ones(C, np.float32), np.zeros(C, np.float32))
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(var, exact.var(axis=0), rtol=1e-5)


def test_an_outlier_in_the_first_row_costs_nothing(isa):
    x = np.random.default_rng(0).standard_normal((4096, 1, 1, 16)).astype(np.float32)
    x[0] = 1e6
    _, _, var = ops.batch_norm(x, np.ones(16, np.float32), np.zeros(16, np.float32))
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-5)


def test_a_constant_channel_has_no_variance(isa):
    x = np.full((9, 7, 5, 16), 0.1, np.float32)
    bias = np.arange(16, dtype=np.float32)
    y, mean, var = ops.batch_norm(x, np.ones(16, np.float32), bias)
    np.testing.assert_array_equal(mean, x[0, 0, 0])
    np.testing.assert_array_equal(var, np.zeros(16))
    np.testing.assert_array_equal(y, np.broadcast_to(bias, x.shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_nan_and_inf_show_in_their_channel(isa, rng, bad, activation):
    x = rng.standard_normal((3, 4, 4, 20), dtype=np.float32)
    x[1, 2, 3, 17] = bad
    ones, zeros = np.ones(20, np.float32), np.zeros(20, np.float32)
    y, mean, var = ops.batch_norm(x, ones, zeros, activation=activation)
    others = np.arange(20) != 17
    assert np.isnan(y[..., 17]).all()
    assert np.isnan(var[17])
    assert np.isfinite(y[..., others]).all()
    dy = np.ones_like(x)
    gradients = ops.batch_norm_backward(dy, x, ones, zeros, mean, var, activation=activation)
    assert np.isnan(gradients.dx[..., 17]).all()
    assert np.isfinite(gradients.dx[..., others]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_statistics_are_the_formula(rng, dtype):
    layer, _ = layer_and_x(rng)
    layer.astype(dtype)
    assert layer.running_mean.dtype == layer.running_var.dtype == dtype
    mean, var = layer.running_mean.astype(np.float64), layer.running_var.astype(np.float64)
    before = layer.running_mean
    for _ in range(3):
        x = rng.standard_normal((4, 5, 3, 7)).astype(dtype)
        rows = x.astype(np.float64).reshape(-1, 7)
        layer.forward(x)
        mean = 0.7 * mean + 0.3 * rows.mean(axis=0)
        var = 0.7 * var + 0.3 * rows.var(axis=0, ddof=1)
    assert layer.running_mean is before
    np.testing.assert_allclose(layer.running_mean, mean, rtol=0, atol=50 * np.finfo(dtype).eps)
    np.testing.assert_allclose(layer.running_var, var, rtol=50 * np.finfo(dtype).eps)


def test_eval_and_an_empty_batch_leave_the_running_statistics(rng):
    layer, x = layer_and_x(rng)
    before = layer.state_dict()
    layer.forward(x[:0])
    layer.eval().forward(x)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_single_pixel_cannot_be_normalised_in_training(rng):
    model = Sequential(ReLU(), BatchNorm2d(3), ReLU())
    x = np.ones((1, 1, 1, 3), np.float32)
    for fused in (True, False):
        with pytest.raises(ValueError, match=r"layer 1 \(BatchNorm2d\): .* at least two: use a la"):
            model.fuse(fused).forward(x)
    assert model.eval().forward(x).shape == x.shape


def test_channels_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"BatchNorm2d: .* C = 3 .*expected channels = 4"):
        BatchNorm2d(4)(np.ones((1, 2, 2, 3), np.float32))
    with pytest.raises(ValueError, match=r"BatchNorm2d: x has shape \(2, 4\), 2 axes; expected 4"):
        BatchNorm2d(4)(np.ones((2, 4), np.float32))


# State


def test_the_state_has_the_buffers():
    model = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2))
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    assert list(model.state_dict()) == names
    assert [parameter.name for parameter in model.parameters()] == names[:4]
    assert [name for name, _ in model.named_buffers()] == names[4:]
    model.forward(np.random.default_rng(0).random((2, 4, 4, 1), np.float32))
    other = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2))
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other[1].running_var, model[1].running_var)
    assert not np.shares_memory(other[1].running_var, model[1].running_var)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin[1].running_mean, model[1].running_mean)
        assert not np.shares_memory(twin[1].running_mean, model[1].running_mean)


def test_a_negative_variance_is_refused():
    model = Sequential(BatchNorm2d(2))
    state = model.state_dict()
    state["0.running_var"] = np.array([1, -1], np.float32)
    with pytest.raises(ValueError, match=r"'0\.running_var' is .*; expected 0 or more"):
        model.load_state_dict(state)
    del state["0.running_var"]
    with pytest.raises(ValueError, match=r"missing: '0\.running_var'"):
        model.load_state_dict(state)


# In a Sequential


def kinds(*layers):
    steps = fuse.fused(Sequential(*layers).program(None), "training")
    return [type(step.operation).__name__ for step in steps]


def test_what_runs_in_one_pass():
    conv, norm = Conv2d(1, 4, 3), BatchNorm2d(4)
    assert kinds(conv, MaxPool2d(2), norm, ReLU()) == ["ConvPool", "NormActivation"]
    assert kinds(conv, norm, ReLU(), MaxPool2d(2)) == ["Conv2d", "NormActivation", "MaxPool2d"]
    assert kinds(norm, MaxPool2d(2), ReLU()) == ["BatchNorm2d", "MaxPool2d", "ReLU"]
    assert kinds(norm, Dropout(), ReLU()) == ["BatchNorm2d", "Dropout", "ReLU"]

    class Own(BatchNorm2d):
        pass

    assert kinds(Own(4), ReLU()) == ["Own", "ReLU"]


def network(rng, order="after", C=20):
    """Conv, pool, BatchNorm in both orders, relu, global pool, linear: [N, 8, 6, 3] -> [N, 5]."""
    rng = np.random.default_rng(7)
    parts = {
        "after": [MaxPool2d(2), BatchNorm2d(C), ReLU()],
        "before": [BatchNorm2d(C), ReLU(), MaxPool2d(2)],
        "no_relu": [BatchNorm2d(C), AvgPool2d(2)],
    }[order]
    model = Sequential(
        Conv2d(3, C, 3, padding="same", bias=False, rng=rng), *parts, Conv2d(C, 9, 3, rng=rng),
        BatchNorm2d(9), ReLU(), GlobalAvgPool2d(), Linear(9, 5, rng=rng),
    )  # fmt: skip
    for layer in model:
        if isinstance(layer, BatchNorm2d):
            layer.weight.data[...] = rng.standard_normal(layer.channels)
            layer.bias.data[...] = rng.standard_normal(layer.channels)
    x = rng.standard_normal((4, 8, 6, 3), dtype=np.float32)
    return model, x, rng.standard_normal((4, 5), dtype=np.float32)


def run(model, x, dy, **options):
    y = model.forward(x)
    dx = model.backward(dy, **options)
    return y, dx, [parameter.grad.copy() for parameter in model.parameters()]


@pytest.mark.parametrize("order", ["after", "before", "no_relu"])
def test_fused_it_is_the_layers_one_by_one(isa, num_threads, order, rng):
    model, x, dy = network(rng, order)
    plain = copy.deepcopy(model).fuse(False)
    (y, dx, gradients), (same_y, same_dx, same_gradients) = run(model, x, dy), run(plain, x, dy)
    np.testing.assert_allclose(y, same_y, rtol=0, atol=1e-5)
    np.testing.assert_allclose(dx, same_dx, rtol=0, atol=1e-4 * np.abs(same_dx).max())
    for ours, theirs in zip(gradients, same_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, plain.state_dict()[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ["after", "before", "no_relu"])
def test_float32_is_float64(isa, order, rng):
    """The whole chain, blocks and all, against plain loops."""
    model, x, dy = network(rng, order)
    exact = copy.deepcopy(model).astype(np.float64)
    y, dx, gradients = run(model, x, dy)
    exact_y, exact_dx, exact_gradients = run(exact, x.astype(np.float64), dy.astype(np.float64))
    for ours, theirs in zip(
        (y, dx, *gradients), (exact_y, exact_dx, *exact_gradients), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-5 * max(np.abs(theirs).max(), 1))


@pytest.mark.parametrize("C", [1, 3, 4, 16, 20, 33, 64])
def test_one_pass_has_the_bits_of_two(isa, C, rng):
    """BatchNorm and relu in one pass, forward and backward, against an operator each."""
    x, dy = (rng.standard_normal((5, 4, 6, C), dtype=np.float32) for _ in range(2))
    weight, bias = (rng.standard_normal(C, dtype=np.float32) for _ in range(2))
    bias[0] = np.nan  # passes relu, and so does its gradient
    y, mean, var = ops.batch_norm(x, weight, bias, activation="relu")
    plain, same_mean, same_var = ops.batch_norm(x, weight, bias)
    np.testing.assert_array_equal(y, ops.relu(plain))
    np.testing.assert_array_equal(mean, same_mean)
    np.testing.assert_array_equal(var, same_var)
    fused = ops.batch_norm_backward(dy, x, weight, bias, mean, var, activation="relu")
    masked = ops.relu_backward(dy, y)
    for ours, theirs in zip(
        fused, ops.batch_norm_backward(masked, x, weight, bias, mean, var), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    alone = ops.batch_norm_backward(
        dy, x, weight, bias, mean, var, activation="relu", input_gradient=False
    )
    assert alone.dx is None
    np.testing.assert_array_equal(alone.dweight, fused.dweight)
    np.testing.assert_array_equal(alone.dbias, fused.dbias)


def test_backward_sees_the_weights_of_its_forward(rng):
    layer, x = layer_and_x(rng)
    twin, dy = copy.deepcopy(layer), rng.standard_normal(x.shape, dtype=np.float32)
    for one in (layer, twin):
        one.forward(x)
    layer.weight.data[...] = 0
    layer.bias.data[...] = 9
    np.testing.assert_array_equal(layer.backward(dy), twin.backward(dy))


def test_a_layer_whose_weight_is_zero_still_learns(rng):
    """The mask and z come from x, not from y, which says nothing where weight is 0."""
    layer, x = layer_and_x(rng)
    layer.weight.data[...] = 0
    layer.forward(x)
    dx = layer.backward(rng.standard_normal(x.shape, dtype=np.float32))
    np.testing.assert_array_equal(dx, np.zeros_like(x))
    assert np.abs(layer.weight.grad).min() > 0


def test_the_gradient_lies_in_that_of_the_convolution_behind(rng):
    model, x, _ = network(rng)
    plan = model._running.plan_for((x,))
    norm = plan.steps[1]
    assert type(norm.operation).__name__ == "NormActivation"
    dx, dy = (plan.gradients[id(v[0])] for v in (norm.inputs, norm.outputs))
    assert (dx.where, dx.index) == (dy.where, dy.index) == ("arena", dx.index)


def test_plan_and_summary_show_it(rng):
    model, _, _ = network(rng)
    lines = model.plan((100, 8, 6, 3)).splitlines()
    assert lines[0].startswith("0 1  Conv2d + MaxPool2d  conv_pool")
    assert lines[1].split() == ["2", "3", "BatchNorm2d", "+", "ReLU", "one", "pass"]
    assert "GlobalAvgPool2d" in model.summary((None, 8, 6, 3))
    assert "BatchNorm2d" in model.fuse(False).plan()


def test_it_trains(rng):
    model, x, _ = network(rng)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    labels, criterion, history = np.array([0, 3, 1, 4]), losses.SoftmaxCrossEntropy(), []
    for _ in range(40):
        loss, dlogits = criterion(model.forward(x), labels)
        history.append(loss)
        optimizer.zero_grad()
        model.backward(dlogits, input_gradient=False)
        optimizer.step()
    assert history[-1] < 0.3 * history[0]


def test_the_reference_is_a_slope(rng):
    """The reference's own gradient against central differences."""
    x, dy = rng.standard_normal((3, 2, 2, 2)), rng.standard_normal((3, 2, 2, 2))
    weight, bias = rng.standard_normal(2), rng.standard_normal(2)
    y, mean, var = reference.batch_norm(x, weight, bias)
    dx, dweight, dbias = reference.batch_norm_backward(dy, x, weight, bias, mean, var)
    for array, gradient in ((x, dx), (weight, dweight), (bias, dbias)):
        for i in np.ndindex(array.shape):
            value, losses_ = array[i], []
            for step in (1e-6, -1e-6):
                array[i] = value + step
                losses_.append((reference.batch_norm(x, weight, bias)[0] * dy).sum())
            array[i] = value
            np.testing.assert_allclose(gradient[i], (losses_[0] - losses_[1]) / 2e-6, atol=1e-7)
    assert y.shape == x.shape
