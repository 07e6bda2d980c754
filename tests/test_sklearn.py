"""CNNClassifier: scikit-learn's own checks, then what they do not ask for."""

import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import pycnn
from pycnn import datasets, models
from pycnn.layers import Conv2d, Flatten, Linear, Module, ReLU, Sequential, relu

pytest.importorskip("sklearn", reason="scikit-learn is in an extra: pip install '.[sklearn]'")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pycnn.sklearn import CNNClassifier

# name of a check: why it fails; at most 3
# Epochs are cut into batches in an order of their own: a repeated row is not one of weight 2.
EXPECTED_FAILURES = {"check_sample_weight_equivalence_on_dense_data": "batches are drawn"}


@pytest.mark.filterwarnings("default")
@parametrize_with_checks(
    [CNNClassifier(), CNNClassifier(early_stopping=True, validation_fraction=0.4)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
    xfail_strict=True,
)
def test_scikit_learn_s_checks(estimator, check):
    assert len(EXPECTED_FAILURES) <= 3
    check(estimator)


@pytest.fixture(scope="module")
def mnist():
    data = datasets.load_mnist()
    return (
        data.train.images[:600].reshape(600, 784),
        data.train.labels[:600],
        data.test.images[:300].reshape(300, 784),
        data.test.labels[:300],
    )


def small(**options):
    return CNNClassifier(**{"epochs": 3, "random_state": 0, **options})


def test_digits_as_rows_and_as_images(mnist):
    """600 images, 5 epochs: far above the 10 % of guessing; bytes and floats are the same."""
    X, y, X_test, y_test = mnist
    rows = small(image_shape=(28, 28, 1), epochs=5).fit(X, y)
    assert rows.score(X_test, y_test) > 0.75
    assert [type(layer).__name__ for layer in rows.model_][:3] == ["Conv2d", "ReLU", "MaxPool2d"]
    assert rows.n_features_in_ == 784
    assert rows.model_.input_shape == (28, 28, 1)
    images = small(epochs=5).fit(X.reshape(-1, 28, 28, 1), y)
    p = rows.predict_proba(X_test)
    assert p.dtype == np.float32
    np.testing.assert_array_equal(images.predict_proba(X_test.reshape(-1, 28, 28, 1)), p)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(rows.predict(X_test), p.argmax(1))
    assert len(rows.loss_curve_) == rows.n_iter_ == 5
    assert rows.loss_curve_[-1] < 0.5 * rows.loss_curve_[0]


def test_the_same_bits_again_with_threads_and_copies(mnist):
    X, y, X_test, _ = mnist
    expected = small(image_shape=(28, 28, 1)).fit(X, y).predict_proba(X_test)
    for threads in (1, 3):
        with pycnn.num_threads(threads):
            again = clone(small(image_shape=(28, 28, 1))).fit(X, y)
            np.testing.assert_array_equal(again.predict_proba(X_test), expected)
    other = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(other.predict_proba(X_test), expected)
    for classifier in (again, other):
        classifier.partial_fit(X[:50], y[:50])
    np.testing.assert_array_equal(again.predict_proba(X_test), other.predict_proba(X_test))
    assert not np.array_equal(other.predict_proba(X_test), expected)


def test_labels_of_any_kind(mnist):
    X, y, X_test, _ = mnist
    numbers = small().fit(X, y)
    names = np.array([f"digit {k}" for k in range(10)])
    words = small().fit(X, names[y])
    assert list(words.classes_) == list(names)
    np.testing.assert_array_equal(words.predict(X_test), names[numbers.predict(X_test)])


def test_pipeline_and_grid_search_with_two_jobs(mnist):
    X, y, _, _ = mnist
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), small(epochs=2)),
        {"cnnclassifier__learning_rate": [1e-6, 3e-3], "cnnclassifier__batch_size": [16]},
        cv=2,
        n_jobs=2,
    )
    search.fit(X, y)
    assert search.best_params_["cnnclassifier__learning_rate"] == 3e-3
    assert search.best_score_ > 0.5
    assert cross_val_score(small(epochs=2), X, y, cv=2).mean() > 0.5


