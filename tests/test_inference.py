"""compile_inference: the same function as eval mode, frozen, for any batch and many threads."""

import threading

import numpy as np
import pytest
from layer_cases import CASES
from model_cases import every_model, make

import pycnn
from pycnn import models
from pycnn.layers import Conv2d, Layer, Linear, MaxPool2d, ReLU, Sequential


def lecture(seed=0):
    return models.mnist_cnn(rng=seed, init="he").eval()


def images(n, seed=1):
    return np.random.default_rng(seed).random((n, 28, 28, 1), dtype=np.float32)


def close(actual, expected):
    """Within the rounding of three layers: a kept filter makes Winograd pay for fewer images."""
    scale = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("case", CASES)
def test_every_layer_as_in_eval_mode(isa, case):
    layer = CASES[case][0]().eval()
    shape = CASES[case][1]
    x = np.random.default_rng(2).standard_normal(shape, dtype=np.float32)
    compiled = layer.compile_inference((None, *shape[1:]))
    np.testing.assert_array_equal(compiled(x), layer.forward(x))


@every_model
def test_every_model_as_in_eval_mode(isa, name):
    model, x, _ = make(name)
    compiled = model.eval().compile_inference(x.shape)
    np.testing.assert_array_equal(compiled(x), model.forward(x))


@pytest.mark.parametrize("n", [0, 1, 3, 50])
@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_the_lectures_network_for_any_batch(isa, num_threads, n, precision):
    model = lecture()
    compiled = model.compile_inference((None, 28, 28, 1))
    before = pycnn.get_precision()
    pycnn.set_precision(precision)
    try:
        close(compiled(images(n)), model.forward(images(n)))
    finally:
        pycnn.set_precision(before)


def test_it_follows_the_instruction_set():
    """Kept weights are made again for another register tile."""
    model = lecture()
    compiled = model.compile_inference((None, 28, 28, 1))
    before = pycnn.isa()
    try:
        for name in [*pycnn.available_isas(), *reversed(pycnn.available_isas())]:
            pycnn.use_isa(name)
            close(compiled(images(5)), model.forward(images(5)))
    finally:
        pycnn.use_isa(before)


def test_an_image_has_the_same_bits_in_any_batch(isa):
    """Also from 40 on, where a Linear layer of 10 outputs adds in another order outside of it."""
    compiled = lecture().compile_inference((None, 28, 28, 1))
    together = compiled(images(60))
    alone = [compiled(images(60)[n : n + 1]) for n in range(60)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_it_keeps_the_weights_of_its_moment():
    model = lecture()
    compiled = model.compile_inference((None, 28, 28, 1))
    before = compiled(images(2))
    for parameter in model.parameters():
        parameter.data[...] = 0
    np.testing.assert_array_equal(compiled(images(2)), before)
    assert not np.array_equal(model.forward(images(2)), before)


def test_several_threads_may_call_it():
    compiled = lecture().compile_inference((None, 28, 28, 1))
    expected = [compiled(images(n + 1, seed=n)) for n in range(4)]
    wrong = []

    def run(n):
        for _ in range(20):
            if not np.array_equal(compiled(images(n + 1, seed=n)), expected[n]):
                wrong.append(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_gaps_are_copied_and_the_input_stays():
    compiled = lecture().compile_inference((None, 28, 28, 1))
    wide = np.repeat(images(3), 2, axis=2)
    before = wide.copy()
    np.testing.assert_array_equal(compiled(wide[:, :, ::2]), compiled(images(3)))
    np.testing.assert_array_equal(wide, before)


def test_each_result_is_fresh():
    compiled = lecture().compile_inference((None, 28, 28, 1))
    first = compiled(images(2))
    copy = first.copy()
    compiled(images(2, seed=5))
    np.testing.assert_array_equal(first, copy)


def test_a_map_may_come_out_and_the_shapes_are_known():
    model = Sequential(Conv2d(1, 16, 3, padding="same"), ReLU(), MaxPool2d(2)).eval()
    compiled = model.compile_inference((1, 28, 28, 1))
    assert compiled.input_shape == (None, 28, 28, 1)
    assert compiled.output_shape == (None, 14, 14, 16)
    assert "(None, 14, 14, 16)" in repr(compiled)
    y = compiled(images(2))
    assert y.shape == (2, 14, 14, 16)
    np.testing.assert_array_equal(y, model.forward(images(2)))


def test_an_empty_sequence_of_steps_is_a_copy():
    from pycnn.layers import Flatten

    x = np.random.default_rng(0).standard_normal((2, 3, 4), dtype=np.float32)
    y = Flatten().compile_inference((None, 3, 4))(x)
    np.testing.assert_array_equal(y, x.reshape(2, 12))
    assert not np.shares_memory(x, y)


class Doubled(Layer):
    def infer_shape(self, x):
        return x

    def compute(self, x, out):
        np.multiply(x, 2, out=out)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((2, 28, 28, 1)), TypeError, r"x is float64; expected a float32"),
        ([[1.0]], TypeError, r"x is a list; .*write np\.asarray\(x, np\.float32\)\."),
        (None, TypeError, r"x is None; expected a float32 array\."),
        (np.zeros((2, 28, 28), np.float32), ValueError, r"\(2, 28, 28\).*\[N, 28, 28, 1\]"),
        (np.zeros((2, 28, 27, 1), np.float32), ValueError, r"27.*\[N, 28, 28, 1\]"),
        (np.zeros((), np.float32), ValueError, r"shape \(\)"),
    ],
)
def test_a_wrong_input_is_refused(x, error, words):
    compiled = lecture().compile_inference((None, 28, 28, 1))
    with pytest.raises(error, match=words):
        compiled(x)


def test_a_layer_of_the_users_is_a_step_of_python():
    compiled = Sequential(ReLU(), Doubled(), ReLU()).compile_inference((None, 3))
    x = np.array([[1, -2, 3]], np.float32)
    np.testing.assert_array_equal(compiled(x), [[2, 0, 6]])


def test_what_cannot_be_compiled_says_so():
    with pytest.raises(TypeError, match="float64; expected float32"):
        Linear(3, 2).astype(np.float64).compile_inference((None, 3))
    with pytest.raises(ValueError, match=r"layer 0 \(Conv2d\).*C = 3"):
        lecture().compile_inference((None, 28, 28, 3))
    with pytest.raises(TypeError, match="only N may be None"):
        lecture().compile_inference((None, None, 28, 1))
