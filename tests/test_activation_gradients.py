"""Gradients of activations: numbers, limits, kinks; prelu; that our exp and its kin keep digits."""

import math

import numpy as np
import pytest
import reference
import tolerance
from activation_reference import steepness
from activation_tolerance import ULP
from test_activations import SPECIAL, every_activation, numbers
from test_gradients import check_slopes

import pycnn
from pycnn import ops

KINKS = np.float64([-3, 0, 3, 6, -1.5, 2, 1.5])


def read_by(activation, x):
    return ops.activation(x, activation) if ops.activation_reads(activation) == "y" else x


@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_gradients(isa, num_threads, rng, activation, dtype):
    x = numbers(rng)[len(SPECIAL) :].astype(dtype)
    x = np.concatenate([x, KINKS.astype(dtype)])
    if activation in ("sqrt", "log"):
        x = np.abs(x)[x != 0]
    v, dy = read_by(activation, x), rng.standard_normal(x.shape).astype(dtype)
    v, dy = (a[np.isfinite(v) & (v != 0) | (x == 0)] for a in (v, dy))
    if activation in ("sqrt", "log"):
        v, dy = v[v != 0], dy[v != 0]
    dx = ops.activation_backward(dy, v, activation)
    exact = reference.activation_backward(dy, v, activation)
    bound = tolerance.activation_backward(dy, v, activation)
    fits = np.abs(exact) < np.finfo(dtype).max
    tolerance.assert_within(dx[fits], exact[fits], bound[fits], str(activation))


@every_activation
def test_gradients_at_the_ends(isa, activation):
    """Infinities give the limits, no NaN; NaN stays, but where dy is passed or not."""
    if activation == "clip":  # without bounds: both are infinite
        return
    x = np.float32([np.inf, 3e38, -3e38, -np.inf] * 5)
    if activation in ("sqrt", "log"):
        x = np.abs(x)
    dx = ops.activation_backward(np.full_like(x, 2), read_by(activation, x), activation)
    far = read_by(activation, np.sign(x.astype(np.float64)) * 1e15)
    with np.errstate(over="ignore"):
        limit = np.float32(2 * steepness(far, activation))
    np.testing.assert_allclose(dx, limit, atol=1e-6)
    nan = np.full(19, np.nan, np.float32)
    passed = ops.activation_backward(np.ones(19, np.float32), nan, activation)
    assert np.isnan(passed).all() or (passed == passed[0]).all()


def test_a_gradient_of_zero_stays_zero_where_the_slope_is_infinite(isa):
    zero, ends = np.zeros(3, np.float32), np.float32([0, np.inf, np.inf])
    for name in ("sqrt", "log", "exp"):
        np.testing.assert_array_equal(ops.activation_backward(zero, ends, name), zero)
    np.testing.assert_array_equal(
        ops.activation_backward(np.float32([2, -2]), zero[:2], "log"), [np.inf, -np.inf]
    )


@every_activation
def test_gradients_by_central_differences(rng, activation):
    """Between the kinks; all third derivatives are below 20 there, of softplus(2) 2^2 / 10."""
    x = 0.51 + 0.9 * rng.random((5, 7))
    if activation not in ("sqrt", "log"):
        x[::2] *= -1
    g = rng.standard_normal(x.shape)
    dx = ops.activation_backward(g, read_by(activation, x), activation)
    weight = np.abs(g).sum()
    size = 10 * g.size * (weight + np.abs(np.vdot(ops.activation(x, activation), np.abs(g))))
    check_slopes(lambda x: np.vdot(ops.activation(x, activation), g), x, dx, size, 20 * weight)


@every_activation
def test_gradients_have_the_bits_of_every_instruction_set_with_fma(rng, activation):
    x, before = numbers(rng), pycnn.isa()
    found = set()
    for isa in pycnn.available_isas():
        if isa != "baseline":
            pycnn.use_isa(isa)
            found.add(ops.activation_backward(x[::-1].copy(), x, activation).tobytes())
    pycnn.use_isa(before)
    assert len(found) <= 1


def test_prelu_by_central_differences(rng):
    x, g = rng.standard_normal((2, 40, 3, 5))
    x[np.abs(x) < 0.01] = 1
    for slope in (rng.standard_normal(5), rng.standard_normal(1)):
        dx, dslope = ops.prelu_backward(g, x, slope)
        size = 2 * g.size * np.abs(g * x).sum()
        check_slopes(lambda x, s=slope: np.vdot(ops.prelu(x, s), g), x, dx, size)
        check_slopes(lambda s: np.vdot(ops.prelu(x, s), g), slope, dslope, size)


RANGES = {"exp": (-104, 88.7), "log": (0, 3e38), "tanh": (-10, 10), "erf": (-5, 5)}


@pytest.mark.parametrize("name", RANGES)
def test_functions_keep_their_digits(isa, name):
    """As csrc/kernels/exp.h promises, there of all floats; here of many of each binade."""
    low, high = np.float32(RANGES[name])
    size = np.concatenate([np.linspace(2.0**e, 2.0 ** (e + 1), 500) for e in range(-40, 7)])
    x = np.concatenate([size, -size]).astype(np.float32)
    x = x[(x > low) & (x < high)]
    exact = np.vectorize(getattr(math, name))(np.float64(x))
    y = getattr(ops, name)(x)
    normal = np.abs(exact) > 2.0**-126
    ulp = np.spacing(np.abs(exact[normal]).astype(np.float32)).astype(np.float64)
    error = np.abs(np.float64(y[normal]) - exact[normal]) / ulp
    assert error.max() <= ULP[name] * (2 if isa == "baseline" else 1)
