"""Each layer by itself: numbers, gradients, and the rules of forward and backward."""

import copy
import gc
import re
import weakref

import _pycnn
import gradient_check
import numpy as np
import pytest
import reference
from layer_cases import CASES, bound, every_layer, make, make_with_dy

from pycnn import layers, ops
from pycnn.ops import prepared


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_forward_is_the_formula(name, dtype):
    layer, x = make(name, dtype)
    y = layer.forward(x)
    assert y.dtype == dtype
    expected = CASES[name][2](x, [p.data for p in layer.parameters()])
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound(dtype))


@every_layer
def test_gradients_are_the_slopes(name):
    layer, x = make(name)
    gradient_check.check(layer, x, np.random.default_rng(9))


@every_layer
def test_float32_gradients_are_those_of_float64(name):
    layer, x, dy = make_with_dy(name)
    exact = copy.deepcopy(layer).astype(np.float64)
    layer.forward(x)
    dx = layer.backward(dy)
    exact.forward(x.astype(np.float64))
    expected = [exact.backward(dy.astype(np.float64)), *(p.grad for p in exact.parameters())]
    for ours, theirs in zip([dx, *(p.grad for p in layer.parameters())], expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound(np.float32))


def test_the_gradient_check_sees_a_missing_term():
    class Forgetful(layers.Linear):
        def gradients(self, dy, dx, x, y, saved):
            super().gradients(dy, dx, x, y, saved)
            self.bias.grad = self.bias.grad - dy[-1]

    layer = Forgetful(3, 2).astype(np.float64)
    with pytest.raises(AssertionError, match="bias"):
        gradient_check.check(layer, np.ones((4, 3)), np.random.default_rng(0))


@every_layer
def test_output_shape_is_the_shape_of_y(name):
    layer, x = make(name)
    y = layer(x)
    assert layer.output_shape(x.shape) == y.shape
    assert layer.output_shape((None, *x.shape[1:])) == (None, *y.shape[1:])


@every_layer
def test_an_empty_batch(name):
    layer, x = make(name, np.float32)
    y = layer.forward(x[:0])
    assert y.shape == (0, *layer.output_shape(x.shape)[1:])
    assert layer.backward(y).shape == x[:0].shape
    for parameter in layer.parameters():
        np.testing.assert_array_equal(parameter.grad, np.zeros_like(parameter.data))


@every_layer
def test_gaps_in_arrays_do_not_matter(name):
    layer, x, dy = make_with_dy(name)
    again = copy.deepcopy(layer)
    y = layer.forward(x)
    dx = layer.backward(dy)
    wide_x, wide_dy = np.repeat(x, 2, axis=1)[:, ::2], np.repeat(dy, 2, axis=1)[:, ::2]
    assert not wide_x.flags.c_contiguous
    np.testing.assert_array_equal(again.forward(wide_x), y)
    np.testing.assert_array_equal(again.backward(wide_dy), dx)


@pytest.mark.parametrize("name", ["conv_valid", "linear"])
def test_an_array_with_gaps_is_copied_once(name, monkeypatch):
    layer, x, dy = make_with_dy(name)
    received = []
    for op in ("conv2d", "conv2d_backward_weight", "conv2d_backward_input", "linear", "matmul"):
        original = getattr(prepared, op)
        monkeypatch.setattr(
            prepared, op, lambda *a, _run=original, **k: received.extend(a[:2]) or _run(*a, **k)
        )
    layer.forward(np.repeat(x, 2, axis=1)[:, ::2])
    layer.backward(np.repeat(dy, 2, axis=1)[:, ::2])
    assert len(received) == 6
    assert all(array.flags.c_contiguous for array in received)


# The rules of forward and backward


@every_layer
def test_backward_needs_its_own_forward(name):
    layer, x, dy = make_with_dy(name)
    kind = type(layer).__name__
    with pytest.raises(RuntimeError, match=rf"^{kind}: backward came before forward: call forward"):
        layer.backward(dy)
    layer.forward(x)
    layer.backward(dy)
    with pytest.raises(RuntimeError, match=rf"^{kind}: backward already ran .*: call forward\(x\)"):
        layer.backward(dy)
    layer.forward(x)
    assert layer.backward(dy).shape == x.shape


