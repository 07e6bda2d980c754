"""Losses: numbers, gradients, sentences; `test_op_table.py` holds them to their bounds."""

import gradient_check
import numpy as np
import pytest
import reference
import tolerance

from pycnn import losses, ops


def logits_and_labels(dtype=np.float64):
    rng = np.random.default_rng(0)
    return 3 * rng.standard_normal((7, 5)).astype(dtype), rng.integers(0, 5, 7)


@pytest.mark.parametrize("one_hot", [False, True], ids=["classes", "one_hot"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_and_gradient_are_the_formula(dtype, smoothing, one_hot):
    """Sums of 5 and 7 terms of size at most 10."""
    logits, labels = logits_and_labels(dtype)
    before = logits.copy()
    expected_loss, expected = reference.softmax_cross_entropy(logits, labels, smoothing)
    given = np.eye(5, dtype=dtype)[labels] if one_hot else labels
    loss, dlogits = losses.SoftmaxCrossEntropy(label_smoothing=smoothing)(logits, given)
    tolerance = 100 * np.finfo(dtype).eps
    assert isinstance(loss, float)
    assert abs(loss - expected_loss) < tolerance
    assert dlogits.dtype == dtype
    np.testing.assert_allclose(dlogits, expected, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradient_is_the_slope_of_the_loss(smoothing):
    logits, labels = logits_and_labels()
    criterion = losses.SoftmaxCrossEntropy(smoothing)
    _, dlogits = criterion(logits, labels)
    slopes = gradient_check.slopes(lambda: criterion(logits, labels)[0], logits)
    gradient_check.compare(dlogits, slopes, "dlogits")


def test_results_stay():
    logits, labels = logits_and_labels(np.float32)
    criterion = losses.SoftmaxCrossEntropy()
    _, first = criterion(logits, labels)
    copied = first.copy()
    _, second = criterion(-logits, labels)
    np.testing.assert_array_equal(first, copied)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan"), "0.1", None])
def test_a_wrong_smoothing_is_a_sentence(smoothing):
    with pytest.raises(
        ValueError, match=r"label_smoothing is .*; expected 0 <= label_smoothing < 1"
    ):
        losses.SoftmaxCrossEntropy(label_smoothing=smoothing)


def test_wrong_labels_are_refused():
    logits, labels = logits_and_labels(np.float32)
    labels[3] = 5
    with pytest.raises(ValueError, match="label"):
        losses.SoftmaxCrossEntropy()(logits, labels)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_a_column_of_class_numbers_is_no_one_hot_row(dtype):
    """Its advice works: astype(logits.dtype) would not."""
    logits, labels = logits_and_labels(np.float32)
    with pytest.raises(TypeError, match=r"of shape \(7, 1\); expected .* write labels.ravel\(\)"):
        losses.SoftmaxCrossEntropy()(logits, labels[:, None].astype(dtype))


def test_repr_is_what_one_writes():
    assert repr(losses.SoftmaxCrossEntropy()) == "SoftmaxCrossEntropy()"
    assert repr(losses.SoftmaxCrossEntropy(0.1)) == "SoftmaxCrossEntropy(label_smoothing=0.1)"
    weighted = losses.SoftmaxCrossEntropy(class_weights=[1, 2], ignore_index=0)
    assert repr(weighted) == "SoftmaxCrossEntropy(class_weights=[1.0, 2.0], ignore_index=0)"
    assert repr(losses.BinaryCrossEntropy(3)) == "BinaryCrossEntropy(pos_weight=3.0)"
    assert repr(losses.MSE()) == "MSE()"


def test_settings_are_what_json_holds():
    assert losses.Huber(2).settings() == {"delta": 2.0}
    assert losses.SoftmaxCrossEntropy(class_weights=np.arange(2)).settings() == {
        "label_smoothing": 0.0,
        "class_weights": [0.0, 1.0],
        "ignore_index": None,
    }


WEIGHTS = np.array([0.5, 3.0, 1.0, 0.0, 2.0, 0.25, 1.0])
OTHERS = [
    losses.MSE(),
    losses.L1(),
    losses.Huber(0.7),
    losses.BinaryCrossEntropy(),
    losses.BinaryCrossEntropy([0.5, 2, 1, 0, 3]),
]
WITH_CLASSES = [
    losses.SoftmaxCrossEntropy(),
    losses.SoftmaxCrossEntropy(0.1, class_weights=[2, 1, 0, 0.5, 4], ignore_index=1),
    losses.SoftmaxCrossEntropy(ignore_index=255),
]


def outputs_and_targets(loss, shape=(7, 3, 5)):
    rng = np.random.default_rng(1)
    outputs = rng.standard_normal(shape)
    if loss.classes:
        labels = rng.integers(0, 5, shape[:-1])
        return outputs, np.where(rng.random(labels.shape) < 0.2, loss.ignore_index or 0, labels)
    return outputs, rng.random(shape)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", [*OTHERS, *WITH_CLASSES], ids=repr)
def test_every_gradient_is_the_slope_of_its_loss(loss, weights):
    outputs, targets = outputs_and_targets(loss)
    _, gradient = loss(outputs, targets, weights)
    slopes = gradient_check.slopes(lambda: loss(outputs, targets, weights)[0], outputs)
    gradient_check.compare(gradient, slopes, repr(loss))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", [*OTHERS, *WITH_CLASSES], ids=repr)
def test_parts_of_a_batch_make_its_mean_by_their_weight(loss, weights):
    outputs, targets = outputs_and_targets(loss)
    whole, gradient = loss(outputs, targets, weights)
    total, parts = 0.0, []
    for rows in (slice(0, 2), slice(2, 7)):
        given = targets[rows], None if weights is None else weights[rows]
        mean, part = loss(outputs[rows], *given)
        share = loss.weight(*given) / loss.weight(targets, weights)
        total, parts = total + share * mean, [*parts, share * part]
    assert total == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(np.concatenate(parts), gradient, rtol=1e-12, atol=1e-15)


def test_an_integer_weight_is_that_many_samples():
    outputs, targets = outputs_and_targets(losses.Huber())
    times = np.array([1, 0, 3, 2, 1, 0, 1])
    for loss in OTHERS:
        weighted, gradient = loss(outputs, targets, times.astype(float))
        repeated, parts = loss(np.repeat(outputs, times, 0), np.repeat(targets, times, 0))
        assert weighted == pytest.approx(repeated, rel=1e-12)
        summed = np.add.reduceat(parts, [0, 1, 4, 6, 7])
        np.testing.assert_allclose(gradient[times > 0], summed, rtol=1e-12, atol=1e-15)
        assert not gradient[times == 0].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_is_exact_at_the_ends(isa, dtype):
    """Sure and wrong costs the whole logit; sure and right what is left of exp, not 0 - 0."""
    x = np.array([1e4, -1e4, 30, -30, -30, 0], dtype)
    t = np.array([0, 1, 1, 0, 1, 1], dtype)
    expected = np.array([1e4, 1e4, np.exp(-30), np.exp(-30), 30, np.log(2)])
    slopes = np.array([1, -1, -np.exp(-30), np.exp(-30), -1, -0.5])
    relative = 40 * float(np.finfo(dtype).eps)
    for i in range(6):
        loss, slope = ops.binary_cross_entropy_with_logits(x[i : i + 1], t[i : i + 1])
        assert loss == pytest.approx(expected[i], rel=relative)
        assert slope[0] == pytest.approx(slopes[i], rel=relative)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_robust_losses_far_out_and_at_their_kinks(isa, dtype):
    x = np.array([1e4, -1e4, 0.5, -0.5, 0, 2], dtype)
    loss, slope = ops.l1_loss(x, np.zeros_like(x))
    assert loss == pytest.approx((2e4 + 3) / 6, rel=1e-6)
    np.testing.assert_allclose(6 * slope, [1, -1, 1, -1, 0, 1], rtol=1e-6)
    loss, slope = ops.huber_loss(x, np.zeros_like(x), delta=0.5)
    values = np.array([0.5 * (1e4 - 0.25), 0.5 * (1e4 - 0.25), 0.125, 0.125, 0, 0.875])
    assert loss == pytest.approx(values.mean(), rel=1e-6)
    np.testing.assert_allclose(6 * slope, [0.5, -0.5, 0.5, -0.5, 0, 0.5], rtol=1e-6)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "binary_cross_entropy_with_logits"])
def test_a_nan_shows(isa, name):
    x = np.zeros(40, np.float32)
    x[17] = np.nan
    loss, slope = getattr(ops, name)(x, np.zeros_like(x))
    assert np.isnan(loss)
    assert np.isnan(slope).nonzero()[0].tolist() == [17]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", [5, 40])
def test_where_nothing_counts_loss_and_gradient_are_zero(isa, dtype, K):
    """PyTorch has NaN there: one batch without a label would end a run."""
    logits = np.random.default_rng(0).standard_normal((3, 4, K)).astype(dtype)
    labels = np.full((3, 4), 255)
    for options in (
        {"labels": labels, "ignore_index": 255},
        {"labels": labels * 0, "sample_weight": np.zeros(3, dtype)},
        {"labels": labels * 0, "class_weights": np.arange(K) > 0.0, "label_smoothing": 0.1},
    ):
        if "class_weights" in options:
            options["class_weights"] = options["class_weights"].astype(dtype)
        loss, gradient = ops.softmax_cross_entropy(logits, **options)
        assert loss == 0
        assert not gradient.any()
    loss, gradient = ops.mse_loss(logits, -logits, sample_weight=np.zeros(3, dtype))
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", [5, 40])
def test_an_ignored_row_may_hold_anything(isa, num_threads, dtype, K):
    logits = np.random.default_rng(0).standard_normal((18, K)).astype(dtype)
    labels = np.arange(18) % K
    labels[[0, 17]] = -100
    logits[[0, 17]] = np.nan
    loss, gradient = ops.softmax_cross_entropy(logits, labels, ignore_index=-100)
    rest, rows = ops.softmax_cross_entropy(logits[1:17], labels[1:17])
    assert loss == rest
    np.testing.assert_array_equal(gradient[1:17], rows)
    assert not gradient[[0, 17]].any()


@pytest.mark.parametrize("K", [3, 33])
def test_a_map_is_its_pixels(isa, num_threads, K):
    logits = np.random.default_rng(0).standard_normal((2, 5, 7, K), np.float32)
    labels = np.random.default_rng(1).integers(0, K, (2, 5, 7))
    loss, gradient = ops.softmax_cross_entropy(logits, labels, sample_weight=np.float32([1, 3]))
    pixels = np.repeat(np.float32([1, 3]), 35)
    flat, rows = ops.softmax_cross_entropy(
        logits.reshape(-1, K), labels.reshape(-1), sample_weight=pixels
    )
    assert loss == flat
    np.testing.assert_array_equal(gradient, rows.reshape(gradient.shape))


def test_weights_of_samples_beyond_a_block(isa):
    """Blocks of 1024 numbers: 7 a sample, so that a sample's lie in two of them."""
    rng = np.random.default_rng(0)
    outputs, targets = rng.standard_normal((2, 400, 7), np.float32)
    weights = rng.random(400, np.float32)
    exact = reference.mse_loss(outputs, targets, weights)
    bounds = tolerance.mse_loss(outputs, targets, sample_weight=weights)
    ours = ops.mse_loss(outputs, targets, sample_weight=weights)
    for result, value, bound in zip(ours, exact, bounds, strict=True):
        tolerance.assert_within(result, value, bound)


@pytest.mark.parametrize("K", [5, 40])
def test_a_target_of_zero_costs_nothing_where_log_is_infinite(isa, K):
    logits = np.zeros((2, K), np.float32)
    logits[:, 3] = -np.inf
    targets = np.zeros((2, K), np.float32)
    targets[:, [1, K - 1]] = 0.5
    loss, gradient = ops.softmax_cross_entropy(logits, targets)
    assert loss == pytest.approx(np.log(K - 1), rel=1e-6)
    assert not gradient[:, 3].any()


def test_answers_and_probabilities():
    x = np.float32([[0, 2, -1], [-1e4, 1e4, 3]])
    assert losses.SoftmaxCrossEntropy().answers(x).tolist() == [1, 1]
    assert losses.BinaryCrossEntropy().answers(x).tolist() == [
        [False, True, False],
        [False, True, True],
    ]
    yes = losses.BinaryCrossEntropy().probabilities(x)
    np.testing.assert_allclose(yes, reference.sigmoid(np.float64(x)), rtol=1e-6)
    assert losses.MSE().answers(x) is x
    with pytest.raises(TypeError, match=r"MSE: outputs are no probabilities; .* use predict"):
        losses.MSE().probabilities(x)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: losses.Huber(0), "Huber: delta is 0; expected a finite number above 0"),
        (lambda: losses.Huber("1"), "Huber: delta is '1'; expected"),
        (lambda: losses.BinaryCrossEntropy(-1), "pos_weight is -1; expected a number, or one"),
        (lambda: losses.BinaryCrossEntropy([[1]]), r"pos_weight is \[\[1\]\]; expected"),
        (lambda: losses.SoftmaxCrossEntropy(0, 2.0), "class_weights is 2.0; expected one for each"),
        (lambda: losses.SoftmaxCrossEntropy(0, ["a"]), r"class_weights is \['a'\]; expected one"),
        (lambda: losses.SoftmaxCrossEntropy(ignore_index=1.0), "ignore_index is 1.0; expected an"),
    ],
)
def test_wrong_arguments_are_sentences(make, words):
    with pytest.raises(ValueError, match=words):
        make()
