"""add, subtract, multiply, affine: special numbers, rounding."""

import numpy as np
import pytest

import pycnn
from pycnn import ops

SPECIAL = np.array([0.0, -0.0, 1.5, -1.5, np.nan, np.inf, -np.inf, 1e-42], np.float32)


def pairs(dtype=np.float32):
    """Every special number with every other, and enough of them for whole vectors and a rest."""
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    return a.ravel().astype(dtype)[:61], b.ravel().astype(dtype)[:61]


ARITHMETIC = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_special_numbers_have_the_bits_of_numpy(isa, name, dtype):
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        expected = ARITHMETIC[name](a, b)
    result = getattr(ops, name)(a, b)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(
        np.signbit(result)[expected == 0], np.signbit(expected)[expected == 0]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_add_with_relu_is_relu_of_add(isa, dtype):
    a, b = pairs(dtype)
    y = ops.add(a, b, activation="relu")
    np.testing.assert_array_equal(y, ops.relu(ops.add(a, b)))
    assert np.isnan(y[np.isnan(a)]).all(), "NaN stays NaN"
    assert (y[~np.isnan(y)] >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_affine_rounds_product_and_sum(isa, num_threads, rng, dtype):
    """The bits of NumPy, which has no fused multiply-add: the same for every instruction set."""
    x = rng.standard_normal(10_007).astype(dtype)
    scale, shift = 1.1, -0.37
    np.testing.assert_array_equal(ops.affine(x, scale, shift), x * dtype(scale) + dtype(shift))


@pytest.mark.parametrize("name", ARITHMETIC)
def test_an_array_with_itself_and_in_place(isa, name, rng):
    a = rng.standard_normal((3, 37), dtype=np.float32)
    expected = ARITHMETIC[name](a, a)
    function = getattr(ops, name)
    np.testing.assert_array_equal(function(a, a), expected)
    assert function(a, a, out=a) is a
    np.testing.assert_array_equal(a, expected)


@pytest.mark.parametrize("name", [*ARITHMETIC, "affine"])
def test_large_arrays_have_the_same_bits_on_threads(name, rng):
    a, b = rng.standard_normal((2, 1_500_013), dtype=np.float32)
    results = []
    for threads in (1, 2, 3):
        with pycnn.num_threads(threads):
            arguments = (a, 0.3, 0.1) if name == "affine" else (a, b)
            results.append(getattr(ops, name)(*arguments))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
