"""Sequential: the chain rule, the order of execution, the rules of backward."""

import copy

import gradient_check
import numpy as np
import pytest
from model_cases import bits, every_model, gradients, make, one_by_one

from pycnn import losses, ops
from pycnn.graph import fuse
from pycnn.layers import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from pycnn.ops import prepared

# The chain rule


@every_model
def test_gradients_are_the_slopes(name):
    model, x, _ = make(name, np.float64)
    gradient_check.check(model, x, np.random.default_rng(4))


def test_gradients_of_the_loss_are_its_slopes():
    model, x, _ = make("lecture_like", np.float64)
    criterion, labels = losses.SoftmaxCrossEntropy(label_smoothing=0.1), np.array([2, 0])
    _, dlogits = criterion(model.forward(x), labels)
    dx = model.backward(dlogits)

    def loss():
        return criterion(model.forward(x), labels)[0]

    gradient_check.compare(dx, gradient_check.slopes(loss, x), "dx")
    for parameter in model.parameters():
        gradient_check.compare(
            parameter.grad, gradient_check.slopes(loss, parameter.data), parameter.name
        )


@every_model
def test_the_same_bits_as_layer_by_layer(name):
    """Without blocks, which add in another order."""
    model, x, dy = make(name)
    model.fuse(False)
    y_alone, dx_alone, gradients_alone = one_by_one(model, x, dy)
    y = model.forward(x)
    dx = model.backward(dy)
    np.testing.assert_array_equal(bits(y), bits(y_alone))
    np.testing.assert_array_equal(bits(dx), bits(dx_alone))
    for ours, theirs in zip(gradients(model), gradients_alone, strict=True):
        np.testing.assert_array_equal(bits(ours), bits(theirs))


# relu after the max pool


def order(*layers):
    """The layers in the order of running, in a network that ends with something else."""
    steps = fuse.fused(Sequential(*layers).program(None), "training")
    return [
        part for s in steps for part in getattr(s.operation, "layers", lambda s=s: [s.operation])()
    ]


def test_a_relu_before_a_max_pool_runs_after_it():
    relu, pool, conv = ReLU(), MaxPool2d(2), Conv2d(1, 1, 1)
    assert order(conv, relu, pool) == [conv, pool, relu]
    assert order(relu, pool) == [pool, relu]
    assert order(pool, relu) == [pool, relu]
    other = AvgPool2d(2)
    assert order(relu, other) == [relu, other]
    assert order(relu, conv, pool) == [relu, conv, pool]
    again, pool2 = ReLU(), MaxPool2d(2)
    assert order(relu, pool, again, pool2) == [pool, relu, pool2, again]


def test_a_subclass_keeps_its_place():
    class LeakyReLU(ReLU):
        pass

    class MedianPool2d(MaxPool2d):
        pass

    for pair in [(LeakyReLU(), MaxPool2d(2)), (ReLU(), MedianPool2d(2))]:
        assert order(*pair) == list(pair)


