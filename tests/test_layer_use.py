"""Using layers: sentences for wrong inputs and arguments, repr, threads, the draws of Dropout."""

import threading

import numpy as np
import pytest
import reference
from layer_cases import make

from pycnn import layers, ops

# Sentences


WRONG_INPUTS = [
    ("conv_valid", np.ones((5, 4, 3)), ValueError, r"x has shape \(5, 4, 3\), 3 axes; expected 4"),
    (
        "conv_valid",
        np.ones((2, 5, 4, 2)),
        ValueError,
        r"C = 2 channels in \[N, H, W, C\]; expected in_channels = 3\.",
    ),
    ("conv_valid", np.ones((2, 3, 5, 4)), ValueError, r"write x\.transpose\(0, 2, 3, 1\)"),
    ("batch_norm", np.ones((2, 5, 3, 4)), ValueError, r"write x\.transpose\(0, 2, 3, 1\)"),
    ("conv_valid", np.ones((2, 2, 4, 3)), ValueError, "the window covers"),
    ("conv_valid", np.ones((2, 5, 4, 3), np.float32), TypeError, "x is float32; expected float64"),
    ("conv_valid", np.ones((2, 5, 4, 3), np.uint8), TypeError, "x is uint8; expected float64"),
    ("conv_valid", [1.0], TypeError, r"x is a list; .*write np\.asarray\(x, np\.float32\)"),
    ("relu", None, TypeError, r"x is None; expected a NumPy array\.$"),
    ("relu", "x.npy", TypeError, r"x is a str; expected a NumPy array\.$"),
    ("max_pool", np.ones((2, 3)), ValueError, r"2 axes; expected 4: \[N, H, W, C\]"),
    ("max_pool", np.ones((2, 3, 3, 1), int), TypeError, "expected float32 or float64"),
    ("avg_pool_with_padding", np.ones((1, 0, 2, 1)), ValueError, r"avg_pool2d|pool2d"),
    ("relu", np.ones(3, bool), TypeError, "x is bool; expected float32 or float64"),
    ("flatten", np.ones(3), ValueError, "expected at least two axes"),
    ("linear", np.ones((4, 6)), ValueError, r"6 features in .*; expected in_features = 5"),
    ("linear", np.ones((4, 1, 5, 1)), ValueError, r"put Flatten\(\) before this layer"),
    ("dropout", np.ones((4, 6), np.float16), TypeError, "x is float16; expected float32 or"),
]


@pytest.mark.parametrize(("name", "x", "error", "message"), WRONG_INPUTS)
def test_a_wrong_input_is_a_sentence_that_names_the_layer(name, x, error, message):
    layer, good = make(name)
    with pytest.raises(error, match=rf"^{type(layer).__name__}: .*{message}"):
        layer.forward(x)
    assert layer.forward(good).dtype == np.float64


