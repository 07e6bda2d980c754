"""`CNNClassifier`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import validate_data

from pycnn import losses
from pycnn.metrics import Accuracy, Metric
from pycnn.ops.arrays import Array
from pycnn.sklearn.base import CHECKS, Network
from pycnn.trainer.targets import Batch


class CNNClassifier(ClassifierMixin, Network):  # type: ignore[misc]
    """A network trained with AdamW and cross-entropy, as a scikit-learn classifier.

    X is [n, features], or images [n, H, W, C]; numbers of any scale: each feature, or each channel
    of images, gets mean 0 and standard deviation 1 over the first X that is fitted, as
    `model_.normalization`. y holds any labels. The results depend on X, y and the parameters alone,
    not on the number of threads, if random_state is an int.

    Parameters:
        model: None for `default_model`, or a function of the same arguments, (shape of one image or
            (features,), number of classes, Generator), that returns a new module, for example a
            Sequential.
        image_shape: (H, W, C) that each row of X [n, H * W * C] is reshaped to, in C order; None
            takes X as it is.
        epochs: passes over the data in `fit`, at most; `partial_fit` makes one.
        batch_size: images a step, about: an epoch is cut into batches of nearly equal size.
        learning_rate, weight_decay: of AdamW.
        early_stopping: set validation_fraction of the data aside, by class, and stop when its
            accuracy has not grown by more than tol for n_iter_no_change epochs; the weights of the
            last epoch in which it had are kept.
        warm_start: `fit` goes on from the weights there are, with a new optimizer.
        random_state: of the initial weights, the order of the images and the split.
        verbose: print a line an epoch.

    Attributes:
        classes_: the labels, sorted. model_: the network, in eval mode. loss_curve_: the mean loss
        of each epoch. n_iter_: the number of epochs. validation_scores_: the accuracies of early
        stopping. n_features_in_: the columns of X.

    Raises ValueError for parameters out of range and TypeError for a model that is no function (in
    `fit`), ValueError for a model of other sizes, and what scikit-learn raises for wrong X and y;
    RuntimeError if the loss becomes NaN or infinite.
    """

    classes_: Array
    _outputs_are, _each, _score = "classes", "each class", "accuracy"

    def _loss(self) -> losses.Loss:
        return losses.SoftmaxCrossEntropy()

    def _metrics(self) -> list[Metric]:
        return [Accuracy()]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CNNClassifier:
        """Train on X and y from new weights (but see `warm_start`); returns the classifier."""
        self._check_parameters()
        goes_on = self.warm_start and hasattr(self, "model_")
        X, y = self._validated(X, y, reset=not goes_on)
        weights = self._weights(sample_weight, X)
        classes, labels = np.unique(y, return_inverse=True)
        if goes_on:
            self._check_classes(classes, "warm_start", "first fit")
            self._optimizer = self._new_optimizer()
        else:
            self.classes_ = classes
            self._start(X, len(classes))
        self._fit(Batch(X, labels, weights), stratify=labels)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> CNNClassifier:
        """One epoch on X and y, on top of what is learned; returns the classifier.

        classes: all labels that will ever come, in the first call.
        """
        self._check_parameters()
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ValueError(
                "CNNClassifier: the first partial_fit without classes; expected all labels that "
                "will ever come: partial_fit(X, y, classes=np.unique(all_y))."
            )
        if classes is not None:
            classes = unique_labels(classes)
            if not first:
                self._check_classes(classes, "partial_fit", "first call")
        X, y = self._validated(X, y, reset=first)
        if first:
            self.classes_ = classes
        if unknown := sorted(set(np.unique(y).tolist()) - set(self.classes_.tolist())):
            raise ValueError(
                f"CNNClassifier: y has the labels {unknown}; expected those of the classes "
                f"{self.classes_.tolist()}."
            )
        if first:
            self._start(X, len(self.classes_))
        weights = self._weights(sample_weight, X)
        self._train(Batch(X, np.searchsorted(self.classes_, y), weights), 1)
        return self

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, float32 [n, K], in the order of `classes_`."""
        return self._says(X, "predict_proba")

    def predict(self, X: Any) -> Array:
        """The most probable label of each row, [n]."""
        best = self._says(X, "predict")
        return np.asarray(self.classes_[best])

    def _check_classes(self, classes: Array, who: str, where: str) -> None:
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"CNNClassifier: {who} with the classes {classes.tolist()}; expected those of the "
                f"{where}, {self.classes_.tolist()}."
            )

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Array, Array]:
        X, y = validate_data(self, X, y, reset=reset, multi_output=True, **CHECKS)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return self._images(X, reset), y
