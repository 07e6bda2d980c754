"""Parameters: names, initial values, what they take; states, copies and conversions of layers."""

import copy
import pickle
import re

import numpy as np
import pytest
from layer_cases import every_layer, make_with_dy

from pycnn import layers


def test_parameters_have_names_and_the_layout_of_the_lecture():
    conv, linear = layers.Conv2d(4, 6, (2, 3), groups=2), layers.Linear(5, 3)
    assert [(p.name, p.data.shape) for p in conv.parameters()] == [
        ("weight", (2, 3, 2, 6)),
        ("bias", (6,)),
    ]
    assert [(p.name, p.data.shape) for p in linear.parameters()] == [
        ("weight", (5, 3)),
        ("bias", (3,)),
    ]
    assert layers.Linear(5, 3, bias=False).bias is None
    assert [p.name for p in layers.Conv2d(1, 2, 3, bias=False).parameters()] == ["weight"]
    assert not conv.bias.data.any()
    assert repr(conv.weight) == "Parameter(weight, (2, 3, 2, 6), float32)"


def test_initial_values_come_from_rng():
    def weights(**keywords):
        return layers.Conv2d(2, 3, 3, **keywords).weight.data

    np.testing.assert_array_equal(weights(rng=5), weights(rng=np.random.default_rng(5)))
    assert not np.array_equal(weights(rng=5), weights(rng=0))
    rng = np.random.default_rng(5)
    assert not np.array_equal(weights(rng=rng), weights(rng=rng))
    with pytest.raises(TypeError, match=r"rng is '0'; expected a np\.random\.Generator or an int"):
        weights(rng="0")
    with pytest.raises(ValueError, match="rng is -1; expected a seed of at least 0"):
        weights(rng=-1)


def test_parameter_takes_only_what_fits():
    parameter = layers.Parameter(np.zeros((2, 3), np.float32), "w")
    for attribute in ("data", "grad"):
        with pytest.raises(
            ValueError, match=rf"Parameter w: {attribute} is float32 of shape \(3,\)"
        ):
            setattr(parameter, attribute, np.zeros(3, np.float32))
        with pytest.raises(TypeError, match=rf"{attribute} is float64 .*; expected float32"):
            setattr(parameter, attribute, np.zeros((2, 3)))
        with pytest.raises(TypeError, match=rf"{attribute} is a float; expected a NumPy array"):
            setattr(parameter, attribute, 0.0)
    assert parameter.grad is None
    parameter.grad = np.ones((2, 3), np.float32)
    parameter.grad *= 2
    np.testing.assert_array_equal(parameter.grad, np.full((2, 3), 2, np.float32))
    parameter.grad = None
    assert parameter.grad is None
    with pytest.raises(TypeError, match="data is int64; expected a float32 or float64 array"):
        layers.Parameter(np.zeros(3, np.int64))
    with pytest.raises(TypeError, match=r"data is None; expected a float32 or float64 array\."):
        layers.Parameter(None)


def test_an_assigned_gradient_is_copied():
    parameter = layers.Parameter(np.zeros((2, 3), np.float32))
    mine = np.ones((3, 2), np.float32).T  # with gaps, too
    parameter.grad = mine
    memory = parameter.grad
    parameter.add_gradient(lambda out: out.fill(2))
    np.testing.assert_array_equal(mine, np.ones((2, 3)))
    np.testing.assert_array_equal(parameter.grad, np.full((2, 3), 3))
    parameter.zero_grad()
    parameter.add_gradient(lambda out: out.fill(4))
    np.testing.assert_array_equal(mine, np.ones((2, 3)))
    parameter.grad = mine
    assert parameter.grad is memory
    for other in (parameter.data, memory[::-1], memory):
        expected = other.copy()
        parameter.grad = other
        np.testing.assert_array_equal(parameter.grad, expected)
        assert not np.may_share_memory(parameter.grad, parameter.data)


