"""`CNNRegressor`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from pycnn import losses
from pycnn.metrics import R2, Metric
from pycnn.ops.arrays import Array
from pycnn.sklearn.base import CHECKS, Network
from pycnn.trainer.targets import Batch


class CNNRegressor(RegressorMixin, Network):  # type: ignore[misc]
    """A network trained with AdamW on squared errors, as a scikit-learn regressor.

    X is that of `CNNClassifier`, and so are the parameters; early stopping looks at R^2. y holds
    numbers [n], or [n, m] for m of them a row. Within, each column of the first y that is fitted
    has mean 0 and standard deviation 1, so that no learning rate depends on its unit.

    Attributes: model_: the network, in eval mode, whose outputs are in these units; loss_curve_,
    n_iter_, validation_scores_, n_features_in_: as those of `CNNClassifier`.
    """

    _outputs_are, _each, _score = "outputs", "each column of y", "r2"

    def __sklearn_tags__(self) -> Any:
        """Of scikit-learn: y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _loss(self) -> losses.Loss:
        return losses.MSE()

    def _metrics(self) -> list[Metric]:
        return [R2()]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CNNRegressor:
        """Train on X and y from new weights (but see `warm_start`); returns the regressor."""
        self._check_parameters()
        goes_on = self.warm_start and hasattr(self, "model_")
        X, y = self._validated(X, y, reset=not goes_on)
        weights = self._weights(sample_weight, X)
        if goes_on:
            self._check_columns(y)
            self._optimizer = self._new_optimizer()
        else:
            self._start_for(X, y)
        self._fit(Batch(X, self._scaled(y), weights), stratify=None)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> CNNRegressor:
        """One epoch on X and y, on top of what is learned; returns the regressor."""
        self._check_parameters()
        first = not hasattr(self, "model_")
        X, y = self._validated(X, y, reset=first)
        if first:
            self._start_for(X, y)
        else:
            self._check_columns(y)
        self._train(Batch(X, self._scaled(y), self._weights(sample_weight, X)), 1)
        return self

    def predict(self, X: Any) -> Array:
        """A number for each row, float64 [n], or [n, m] as y was."""
        found: Array = self._says(X, "predict") * self._std + self._mean
        return found.reshape(len(found), *self._columns)

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Array, Array]:
        X, y = validate_data(self, X, y, reset=reset, multi_output=True, y_numeric=True, **CHECKS)
        return self._images(X, reset), np.asarray(y, np.float64)

    def _start_for(self, X: Array, y: Array) -> None:
        rows = y.reshape(len(y), -1)
        self._columns = y.shape[1:]
        self._mean, self._std = rows.mean(axis=0), rows.std(axis=0)
        self._std[self._std <= 1e-6 * np.abs(self._mean) + 1e-300] = (
            1.0  # constant, but for rounding
        )
        self._start(X, rows.shape[1])

    def _scaled(self, y: Array) -> Array:
        scaled = (y.reshape(len(y), -1) - self._mean) / self._std
        return np.asarray(scaled, np.float32)

    def _check_columns(self, y: Array) -> None:
        if y.shape[1:] != self._columns:
            raise ValueError(
                f"CNNRegressor: y has shape {y.shape}; expected {(len(y), *self._columns)}, as it "
                "was fitted."
            )
