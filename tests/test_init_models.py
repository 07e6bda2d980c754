"""Initial values and the lecture's network."""

import math

import numpy as np
import pytest

from pycnn import init, layers, models

SHAPE = (
    50,
    40,
    10,
    5,
)  # 100,000 values: the mean of as many is within 5 / sqrt(100,000) of its own
SIGMAS = 5 / math.sqrt(100_000)
DRAWS = {
    "normal": lambda shape, rng: init.normal(shape, 0.01, rng),
    "truncated_normal": lambda shape, rng: init.truncated_normal(shape, 0.01, rng),
    "he_normal": init.he_normal,
    "glorot_uniform": init.glorot_uniform,
}
every_draw = pytest.mark.parametrize("name", DRAWS)


def rng(seed=0):
    return np.random.default_rng(seed)


@every_draw
def test_values_are_float32_and_come_from_the_generator(name):
    values = DRAWS[name](SHAPE, rng())
    assert values.shape == SHAPE
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    np.testing.assert_array_equal(values, DRAWS[name](SHAPE, rng()))
    one = rng()
    assert not np.array_equal(DRAWS[name](SHAPE, one), DRAWS[name](SHAPE, one))
    assert abs(values.mean(dtype=np.float64)) < SIGMAS * values.std(dtype=np.float64)


def test_normal_is_the_generators_draw_rounded_once():
    expected = (rng().standard_normal(SHAPE) * 0.01).astype(np.float32)
    np.testing.assert_array_equal(init.normal(SHAPE, 0.01, rng()), expected)
    np.testing.assert_array_equal(init.normal(4, 0.0, rng()), np.zeros(4))


def test_truncated_normal_draws_again_instead_of_clipping():
    std = 0.5
    values = init.truncated_normal(SHAPE, std, rng()).astype(np.float64) / std
    assert np.abs(values).max() <= 2
    inside = math.erf(2 / math.sqrt(2))
    # P(|z| > 1.9 given |z| <= 2); clipping would put another 4.6 % there.
    share = (inside - math.erf(1.9 / math.sqrt(2))) / inside
    assert abs(np.mean(np.abs(values) > 1.9) - share) < SIGMAS * math.sqrt(share)
    variance = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / inside
    assert abs(np.mean(values**2) - variance) < SIGMAS * 1.5
    assert round(math.sqrt(variance), 2) == 0.88  # as the docstring says


@pytest.mark.parametrize("shape", [(5, 4, 25, 200), (500, 200)])
def test_he_normal_has_variance_two_over_fan_in(shape):
    values = init.he_normal(shape, rng()).astype(np.float64)
    assert abs(np.mean(values**2) * 500 / 2 - 1) < SIGMAS * math.sqrt(2)


@pytest.mark.parametrize("shape", [(5, 4, 25, 200), (500, 4000)])
def test_glorot_uniform_fills_its_interval(shape):
    values = init.glorot_uniform(shape, rng()).astype(np.float64)
    fan_out = 4000  # 5 * 4 * 200, or 4000
    limit = math.sqrt(6 / (500 + fan_out))
    assert 0.999 * limit < values.max() <= np.float32(limit)
    assert -np.float32(limit) <= values.min() < -0.999 * limit
    assert abs(np.mean(values**2) / (limit**2 / 3) - 1) < SIGMAS


@every_draw
@pytest.mark.parametrize("shape", [(), (3, 0), (3, -1), (3.0, 2), "ab", None, (2, None)])
def test_a_wrong_shape_is_a_sentence(name, shape):
    with pytest.raises(ValueError, match=rf"{name}: shape is .*; expected whole numbers"):
        DRAWS[name](shape, rng())


