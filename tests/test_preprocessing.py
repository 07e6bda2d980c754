"""Normalization: the formula, its JSON, and sentences."""

import numpy as np
import pytest

from pycnn.preprocessing import Normalization


def test_the_default_changes_nothing(rng):
    x = rng.random((2, 3, 3, 1), np.float32)
    assert Normalization().is_identity
    assert Normalization((0, 0), (1, 1)).is_identity
    for other in (Normalization(0.1), Normalization(0, 2), Normalization((0, 0), (1, 2))):
        assert not other.is_identity
    y = Normalization()(x)
    assert y is not x
    np.testing.assert_array_equal(y, x)


def test_the_formula_per_channel(rng):
    x = rng.random((2, 3, 3, 2), np.float32)
    n = Normalization([0.1, 0.2], np.array([0.5, 2.0]))
    assert n == Normalization((0.1, 0.2), (0.5, 2.0))
    assert hash(n) == hash(Normalization((0.1, 0.2), (0.5, 2.0)))
    y = n(x)
    assert y.dtype == np.float32
    expected = (x.astype(np.float64) - [0.1, 0.2]) / [0.5, 2.0]
    np.testing.assert_allclose(y, expected, rtol=0, atol=4e-7)


@pytest.mark.parametrize("n", [Normalization((0.5, 0.25, 0)), Normalization(0, (1, 2, 4))])
def test_mean_or_std_alone_names_the_channels(n, rng):
    assert n.channels == 3
    x = rng.integers(0, 5, (2, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(n(x), (x - np.float32(n.mean)) / np.float32(n.std))
    with pytest.raises(ValueError, match=r"shape \(2, 2, 1\); expected C = 3 channels"):
        n(x[..., :1])  # NumPy would make three channels of it


def test_one_number_is_for_any_channels():
    n = Normalization(np.float32(0.5), np.int64(2))
    assert (n.mean, n.std, n.channels) == (0.5, 2.0, None)
    assert type(n.mean) is type(n.std) is float
    np.testing.assert_array_equal(n(np.ones((2, 5), np.float32)), np.full((2, 5), 0.25))


@pytest.mark.parametrize("n", [Normalization(), Normalization((0.1, 0.3), 2), Normalization(1, 3)])
def test_json_goes_round(n):
    assert Normalization.from_dict(n.to_dict()) == n


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a",), TypeError, "mean is 'a'; expected a number"),
        ((True,), TypeError, "mean is True; expected a number"),
        ((0, [1, None]), TypeError, r"std is \[1, None\]; expected a number"),
        ((float("nan"),), ValueError, "mean is nan; expected finite"),
        ((float("-inf"),), ValueError, "mean is -inf; expected finite"),
        ((0, (1, float("inf"))), ValueError, r"std is \(1, inf\); expected finite"),
        ((0, 0), ValueError, "std is 0.0; expected numbers above 0"),
        ((0, (1, -1)), ValueError, "expected numbers above 0"),
        ((0, ()), ValueError, "std is empty"),
        (((0, 1), (1, 1, 1)), ValueError, "mean has 2 numbers and std 3"),
    ],
)
def test_wrong_numbers(arguments, error, message):
    with pytest.raises(error, match=message):
        Normalization(*arguments)


def test_wrong_images_and_dicts():
    with pytest.raises(TypeError, match="images is uint8; expected a float32 array in 0"):
        Normalization()(np.zeros((1, 2, 2, 1), np.uint8))
    with pytest.raises(TypeError, match="images is a list; expected a float32 array"):
        Normalization()([[0.5]])
    with pytest.raises(ValueError, match=r"images has shape \(1, 2, 2, 1\); expected C = 2"):
        Normalization((0, 0))(np.zeros((1, 2, 2, 1), np.float32))
    for wrong in (None, {}, {"mean": 0}, {"mean": 0, "std": 1, "x": 2}):
        with pytest.raises(ValueError, match="expected a dict of mean and std"):
            Normalization.from_dict(wrong)
