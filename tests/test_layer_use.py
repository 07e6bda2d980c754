"""Using layers: sentences for wrong inputs and arguments, repr, threads, the draws of Dropout."""

import threading

import numpy as np
import pytest
from layer_cases import make

from pycnn import layers

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
    ("conv_valid", np.ones((2, 2, 4, 3)), ValueError, "the window covers"),
    ("conv_valid", np.ones((2, 5, 4, 3), np.float32), TypeError, "x is float32; expected float64"),
    ("conv_valid", np.ones((2, 5, 4, 3), np.uint8), TypeError, "x is uint8; expected float64"),
    ("conv_valid", [1.0], TypeError, r"x is a list; .*write np\.asarray\(x, np\.float32\)"),
    ("max_pool", np.ones((2, 3)), ValueError, r"2 axes; expected 4: \[N, H, W, C\]"),
    ("max_pool", np.ones((2, 3, 3, 1), int), TypeError, "expected float32 or float64"),
    ("avg_pool_with_padding", np.ones((1, 0, 2, 1)), ValueError, r"avg_pool2d|pool2d"),
    ("relu", np.ones(3, bool), TypeError, "x is bool; expected float32 or float64"),
    ("flatten", np.ones(3), ValueError, "expected at least two axes"),
    ("linear", np.ones((4, 6)), ValueError, r"6 features in .*; expected in_features = 5"),
    ("linear", np.ones((4, 1, 1, 5)), ValueError, r"put Flatten\(\) before this layer"),
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
    np.testing.assert_array_equal(first.train().forward(x) > 0, next_mask(4, x.shape, 2))


def next_mask(seed, shape, skip):
    """The mask of the draw after `skip` others: eval mode drew nothing."""
    rng = np.random.default_rng(seed)
    for _ in range(skip):
        rng.random(shape, np.float32)
    return rng.random(shape, np.float32) >= np.float32(0.5)


def test_a_draw_of_exactly_p_is_kept():
    class Draws:
        def random(self, dtype, out):
            p = np.float32(0.5)
            out[...] = [0, np.nextafter(p, np.float32(0)), p, 0.9]

    layer = layers.Dropout(0.5)
    layer.rng = Draws()
    np.testing.assert_array_equal(layer.forward(np.ones(4, np.float32)), [0, 0, 2, 2])


def test_dropout_of_nothing():
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_array_equal(layers.Dropout(0).forward(x), x)


# Threads


class Slow(layers.ReLU):
    """Waits inside forward until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def _forward(self, x, place):
        self.inside.set()
        assert self.go_on.wait(timeout=30)
        return super()._forward(x, place)


@pytest.mark.parametrize("wrap", [lambda layer: layer, layers.Sequential], ids=["alone", "inside"])
def test_two_threads_at_once_are_refused(wrap):
    slow, x = Slow(), np.ones((1, 2), np.float32)
    model = wrap(slow)
    thread = threading.Thread(target=model.forward, args=(x,))
    thread.start()
    try:
        assert slow.inside.wait(timeout=30)
        for call in (model.forward, model.backward, slow.forward):
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
        with pytest.raises(RuntimeError, match=r"^layer 1 \(Slow\): it is running in another call"):
            two.forward(x)
    finally:
        slow.go_on.set()
        thread.join()
    assert two.forward(x).shape == (1, 2)


def test_backward_belongs_to_the_thread_of_forward():
    layer, x = layers.Linear(2, 2), np.ones((1, 2), np.float32)
    layer.forward(x)
    other = threading.Thread(target=layer.forward, args=(2 * x,))
    other.start()
    other.join()
    with pytest.raises(RuntimeError, match="last forward ran in another thread"):
        layer.backward(x)
    assert layer.weight.grad is None
