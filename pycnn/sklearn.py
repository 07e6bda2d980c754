"""`CNNClassifier`: a network with scikit-learn's manners; extra "sklearn".

Only this module needs scikit-learn; `import pycnn` does not load it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from pycnn import optim
from pycnn._runtime.checks import is_real, is_whole
from pycnn._runtime.extras import missing
from pycnn.callbacks import Callback, Diverged, EarlyStopping
from pycnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from pycnn.layers.base import Layer
from pycnn.layers.module import Module
from pycnn.ops.arrays import Array
from pycnn.preprocessing import Normalization
from pycnn.trainer import Trainer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, unique_labels
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise missing("sklearn", "sklearn", "pycnn.sklearn") from error

Factory: TypeAlias = Callable[[tuple[int, ...], int, np.random.Generator], Module]

_LARGEST_SEED = 2**31 - 1


def default_model(shape: tuple[int, ...], classes: int, rng: np.random.Generator) -> Sequential:
    """What `CNNClassifier(model=None)` trains, for one image [H, W, C] or [features].

    Features: one hidden layer of 64. Images: (convolution 3 x 3 "same", relu, max pool 2 x 2) with
    16 and 32 channels, a pool only where the image has two pixels each way, then a linear layer.
    """
    if len(shape) == 1:
        return Sequential(Linear(shape[0], 64, rng=rng), ReLU(), Linear(64, classes, rng=rng))
    H, W, C = shape
    stack: list[Layer] = []
    for channels in (16, 32):
        stack += [Conv2d(C, channels, 3, padding="same", rng=rng), ReLU()]
        C = channels
        if min(H, W) >= 2:
            stack.append(MaxPool2d(2))
            H, W = H // 2, W // 2
    return Sequential(*stack, Flatten(), Linear(H * W * C, classes, rng=rng))


class CNNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
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

    def __init__(
        self,
        model: Factory | None = None,
        *,
        image_shape: tuple[int, int, int] | None = None,
        epochs: int = 20,
        batch_size: int = 32,
        learning_rate: float = 0.003,
        weight_decay: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        tol: float = 1e-4,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        """Keep the parameters as they are; `fit` looks at them."""
        self.model = model
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> CNNClassifier:
        """Train on X and y from new weights (but see `warm_start`); returns the classifier."""
        self._check_parameters()
        goes_on = self.warm_start and hasattr(self, "model_")
        X, y = self._validated(X, y, reset=not goes_on)
        classes, labels = np.unique(y, return_inverse=True)
        if goes_on:
            self._check_classes(classes, "warm_start", "first fit")
            self._optimizer = self._new_optimizer()
        else:
            self.classes_ = classes
            self._start(X)
        validation = None
        if self.early_stopping:
            X, held, labels, held_labels = train_test_split(
                X,
                labels,
                test_size=self.validation_fraction,
                stratify=labels,
                random_state=self._seed,
            )
            validation = held, held_labels
        stopping = EarlyStopping(self.n_iter_no_change, min_delta=self.tol, restore_best=True)
        callbacks = [] if validation is None else [stopping]
        trainer = self._train(X, labels, self.epochs, validation, callbacks)
        self.validation_scores_ = [] if validation is None else trainer.history["val_accuracy"]
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> CNNClassifier:
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
            self._start(X)
        self._train(X, np.searchsorted(self.classes_, y), 1)
        return self

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, float32 [n, K], in the order of `classes_`."""
        check_is_fitted(self)
        images = self._images(validate_data(self, X, reset=False, **_CHECKS))
        trainer = Trainer(self.model_, self._optimizer)
        trainer.any_scale = True  # `normalization` is that of X
        return trainer.predict_proba(images)

    def predict(self, X: Any) -> Array:
        """The most probable label of each row, [n]."""
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])

    def _check_classes(self, classes: Array, who: str, where: str) -> None:
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"CNNClassifier: {who} with the classes {classes.tolist()}; expected those of the "
                f"{where}, {self.classes_.tolist()}."
            )

    def _check_parameters(self) -> None:
        for name in ("epochs", "batch_size", "n_iter_no_change"):
            value = getattr(self, name)
            if not is_whole(value, 1):
                raise ValueError(
                    f"CNNClassifier: {name} is {value!r}; expected a whole number from 1."
                )
        share = self.validation_fraction
        if not is_real(share) or not 0 < share < 1:
            raise ValueError(
                f"CNNClassifier: validation_fraction is {share!r}; expected a share above 0 "
                "and below 1."
            )
        if not is_real(self.tol) or not 0 <= self.tol < math.inf:
            raise ValueError(f"CNNClassifier: tol is {self.tol!r}; expected a number of 0 or more.")
        image = self.image_shape
        right = isinstance(image, (tuple, list)) and len(image) == 3
        if image is not None and not (right and all(is_whole(n, 1) for n in image)):
            raise ValueError(
                f"CNNClassifier: image_shape is {image!r}; expected three whole numbers from 1, "
                "(H, W, C), for example (28, 28, 1), or None."
            )
        if isinstance(self.model, Layer):
            raise TypeError(
                f"CNNClassifier: model is a {type(self.model).__name__}; expected a function that "
                "makes a new one for each fit: write lambda shape, classes, rng: Sequential(...), "
                "for example lambda shape, classes, rng: models.mnist_cnn(rng)."
            )
        if self.model is not None and not callable(self.model):
            raise TypeError(
                f"CNNClassifier: model is {self.model!r}; expected None, or a function "
                "(shape, classes, rng) -> Module."
            )

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Array, Array]:
        X, y = validate_data(self, X, y, reset=reset, multi_output=True, **_CHECKS)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return self._images(X, reset), y

    def _images(self, X: Array, reset: bool = False) -> Array:
        """float32 [n, H, W, C], or [n, features]."""
        if self.image_shape is not None and X.ndim == 2:
            if X.shape[1] != math.prod(self.image_shape):
                raise ValueError(
                    f"CNNClassifier: X has {X.shape[1]} features; expected "
                    f"{math.prod(self.image_shape)} for image_shape={self.image_shape}."
                )
            X = X.reshape(len(X), *self.image_shape)
        if X.ndim not in (2, 4):
            raise ValueError(
                f"CNNClassifier: X has shape {X.shape}; expected [n, features] or [n, H, W, C]."
            )
        if not reset and X.shape[1:] != self.model_.input_shape:
            raise ValueError(
                f"CNNClassifier: X has shape {X.shape}; expected {self.model_.input_shape} "
                "for each row, as it was fitted."
            )
        return np.ascontiguousarray(X)

    def _start(self, X: Array) -> None:
        """A new network for X and `classes_`."""
        self._seed = int(check_random_state(self.random_state).randint(_LARGEST_SEED))
        make = default_model if self.model is None else self.model
        model = make(X.shape[1:], len(self.classes_), np.random.default_rng(self._seed))
        if not isinstance(model, Module):
            raise ValueError(
                f"CNNClassifier: model(...) gave {model!r}; expected a module: "
                "layers.Sequential, layers.Graph or a Module of your own."
            )
        y = model.output_shape((None, *X.shape[1:]))
        if y != (None, len(self.classes_)):
            raise ValueError(
                f"CNNClassifier: the model's output is {y}; expected (None, "
                f"{len(self.classes_)}), a number for each class."
            )
        axes = tuple(range(X.ndim - 1))
        mean, std = X.mean(axes, dtype=np.float64), X.std(axes, dtype=np.float64)
        # What hardly varies beside its size is constant but for rounding: it is only centred.
        std[std <= 1e-6 * np.abs(mean) + 1e-30] = 1.0
        model.normalization = Normalization(tuple(mean.tolist()), tuple(std.tolist()))
        model.input_shape = X.shape[1:]
        self.model_ = model
        self.loss_curve_: list[float] = []
        self.n_iter_ = 0
        self._optimizer = self._new_optimizer()

    def _new_optimizer(self) -> optim.AdamW:
        return optim.AdamW(
            self.model_.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )

    def _train(
        self,
        X: Array,
        labels: Array,
        epochs: int,
        validation: tuple[Array, Array] | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Trainer:
        """So many epochs more, by a Trainer of their own."""
        done, steps = self.n_iter_, max(1, round(len(X) / self.batch_size))

        # Not the Trainer's own batches, which drop what is left over: of a small X that is a lot.
        def batches(epoch: int) -> Iterator[tuple[Array, Array]]:
            order = np.random.default_rng([self._seed, 1, done + epoch]).permutation(len(X))
            for rows in np.array_split(order, steps):
                yield X[rows], labels[rows]

        lines = [_Lines(done)] if self.verbose else []
        trainer = Trainer(self.model_, self._optimizer, callbacks=[*lines, *callbacks])
        trainer.any_scale = True  # `normalization` is that of X
        try:
            trainer.fit(batches, validation, epochs=epochs, steps_per_epoch=steps)
        except Diverged as error:
            raise RuntimeError(
                f"CNNClassifier: the training diverges with learning_rate={self.learning_rate}; "
                f"try a smaller learning_rate ({error})."
            ) from error
        finally:
            self.model_.eval()
            self.n_iter_ += trainer.epoch
            self.loss_curve_ += trainer.history["loss"]
        return trainer


class _Lines(Callback):
    """What `verbose` prints."""

    def __init__(self, done: int) -> None:
        self.done = done

    def on_epoch_end(self, trainer: Trainer, row: dict[str, float]) -> None:
        print(f"epoch {self.done + trainer.epoch}, loss = {row['loss']:.6f}")


_CHECKS: dict[str, Any] = {"dtype": np.float32, "order": "C", "allow_nd": True}