WRONG_ARGUMENTS = [
    (lambda: layers.Conv2d(0, 1, 3), "in_channels is 0; expected a whole number of at least 1"),
    (lambda: layers.Conv2d(1, 2.0, 3), "out_channels is 2.0; expected a whole number"),
    (lambda: layers.Conv2d(1, True, 3), "out_channels is True; expected a whole number"),
    (lambda: layers.Conv2d(1, 1, (3, 3, 3)), r"Conv2d: kernel_size is \(3, 3, 3\); expected"),
    (lambda: layers.Conv2d(1, 1, 3, stride=0), "Conv2d: stride is 0; expected"),
    (lambda: layers.Conv2d(1, 1, 3, dilation=(1, -1)), r"Conv2d: dilation is \(1, -1\); expected"),
    (lambda: layers.Conv2d(1, 1, 3, padding="full"), "Conv2d: .*padding is 'full'; expected"),
    (lambda: layers.Conv2d(1, 1, 3, padding=-1), "Conv2d: .*padding is -1; expected"),
    (
        lambda: layers.Conv2d(4, 6, 3, groups=3),
        "groups is 3; expected a divisor of in_channels = 4",
    ),
    (lambda: layers.Conv2d(4, 6, 3, groups=0), "groups is 0; expected a whole number"),
    (lambda: layers.MaxPool2d(0), "MaxPool2d: kernel_size is 0; expected"),
    (lambda: layers.MaxPool2d(2, padding=2), "MaxPool2d: .*padding .*not smaller than the window"),
    (lambda: layers.AvgPool2d(2, stride=(1,)), r"AvgPool2d: stride is \(1,\); expected"),
    (lambda: layers.Linear(3, 0), "Linear: out_features is 0; expected"),
    (lambda: layers.BatchNorm2d(0), "BatchNorm2d: channels is 0; expected a whole number"),
    (lambda: layers.BatchNorm2d(3, momentum=2), "momentum is 2; expected a number from 0 to 1"),
    (lambda: layers.BatchNorm2d(3, eps=0), "eps is 0; expected a finite number above 0"),
    (lambda: layers.Dropout(1.0), "Dropout: p is 1.0; expected a probability"),
    (lambda: layers.Dropout(float("nan")), "Dropout: p is nan; expected"),
    (lambda: layers.Dropout("0.5"), "Dropout: p is '0.5'; expected"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_ARGUMENTS)
def test_a_wrong_argument_is_a_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_padding_cannot_change_behind_the_layer():
    padding = [[1, 0], [0, 1]]
    layer = layers.Conv2d(1, 1, 2, padding=padding)
    padding[0][0] = 5
    assert layer.output_shape((1, 4, 4, 1)) == (1, 4, 4, 1)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (
            layers.Conv2d(1, 32, 3, padding="SAME"),
            "Conv2d(1, 32, kernel_size=(3, 3), stride=(1, 1), padding='same')",
        ),
        (
            layers.Conv2d(4, 8, (1, 2), 2, 1, dilation=2, groups=4, bias=False),
            "Conv2d(4, 8, kernel_size=(1, 2), stride=(2, 2), padding=1, dilation=(2, 2), "
            "groups=4, bias=False)",
        ),
        (layers.MaxPool2d((3, 1)), "MaxPool2d(kernel_size=(3, 1), stride=(3, 1), padding='valid')"),
        (
            layers.AvgPool2d(3, 1, [1, 1], count_include_pad=True),
            "AvgPool2d(kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), count_include_pad=True)",
        ),
        (layers.Linear(2, 3), "Linear(2, 3)"),
        (layers.Linear(2, 3, bias=False), "Linear(2, 3, bias=False)"),
        (layers.Dropout(0.25), "Dropout(p=0.25)"),
        (layers.BatchNorm2d(4), "BatchNorm2d(4, momentum=0.1, eps=1e-05)"),
        (layers.GlobalAvgPool2d(), "GlobalAvgPool2d()"),
        (layers.ReLU(), "ReLU()"),
        (layers.Flatten(), "Flatten()"),
    ],
)
def test_repr_is_what_one_writes(layer, text):
    assert repr(layer) == text
    made = eval(text, {kind: getattr(layers, kind) for kind in layers.__all__})
    assert repr(made) == text


# Dropout


def test_dropout_drops_a_share_of_p_and_scales_the_rest():
    p, x = 0.3, np.full((100, 1000), 2, np.float32)
    layer = layers.Dropout(p)
    y = layer.forward(x)
    assert set(np.unique(y)) == {np.float32(0), np.float32(2) * np.float32(1 / (1 - p))}
    dropped, deviation = np.count_nonzero(y == 0), np.sqrt(x.size * p * (1 - p))
    assert abs(dropped - x.size * p) < 5 * deviation
    np.testing.assert_array_equal(layer.backward(x), y)


def test_dropout_draws_from_its_own_source():
    x = np.ones((8, 8), np.float32)
    first, second = layers.Dropout(rng=4), layers.Dropout(rng=4)
    y = first.forward(x)
    np.testing.assert_array_equal(y, second.forward(x))
    assert not np.array_equal(y, first.forward(x))
    rng = np.random.default_rng(4)
    shared = [layers.Dropout(rng=rng) for _ in range(2)]
    assert not np.array_equal(*(layer.forward(x) for layer in shared))
    assert first.eval().forward(x) is x
    kept = reference.dropout_draws(x.size, first.seed, 2).reshape(x.shape) >= 0.5
    np.testing.assert_array_equal(first.train().forward(x) > 0, kept)  # eval mode drew nothing


def test_the_draws_of_dropout_are_uniform_and_apart():
    """Mean, variance; neighbours, seeds and calls hang together by chance only."""
    size = 20_000
    draws = [reference.dropout_draws(size, *key) for key in ((0, 0), (0, 1), (1, 0))]
    for one in draws:
        assert abs(one.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / size)
        assert abs(one.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / size)
        for lag in (1, 2, 16, 17):
            assert abs(np.corrcoef(one[lag:], one[:-lag])[0, 1]) < 5 / np.sqrt(size)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(draws[one], draws[other])[0, 1]) < 5 / np.sqrt(size)
        assert np.count_nonzero(draws[one] == draws[other]) < 5


