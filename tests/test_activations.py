"""Activations: their numbers, and that each kernel applies them to the sums it has without.

The gradients: test_activation_gradients.py.
"""

import numpy as np
import pytest
import tolerance
from network_builder import Built
from reference import activated

import pycnn
from pycnn import ops
from pycnn.ops.activations import NAMES

WITH_NUMBERS = (("leaky_relu", -0.5), ("clip", -1.5, 2.0), ("elu", 0.5), ("hard_sigmoid", 0.2, 0.7))
ALL = (*NAMES, *WITH_NUMBERS, ("softplus", 2.0, 3.0))
every_activation = pytest.mark.parametrize("activation", ALL, ids=str)
DECREASING = ("hard_swish", "silu", "gelu", "gelu_tanh", "abs", ("leaky_relu", -0.5))
MONOTONE = tuple(a for a in ALL if a not in (*DECREASING, "sqrt", "log"))
# Those of the kernels: the others are applied by the same call.
FUSED = ("relu", "relu6", "clip", "hard_swish", "gelu", ("leaky_relu", 0.1))
SPECIAL = (np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-42, -1e-42, 3e38, -3e38)


def numbers(rng):
    """Where branches of the functions meet, and numbers of every size; 2 * 2048 + 37 of them."""
    edges = [s * e for e in (0.625, 3, 6, 10.7, 11, 87, 88, 103.9, 104, 105) for s in (1, -1)]
    near = np.nextafter(np.float32(edges), np.float32(0))
    drawn = rng.standard_normal(4133 - 40 - len(SPECIAL)) * 10 ** rng.uniform(-3, 2, 4084)
    return np.concatenate([np.float32(SPECIAL), np.float32(edges), near, np.float32(drawn)])


@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers(isa, num_threads, rng, activation, dtype):
    x = numbers(rng).astype(dtype)
    y = ops.add(x, np.zeros_like(x), activation=activation)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        exact = activated(x, activation)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(exact))  # of sqrt and log below 0, too
        limits = ~(np.abs(exact) < np.finfo(dtype).max) | np.isinf(x)
        np.testing.assert_array_equal(y[limits], exact[limits].astype(dtype))
        bound = tolerance.activated(np.float64(x), 0.0, activation, dtype)
    assert np.isnan(y[0])
    y, exact, bound = y[~limits], exact[~limits], bound[~limits]
    tolerance.assert_within(y, exact, bound, str(activation))


@every_activation
def test_the_bits_are_those_of_every_instruction_set_with_fma(rng, activation):
    x, before = numbers(rng), pycnn.isa()
    found = set()
    for isa in pycnn.available_isas():
        if isa != "baseline":
            pycnn.use_isa(isa)
            found.add(ops.add(x, x[::-1].copy(), activation=activation).tobytes())
    pycnn.use_isa(before)
    assert len(found) <= 1