def test_early_stopping_keeps_the_best_weights(mnist):
    X, y, _, _ = mnist
    c = small(epochs=40, early_stopping=True, n_iter_no_change=2, validation_fraction=0.25)
    c.fit(X, y)
    scores = c.validation_scores_
    assert len(scores) == c.n_iter_ < 40
    best = int(np.argmax(scores))
    assert c.n_iter_ == best + 1 + 2
    shorter = small(epochs=best + 1, early_stopping=True, validation_fraction=0.25).fit(X, y)
    np.testing.assert_array_equal(shorter.predict_proba(X), c.predict_proba(X))
    assert small().fit(X, y).validation_scores_ == []


def test_warm_start_goes_on_and_a_cold_one_does_not(mnist):
    X, y, _, _ = mnist
    warm = small(warm_start=True).fit(X, y)
    warm.fit(X, y)
    assert len(warm.loss_curve_) == warm.n_iter_ == 6
    assert warm.loss_curve_[3] < 0.2 * warm.loss_curve_[0]
    cold = small().fit(X, y)
    expected = cold.predict_proba(X)
    np.testing.assert_array_equal(cold.fit(X, y).predict_proba(X), expected)
    assert cold.n_iter_ == 3
    with pytest.raises(ValueError, match=r"warm_start with the classes .*expected those of the fi"):
        warm.fit(X[y < 5], y[y < 5])


def test_partial_fit_knows_classes_that_come_later(mnist):
    X, y, X_test, y_test = mnist
    c = small()
    with pytest.raises(ValueError, match="the first partial_fit without classes"):
        c.partial_fit(X, y)
    for _ in range(3):
        for part in (y < 5, y >= 5):
            c.partial_fit(X[part], y[part], classes=range(10))
    for _ in range(2):
        c.partial_fit(X, y)
    assert c.score(X_test, y_test) > 0.6
    assert c.n_iter_ == 8
    with pytest.raises(ValueError, match=r"y has the labels \[11\]; expected those of the classes"):
        c.partial_fit(X, y + np.uint8(11) * (y == 0))
    with pytest.raises(ValueError, match=r"partial_fit with the classes .*expected those of the f"):
        c.partial_fit(X, y, classes=range(11))


def two_layers(shape, classes, rng):
    return Sequential(Flatten(), Linear(int(np.prod(shape)), 9, rng=rng), ReLU(),
                      Linear(9, classes, rng=rng))  # fmt: skip


def test_a_model_of_the_user_s(mnist, tmp_path):
    X, y, X_test, _ = mnist
    c = small(model=two_layers, image_shape=(28, 28, 1)).fit(X, y)
    assert len(c.model_) == 4
    pycnn.save_model(c.model_, tmp_path / "m")
    model = pycnn.load_model(tmp_path / "m")
    x = model.normalization(X_test.reshape(-1, 28, 28, 1).astype(np.float32))
    np.testing.assert_array_equal(pycnn.ops.softmax(model(x)), c.predict_proba(X_test))

    class Residual(Module):
        def __init__(self, C, rng):
            super().__init__()
            self.conv = Conv2d(C, C, 3, padding="same", rng=rng)
            self.head = Linear(28 * 28 * C, 10, rng=rng)
            self.flat = Flatten()

        def forward(self, x):
            return self.head(self.flat(relu(x + self.conv(x))))

    branching = small(model=lambda shape, _, rng: Residual(shape[-1], rng), image_shape=(28, 28, 1))
    assert branching.fit(X, y).score(X, y) > 0.5
    x = branching.model_.normalization(X_test.reshape(-1, 28, 28, 1).astype(np.float32))
    logits = branching.model_(x)
    np.testing.assert_array_equal(pycnn.ops.softmax(logits), branching.predict_proba(X_test))
    with pytest.raises(ValueError, match=r"gave ReLU.*; expected a module"):
        small(model=lambda *_: ReLU()).fit(X, y)
    with pytest.raises(ValueError, match=r"output is \(None, 784\); expected \(None, 10\), a num"):
        small(model=lambda *_: Sequential(ReLU())).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected a whole number from 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5; expected a whole number"),
        ({"n_iter_no_change": True}, "n_iter_no_change is True; expected a whole"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0; expected a share above 0"),
        ({"image_shape": (5, 5, 1)}, r"X has 784 features; expected 25 for image_shape=\(5, 5"),
        ({"learning_rate": -1}, "lr"),
        ({"tol": "a"}, "tol is 'a'; expected a number of 0 or more"),
        ({"image_shape": 3}, r"image_shape is 3; expected three whole numbers .*\(28, 28, 1\)"),
        ({"image_shape": "28"}, "image_shape is '28'; expected three whole"),
        ({"image_shape": (28, 28)}, r"image_shape is \(28, 28\); expected three whole"),
        ({"image_shape": (28, 28.0, 1)}, "expected three whole"),
    ],
)  # fmt: skip
def test_wrong_parameters(mnist, options, message):
    X, y, _, _ = mnist
    with pytest.raises(ValueError, match=message):
        small(**options).fit(X, y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("x", r"model is 'x'; expected None, or a function \(shape, classes, rng\)"),
        (models.mnist_cnn(), r"model is a Sequential; expected a function .*: write lambda shape"),
    ],
)
def test_a_model_that_is_no_function(mnist, model, message):
    X, y, _, _ = mnist
    with pytest.raises(TypeError, match=message):
        small(model=model).fit(X, y)