BEFORE = {
    "conv": lambda: [Conv2d(1, 2, 3, padding="same")],
    "linear": lambda: [Flatten(), Linear(16, 5)],
    "avg_pool": lambda: [AvgPool2d(2)],
    "pool_that_comes_after": lambda: [MaxPool2d(2)],
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("before", BEFORE)
def test_relu_works_in_place_behind_layers_that_own_their_results(before, training, monkeypatch):
    seen = []
    run = prepared.activation
    monkeypatch.setattr(
        prepared,
        "activation",
        lambda x, f, out: seen.append((x.shape, out is x)) or run(x, f, out),
    )
    parts = [*BEFORE[before](), ReLU()]
    x = np.ones((3, 4, 4, 1), np.float32)
    shape = Sequential(*parts).output_shape(x.shape)
    if before == "pool_that_comes_after":
        parts.reverse()
    model = Sequential(*parts, Dropout(0.5)).fuse(before == "pool_that_comes_after")
    (model.train if training else model.eval)()
    model[-1].train()  # else its y would be the relu's, for the user
    model.forward(x)
    assert seen == [(shape, True)]


SPECIAL = np.array([-3, -2, -1, 0, 0, 0, 1, 1, 2, 3, np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.parametrize("pool", [(2, None, "valid"), (2, None, "same"), (3, 1, "same"), (3, 2, 1)])
@pytest.mark.parametrize("values", [SPECIAL, SPECIAL[:4], SPECIAL[3:9], SPECIAL[:6]])
def test_order_does_not_change_a_bit(pool, values):
    """Ties, windows without a positive number, zeros, NaN, and windows that overlap."""
    rng = np.random.default_rng(5)
    x = rng.choice(values, (4, 7, 7, 17))
    x[rng.random(x.shape) < 0.3] = rng.choice(values[:2])
    model = Sequential(ReLU(), MaxPool2d(*pool))
    dy = rng.standard_normal(model.output_shape(x.shape)).astype(np.float32)
    y_alone, dx_alone, _ = one_by_one(model, x, dy)
    np.testing.assert_array_equal(bits(model.forward(x)), bits(y_alone))
    np.testing.assert_array_equal(bits(model.backward(dy)), bits(dx_alone))
    assert np.any(dx_alone) == np.any(y_alone)


def test_order_may_change_the_sign_of_a_zero_and_nothing_else():
    x = np.random.default_rng(6).choice(np.array([-1, -0.0, 0], np.float32), (2, 6, 6, 5))
    model = Sequential(ReLU(), MaxPool2d(2))
    dy = np.ones(model.output_shape(x.shape), np.float32)
    y_alone, dx_alone, _ = one_by_one(model, x, dy)
    np.testing.assert_array_equal(model.forward(x), y_alone)
    np.testing.assert_array_equal(bits(model.backward(dy)), bits(dx_alone))


# backward


@every_model
def test_without_input_gradient(name):
    model, x, dy = make(name)
    other = copy.deepcopy(model)
    model.forward(x)
    model.backward(dy)
    other.forward(x)
    assert other.backward(dy, input_gradient=False) is None
    for ours, theirs in zip(gradients(model), gradients(other), strict=True):
        np.testing.assert_array_equal(bits(ours), bits(theirs))


def test_without_input_gradient_the_first_layer_computes_no_dx(monkeypatch):
    model, x, dy = make("lecture_like")
    model.fuse(False)
    calls = []
    backward_input = prepared.conv2d_backward_input
    monkeypatch.setattr(
        prepared,
        "conv2d_backward_input",
        lambda *args: calls.append(args[3].shape) or backward_input(*args),
    )
    model.forward(x)
    model.backward(dy, input_gradient=False)
    assert calls == [(2, 5, 4, 4)]  # of the second convolution


def test_without_input_gradient_layers_before_the_first_parameters_do_not_run(monkeypatch):
    model = Sequential(Dropout(0.5), Flatten(), Linear(4, 3))
    products = []
    for name in ("linear", "matmul"):
        product = getattr(prepared, name)
        monkeypatch.setattr(
            prepared, name, lambda *a, _run=product, **k: products.append(k) or _run(*a, **k)
        )
    y = model.forward(np.ones((2, 2, 2, 1), np.float32))
    assert model.backward(y, input_gradient=False) is None
    assert len(products) == 2  # y and dweight, but not dx
    with pytest.raises(RuntimeError, match="backward already ran"):
        model.backward(y, input_gradient=False)


def test_without_input_gradient_and_without_parameters():
    model = Sequential(ReLU(), Flatten())
    y = model.forward(np.ones((2, 3), np.float32))
    assert model.backward(y, input_gradient=False) is None


@every_model
def test_gradients_add_up(name):
    model, x, dy = make(name)
    parts = []
    for factor in (1, 2):
        model.zero_grad()
        model.forward(x)
        model.backward(np.float32(factor) * dy)
        parts.append(gradients(model))
    model, x, dy = make(name)
    for factor in (1, 2):
        model.forward(x)
        model.backward(np.float32(factor) * dy)
    for ours, first, second in zip(gradients(model), *parts, strict=True):
        np.testing.assert_array_equal(ours, first + second)


@every_model
def test_backward_needs_its_own_forward(name):
    model, x, dy = make(name)
    with pytest.raises(RuntimeError, match=r"^Sequential: backward came before forward"):
        model.backward(dy)
    model.forward(x)
    model.backward(dy)
    with pytest.raises(RuntimeError, match=r"^Sequential: backward already ran"):
        model.backward(dy)
    model.forward(x)
    model.eval()
    with pytest.raises(RuntimeError, match=r"^Sequential: backward in eval mode"):
        model.backward(dy)


def refused_without_a_trace(model, dy, message):
    model.zero_grad()
    with pytest.raises(RuntimeError, match=message):
        model.backward(dy)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_inner_layer_in_eval_mode_is_named():
    model, x, dy = make("nested")
    model[1].eval()
    model.forward(x)
    refused_without_a_trace(model, dy, r"layer 1\.0\.0 \(ReLU\): backward in eval mode")
    model[1].train()
    model[1][1].eval()
    model.forward(x)
    refused_without_a_trace(model, dy, r"layer 1\.1 \(Dropout\): backward in eval mode")


def test_an_inner_layer_that_ran_meanwhile_changes_nothing():
    model, x, dy = make("lecture_like")
    model.fuse(False).forward(x)
    expected = model.backward(dy), gradients(model)
    model.zero_grad()
    model.forward(x)
    model[0].forward(2 * x)
    model[:2].fuse(False).forward(-x)
    np.testing.assert_array_equal(model.backward(dy), expected[0])
    for one, other in zip(gradients(model), expected[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_backward_after_a_failed_forward(monkeypatch):
    model, x, dy = make("lecture_like")
    model.forward(x)
    model[7].astype(np.float64)
    with pytest.raises(TypeError, match=r"^layer 7 \(Linear\): x is float32; expected float64"):
        model.forward(x)
    model[7].astype(np.float32)
    model.forward(x)
    with monkeypatch.context() as broken:
        broken.delattr(prepared, "linear")
        with pytest.raises(AttributeError, match="linear"):
            model.forward(x)
    refused_without_a_trace(model, dy, "Sequential: its last forward failed")


@every_model
def test_a_refused_input_or_dy_leaves_the_forward_valid(name):
    model, x, dy = make(name)
    model.forward(x)
    with pytest.raises(ValueError, match=r"^layer 0\S* \(Conv2d\): x has shape .*C = 1 channels"):
        model.forward(x[..., :1])
    with pytest.raises(ValueError, match=r"^Sequential: dy has shape \(2, 2\); expected \(2, 3\)"):
        model.backward(dy[:, :2])
    with pytest.raises(TypeError, match=r"^Sequential: dy is float64; expected float32"):
        model.backward(dy.astype(np.float64))
    assert model.backward(dy).shape == x.shape


def test_a_wrong_size_is_named_before_anything_runs(monkeypatch):
    model, _, _ = make("lecture_like")
    monkeypatch.delattr(ops, "conv2d")
    with pytest.raises(ValueError, match=r"^layer 7 \(Linear\): .* 36 features .*in_features = 24"):
        model.forward(np.ones((2, 13, 7, 2), np.float32))