# name: shape of x, kernel, OC, options. h and w differ; channels end in the middle of a vector.
KERNELS = {
    "direct": ((2, 7, 9, 20), (3, 3), 37, {"padding": "same", "algorithm": "direct"}),
    "direct_groups": ((1, 5, 6, 6), (2, 3), 38, {"groups": 2, "algorithm": "direct"}),
    "winograd_4": ((2, 9, 6, 17), (3, 3), 21, {"padding": "same", "algorithm": "winograd"}),
    "winograd_2": ((1, 3, 5, 17), (3, 3), 37, {"padding": 1, "algorithm": "winograd"}),
    "few_channels": ((2, 5, 7, 3), (3, 3), 35, {"algorithm": "few_channels"}),
    "depthwise_tile": ((2, 5, 9, 19), (3, 3), 19, {"groups": 19, "padding": 1}),
    "depthwise_5": ((1, 6, 7, 33), (5, 5), 33, {"groups": 33, "padding": 2, "stride": 2}),
    "depthwise_staged": ((1, 3, 5, 512), (3, 3), 512, {"groups": 512, "padding": "same"}),
    "depthwise_rows": ((2, 5, 8, 17), (3, 2), 17, {"groups": 17, "dilation": (1, 2)}),
    "grouped": ((2, 5, 7, 12), (3, 2), 18, {"groups": 6, "algorithm": "grouped"}),
    "grouped_wide": ((1, 4, 6, 40), (3, 3), 34, {"groups": 2, "algorithm": "grouped"}),
    "im2col": ((2, 5, 6, 5), (2, 3), 19, {"algorithm": "im2col"}),
    "naive": ((1, 5, 4, 3), (2, 3), 5, {"algorithm": "naive"}),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_convolution_activates_the_sums_that_it_has_without(isa, num_threads, rng, name):
    """With a residual and without, beside a neighbour that no kernel may touch."""
    shape, kernel, OC, options = KERNELS[name]
    C = shape[3] // options.get("groups", 1)
    x, bias = rng.standard_normal(shape, np.float32), rng.standard_normal(OC).astype(np.float32)
    weight = rng.standard_normal((*kernel, C, OC), np.float32)
    for residual in (None, rng.standard_normal(ops.conv2d(x, weight, **options).shape, np.float32)):
        given = {**options, "residual": residual}
        plain = ops.conv2d(x, weight, bias, **given)
        for activation in FUSED:
            expected = ops.add(plain, np.zeros_like(plain), activation=activation)
            room = np.full((plain.shape[0] + 1, *plain.shape[1:]), 7, np.float32)
            y = ops.conv2d(x, weight, bias, activation=activation, out=room[:-1], **given)
            np.testing.assert_array_equal(y, expected, err_msg=f"{activation}")
            assert (room[-1] == 7).all()


def test_linear_without_rows_or_columns():
    for dtype in (np.float32, np.float64):
        for N, features, out in ((0, 3, 4), (2, 3, 0), (2, 0, 3)):
            y = ops.linear(np.ones((N, features), dtype), np.ones((features, out), dtype),
                           np.ones(out, dtype), activation="relu6")  # fmt: skip
            np.testing.assert_array_equal(y, np.ones((N, out), dtype))


def test_linear_activates_the_product_and_bias(isa, num_threads, rng):
    for N, features, out in ((1, 40, 35), (7, 33, 5), (5, 19, 2100)):
        x, weight = rng.standard_normal((N, features)), rng.standard_normal((features, out))
        x, weight = np.float32(x), np.float32(weight)
        bias = rng.standard_normal(out).astype(np.float32)
        plain = ops.matmul(x, weight)
        np.testing.assert_array_equal(ops.linear(x, weight), plain)
        ops.add_bias(plain, bias)
        for activation in (None, *ALL):
            expected = ops.add(plain, np.zeros_like(plain), activation=activation)
            y = ops.linear(x, weight, bias, activation=activation)
            np.testing.assert_array_equal(y, expected, err_msg=f"{activation}")


@every_activation
def test_a_compiled_network_activates(isa, num_threads, rng, activation):
    """Convolution, the same with a residual in place and with a pool, and a dense layer."""
    x = rng.standard_normal((5, 5, 6, 17), np.float32)
    weight = rng.standard_normal((3, 3, 17, 17), np.float32) / 12
    bias, dense = rng.standard_normal(17).astype(np.float32), rng.standard_normal((510, 35)) / 20
    built = Built([(5, 6, 17)])
    y = built.conv2d(0, weight, bias, activation=activation)
    z = built.conv2d(0, weight, bias, activation=activation, residual=y, at=y)
    ends = [z, built.linear(0, np.float32(dense), None, activation=activation)]
    if activation in MONOTONE:
        ends += [built.conv2d(0, weight, bias, activation=activation, pool="same")]
    expected = built.expected(ends, x)
    for chunk in (1, 3):
        for got, exact in zip(built.network(ends, chunk)(x), expected, strict=True):
            np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", MONOTONE, ids=str)
def test_a_pool_of_a_network_takes_the_maximum_first(rng, activation):
    """So a NaN wins, and what it gives is the activation of the winner."""
    x = np.zeros((1, 2, 4, 16), np.float32)
    x[0, 0, 1], x[0, 1, 0], x[0, 1, 3] = 2, np.nan, -1
    weight = np.eye(16, dtype=np.float32)[None, None]
    built = Built([(2, 4, 16)])
    y = built.conv2d(0, weight, None, activation=activation, pool="valid", padding="valid")
    (got,) = built.network([y])(x)
    assert np.isnan(got[0, 0, 0]).all()
    np.testing.assert_allclose(got[0, 0, 1], activated(np.zeros(16), activation), rtol=1e-6)


def test_large_maps_are_right_where_others_go_past_the_caches(rng):
    """Kernels read what they have written: 16 MB and more, direct and depthwise."""
    x = rng.standard_normal((2, 96, 192, 128), np.float32)
    for weight, options in (
        (rng.standard_normal((1, 1, 128, 128), np.float32), {"algorithm": "direct"}),
        (rng.standard_normal((3, 3, 1, 128), np.float32), {"groups": 128, "padding": 1}),
    ):
        plain = ops.conv2d(x, weight, **options)
        expected = ops.add(plain, np.zeros_like(plain), activation="hard_swish")
        y = ops.conv2d(x, weight, activation="hard_swish", **options)
        np.testing.assert_array_equal(y, expected)
