"""relu, softmax, loss, optimizer steps, gather: extreme values and every vector remainder."""

import numpy as np
import pytest
import reference
import tolerance

from pycnn import ops

SIZES = [0, 1, 15, 16, 17, 53, 20000]
CLASSES = [1, 2, 10, 15, 16, 17, 53, 1000]


def within(result, name, *arrays, **options):
    """The result of this operator lies within its bound."""
    exact = getattr(reference, name)(*arrays, **options)
    bound = getattr(tolerance, name, tolerance.exact)(*arrays, **options)
    tolerance.assert_within(result, exact, bound, name)


@pytest.mark.parametrize("size", SIZES)
def test_relu_and_its_gradient_are_exact(isa, num_threads, rng, size):
    x, dy = rng.standard_normal((2, size), np.float32)
    y = ops.relu(x)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(ops.relu_backward(dy, y), np.where(x > 0, dy, 0))


def test_relu_keeps_nan_and_infinity(isa):
    x = np.tile(np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 2.0]), 5)
    y = ops.relu(x)
    np.testing.assert_array_equal(y, np.tile(np.float32([np.nan, np.inf, 0, 0, 0, 0, 2]), 5))


def test_a_zero_output_of_relu_has_no_gradient(isa):
    dy = np.full(19, 7, np.float32)
    dx = ops.relu_backward(dy, np.zeros(19, np.float32))
    np.testing.assert_array_equal(dx, np.zeros(19, np.float32))


@pytest.mark.parametrize("C", CLASSES)
def test_a_bias_is_added_to_every_row(isa, num_threads, rng, C):
    y, bias = rng.standard_normal((701, C), np.float32), rng.standard_normal(C, np.float32)
    exact = y + bias
    ops.add_bias(y, bias)
    np.testing.assert_array_equal(y, exact)
    with pytest.raises(ValueError, match=rf"bias.*{C + 1}"):
        ops.add_bias(y, np.zeros(C + 1, np.float32))
    with pytest.raises(TypeError, match="bias is float64"):
        ops.add_bias(y, bias.astype(np.float64))
    np.testing.assert_array_equal(y, exact)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_accumulate(isa, num_threads, rng, size):
    total, part = rng.standard_normal((2, size), np.float32)
    exact = total + part
    ops.accumulate(total, part)
    np.testing.assert_array_equal(total, exact)
    with pytest.raises(ValueError, match="expected"):
        ops.accumulate(total, np.zeros(size + 1, np.float32))


@pytest.mark.parametrize("K", CLASSES)
@pytest.mark.parametrize("scale", [0.1, 5, 60, 1e4])
def test_softmax_of_any_width_and_size(isa, rng, K, scale):
    x = np.float32(scale) * rng.standard_normal((4, K), np.float32)
    within(ops.softmax(x), "softmax", x)
    within(ops.log_softmax(x), "log_softmax", x)