def test_a_draw_of_exactly_p_is_kept():
    draws = reference.dropout_draws(1000, 5)
    p = float(draws[137])
    y = ops.dropout(np.ones(1000, np.float32), p, seed=5)
    assert y[137] > 0
    y = ops.dropout(np.ones(1000, np.float32), np.nextafter(p, 1), seed=5)
    assert y[137] == 0


def test_dropout_goes_on_from_its_state():
    x = np.ones((8, 8), np.float32)
    model = layers.Sequential(layers.ReLU(), layers.Sequential(layers.Dropout(rng=4)))
    other = layers.Sequential(layers.ReLU(), layers.Sequential(layers.Dropout(rng=5)))
    model.forward(x)
    state = model.rng_state()
    assert state == {"1.0": [model[1][0].seed, 1]}
    other.load_rng_state(state)
    np.testing.assert_array_equal(other.forward(x), model.forward(x))
    assert layers.Linear(2, 2).rng_state() == {}
    assert set(layers.Dropout().rng_state()) == {""}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "missing: '1'"),
        ({"1": [1, 2], "2": [1, 2]}, "unexpected: '2'"),
        ({"1": [1]}, r"'1' is \[1\]; expected \[seed, calls\]"),
        ({"1": [1, -1]}, r"'1' is \[1, -1\]; expected"),
        ({"1": [1.0, 2]}, r"'1' is \[1.0, 2\]; expected"),
        ({"1": [2**64, 2]}, r"two ints from 0 to 2\*\*64 - 1. Nothing was loaded"),
    ],
)
def test_a_wrong_rng_state_is_refused(state, message):
    model = layers.Sequential(layers.ReLU(), layers.Dropout(rng=4))
    before = model.rng_state()
    with pytest.raises(ValueError, match=r"Sequential\.load_rng_state: .*" + message):
        model.load_rng_state(state)
    assert model.rng_state() == before
    with pytest.raises(TypeError, match="got a list; expected a dict"):
        model.load_rng_state([1, 2])


def test_dropout_of_nothing():
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_array_equal(layers.Dropout(0).forward(x), x)


# Threads


class Slow(layers.ReLU):
    """Waits inside forward until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def compute(self, x, out):
        self.inside.set()
        assert self.go_on.wait(timeout=30)
        super().compute(x, out)


@pytest.mark.parametrize("wrap", [lambda layer: layer, layers.Sequential], ids=["alone", "inside"])
def test_two_threads_at_once_are_refused(wrap):
    slow, x = Slow(), np.ones((1, 2), np.float32)
    model = wrap(slow)
    thread = threading.Thread(target=model.forward, args=(x,))
    thread.start()
    try:
        assert slow.inside.wait(timeout=30)
        for call in (model.forward, model.backward):
            with pytest.raises(RuntimeError, match=r"running in another call.*copy\.deepcopy"):
                call(x)
    finally:
        slow.go_on.set()
        thread.join()
    np.testing.assert_array_equal(model.forward(x), x)
    assert model.backward(x).shape == x.shape


def test_two_models_with_an_inner_layer_in_common():
    slow, x = Slow(), np.ones((1, 2), np.float32)
    one, two = layers.Sequential(slow), layers.Sequential(layers.Linear(2, 2), slow)
    thread = threading.Thread(target=one.forward, args=(x,))
    thread.start()
    try:
        assert slow.inside.wait(timeout=30)
        slow.go_on.set()
        y = two.forward(x)  # a layer keeps nothing of a call, so it may run in both
        assert y.shape == (1, 2)
        assert two.backward(y).shape == x.shape
    finally:
        slow.go_on.set()
        thread.join()


def test_backward_belongs_to_the_thread_of_forward():
    layer, x = layers.Linear(2, 2), np.ones((1, 2), np.float32)
    layer.forward(x)
    other = threading.Thread(target=layer.forward, args=(2 * x,))
    other.start()
    other.join()
    with pytest.raises(RuntimeError, match="last forward ran in another thread"):
        layer.backward(x)
    assert layer.weight.grad is None