@pytest.mark.parametrize("draw", [init.he_normal, init.glorot_uniform])
def test_fans_need_the_shape_of_a_weight(draw):
    with pytest.raises(ValueError, match=r"3 axes; expected a weight's, \[KH, KW, C, OC\] or"):
        draw((3, 3, 4), rng())


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf"), "1", None])
@pytest.mark.parametrize("draw", [init.normal, init.truncated_normal])
def test_a_wrong_std_is_a_sentence(draw, std):
    with pytest.raises(ValueError, match=r"std is .*; expected a finite number of at least 0"):
        draw((3,), std, rng())


@every_draw
@pytest.mark.parametrize("wrong", [0, None, np.random])
def test_a_wrong_rng_is_a_sentence(name, wrong):
    message = rf"{name}: rng is .*; expected a np\.random\.Generator: .*default_rng\(0\)"
    with pytest.raises(TypeError, match=message):
        DRAWS[name]((3, 3), wrong)


# The lecture's network


def test_the_network_is_the_lectures():
    model = models.mnist_cnn()
    kinds = ["Conv2d", "ReLU", "MaxPool2d"] * 3 + ["Flatten", "Linear"]
    assert [type(layer).__name__ for layer in model] == kinds
    assert [(p.name, p.data.shape) for p in model.parameters()] == [
        ("0.weight", (3, 3, 1, 32)), ("0.bias", (32,)),
        ("3.weight", (3, 3, 32, 64)), ("3.bias", (64,)),
        ("6.weight", (3, 3, 64, 128)), ("6.bias", (128,)),
        ("10.weight", (2048, 10)), ("10.bias", (10,)),
    ]  # fmt: skip
    shape, shapes = (100, 28, 28, 1), []
    for layer in model:
        shape = layer.output_shape(shape)
        shapes.append(shape)
    assert shapes[2::3] == [(100, 14, 14, 32), (100, 7, 7, 64), (100, 4, 4, 128)]
    assert model.forward(np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 10)


def test_the_lectures_initial_values_in_the_lectures_order():
    one = rng(7)
    expected = []
    for *kernel, OC in ((3, 3, 1, 32), (3, 3, 32, 64), (3, 3, 64, 128)):
        expected.append(one.standard_normal((*kernel, OC)) * 0.01)
        expected.append(np.full(OC, 0.1))
    expected.append(one.standard_normal((2048, 10)) * 0.01)
    expected.append(one.standard_normal(10))
    for source in (7, rng(7)):
        ours = models.mnist_cnn(source).parameters()
        for parameter, values in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(parameter.data, values.astype(np.float32))


def test_he_values_come_from_one_generator():
    one = rng(7)
    for source in (7, rng(7)):
        for parameter in models.mnist_cnn(source, init="he").parameters():
            if parameter.data.ndim == 1:
                assert not parameter.data.any()
            elif source == 7:
                np.testing.assert_array_equal(
                    parameter.data, init.he_normal(parameter.data.shape, one)
                )
    same = models.mnist_cnn(rng(7), "he").state_dict()
    for name, values in models.mnist_cnn(7, "he").state_dict().items():
        np.testing.assert_array_equal(values, same[name])


def test_an_int_is_a_seed_and_seeds_differ():
    first = models.mnist_cnn(rng(0)).state_dict()
    for seed, equal in ((0, True), (1, False)):
        other = models.mnist_cnn(seed).state_dict()
        assert all(np.array_equal(first[name], other[name]) for name in first) == equal


def test_wrong_arguments_are_sentences():
    with pytest.raises(ValueError, match='init is \'glorot\'; expected "lecture" or "he"'):
        models.mnist_cnn(init="glorot")
    with pytest.raises(TypeError, match="rng is 'a'; expected a"):
        models.mnist_cnn("a")
    with pytest.raises(TypeError, match="rng is True; expected a"):
        layers.Linear(2, 2, rng=True)


def test_a_single_draw_is_truncated_on_either_side():
    """In a large array some number above the limit makes all be looked at again."""
    values = np.concatenate([init.truncated_normal((2,), 0.5, rng(seed)) for seed in range(400)])
    assert np.abs(values).max() <= 1
    assert values.min() < -0.9
    assert values.max() > 0.9