@every_layer
def test_eval_mode_has_no_backward(name):
    layer, x, dy = make_with_dy(name)
    layer.forward(x)
    assert layer.eval() is layer
    with pytest.raises(RuntimeError, match=r"backward in eval mode: call train\(\)"):
        layer.backward(dy)
    layer.forward(x)
    assert layer.train() is layer
    with pytest.raises(RuntimeError, match="last forward ran in eval mode, which keeps nothing"):
        layer.backward(dy)
    assert all(parameter.grad is None for parameter in layer.parameters())


@every_layer
def test_eval_forward_equals_training_forward(name):
    layer, x = make(name, np.float32)
    if isinstance(layer, layers.Dropout):
        assert layer.eval().forward(x) is x
    elif isinstance(layer, (layers.BatchNorm1d, layers.BatchNorm2d)):
        vectors = [layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var]
        expected = reference.batch_norm_inference(x, *vectors, eps=layer.eps)
        np.testing.assert_allclose(layer.eval().forward(x), expected, rtol=0, atol=1e-5)
    else:
        np.testing.assert_array_equal(layer.forward(x), layer.eval().forward(x))


@every_layer
def test_eval_keeps_nothing_alive(name):
    layer, x = make(name, np.float32)
    layer.eval().forward(x)
    watch = weakref.ref(x)
    del x
    gc.collect()
    assert watch() is None


@every_layer
def test_backward_lets_x_go(name):
    layer, x, dy = make_with_dy(name)
    layer.forward(x)
    layer.backward(dy)
    watch = weakref.ref(x)
    del x
    gc.collect()
    assert watch() is None


@every_layer
def test_a_refused_dy_leaves_the_forward_valid(name):
    layer, x, dy = make_with_dy(name)
    layer.forward(x)
    wrong = np.zeros((*dy.shape[:-1], dy.shape[-1] + 1), np.float32)
    message = rf"dy has shape {wrong.shape}; expected {dy.shape}, as the last y"
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.backward(wrong)
    with pytest.raises(TypeError, match=r"dy is float64; expected float32, the type of the last y"):
        layer.backward(dy.astype(np.float64))
    with pytest.raises(TypeError, match="dy is a list; expected a NumPy array"):
        layer.backward(dy.tolist())
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert layer.backward(dy).shape == x.shape


@every_layer
def test_results_stay(name):
    layer, x, dy = make_with_dy(name)
    a = layer.forward(x)
    da = layer.backward(dy)
    before = a.copy(), da.copy(), x.copy(), dy.copy()
    b = layer.forward(-x)
    db = layer.backward(-dy)
    for array, copied in zip((a, da, x, dy), before, strict=True):
        np.testing.assert_array_equal(array, copied)
    if name not in ("flatten", "reshape"):
        assert not np.shares_memory(a, b)
        assert not np.shares_memory(da, db)
        assert not np.shares_memory(a, x)
        assert not np.shares_memory(da, dy)


@every_layer
def test_the_user_may_write_to_results(name):
    layer, x, dy = make_with_dy(name)
    twin = copy.deepcopy(layer)
    twin.forward(x)
    dx = twin.backward(dy)
    layer.forward(x.copy())[...] = np.nan
    np.testing.assert_array_equal(layer.backward(dy.copy()), dx)
    for ours, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(ours.grad, theirs.grad)


def test_a_max_pool_in_eval_mode_keeps_no_indices(monkeypatch):
    layer, x = make("max_pool", np.float32)
    asked = []
    pool = _pycnn.max_pool2d_forward
    monkeypatch.setattr(
        _pycnn, "max_pool2d_forward", lambda *a, **k: asked.append(a[1]) or pool(*a, **k)
    )
    layer.forward(x)
    layer.eval().forward(x)
    assert asked[0] is not None
    assert asked[1] is None