@pytest.mark.parametrize("K", [1, 3, 4, 10, 21, 31, 32, 33, 64])
def test_a_row_has_the_same_bits_wherever_it_stands(isa, num_threads, rng, K):
    """Up to 32 classes sixteen rows are computed at once: here two such groups, and one of 5."""
    x, dy = 4 * rng.standard_normal((2, 37, K), np.float32)
    x[3, K // 2], x[20, 0], x[36, K - 1] = np.nan, np.inf, -np.inf
    for name in ("softmax", "log_softmax"):
        compute, gradient = getattr(ops, name), getattr(ops, f"{name}_backward")
        y = compute(x)
        dx = gradient(dy, y)
        for i in range(37):
            np.testing.assert_array_equal(compute(x[i : i + 1]), y[i : i + 1])
            np.testing.assert_array_equal(gradient(dy[i : i + 1], y[i : i + 1]), dx[i : i + 1])
        np.testing.assert_array_equal(np.isnan(y).any(axis=1), np.isnan(y).all(axis=1))
        assert set(np.flatnonzero(np.isnan(y[:, 0]))) == ({3, 20} if K > 1 else {3, 20, 36})
        finite = np.isfinite(x).all(axis=1)
        assert finite.sum() == 34
        within(y[finite], name, x[finite])
        within(dx[finite], f"{name}_backward", dy[finite], y[finite])


@pytest.mark.parametrize("K", CLASSES)
def test_softmax_gradients_of_any_width(isa, num_threads, rng, K):
    x, dy = rng.standard_normal((2, 6, K), np.float32)
    for name in ("softmax", "log_softmax"):
        y = np.float32(getattr(reference, name)(x))
        within(getattr(ops, f"{name}_backward")(dy, y), f"{name}_backward", dy, y)


def test_softmax_is_stable_at_the_ends(isa):
    """Where exp alone would overflow or vanish: no NaN, no warning, the limits."""
    big = np.float32(1e4)
    x = np.array([[big, -big, 0], [-big, -big, -big], [big, big, -big]], np.float32)
    np.testing.assert_array_equal(ops.softmax(x)[0], [1, 0, 0])
    within(ops.softmax(x), "softmax", x)
    within(ops.log_softmax(x), "log_softmax", x)
    assert ops.log_softmax(x)[0, 1] == -2 * big


def test_exp_is_within_two_ulp(isa):
    """Of two classes 0 and -d, the quotient of the probabilities is exp(-d), two roundings off."""
    d = np.linspace(0, 80, 20001, dtype=np.float32)
    y = ops.softmax(np.stack([np.zeros_like(d), -d], axis=1)).astype(np.float64)
    exact = np.exp(-d.astype(np.float64))
    bound = tolerance.gamma(tolerance.EXP_ROUNDINGS + 2) * exact
    tolerance.assert_within(y[:, 1] / y[:, 0], exact, bound)


def test_log_is_within_two_ulp(isa):
    """K equal numbers have the log-probability -log(K); the sum of K ones is exact."""
    for K in [*range(1, 70), 100, 127, 1000, 4097]:
        y = ops.log_softmax(np.full((1, K), 3, np.float32))
        exact = np.full((1, K), -np.log(K))
        bound = tolerance.gamma(tolerance.EXP_ROUNDINGS + 1) * np.abs(exact)
        tolerance.assert_within(y, exact, bound, f"K = {K}")


def test_a_nan_makes_its_row_nan_and_no_other(isa):
    x = np.ones((3, 19), np.float32)
    x[1, 17] = np.nan
    for y in (ops.softmax(x), ops.log_softmax(x)):
        np.testing.assert_array_equal(
            np.isnan(y), np.broadcast_to([[False], [True], [False]], x.shape)
        )


def test_a_small_probability_keeps_its_logarithm(isa):
    """log_softmax is not log(softmax): at -200 the probability itself is zero in float32."""
    x = np.array([[0, -200]], np.float32)
    assert ops.softmax(x)[0, 1] == 0
    assert ops.log_softmax(x)[0, 1] == -200


@pytest.mark.parametrize("K", [1, 2, 10, 17, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("N", [1, 7, 300])
def test_cross_entropy(isa, num_threads, rng, N, K, smoothing):
    logits = 3 * rng.standard_normal((N, K), np.float32)
    labels = rng.integers(0, K, N)
    exact = reference.softmax_cross_entropy(logits, labels, smoothing)
    bounds = tolerance.softmax_cross_entropy(logits, labels, smoothing)
    one_hot = np.eye(K, dtype=np.float32)[labels]
    for form in (labels, one_hot):
        results = ops.softmax_cross_entropy(logits, form, label_smoothing=smoothing)
        for result, value, bound in zip(results, exact, bounds, strict=True):
            tolerance.assert_within(result, value, bound)


@pytest.mark.parametrize("kind", "bBhHiIlLqQ")
def test_labels_of_any_integer_type(rng, kind):
    logits, labels = rng.standard_normal((5, 10), np.float32), np.array([0, 9, 3, 3, 1])
    loss, dlogits = ops.softmax_cross_entropy(logits, labels)
    same_loss, same = ops.softmax_cross_entropy(logits, labels.astype(kind))
    assert same_loss == loss
    np.testing.assert_array_equal(same, dlogits)


@pytest.mark.parametrize("label", [2**63, 2**64 - 1])
def test_a_huge_unsigned_label_does_not_wrap_into_range(label):
    with pytest.raises(ValueError, match=rf"labels\[1\] is {label}; expected a class"):
        ops.softmax_cross_entropy(np.zeros((2, 3), np.float32), np.array([0, label], np.uint64))


def test_cross_entropy_is_stable_at_the_ends(isa):
    """A sure and wrong answer costs the whole distance; a sure and right one nothing."""
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0]], np.float32)
    loss, dlogits = ops.softmax_cross_entropy(logits[:1], np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(dlogits, [[1, -1, 0]])
    loss, dlogits = ops.softmax_cross_entropy(logits[:1], np.array([0]))
    assert loss == 0
    np.testing.assert_array_equal(dlogits, [[0, 0, 0]])
    for labels in ([0, 1], [2, 2]):
        results = ops.softmax_cross_entropy(logits, np.array(labels), label_smoothing=0.1)
        assert np.isfinite(results[0])
        assert np.isfinite(results[1]).all()


def test_the_loss_of_equal_logits_is_log_k(isa):
    for K in (2, 10, 1000):
        logits = np.full((3, K), -7, np.float32)
        loss, _ = ops.softmax_cross_entropy(logits, np.zeros(3, int))
        assert loss == pytest.approx(np.log(K), rel=tolerance.gamma(K + 10))


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("size", SIZES)
def test_adam_of_any_size_over_five_steps(isa, num_threads, rng, size, weight_decay):
    """Each step is held to the bound from the state that the one before left."""
    param, m, v = rng.standard_normal(size, np.float32), *np.zeros((2, size), np.float32)
    for step in range(1, 6):
        grad = rng.standard_normal(size, np.float32)
        grad[::3] = 0
        options = {"step": step, "lr": 0.01, "weight_decay": weight_decay}
        before = param.copy(), grad, m.copy(), v.copy()
        ops.adam_step(param, grad, m, v, **options)
        exact = reference.adam_step(*before, **options)
        bounds = tolerance.adam_step(*before, **options)
        for result, value, bound in zip((param, m, v), exact, bounds, strict=True):
            tolerance.assert_within(result, value, bound, f"step {step}")


def test_adams_first_step_is_the_learning_rate(isa):
    """m_hat / sqrt(v_hat) is the gradient's sign then, whatever its size."""
    grad = np.float32([1e-3, 1, -1e3, 0])
    param, m, v = np.zeros((3, 4), np.float32)
    ops.adam_step(param, grad, m, v, step=1, lr=0.1, eps=1e-12)
    np.testing.assert_allclose(param, [-0.1, -0.1, 0.1, 0], rtol=tolerance.gamma(20))


def test_adam_counts_to_a_million(isa, rng):
    """beta**step underflows to 0: the correction is 1, not NaN."""
    arrays = [np.abs(rng.standard_normal(33, np.float32)) for _ in range(4)]
    options = {"step": 10**6, "lr": 0.01}
    exact, bounds = reference.adam_step(*arrays, **options), tolerance.adam_step(*arrays, **options)
    ops.adam_step(*arrays, **options)
    for result, value, bound in zip((arrays[0], *arrays[2:]), exact, bounds, strict=True):
        tolerance.assert_within(result, value, bound)


def test_decay_is_decoupled(isa):
    """With a gradient of zero only the decay acts, and the moments stay zero."""
    param, m, v = np.float32([[2, -4], [0, 0], [0, 0]])
    ops.adam_step(param, np.zeros(2, np.float32), m, v, step=3, lr=0.5, weight_decay=0.25)
    np.testing.assert_allclose(param, [1.75, -3.5], rtol=tolerance.gamma(4))
    np.testing.assert_array_equal([m, v], np.zeros((2, 2)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}, {"weight_decay": 0.1}],
    ids=["plain", "momentum", "nesterov", "decay"],
)
def test_sgd_of_any_size_over_three_steps(isa, num_threads, rng, size, options):
    param, velocity = rng.standard_normal(size, np.float32), np.zeros(size, np.float32)
    for _ in range(3):
        grad = rng.standard_normal(size, np.float32)
        before = param.copy(), grad, velocity.copy()
        ops.sgd_step(param, grad, velocity, lr=0.1, **options)
        exact = reference.sgd_step(*before, lr=0.1, **options)
        bounds = tolerance.sgd_step(*before, lr=0.1, **options)
        for result, value, bound in zip((param, velocity), exact, bounds, strict=True):
            tolerance.assert_within(result, value, bound)


