"""Beside convolution, where code parts ways: float64, NaN, ties, chunks, cut products."""

import _pycnn
import numpy as np
import pytest
import reference
import tolerance

from pycnn import ops

NAN, INF = np.nan, np.inf


def integers(rng, *shape, size=4):
    return rng.integers(-size, size + 1, shape).astype(np.float32)


# ---- float64: plain loops of their own, which must do what the kernels do ------------------------


def test_dropout_of_more_than_a_piece_is_the_same_in_float64(isa):
    """The plain loops take masks of 256 at a time; 2 of 3 pieces here are whole."""
    ones = np.ones(671, np.float32)
    mask = ops.dropout(ones, 0.4, seed=3, calls=9)
    assert 0.3 < (mask == 0).mean() < 0.5
    many = ops.dropout(np.float64(ones) * 3, 0.4, seed=3, calls=9)
    np.testing.assert_array_equal(many, np.where(mask == 0, 0, 3 * (1 / 0.6)))


def test_dropout_draws_for_each_position_of_a_batch(isa, num_threads):
    """One draw a position, whatever the thread and its vector: enough for several threads."""
    x = np.ones(3_000_017, np.float32)
    whole = ops.dropout(x, 0.5, seed=1)
    for size in (15, 16, 17, 4099, 1_000_000):
        np.testing.assert_array_equal(ops.dropout(x[:size], 0.5, seed=1), whole[:size])
    assert 1_495_000 < np.count_nonzero(whole) < 1_505_000
    assert 0.45 < (whole[:-1] == whole[1:]).mean() < 0.55


POOL_INPUTS = {
    "ties": lambda rng, *shape: rng.integers(-1, 2, shape).astype(np.float64),
    "nan": lambda rng, *shape: np.where(
        rng.random(shape) < 0.3, NAN, np.where(rng.random(shape) < 0.3, -INF, 1.0)
    ),
}


@pytest.mark.parametrize("kind", POOL_INPUTS)
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ((2, 3), {}),
        ((3, 2), {"stride": (1, 2), "padding": ((1, 0), (1, 1))}),
        (2, {"padding": "same"}),
    ],
)
def test_pools_in_float64(rng, kind, kernel, options):
    x = POOL_INPUTS[kind](rng, 2, 7, 9, 3)
    y, indices = ops.max_pool2d(x, kernel, return_indices=True, **options)
    exact, exact_indices = reference.max_pool2d(x, kernel, **options)
    np.testing.assert_array_equal(y, exact)
    np.testing.assert_array_equal(indices, exact_indices)
    np.testing.assert_array_equal(ops.max_pool2d(x, kernel, **options), exact)
    dy = rng.integers(-9, 10, y.shape).astype(np.float64)
    dx = ops.max_pool2d_backward(dy, indices, x.shape, out=np.full(x.shape, NAN))
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(dy, indices, x.shape))
    clean = np.nan_to_num(x, nan=5, neginf=-7)
    for count in (False, True):
        how = {**options, "count_include_pad": count}
        mean = ops.avg_pool2d(clean, kernel, **how)
        np.testing.assert_allclose(mean, reference.avg_pool2d(clean, kernel, **how), rtol=1e-14)
        dx = ops.avg_pool2d_backward(dy, x.shape, kernel, out=np.full(x.shape, NAN), **how)
        exact = reference.avg_pool2d_backward(dy, x.shape, kernel, **how)
        np.testing.assert_allclose(dx, exact, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_signs_in_maps_of_both_types(isa, dtype):
    a = np.tile(np.array([NAN, INF, -INF, 0, -0.0, 3, -3, 1e-30], dtype), 5)[:37]
    b = np.tile(np.array([1, 1, 1, -1, 0, -4, 5, NAN], dtype), 5)[:37]
    with np.errstate(invalid="ignore"):
        for name, exact in (("add", a + b), ("subtract", a - b), ("multiply", a * b)):
            np.testing.assert_array_equal(getattr(ops, name)(a, b), exact, err_msg=name)
        total = a + b
        relu = np.where(total < 0, 0, total)
        np.testing.assert_array_equal(ops.add(a, b, activation="relu"), relu)
        np.testing.assert_array_equal(ops.relu(a), np.where(a < 0, 0, a))
        np.testing.assert_array_equal(ops.relu_backward(b, a), np.where(a <= 0, 0, b))
        y = a.copy().reshape(1, 37)
        ops.add_bias(y, b)
        np.testing.assert_array_equal(y[0], a + b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 15, 33, 1041])  # slots of rows: one, one, two, 64 unequal ones
