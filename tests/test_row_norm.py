"""Layer, group and local response normalisation: what the table of operators does not see."""

import copy

import numpy as np
import pytest
import reference

import pycnn
from pycnn import layers, ops
from pycnn.layers import GroupNorm, LayerNorm, LocalResponseNorm

MAKERS = {
    "layer": lambda: LayerNorm(33, eps=1e-3),
    "layer_without_bias": lambda: LayerNorm(33, bias=False),
    "group": lambda: GroupNorm(3, 33),
    "instance": lambda: GroupNorm(33, 33),
    "response": lambda: LocalResponseNorm(5, 0.4, 0.75, 2.0),
    "response_any_power": lambda: LocalResponseNorm(4, 0.4, 0.6),
}
every = pytest.mark.parametrize("name", MAKERS)


def made(name, rng):
    layer = MAKERS[name]()
    for parameter in layer.parameters():
        parameter.data[...] = rng.standard_normal(parameter.data.shape)
    return layer


def trained(layer, x, dy):
    layer.zero_grad()
    y = layer(x).copy()
    return [y, layer.backward(dy).copy(), *(p.grad.copy() for p in layer.parameters())]


@every
def test_threads_change_no_bit(name, rng):
    x, dy = rng.standard_normal((2, 3, 90, 77, 33), np.float32)
    layer = made(name, rng)
    results = []
    for threads in (1, 2, 3):
        with pycnn.num_threads(threads):
            results.append(trained(layer, x, dy))
    for one, two, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


@every
def test_an_image_does_not_see_the_others(name, isa, rng):
    """In training, in eval mode and compiled; images of rows that go together and a rest."""
    x = rng.standard_normal((5, 3, 7, 33), np.float32)
    layer = made(name, rng)
    together = layer(x)
    np.testing.assert_array_equal(layer(x[3:4]), together[3:4])
    np.testing.assert_array_equal(layer.eval()(x), together)
    compiled = layers.Sequential(layer, layers.ReLU()).eval().compile_inference((None, 3, 7, 33))
    np.testing.assert_array_equal(compiled(x), np.maximum(together, 0))


@pytest.mark.parametrize("name", ["layer", "group", "instance"])
def test_a_large_mean_costs_no_digits(name, isa, rng):
    """x is exact: a hundred thousand and eighths. Only the mean and its product are rounded."""
    x = (1e5 + np.round(8 * rng.standard_normal((3, 6, 5, 33))) / 8).astype(np.float32)
    layer = MAKERS[name]()
    groups = {"layer": None, "group": 3, "instance": 33}[name]
    ones, zeros = np.ones(33), np.zeros(33)
    y, _ = (
        reference.layer_norm(x, ones, zeros, layer.eps)
        if groups is None
        else reference.group_norm(x, ones, zeros, groups, layer.eps)
    )
    np.testing.assert_allclose(layer(x), y, atol=1e5 * 2**-23)


def test_nan_and_inf_stay_in_their_row(isa, rng):
    x = rng.standard_normal((7, 33), np.float32)
    x[2, 5], x[4, 32] = np.nan, np.inf
    y = LayerNorm(33)(x)
    bad = np.isnan(y).all(axis=1)
    np.testing.assert_array_equal(bad, [False, False, True, False, True, False, False])
    assert np.isfinite(y[~bad]).all()


def test_rows_of_one_number_are_the_bias(isa):
    layer = LayerNorm(1)
    layer.bias.data[...] = 3
    np.testing.assert_array_equal(layer(np.float32([[5.0], [-1e30]])), [[3.0], [3.0]])


# ---- PyTorch ------------------------------------------------------------------------------------


def nchw(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


@pytest.mark.parametrize("name", ["layer", "group", "instance", "response", "response_any_power"])
def test_the_values_are_pytorchs(name, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, dy = rng.standard_normal((2, 2, 5, 4, 33), np.float32)
    layer = made(name, rng)
    twin = {
        "layer": lambda: torch.nn.LayerNorm(33, eps=1e-3),
        "group": lambda: torch.nn.GroupNorm(3, 33),
        "instance": lambda: torch.nn.GroupNorm(33, 33),
        "response": lambda: torch.nn.LocalResponseNorm(5, 0.4, 0.75, 2.0),
        "response_any_power": lambda: torch.nn.LocalResponseNorm(4, 0.4, 0.6),
    }[name]()
    for ours, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        theirs.data = torch.tensor(ours.data)
    turn = (lambda a: a) if name == "layer" else nchw
    given = torch.tensor(turn(x), requires_grad=True)
    theirs = twin(given)
    theirs.backward(torch.tensor(turn(dy)))
    ours = trained(layer, x, dy)
    expected = [theirs.detach(), given.grad, *(p.grad for p in twin.parameters())]
    for i, (one, other) in enumerate(zip(ours, expected, strict=True)):
        np.testing.assert_allclose(turn(one) if i < 2 else one, other.numpy(), rtol=1e-4, atol=1e-4)


# ---- sentences ----------------------------------------------------------------------------------

X = np.ones((2, 5, 4, 6), np.float32)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LayerNorm(0), r"^LayerNorm: normalized_shape is 0; expected a whole number"),
        (lambda: LayerNorm(6, eps=0), r"^LayerNorm: eps is 0; expected a finite number above 0"),
        (lambda: LayerNorm(5)(X), r"\(2, 5, 4, 6\); .* normalized_shape = 5: for \[N, C, H, W\]"),
        (lambda: LayerNorm(6)(X[0, 0, 0]), r"^LayerNorm: x has shape \(6,\)"),
        (
            lambda: GroupNorm(4, 6),
            r"^GroupNorm: num_groups is 4 and num_channels 6; expected a div",
        ),
        (lambda: GroupNorm(2, 4)(X), r"^GroupNorm: x has shape .* num_channels = 4\."),
        (lambda: GroupNorm(2, 6)(X[:, :0]), r"at least one pixel"),
        (lambda: LocalResponseNorm(2, beta=-1), r"^LocalResponseNorm: beta is -1; expected a fin"),
        (lambda: LocalResponseNorm(1.5), r"^LocalResponseNorm: size is 1.5"),
        (lambda: ops.group_norm(X, X[0, 0, 0], X[0, 0, 0], 4), r"num_groups is 4; .* 6 channels"),
    ],
)
def test_what_does_not_fit_is_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_they_print_as_they_are_written():
    for layer in (LayerNorm(3, bias=False), GroupNorm(2, 4), LocalResponseNorm(5)):
        assert repr(eval(repr(layer), vars(layers))) == repr(layer)
    twin = copy.deepcopy(GroupNorm(2, 4, 1e-3))
    assert (twin.num_groups, twin.num_channels, twin.eps) == (2, 4, 1e-3)
