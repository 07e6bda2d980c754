"""The loss: its number, its gradient, and its sentences."""

import gradient_check
import numpy as np
import pytest
import reference

from pycnn import losses


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
