"""A residual, added before relu in one pass by conv2d and batch_norm, and its gradient."""

import numpy as np
import pytest
import reference
import tolerance
import winograd_bound
from op_table import frozen

import pycnn
from pycnn import ops

CONVS = {  # x, weight, options: every algorithm, and sizes of no whole vector
    "winograd": ((3, 14, 11, 32), (3, 3, 32, 33), {"padding": "same"}),
    "direct": ((3, 9, 7, 5), (3, 3, 5, 19), {"padding": 1, "stride": (2, 1)}),
    "rim": ((2, 3, 3, 24), (3, 3, 24, 40), {"padding": 2}),
    "first": ((3, 12, 9, 1), (5, 5, 1, 16), {}),
    "first_panels": ((2, 9, 7, 3), (3, 3, 3, 70), {"padding": 1}),
    "depthwise": ((2, 8, 9, 20), (3, 3, 1, 20), {"groups": 20}),
    "depthwise_rows": ((2, 8, 9, 20), (3, 2, 1, 20), {"groups": 20, "padding": 1}),
    "groups": ((2, 8, 5, 6), (3, 3, 3, 4), {"groups": 2}),
}


def convolution(rng, name, dtype=np.float32):
    x_shape, w_shape, options = CONVS[name]
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    b = rng.standard_normal(w_shape[-1]).astype(dtype)
    shape = ops.conv2d_output_shape(x_shape, w_shape, **options)
    return x, w, b, rng.standard_normal(shape).astype(dtype), options


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("name", CONVS)
def test_conv2d_adds_it_before_relu(isa, num_threads, rng, name, activation, dtype):
    x, w, b, residual, options = convolution(rng, name, dtype)
    z = reference.conv2d(x, w, b, **options) + residual
    exact = np.maximum(z, 0) if activation else z
    y = ops.conv2d(x, w, b, residual=frozen(residual), activation=activation, **options)
    bound = tolerance.conv2d(x, w, b, **options)
    if name == "winograd" and dtype == np.float32:
        m = winograd_bound.tile_size(*z.shape[1:3])
        bound = winograd_bound.conv2d(x, w, b, ((1, 1), (1, 1)), m)
    k = w[..., 0].size + 2  # direct convolution begins with the residual
    tolerance.assert_within(
        y, exact, bound + tolerance.gamma(k, dtype) * (np.abs(residual) + np.abs(z))
    )
    place = residual.copy()
    assert ops.conv2d(x, w, b, residual=place, activation=activation, out=place, **options) is place
    np.testing.assert_array_equal(place, y)