def test_sums_of_rows_in_slots(isa, num_threads, rng, dtype, rows):
    for C in (1, 17, 80):
        dy = rng.integers(-9, 10, (1, rows, 1, C)).astype(dtype)
        np.testing.assert_array_equal(ops.conv2d_backward_bias(dy), dy.sum(axis=(0, 1, 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_that_are_no_distribution(isa, dtype):
    """A row of targets that adds up to `total` has the gradient (p total - target) / N."""
    x = np.log(np.array([[1, 2, 5], [4, 4, 2]], dtype))
    targets = np.array([[0, 2, 1], [0, 0, 0.5]], dtype)
    p = np.array([[1, 2, 5], [4, 4, 2]]) / np.array([[8], [10]])
    loss, dlogits = ops.softmax_cross_entropy(x, targets)
    np.testing.assert_allclose(loss, -(targets * np.log(p)).sum() / 2, rtol=1e-6)
    exact = (p * targets.sum(axis=1, keepdims=True) - targets) / 2
    np.testing.assert_allclose(dlogits, exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_impossible_class_that_is_no_target_costs_nothing(isa, dtype):
    """0 times log 0 counts as 0; as a target it makes the loss infinite."""
    x = np.array([[0, -INF, 0]], dtype)
    loss, dlogits = ops.softmax_cross_entropy(x, np.array([2]))
    assert abs(loss - np.log(2)) < 1e-6
    np.testing.assert_allclose(dlogits, [[0.5, 0, -0.5]])
    assert ops.softmax_cross_entropy(x, np.array([1]))[0] == INF


def test_the_norm_counts_every_element_once(rng):
    """Chunks of 4096 and lanes of 8: whole ones, a rest, arrays smaller than a lane."""
    for dtype in (np.float32, np.float64):
        arrays = [integers(rng, size).astype(dtype) for size in (4096, 8203, 5, 1, 0, 4095)]
        exact = sum(float(np.square(a).sum()) for a in arrays)
        assert _pycnn.square_sum(arrays) == exact


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_of_several_parameters_is_that_of_each(isa, num_threads, rng, dtype):
    """One range over all parameters: threads begin and end within them."""
    sizes, decay = (70_001, 3, 0, 40_017, 16), [0.1, 0.0, 0.5, 0.02, 0.3]
    kinds = {
        "adam": (4, (3, 0.1, 0.9, 0.99, 1e-3), {"step": 3, "lr": 0.1, "beta2": 0.99, "eps": 1e-3}),
        "sgd": (3, (0.1, 0.9, True), {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        "rmsprop": (
            4,
            (0.1, 0.9, 1e-3, 0.8),
            {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "momentum": 0.8},
        ),
    }
    for name, (count, values, options) in kinds.items():
        roles = [
            [np.abs(rng.standard_normal(n)).astype(dtype) for n in sizes] for _ in range(count)
        ]
        single = [[a.copy() for a in role] for role in roles]
        assert getattr(_pycnn, f"{name}_all")(roles, decay, *values)
        for i, weight_decay in enumerate(decay):
            arrays = [role[i] for role in single]
            getattr(ops, f"{name}_step")(*arrays, **options, weight_decay=weight_decay)
        for role, alone in zip(roles, single, strict=True):
            for got, expected in zip(role, alone, strict=True):
                np.testing.assert_array_equal(got, expected, err_msg=name)
        whole = [np.abs(rng.standard_normal(53)).astype(dtype) for _ in range(count)]
        pieces = [a.copy() for a in whole]
        step = getattr(ops, f"{name}_step")
        step(*whole, **options)
        for start in range(0, 53, 11):
            step(*(a[start : start + 11] for a in pieces), **options)
        np.testing.assert_array_equal(whole, pieces, err_msg=name)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_turn_by_any_angle(isa, rng, dtype):
    """All four quarters, of images higher than wide and the other way round."""
    for shape in ((24, 6, 9, 1), (24, 11, 5, 3)):
        images = rng.integers(0, 256, shape).astype(dtype)
        which = np.arange(len(images))
        how = {"seed": 3, "epoch": 1, "rotation": 180.0, "shear": 0.2, "scale": 0.3}
        got = ops.augment_images(images, which, **how)
        exact = reference.augment_images(images, which, **how)
        tolerance.assert_within(got, exact, tolerance.augment_images(images, which, **how))


# ---- statistics whose chunks, folds and rests matter ---------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("rows", "C"), [(1000, 4), (999, 8), (515, 17), (130, 48), (7, 1), (32, 100), (45, 261)]
)
def test_batch_norm_in_chunks(isa, num_threads, rng, rows, C, residual):
    """Integers around 1000: the sums of a chunk are taken around a value near its mean."""
    x = integers(rng, rows, C) + 1000 + np.arange(C, dtype=np.float32)
    weight, bias = integers(rng, C) + 5, integers(rng, C)
    added = integers(rng, rows, C) if residual else None
    y, mean, var = ops.batch_norm(x, weight, bias, activation="relu", residual=added)
    x64 = np.float64(x)
    np.testing.assert_allclose(mean, x64.mean(axis=0), rtol=2e-7)
    np.testing.assert_allclose(var, x64.var(axis=0), rtol=2e-6)
    normal = (x64 - mean) / np.sqrt(np.float64(var) + 1e-5)
    z = normal * weight + bias + (0 if added is None else added)
    np.testing.assert_allclose(y, np.maximum(z, 0), rtol=1e-5, atol=2e-4)
    dy = integers(rng, rows, C)
    g = np.where(y > 0, np.float64(dy), 0)
    given = {"activation": "relu"}
    room = np.full_like(x, NAN)
    if residual:
        given.update(y=y, residual_gradient=room)
    dx, dweight, dbias = ops.batch_norm_backward(dy, x, weight, bias, mean, var, **given)
    if residual:
        np.testing.assert_array_equal(room, g)
    np.testing.assert_allclose(dbias, g.sum(axis=0), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(dweight, (g * normal).sum(axis=0), rtol=1e-4, atol=5e-3)
    exact = (g - g.mean(axis=0) - normal * (g * normal).mean(axis=0)) * weight
    exact /= np.sqrt(np.float64(var) + 1e-5)
    np.testing.assert_allclose(dx, exact, rtol=1e-4, atol=2e-4)


def test_a_nan_of_batch_norm_passes_its_gradient(isa):
    """y is NaN there, and the mask of relu lets it through, as relu_backward does."""
    for dtype in (np.float32, np.float64):
        x = np.arange(12, dtype=dtype).reshape(4, 3)
        x[2, 1] = NAN
        ones, zeros = np.ones(3, dtype), np.zeros(3, dtype)
        how = {"activation": "relu"}
        y = ops.batch_norm_inference(x, ones, zeros, zeros, ones, **how)
        assert np.isnan(y[2, 1])
        assert np.isnan(y).sum() == 1
        dy = np.full((4, 3), 2, dtype)
        _, _, dbias = ops.batch_norm_backward(dy, x, ones, zeros, zeros, ones, **how)
        np.testing.assert_array_equal(dbias, [6, 8, 8])  # x[0, 0] is 0 and has no gradient


# ---- products that are cut in two directions -----------------------------------------------------


@pytest.mark.parametrize("name", ["wide", "tall", "flat"])
def test_products_that_are_cut_in_depth_and_width(isa, num_threads, name):
    """wide: columns and depth are cut, threads take columns; tall: rows of A, in blocks of MC."""
    MR, MC, NC, KC = (_pycnn.tile_sizes()[block] for block in ("MR", "MC", "NC", "KC"))
    m, n, k = {
        "wide": (MR + 3, NC + 40, 2 * KC + 5),
        "tall": (MC + 1, 40, KC + 1),
        "flat": (5, NC + 7, KC + 3),
    }[name]
    rng = np.random.default_rng(0)
    a, b = integers(rng, m, k, size=3), integers(rng, k, n, size=3)
    exact = a @ b  # of integers below 2**24: exact in any order
    for turn_a in (False, True):
        for turn_b in (False, True):
            left = np.ascontiguousarray(a.T) if turn_a else a
            right = np.ascontiguousarray(b.T) if turn_b else b
            out = np.full((m, n), NAN, np.float32)
            ops.matmul(left, right, transpose_a=turn_a, transpose_b=turn_b, out=out)
            np.testing.assert_array_equal(out, exact)


@pytest.mark.parametrize(("narrow", "k"), [(1, 40), (3, 127), (3, 128), (16, 300), (17, 300)])
def test_narrow_products_of_either_side(isa, num_threads, narrow, k):
    rng = np.random.default_rng(narrow)
    for long in (4 * narrow - 1, 4 * narrow, 131):
        a, b = integers(rng, long, k), integers(rng, k, narrow)
        for x, y in ((a, b), (np.ascontiguousarray(b.T), np.ascontiguousarray(a.T))):
            for turn_x in (False, True):
                for turn_y in (False, True):
                    left = np.ascontiguousarray(x.T) if turn_x else x
                    right = np.ascontiguousarray(y.T) if turn_y else y
                    got = ops.matmul(left, right, transpose_a=turn_x, transpose_b=turn_y)
                    np.testing.assert_array_equal(got, x @ y)
