"""Metrics beside scikit-learn's, batch by batch; what adds up, and what is refused."""

import warnings

import numpy as np
import pytest

from pycnn import metrics

K = 5


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip(
        "sklearn.metrics", reason="compares with scikit-learn, which is not installed"
    )


def classes(seed=0, n=60):
    """Class 3 is never said and 4 never true; 2 neither."""
    rng = np.random.default_rng(seed)
    outputs = rng.standard_normal((n, K))
    outputs[:, 2:4] -= 100
    return outputs, rng.choice([0, 1, 3], n), rng.integers(0, 4, n).astype(np.float32)


def in_batches(metric, outputs, targets, weights=None):
    metric.reset()
    for rows in (slice(0, 7), slice(7, 8), slice(8, None)):
        part = None if weights is None else weights[rows]
        metric.update(outputs[rows], targets[rows], part)
    return metric.compute()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize("zero", [0.0, 1.0, float("nan")])
def test_precision_recall_and_f1_are_scikit_learns(theirs, zero, average, weighted):
    outputs, targets, weights = classes()
    weights = weights if weighted else None
    said = outputs.argmax(axis=1)
    for ours, function in (
        (metrics.Precision(average, zero_division=zero), theirs.precision_score),
        (metrics.Recall(average, zero_division=zero), theirs.recall_score),
        (metrics.F1(average, zero_division=zero), theirs.f1_score),
    ):
        expected = function(
            targets,
            said,
            labels=range(K) if average is None else None,
            average=average,
            sample_weight=weights,
            zero_division=zero,
        )
        found = in_batches(ours, outputs, targets, weights)
        np.testing.assert_allclose(found, expected, rtol=1e-12, equal_nan=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_accuracy_top_k_confusion_and_iou_are_scikit_learns(theirs, weighted):
    outputs, targets, weights = classes(1)
    given = weights if weighted else None
    said = outputs.argmax(axis=1)
    found = in_batches(metrics.Accuracy(), outputs, targets, given)
    assert found == pytest.approx(theirs.accuracy_score(targets, said, sample_weight=given))
    for k in (1, 2, 4):
        expected = theirs.top_k_accuracy_score(
            targets, outputs, k=k, labels=range(K), sample_weight=given
        )
        assert in_batches(metrics.TopK(k), outputs, targets, given) == pytest.approx(expected)
    matrix = in_batches(metrics.ConfusionMatrix(), outputs, targets, given)
    expected = theirs.confusion_matrix(targets, said, labels=range(K), sample_weight=given)
    np.testing.assert_array_equal(matrix, expected)
    expected = theirs.jaccard_score(targets, said, average="macro", sample_weight=given)
    assert in_batches(metrics.MeanIoU(), outputs, targets, given) == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
def test_several_labels_are_scikit_learns(theirs, average, weighted):
    rng = np.random.default_rng(2)
    logits, targets = rng.standard_normal((40, K)), rng.random((40, K)) > 0.6
    logits[:, 2], targets[:, 3] = -1, False
    weights = rng.random(40) if weighted else None
    said, given = logits > 0, targets.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels without samples
        for ours, function in (
            (metrics.Precision(average, threshold=0), theirs.precision_score),
            (metrics.Recall(average, threshold=0), theirs.recall_score),
            (metrics.F1(average, threshold=0), theirs.f1_score),
            (metrics.MeanIoU(average, threshold=0), theirs.jaccard_score),
        ):
            expected = function(targets, said, average=average, sample_weight=weights)
            found = in_batches(ours, logits, given, weights)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    expected = theirs.accuracy_score(targets, said, sample_weight=weights)
    assert in_batches(metrics.Accuracy(threshold=0), logits, given, weights) == expected


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [1, 3])
def test_mae_and_r2_are_scikit_learns(theirs, columns, weighted):
    rng = np.random.default_rng(3)
    targets = rng.standard_normal((30, columns)) + 5
    outputs = targets + 0.5 * rng.standard_normal(targets.shape)
    weights = rng.random(30) if weighted else None
    for ours, function in (
        (metrics.MAE(), theirs.mean_absolute_error),
        (metrics.R2(), theirs.r2_score),
    ):
        expected = function(targets, outputs, sample_weight=weights)
        assert in_batches(ours, outputs, targets, weights) == pytest.approx(expected, rel=1e-10)
    flat = np.ones((4, 1))
    assert in_batches(metrics.R2(), flat, flat) == theirs.r2_score(flat, flat) == 1
    assert in_batches(metrics.R2(), flat + 1, flat) == theirs.r2_score(flat, flat + 1) == 0