def test_the_function_that_the_sentence_advises_works(mnist):
    c = small(model=lambda shape, classes, rng: models.mnist_cnn(rng), image_shape=(28, 28, 1))
    c.set_params(epochs=1).fit(mnist[0][:64], np.arange(64) % 10)
    assert c.predict_proba(mnist[0][:2]).shape == (2, 10)


def test_other_classes_are_named_as_plain_numbers(mnist):
    X = mnist[0][:8]
    c = small(warm_start=True).fit(X, np.arange(8, dtype=np.uint8) % 2)
    with pytest.raises(ValueError, match=r"with the classes \[0, 1, 2, 3\]; .* fit, \[0, 1\]\."):
        c.fit(X, np.arange(8, dtype=np.uint8) % 4)
    with pytest.raises(ValueError, match=r"the classes \[0, 2\]; expected .* call, \[0, 1\]\."):
        c.partial_fit(X, np.arange(8) % 2, classes=[0, 2])


def test_wrong_shapes_and_divergence(mnist):
    X, y, _, _ = mnist
    with pytest.raises(ValueError, match=r"X has shape \(600, 28, 28\); expected \[n, features\]"):
        small().fit(X.reshape(-1, 28, 28), y)
    c = small(epochs=1).fit(X.reshape(-1, 28, 28, 1), y)
    with pytest.raises(ValueError, match=r"expected \(28, 28, 1\) for each row"):
        c.predict(X.reshape(-1, 28, 14, 2))
    with pytest.raises(NotFittedError):
        small().predict_proba(X)
    with pytest.raises(
        RuntimeError,
        match=r"learning_rate=1e\+30; try a smaller learning_rate \(the loss is \S+ at",
    ):
        small(learning_rate=1e30, epochs=20).fit(X, y)


def test_constant_columns_and_tiny_data():
    X = np.array([[0.0, 1e6], [1.0, 1e6], [2.0, 1e6], [3.0, 1e6]])
    c = small(epochs=50).fit(X, [0, 0, 1, 1])
    assert list(c.predict(X)) == [0, 0, 1, 1]
    one = small().fit(X[:1], ["only"])
    assert list(one.predict(X)) == ["only"] * 4