def test_data_from_the_gradient_is_a_copy():
    parameter = layers.Parameter(np.zeros(3, np.float32))
    parameter.grad = np.ones(3, np.float32)
    parameter.data = parameter.grad
    np.testing.assert_array_equal(parameter.data, np.ones(3))
    assert not np.may_share_memory(parameter.grad, parameter.data)
    other = np.full(3, 2, np.float32)
    parameter.data = other
    assert parameter.data is other


def test_parameter_copies_what_cannot_be_changed_in_place():
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    frozen = np.ones(3, np.float32)
    frozen.flags.writeable = False
    for array in (turned, frozen):
        data = layers.Parameter(array).data
        np.testing.assert_array_equal(data, array)
        assert data.flags.c_contiguous
        assert data.flags.writeable


# States and copies


def test_state_dict_is_a_copy_and_loads():
    source, target = layers.Conv2d(2, 3, 3, rng=1), layers.Conv2d(2, 3, 3, rng=2)
    state = source.state_dict()
    assert list(state) == ["weight", "bias"]
    memory = target.weight.data
    target.load_state_dict(state)
    assert target.weight.data is memory
    np.testing.assert_array_equal(memory, source.weight.data)
    state["weight"][...] = 0
    assert source.weight.data.all()
    assert target.weight.data.all()


def test_load_state_dict_names_everything_that_is_wrong():
    layer = layers.Conv2d(2, 3, 3)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="load_state_dict") as caught:
        layer.load_state_dict({"weights": before["weight"], "biases": before["bias"]})
    assert "missing: 'weight', 'bias'." in str(caught.value)
    assert "unexpected: 'weights', 'biases'." in str(caught.value)
    good = {name: np.ones_like(array) for name, array in before.items()}
    for name, bad, message in [
        ("bias", np.zeros(4, np.float32), "'bias' has shape (4,); expected (3,)."),
        ("bias", np.zeros(3), "'bias' is float64; expected float32"),
        ("bias", [0.0, 0.0, 0.0], "'bias' is a list; expected a NumPy array."),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            layer.load_state_dict({**good, name: bad})
    with pytest.raises(TypeError, match="got a list; expected a dict of arrays"):
        layer.load_state_dict([1, 2])
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def by_pickle(layer):
    return pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, by_pickle])
@every_layer
def test_copies_leave_memory_behind(name, duplicate):
    layer, x, dy = make_with_dy(name)
    y = layer.forward(x)
    layer.backward(dy)
    layer.forward(x)
    other = duplicate(layer)
    with pytest.raises(RuntimeError, match="backward came before forward"):
        other.backward(dy)
    if duplicate is not copy.copy:
        assert all(parameter.grad is None for parameter in other.parameters())
    z = other.forward(x)
    if not name.startswith("dropout"):
        np.testing.assert_array_equal(z, y)
    assert layer.backward(dy).shape == x.shape
    assert repr(other) == repr(layer)


def test_a_pickle_is_as_large_as_the_parameters():
    layer = layers.Sequential(layers.Conv2d(1, 8, 3), layers.ReLU())
    fresh = len(pickle.dumps(layer))
    layer.backward(layer.forward(np.ones((16, 30, 30, 1), np.float32)))
    layer.forward(np.ones((16, 30, 30, 1), np.float32))
    assert len(pickle.dumps(layer)) < fresh + 100


def test_astype_converts_parameters_and_forgets_the_rest():
    layer = layers.Linear(2, 2)
    layer.forward(np.ones((1, 2), np.float32))
    assert layer.astype(np.float64) is layer
    assert {p.data.dtype for p in layer.parameters()} == {np.dtype(np.float64)}
    with pytest.raises(RuntimeError, match="backward came before forward"):
        layer.backward(np.ones((1, 2)))
    with pytest.raises(TypeError, match="astype to int32; expected float32 or float64"):
        layer.astype(np.int32)