ALGORITHMS = ["naive", "im2col", "direct", "winograd"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.usefixtures("exact_precision")
def test_each_algorithm_adds_it_and_whole_numbers_are_exact(isa, num_threads, algorithm):
    rng = np.random.default_rng(5)
    x, w, b, residual = (
        rng.integers(-4, 5, shape).astype(np.float32)
        for shape in ((2, 6, 9, 17), (3, 3, 17, 35), (35,), (2, 6, 9, 35))
    )
    options = {"padding": "same", "activation": "relu", "algorithm": algorithm}
    exact = np.maximum(reference.conv2d(x, w, b, padding="same") + residual, 0)
    y = ops.conv2d(x, w, b, residual=residual, **options)
    np.testing.assert_array_equal(y, exact)
    without = ops.conv2d(x, w, residual=residual, padding="same", algorithm=algorithm)
    np.testing.assert_array_equal(without, reference.conv2d(x, w, padding="same") + residual)
    ops.conv2d(x, w, b, residual=residual, out=residual, **options)
    np.testing.assert_array_equal(residual, y)


def test_im2col_adds_it_a_few_images_at_a_time(isa, num_threads):
    """Patches of 16 MB and more, in groups, also where the residual's memory is written."""
    rng = np.random.default_rng(6)
    x, w, b, residual = (
        rng.integers(-4, 5, shape).astype(np.float32)
        for shape in ((3, 170, 180, 24), (3, 3, 12, 6), (6,), (3, 168, 178, 6))
    )
    options = {"groups": 2, "activation": "relu"}
    exact = ops.conv2d(x, w, b, residual=residual, algorithm="direct", **options)
    options["algorithm"] = "im2col"
    np.testing.assert_array_equal(ops.conv2d(x, w, b, residual=residual, **options), exact)
    ops.conv2d(x, w, b, residual=residual, out=residual, **options)
    np.testing.assert_array_equal(residual, exact)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", CONVS)
def test_what_is_no_number_shows_where_it_was_added(isa, rng, name, bad):
    x, w, b, residual, options = convolution(rng, name)
    at = (1, 1, 2, 3)
    plain = ops.conv2d(x, w, b, residual=residual, activation="relu", **options)
    residual[at] = bad
    y = ops.conv2d(x, w, b, residual=residual, activation="relu", **options)
    expected = 0 if bad == -np.inf else bad
    np.testing.assert_array_equal(y[at], expected)
    y[at] = plain[at] = 0
    np.testing.assert_array_equal(y, plain)


def test_a_map_that_is_written_past_the_caches(isa, small_caches, rng):
    """Half of L3: stores that stream, over the residual itself as well."""
    x, w = (
        rng.standard_normal((1, 46, 45, 16), np.float32),
        rng.standard_normal((1, 1, 16, 64), np.float32),
    )
    residual = rng.standard_normal((1, 46, 45, 64), np.float32)
    y = ops.conv2d(x, w, residual=residual, activation="relu")
    exact = np.maximum(np.float64(x) @ np.float64(w[0, 0]) + residual, 0)
    size = np.abs(np.float64(x)) @ np.abs(np.float64(w[0, 0])) + np.abs(residual)
    tolerance.assert_within(y, exact, tolerance.gamma(16 + 2) * size)
    ops.conv2d(x, w, residual=residual, activation="relu", out=residual)
    np.testing.assert_array_equal(residual, y)


def test_nchw(rng):
    x, w, b, residual, options = convolution(rng, "direct")
    expected = ops.conv2d(x, w, b, residual=residual, **options)
    turned = [a.transpose(0, 3, 1, 2) for a in (x, residual)]
    y = ops.conv2d(turned[0], w, b, residual=turned[1], data_format="NCHW", **options)
    np.testing.assert_array_equal(y.transpose(0, 2, 3, 1), expected)
    place = np.ascontiguousarray(turned[1])
    ops.conv2d(turned[0], w, b, residual=place, data_format="NCHW", out=place, **options)
    np.testing.assert_array_equal(place, y)


# Batch normalisation


def norm_arrays(rng, C, dtype=np.float32, rows=(5, 3, 7)):
    x, residual, dy = (rng.standard_normal((*rows, C)).astype(dtype) for _ in range(3))
    return (
        x,
        rng.standard_normal(C).astype(dtype),
        rng.standard_normal(C).astype(dtype),
        residual,
        dy,
    )


CHANNELS = [1, 4, 16, 20, 33, 64, 261, 1029]


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("C", CHANNELS)
def test_batch_norm_has_the_bits_of_two_operators(isa, num_threads, rng, C, activation):
    x, weight, bias, residual, _ = norm_arrays(rng, C)
    residual[1, 2, 3, 0] = np.nan
    plain, mean, var = ops.batch_norm(x, weight, bias)
    expected = ops.add(plain, residual, activation=activation)
    options = {"residual": residual, "activation": activation}
    y, same_mean, same_var = ops.batch_norm(x, weight, bias, **options)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(mean, same_mean)
    np.testing.assert_array_equal(var, same_var)
    given = ops.batch_norm_inference(x, weight, bias, mean, var, **options)
    np.testing.assert_array_equal(given, expected)
    for place in (x.copy(), residual.copy()):
        arrays = {
            **options,
            "residual": place if place[1, 2, 3, 0] != place[1, 2, 3, 0] else residual,
        }
        first = x if arrays["residual"] is place else place
        out = ops.batch_norm_inference(first, weight, bias, mean, var, out=place, **arrays)
        assert out is place
        np.testing.assert_array_equal(place, expected)
    place = residual.copy()
    out = (place, np.empty_like(mean), np.empty_like(var))
    ops.batch_norm(x, weight, bias, residual=place, activation=activation, out=out)
    np.testing.assert_array_equal(place, expected)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_in_float64_it_is_the_formula(rng, activation):
    x, weight, bias, residual, dy = norm_arrays(rng, 7, np.float64)
    y, mean, var = ops.batch_norm(x, weight, bias, residual=residual, activation=activation)
    z = reference.batch_norm(x, weight, bias)[0] + residual
    np.testing.assert_allclose(y, np.maximum(z, 0) if activation else z, rtol=0, atol=1e-13)
    g = np.where(z > 0, dy, 0) if activation else dy
    expected = reference.batch_norm_backward(g, x, weight, bias, mean, var)
    other = np.empty_like(x)
    options = {"activation": activation, "y": y if activation else None}
    found = ops.batch_norm_backward(
        dy, x, weight, bias, mean, var, residual_gradient=other, **options
    )
    np.testing.assert_array_equal(other, g)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", CHANNELS)
def test_backward_has_the_bits_of_two_operators(isa, num_threads, rng, C, dtype):
    """Ties and NaN too: g is 0 where y <= 0, so dy passes where y is NaN."""
    x, weight, bias, residual, dy = norm_arrays(rng, C, dtype)
    y, mean, var = ops.batch_norm(x, weight, bias, residual=residual, activation="relu")
    y[0, 0, 0] = 0.0
    y[0, 0, 1] = -0.0
    y[0, 0, 2] = np.nan
    g = ops.relu_backward(dy, y)
    assert (g[0, 0, :2] == 0).all()
    assert (g[0, 0, 2] == dy[0, 0, 2]).all()
    statistics = (x, weight, bias, mean, var)
    expected = ops.batch_norm_backward(g, *statistics)
    relu = {"activation": "relu", "y": y}

    def same(found, dx=True):
        for ours, theirs in zip(found[0 if dx else 1 :], expected[0 if dx else 1 :], strict=True):
            np.testing.assert_array_equal(ours, theirs)

    same(ops.batch_norm_backward(dy, *statistics, **relu))
    same(ops.batch_norm_backward(dy, *statistics, input_gradient=False, **relu), False)

    def vectors():
        return np.empty(C, dtype), np.empty(C, dtype)

    other = np.full_like(x, np.nan)
    same(ops.batch_norm_backward(dy, *statistics, residual_gradient=other, **relu))
    np.testing.assert_array_equal(other, g)
    place = dy.copy()  # g over dy
    same(ops.batch_norm_backward(place, *statistics, residual_gradient=place, **relu))
    np.testing.assert_array_equal(place, g)
    place, other = dy.copy(), np.full_like(x, np.nan)  # dx over dy
    out = (place, *vectors())
    found = ops.batch_norm_backward(place, *statistics, residual_gradient=other, out=out, **relu)
    assert found.dx is place
    same(found)
    np.testing.assert_array_equal(other, g)
    place = dy.copy()
    same(ops.batch_norm_backward(place, *statistics, out=(place, *vectors()), **relu))
    other = np.full_like(x, np.nan)
    found = ops.batch_norm_backward(
        dy, *statistics, residual_gradient=other, input_gradient=False, **relu
    )
    same(found, False)
    np.testing.assert_array_equal(other, g)


def test_without_relu_the_residual_gets_dy(isa, rng):
    x, weight, bias, residual, dy = norm_arrays(rng, 20)
    _, mean, var = ops.batch_norm(x, weight, bias, residual=residual)
    other = np.empty_like(x)
    found = ops.batch_norm_backward(dy, x, weight, bias, mean, var, residual_gradient=other)
    np.testing.assert_array_equal(other, dy)
    for ours, theirs in zip(
        found, ops.batch_norm_backward(dy, x, weight, bias, mean, var), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_an_empty_batch(rng):
    x, weight, bias, residual, dy = (a[:0] if a.ndim > 1 else a for a in norm_arrays(rng, 4))
    y, mean, var = ops.batch_norm(x, weight, bias, residual=residual, activation="relu")
    other = np.empty_like(x)
    ops.batch_norm_backward(
        dy, x, weight, bias, mean, var, activation="relu", y=y, residual_gradient=other
    )
    assert ops.batch_norm_inference(x, weight, bias, mean, var, residual=residual).shape == x.shape


def test_threads_of_a_large_map_agree(rng):
    x, weight, bias, residual, dy = norm_arrays(rng, 32, rows=(8, 40, 40))
    results = []
    for threads in (1, 2, 3):
        with pycnn.num_threads(threads):
            y, mean, var = ops.batch_norm(x, weight, bias, residual=residual, activation="relu")
            other = np.empty_like(x)
            found = ops.batch_norm_backward(
                dy, x, weight, bias, mean, var, activation="relu", y=y, residual_gradient=other
            )
            results.append((y, other, *found))
    for result in results[1:]:
        for ours, theirs in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(ours, theirs)


# What does not fit

X, V = np.ones((2, 3, 3, 4), np.float32), np.ones(4, np.float32)
DY, W1 = X.copy(), np.ones((1, 1, 4, 4), np.float32)
BACK = (X, V, V, V, V)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: ops.conv2d(X, W1, residual=X[:1]),
            ValueError,
            r"conv2d: residual has shape \(1, ",
        ),
        (lambda: ops.conv2d(X, W1, residual=np.float64(X)), TypeError, "residual is float64, but"),
        (lambda: ops.conv2d(X, W1, residual="x"), TypeError, "residual is a str; expected a NumPy"),
        (lambda: ops.conv2d(X, W1, residual=X, out=X), ValueError, "out shares memory with x"),
        (
            lambda: ops.batch_norm(X, V, V, residual=X[..., :3]),
            ValueError,
            r"batch_norm: residual has shape \(2, 3, 3, 3\)",
        ),
        (
            lambda: ops.batch_norm(X, V, V, residual=X.astype(int)),
            TypeError,
            "residual is int64; expected float32 or float64",
        ),
        (
            lambda: ops.batch_norm_inference(X, V, V, V, V, residual=X[0]),
            ValueError,
            r"batch_norm_inference: residual has shape \(3, 3, 4\)",
        ),
        (
            lambda: ops.batch_norm_backward(DY, *BACK, y=X),
            ValueError,
            'y is given with activation=None; expected .* as "relu"',
        ),
        (
            lambda: ops.batch_norm_backward(DY, *BACK, activation="relu", residual_gradient=DY),
            ValueError,
            "residual_gradient is given, but y is None; expected what batch_norm returned",
        ),
        (
            lambda: ops.batch_norm_backward(DY, *BACK, residual_gradient=[1.0]),
            TypeError,
            "residual_gradient is a list; expected a NumPy array, since it is updated",
        ),
        (
            lambda: ops.batch_norm_backward(DY, *BACK, activation="relu", y=X[0]),
            ValueError,
            r"y has shape \(3, 3, 4\)",
        ),
        (
            lambda: ops.batch_norm_backward(DY, *BACK, residual_gradient=X),
            ValueError,
            "residual_gradient shares memory with x",
        ),
        (
            lambda: ops.batch_norm_backward(
                DY, *BACK, residual_gradient=DY, out=(DY, V.copy(), V.copy())
            ),
            ValueError,
            "out shares memory with residual_gradient",
        ),
        (
            lambda: ops.batch_norm_backward(DY, *BACK, residual_gradient=frozen(X.copy())),
            ValueError,
            "residual_gradient is read-only",
        ),
    ],
)
def test_what_does_not_fit_is_a_sentence(call, error, words):
    with pytest.raises(error, match=f"(?s){words}"):
        call()