def test_maps_count_by_pixel_and_labels_below_zero_not_at_all():
    rng = np.random.default_rng(4)
    outputs, targets = rng.standard_normal((4, 3, 5, K)), rng.integers(-1, K, (4, 3, 5))
    weights = np.array([1.0, 2, 0, 3])
    counts = targets >= 0
    rows, labels = outputs[counts], targets[counts]
    of_pixels = np.broadcast_to(weights[:, None, None], targets.shape)[counts]
    for make in (metrics.Accuracy, lambda: metrics.TopK(2), metrics.ConfusionMatrix, metrics.F1):
        plain, flat = make(), make()
        plain.update(outputs, targets)
        flat.update(rows, labels)
        np.testing.assert_array_equal(plain.compute(), flat.compute())
        plain, flat = make(), make()
        plain.update(outputs, targets, weights)
        flat.update(rows, labels, of_pixels)
        np.testing.assert_array_equal(plain.compute(), flat.compute())
    one_axis = metrics.Accuracy()
    one_axis.update(rows, np.where(np.arange(len(labels)) < 5, -1, labels))
    assert one_axis.sums[1] == len(labels) - 5


def test_ties_and_nan_of_top_k():
    """Of equal outputs the first counts, as in argmax; NaN is before every number."""
    metric = metrics.TopK(2)
    metric.update(np.zeros((4, 3)), np.array([0, 1, 2, 2]))
    assert metric.compute() == 0.5
    metric.reset()
    metric.update(np.array([[np.nan, 1, 0]] * 3), np.array([0, 1, 2]))
    assert metric.compute() == pytest.approx(1 / 3)


def test_distributions_count_by_their_largest():
    outputs, targets, _ = classes()
    soft = 0.8 * np.eye(K)[targets] + 0.2 / K
    for make in (metrics.Accuracy, metrics.F1, metrics.ConfusionMatrix):
        np.testing.assert_array_equal(
            in_batches(make(), outputs, soft), in_batches(make(), outputs, targets)
        )


def test_names_tell_what_should_grow():
    growing = ("val_accuracy", "top5_accuracy", "val_f1", "f1_3", "mean_iou", "r2", "my_recall")
    assert all(map(metrics.grows, growing))
    assert not any(map(metrics.grows, ("loss", "val_loss", "val_mae", "lr", "epoch")))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.TopK(0), "TopK: k is 0; expected a whole number"),
        (lambda: metrics.F1("all"), "F1: average is 'all'; expected 'macro'"),
        (lambda: metrics.Recall(zero_division=2), "zero_division is 2; expected 0 to 1"),
        (lambda: metrics.Accuracy(threshold="x"), "threshold is 'x'; expected a number"),
        (lambda: metrics.MAE(name="a b"), "name is 'a b'; expected one word"),
        (lambda: metrics.MAE().compute(), "MAE: nothing to compute; expected update"),
        (
            lambda: metrics.F1().update(np.zeros((2, 3)), np.float32([[1, 1, 0], [0, 0, 0]])),
            r"rows that add up to 1: for several labels a sample write F1\(threshold=0.0\)",
        ),
        (
            lambda: metrics.F1(threshold=0).update(np.zeros((2, 3)), np.array([1, 2])),
            r"targets have shape \(2,\) for outputs \(2, 3\); expected yes or no",
        ),
        (
            lambda: metrics.Accuracy().update(np.zeros((2, 3)), np.zeros((2, 3), int)),
            r"targets are int64 \(2, 3\) for outputs \(2, 3\); expected class numbers",
        ),
        (
            lambda: metrics.ConfusionMatrix().update(np.zeros((2, 3)), np.array([1, 3])),
            "a target is 3; expected a class of outputs",
        ),
        (
            lambda: metrics.R2().update(np.zeros((2, 1)), np.zeros(2)),
            r"R2: targets are float64 \(2,\); expected numbers of the outputs' shape \(2, 1\)",
        ),
    ],
)
def test_what_does_not_fit_is_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