def test_an_epoch_sees_each_row_once_in_batches_of_nearly_one_size():
    """50 rows of 32: two batches of 25, not one of 32 and 18 rows that are never seen."""
    seen = []

    class Spy(Flatten):
        def is_view(self):
            return False

        def compute(self, x, out):
            if self.training:
                seen.append(x[:, 0].astype(int))
            out[...] = x

        def gradients(self, dy, dx, x, y, saved):
            assert dx is None

    X = np.arange(50.0)[:, None] * [1, 0]
    model = lambda shape, classes, rng: Sequential(Spy(), Linear(2, classes, rng=rng))  # noqa: E731
    c = CNNClassifier(model, epochs=2, random_state=0).fit(X, np.arange(50) % 2)
    mean, std = c.model_.normalization.mean[0], c.model_.normalization.std[0]
    assert [len(batch) for batch in seen] == [25, 25, 25, 25]
    rows = np.sort(np.arange(50) - mean).astype(np.float32) / np.float32(std)
    for epoch in (seen[:2], seen[2:]):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), rows.astype(int))
    assert not np.array_equal(seen[0], seen[2])


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_classes_are_sorted_whatever_the_order_they_come_in(mnist, way):
    X, y, X_test, y_test = mnist
    names = np.array(["ten", "b", "c", "a", "x", "y", "z", "k", "m", "d"])
    c = small(epochs=6)
    if way == "fit":
        c.fit(X, names[y])
    else:
        for _ in range(6):
            c.partial_fit(X, names[y], classes=names)
    assert list(c.classes_) == sorted(names)
    assert c.score(X_test, names[y_test]) > 0.7
    best = c.predict_proba(X_test).argmax(1)
    np.testing.assert_array_equal(c.predict(X_test), np.array(sorted(names))[best])


def test_warm_start_has_a_new_optimizer(mnist):
    """The first step of a new AdamW moves each weight by lr or hardly; an old one remembers."""
    X, y, _, _ = mnist
    c = small(warm_start=True, batch_size=600, learning_rate=0.01).fit(X, y)
    before = c.model_.state_dict()
    c.set_params(learning_rate=0.001, epochs=1).fit(X, y)
    moved = np.abs(c.model_.state_dict()["2.weight"] - before["2.weight"])
    np.testing.assert_allclose(moved[moved > 5e-4], 0.001, rtol=0.02)
    assert np.mean(moved > 5e-4) > 0.9


@pytest.mark.parametrize(("tol", "epochs", "best"), [(0.0, 6, 4), (0.02, 4, 2), (0.5, 3, 1)])
def test_tol_is_what_an_improvement_must_exceed(mnist, monkeypatch, tol, epochs, best):
    scores = iter([0.5, 0.6, 0.61, 0.615, 0.6, 0.6, 0.9])
    states = []

    def evaluate(self, data):
        states.append(self.model.state_dict())
        return {"loss": 1.0, "accuracy": next(scores)}

    monkeypatch.setattr(pycnn.Trainer, "evaluate", evaluate)
    c = small(epochs=7, early_stopping=True, n_iter_no_change=2, tol=tol).fit(*mnist[:2])
    assert c.n_iter_ == epochs
    for name, array in c.model_.state_dict().items():
        np.testing.assert_array_equal(array, states[best - 1][name])


def test_verbose_prints_a_line_an_epoch(mnist, capsys):
    X, y, _, _ = mnist
    small(verbose=True).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]


def test_train_test_split_is_scikit_learn_s(mnist):
    X, y, _, _ = mnist
    a, b, ya, yb = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    assert (len(a), len(b), len(ya), len(yb)) == (450, 150, 450, 150)


def test_a_missing_library_gives_the_line_to_type():
    code = "import sys; sys.modules['sklearn'] = None; import pycnn.sklearn"
    hide = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'sklearn': raise ModuleNotFoundError('no', name='sklearn')\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import pycnn, pycnn.sklearn\n"
    )
    for program in (code, hide):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert run.returncode == 1
        assert "pycnn.sklearn needs scikit-learn, which is not installed" in run.stderr
        assert ": pip install 'pycnn[sklearn]'." in run.stderr


def test_two_threads_predict_at_once():
    rng = np.random.default_rng(0)
    X, y = rng.random((400, 16, 16, 1), np.float32), np.arange(400) % 4
    c = CNNClassifier(epochs=1, random_state=0).fit(X, y)
    expected, start, errors = c.predict_proba(X), threading.Barrier(2), []

    def predict():
        start.wait()
        try:
            for _ in range(20):
                np.testing.assert_array_equal(c.predict_proba(X), expected)
        except (AssertionError, RuntimeError) as error:
            errors.append(error)

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
