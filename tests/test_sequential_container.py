"""Sequential as a container: names, states, indices, copies, and its summary."""

import copy
import pickle
import re

import numpy as np
import pytest
from model_cases import MODELS, every_model, gradients, lecture_like, make, nested

from pycnn import layers, models
from pycnn.layers import Conv2d, Flatten, Linear, ReLU, Sequential


def test_parameters_are_named_by_their_place():
    model = nested()
    names = ["0.0.weight", "0.0.bias", "3.weight", "3.bias", "5.weight", "5.bias"]
    assert [parameter.name for parameter in model.parameters()] == names
    assert list(model.state_dict()) == names
    conv = model[0][0]
    assert conv.weight.name == "0.0.weight"
    assert [p.name for p in model[3:].parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [parameter.name for parameter in model.parameters()] == names


def test_a_layer_in_two_models_is_called_as_the_one_that_runs():
    conv = Conv2d(2, 1, 1)
    one, two = Sequential(conv), Sequential(ReLU(), conv)
    for model, name in ((one, "0"), (two, "1"), (one, "0")):
        with pytest.raises(ValueError, match=rf"^layer {name} \(Conv2d\): x has shape"):
            model.forward(np.ones((1, 2, 2, 3), np.float32))


@every_model
def test_state_dict_goes_round(name):
    model, x, _ = make(name)
    other = MODELS[name][0](rng=99).eval()
    model.eval()
    assert not np.array_equal(model(x), other(x))
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(x), other(x))


def test_load_state_dict_names_everything_that_is_wrong():
    model = lecture_like()
    before = model.state_dict()
    bad = {name: np.zeros_like(array) for name, array in before.items()}
    bad["9.weight"] = bad.pop("7.weight")
    bad["0.bias"] = np.zeros(5, np.float32)
    bad["3.bias"] = np.zeros(6)
    with pytest.raises(ValueError, match=r"^Sequential\.load_state_dict: ") as caught:
        model.load_state_dict(bad)
    for sentence in (
        "missing: '7.weight'.",
        "unexpected: '9.weight'.",
        "'0.bias' has shape (5,); expected (4,).",
        "'3.bias' is float64; expected float32",
        "Nothing was loaded.",
    ):
        assert sentence in str(caught.value)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_length_index_slice_and_iteration():
    parts = (Conv2d(1, 1, 1), ReLU(), Flatten())
    model = Sequential(*parts)
    assert len(model) == 3
    assert list(model) == list(parts)
    assert model[0] is parts[0]
    assert model[-1] is parts[2]
    assert isinstance(model[1:], Sequential)
    assert list(model[1:]) == [parts[1], parts[2]]
    with pytest.raises(IndexError):
        model[3]


def shared():
    return ReLU()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: Sequential(), ValueError, "no layers; expected at least one"),
        (
            lambda: Sequential(ReLU(), np.tanh),
            TypeError,
            "argument 1 is <ufunc 'tanh'>; expected a",
        ),
        (
            lambda: Sequential(ReLU),
            TypeError,
            r"expected a layer, not its class: write ReLU\(\.\.\.\)",
        ),
        (
            lambda: Sequential([ReLU()]),
            TypeError,
            r"not a list of them: write Sequential\(\*layers\)",
        ),
    ],
)
def test_what_is_no_chain_of_layers_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def test_modes_reach_all_layers():
    model = nested()
    everything = [model, *model, *model[0], *model[1], *model[1][0]]
    assert all(layer.training for layer in everything)
    assert model.eval() is model
    assert not any(layer.training for layer in everything)
    model[1].train()
    assert [layer.training for layer in model] == [False, True, False, False, False, False]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@every_model
def test_copies_are_apart_and_small(name, duplicate):
    model, x, dy = make(name)
    fresh = len(pickle.dumps(model))
    model.forward(np.repeat(x, 50, axis=0))
    assert len(pickle.dumps(model)) < fresh + 200
    twin = duplicate(MODELS[name][0]())
    original = MODELS[name][0]()
    np.testing.assert_array_equal(original.forward(x), twin.forward(x))
    original.backward(dy)
    assert all(parameter.grad is None for parameter in twin.parameters())
    twin.backward(dy)
    for ours, theirs in zip(gradients(original), gradients(twin), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    twin.parameters()[0].data[...] = 0
    assert original.parameters()[0].data.any()


def test_repr_shows_indices():
    model = Sequential(Conv2d(1, 2, 3), Sequential(ReLU(), Flatten()))
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding='valid')\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Flatten()\n"
        "  )\n"
        ")"
    )


def table(text):
    """The rows of a summary as lists of cells; the rules are left out."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if set(line) != {"-"}]


def test_summary_counts():
    conv = 2 * (4 * 3) * (2 * 3) * (4 // 2) * 6  # OH * OW = 4 * 3
    linear = 2 * 72 * 5
    model = Sequential(Conv2d(4, 6, (2, 3), groups=2), Sequential(ReLU(), Flatten()), Linear(72, 5))
    assert table(model.summary((None, 5, 5, 4))) == [
        ["layer", "output shape", "parameters", "MFLOP / image"],
        ["input", "(None, 5, 5, 4)"],
        ["0", "Conv2d", "(None, 4, 3, 6)", "78", f"{conv / 1e6:.3f}"],
        ["1.0", "ReLU", "(None, 4, 3, 6)", "0", "0.000"],
        ["1.1", "Flatten", "(None, 72)", "0", "0.000"],
        ["2", "Linear", "(None, 5)", "365", f"{linear / 1e6:.3f}"],
        ["total", "443", f"{(conv + linear) / 1e6:.3f}"],
    ]
    assert model.flop_per_image((None, 5, 5, 4)) == conv + linear
    assert table(model.summary((8, 5, 5, 4)))[2][2] == "(8, 4, 3, 6)"


def test_summary_of_the_lectures_network():
    rows = table(models.mnist_cnn().summary((None, 28, 28, 1)))
    maps = 28 * 28 * 1 * 32 + 14 * 14 * 32 * 64 + 7 * 7 * 64 * 128
    assert rows[-1] == ["total", "113,162", f"{(2 * 9 * maps + 2 * 2048 * 10) / 1e6:.3f}"]
    assert [row[2] for row in rows[2:-1]][-3:] == [
        "(None, 4, 4, 128)",
        "(None, 2048)",
        "(None, 10)",
    ]


def test_summary_of_one_layer():
    rows = table(layers.Linear(3, 2).summary((None, 3)))
    assert rows[2] == ["Linear", "(None, 2)", "8", "0.000"]


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((None, None, 5, 4), TypeError, "only N may be None"),
        ((), TypeError, "expected whole numbers"),
        ((1, 5.0, 5, 4), TypeError, "expected whole numbers"),
        (5, TypeError, "expected whole numbers"),
        ((None, 5, 5, 3), ValueError, r"layer 0 \(Conv2d\): .*C = 3 channels"),
        ((None, 6, 6, 4), ValueError, r"layer 2 \(Linear\): .*120 features"),
    ],
)
def test_summary_of_a_wrong_shape_is_refused(shape, error, message):
    model = Sequential(Conv2d(4, 6, (2, 3), groups=2), Flatten(), Linear(72, 5))
    with pytest.raises(error, match=message):
        model.summary(shape)