def test_sgd_without_momentum_needs_no_velocity(isa, rng):
    param, grad = rng.standard_normal((2, 19), np.float32)
    with_velocity = param.copy()
    ops.sgd_step(with_velocity, grad, np.zeros_like(grad), lr=0.1, weight_decay=0.5)
    ops.sgd_step(param, grad, None, lr=0.1, weight_decay=0.5)
    np.testing.assert_array_equal(param, with_velocity)


def test_nesterov_needs_a_velocity(rng):
    param, grad = rng.standard_normal((2, 19), np.float32)
    before = param.copy()
    for options in ({"nesterov": True}, {"momentum": 0.9}):
        with pytest.raises(ValueError, match="sgd_step: velocity is None; expected an array"):
            ops.sgd_step(param, grad, None, lr=0.1, **options)
    np.testing.assert_array_equal(param, before)


@pytest.mark.parametrize("shape", [(784,), (28, 28, 1), (3,), (5, 1, 7), ()], ids=str)
@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_gather_images(isa, num_threads, rng, shape, count):
    images = rng.integers(0, 256, (11, *shape), dtype=np.uint8)
    indices = rng.integers(0, 11, count)
    for options in ({}, {"scale": 0.5}):
        y = ops.gather_images(images, indices, **options)
        assert y.dtype == np.float32
        within(y, "gather_images", images, indices, **options)


