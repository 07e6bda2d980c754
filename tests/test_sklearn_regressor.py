"""CNNRegressor: scikit-learn's own checks, numbers of any unit, weights; and the classifier's."""

import pickle

import numpy as np
import pytest

import pycnn
from pycnn.layers import Linear, ReLU, Sequential

pytest.importorskip("sklearn", reason="scikit-learn is in an extra: pip install '.[sklearn]'")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from pycnn.sklearn import CNNClassifier, CNNRegressor

# Epochs are cut into batches in an order of their own: a repeated row is not one of weight 2.
EXPECTED_FAILURES = {"check_sample_weight_equivalence_on_dense_data": "batches are drawn"}


@pytest.mark.filterwarnings("default")
@parametrize_with_checks(
    [CNNRegressor(), CNNRegressor(early_stopping=True, validation_fraction=0.4)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
    xfail_strict=True,
)
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


RNG = np.random.default_rng(0)
X = RNG.standard_normal((150, 4))
Y = np.stack([X[:, 0] * X[:, 1], 1e6 + 3e4 * X[:, 2]], axis=1)


def small(**options):
    return CNNRegressor(**{"epochs": 40, "random_state": 0, **options})


def test_columns_of_any_unit_are_learned():
    both = small().fit(X, Y)
    assert both.score(X, Y) > 0.9
    found = both.predict(X)
    assert found.shape == Y.shape
    assert np.abs(found[:, 1] - Y[:, 1]).mean() < 1e4
    one = small().fit(X, Y[:, 1])
    assert one.predict(X).shape == (150,)
    assert one.score(X, Y[:, 1]) > 0.95
    assert len(one.loss_curve_) == one.n_iter_ == 40
    with pytest.raises(ValueError, match=r"y has shape \(150,\); expected \(150, 2\), as it was"):
        both.partial_fit(X, Y[:, 1])


def test_the_same_bits_with_threads_and_copies():
    expected = small(epochs=3).fit(X, Y).predict(X)
    with pycnn.num_threads(3):
        again = clone(small(epochs=3)).fit(X, Y)
    other = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(other.predict(X), expected)
    for regressor in (again, other):
        regressor.partial_fit(X, Y)
    np.testing.assert_array_equal(again.predict(X), other.predict(X))
    warm = small(epochs=3, warm_start=True).fit(X, Y)
    assert warm.fit(X, Y).n_iter_ == 6


def test_searches_and_early_stopping():
    search = GridSearchCV(small(), {"learning_rate": [1e-6, 3e-3]}, cv=2).fit(X, Y)
    assert search.best_params_ == {"learning_rate": 3e-3}
    assert cross_val_score(small(), X, Y[:, 1], cv=2).mean() > 0.8
    stopped = small(epochs=200, early_stopping=True, n_iter_no_change=3, tol=0.01).fit(X, Y)
    assert len(stopped.validation_scores_) == stopped.n_iter_ < 200


def test_weights_decide_what_is_learned():
    """Half of the rows say 0, the others 1: the heavier half is right; for classes too."""
    same = np.ones((100, 2))
    y = np.arange(100) % 2
    weights = np.where(y == 1, 9.0, 1.0)
    regressor = small(epochs=300, batch_size=100, learning_rate=0.02).fit(
        same, y, sample_weight=weights
    )
    assert regressor.predict(same)[0] == pytest.approx(0.9, abs=0.02)
    classifier = CNNClassifier(epochs=300, batch_size=100, learning_rate=0.02, random_state=0)
    classifier.fit(same, y, sample_weight=weights)
    assert classifier.predict_proba(same)[0, 1] == pytest.approx(0.9, abs=0.03)
    with pytest.raises(ValueError, match=r"sample_weight has -1.0; expected weights of 0 or more"):
        regressor.fit(same, y, sample_weight=-np.ones(100))


def test_a_model_of_your_own():
    def make(shape, outputs, rng):
        return Sequential(Linear(*shape, 8, rng=rng), ReLU(), Linear(8, outputs, rng=rng))

    assert small(model=make, epochs=2).fit(X, Y).predict(X).shape == (150, 2)
    with pytest.raises(TypeError, match=r"CNNRegressor: .* lambda shape, outputs, rng:"):
        small(model=make((4,), 2, 0)).fit(X, Y)
    with pytest.raises(ValueError, match=r"expected \(None, 1\), a number for each column of y"):
        small(model=lambda s, o, rng: make(s, o + 1, rng)).fit(X, Y[:, 0])