def test_flatten_is_a_view():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    y = layers.Flatten().forward(x)
    assert np.shares_memory(x, y)
    assert y[1, (2 * 2 + 1) * 2 + 1] == x[1, 2, 1, 1]


# Gradients of parameters


@every_layer
def test_without_input_gradient(name, monkeypatch):
    layer, x, dy = make_with_dy(name)
    layer.forward(x)
    layer.backward(dy)
    expected = [parameter.grad.copy() for parameter in layer.parameters()]
    layer.zero_grad()
    layer.forward(x)

    def refuse(*args, **keywords):
        raise AssertionError("dx was computed")

    for op in ("conv2d", "max_pool2d", "avg_pool2d", "relu"):
        full = f"{op}_backward_input" if op == "conv2d" else f"{op}_backward"
        monkeypatch.setattr(ops, full, refuse)
    if isinstance(layer, layers.Linear):
        products = []
        matmul = prepared.matmul
        monkeypatch.setattr(
            prepared, "matmul", lambda *a, **k: products.append(k) or matmul(*a, **k)
        )
    assert layer.backward(dy, input_gradient=False) is None
    for parameter, gradient in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)
    if isinstance(layer, layers.Linear):
        assert len(products) == 1  # dweight


WITH_PARAMETERS = [name for name in CASES if name.startswith(("conv", "linear", "batch"))]


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_gradients_add_up(name):
    layer, x, dy = make_with_dy(name)
    parts = []
    for factor in (1, 2):
        layer.zero_grad()
        layer.forward(np.float32(factor) * x)
        layer.backward(dy)
        parts.append([parameter.grad.copy() for parameter in layer.parameters()])
    layer.zero_grad()
    for factor in (1, 2):
        layer.forward(np.float32(factor) * x)
        layer.backward(dy)
    for parameter, first, second in zip(layer.parameters(), *parts, strict=True):
        np.testing.assert_array_equal(parameter.grad, first + second)


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_an_empty_gradient_is_overwritten_at_no_cost(name, monkeypatch):
    layer, x, dy = make_with_dy(name)
    layer.forward(x)
    layer.backward(dy)
    memory = [parameter.grad for parameter in layer.parameters()]
    expected = [gradient.copy() for gradient in memory]
    layer.zero_grad()
    assert all(parameter.grad is None for parameter in layer.parameters())
    for gradient in memory:
        gradient[...] = np.nan
    monkeypatch.delattr(ops, "accumulate")
    layer.forward(x)
    layer.backward(dy)
    for parameter, array, value in zip(layer.parameters(), memory, expected, strict=True):
        assert parameter.grad is array
        np.testing.assert_array_equal(array, value)


def test_a_named_algorithm_of_a_convolution_is_used_in_all_directions():
    x = np.random.default_rng(0).standard_normal((2, 9, 9, 16), np.float32)
    results = {}
    for algorithm in ("auto", "direct", "winograd"):
        conv = layers.Conv2d(16, 16, 3, padding="same", rng=0, algorithm=algorithm)
        y = conv(x)
        results[algorithm] = y, conv.backward(y), conv.weight.grad
        expected = ops.conv2d(x, conv.weight.data, padding="same", algorithm=algorithm)
        np.testing.assert_array_equal(y, expected)
        expected = ops.conv2d_backward_input(
            y, conv.weight.data, x.shape, padding="same", algorithm=algorithm
        )
        np.testing.assert_array_equal(results[algorithm][1], expected)
    assert "algorithm='direct'" in repr(layers.Conv2d(1, 1, 3, algorithm="direct"))
    named = layers.Sequential(
        layers.Conv2d(1, 4, 3, algorithm="direct"), layers.ReLU(), layers.MaxPool2d(2)
    )
    assert "conv_pool" not in named.plan()
    with pytest.raises(ValueError, match="Conv2d: algorithm is 'fft'; expected one of \"auto\""):
        layers.Conv2d(1, 1, 3, algorithm="fft")