def test_bytes_map_to_0_and_1(isa):
    images = np.arange(256, dtype=np.uint8).reshape(256, 1)
    y = ops.gather_images(images, np.arange(256))[:, 0]
    assert y[0] == 0
    assert y[255] == 1
    assert (np.diff(y) > 0).all()


@pytest.mark.parametrize("kind", ["int32", "uint8", "int64", "uint64"])
def test_indices_of_any_integer_type(kind):
    images = np.arange(12, dtype=np.uint8).reshape(4, 3)
    y = ops.gather_images(images, np.array([3, 0], kind), scale=1)
    np.testing.assert_array_equal(y, [[9, 10, 11], [0, 1, 2]])


def test_a_wrong_index_is_named_and_writes_nothing():
    images, out = np.zeros((4, 3), np.uint8), np.full((2, 3), 7, np.float32)
    for wrong in (4, -5, 2**62):
        with pytest.raises(IndexError, match=str(wrong)):
            ops.gather_images(images, np.array([0, wrong]), out=out)
        np.testing.assert_array_equal(out, np.full((2, 3), 7))


@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0])
def test_the_share_of_a_batch_in_the_running_statistics(rng, momentum):
    x, ones = rng.standard_normal((9, 5)), np.ones(5)
    running = np.full(5, 3.0), np.full(5, 7.0)
    ops.batch_norm(
        x, ones, ones, running_mean=running[0], running_var=running[1], momentum=momentum
    )
    batch = x.mean(axis=0), x.var(axis=0, ddof=1)
    for found, before, new in zip(running, (3.0, 7.0), batch, strict=True):
        exact = (1 - momentum) * before + momentum * new
        np.testing.assert_allclose(found, exact, rtol=tolerance.gamma(40, np.float64))
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"momentum is .*; expected a number from 0 to 1"):
            ops.batch_norm(x, ones, ones, momentum=wrong)
