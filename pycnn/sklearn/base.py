"""What the classifier and the regressor share: parameters, a network, a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from pycnn import losses, optim
from pycnn._runtime.checks import is_real, is_whole
from pycnn.callbacks import Callback, Diverged, EarlyStopping
from pycnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from pycnn.layers.base import Layer
from pycnn.layers.module import Module
from pycnn.metrics import Metric
from pycnn.ops.arrays import Array
from pycnn.preprocessing import Normalization
from pycnn.trainer import Trainer
from pycnn.trainer.targets import Batch

Factory: TypeAlias = Callable[[tuple[int, ...], int, np.random.Generator], Module]

_LARGEST_SEED = 2**31 - 1
CHECKS: dict[str, Any] = {"dtype": np.float32, "order": "C", "allow_nd": True}


def default_model(shape: tuple[int, ...], outputs: int, rng: np.random.Generator) -> Sequential:
    """What `model=None` trains, for one image [H, W, C] or [features].

    Features: one hidden layer of 64. Images: (convolution 3 x 3 "same", relu, max pool 2 x 2) with
    16 and 32 channels, a pool only where the image has two pixels each way, then a linear layer.
    """
    if len(shape) == 1:
        return Sequential(Linear(shape[0], 64, rng=rng), ReLU(), Linear(64, outputs, rng=rng))
    H, W, C = shape
    stack: list[Layer] = []
    for channels in (16, 32):
        stack += [Conv2d(C, channels, 3, padding="same", rng=rng), ReLU()]
        C = channels
        if min(H, W) >= 2:
            stack.append(MaxPool2d(2))
            H, W = H // 2, W // 2
    return Sequential(*stack, Flatten(), Linear(H * W * C, outputs, rng=rng))


class Network(BaseEstimator):  # type: ignore[misc]
    """The base of both: how X becomes images, and a network is made for them and trained."""

    _outputs_are: ClassVar[str]  # what a function that makes models calls their number
    _each: ClassVar[str]
    _score: ClassVar[str]  # the metric that early stopping looks at

    def _loss(self) -> losses.Loss:
        raise NotImplementedError

    def _metrics(self) -> list[Metric]:
        raise NotImplementedError

    @property
    def _name(self) -> str:
        return type(self).__name__

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

    def _weights(self, given: Any, X: Array) -> Array | None:
        """float32 [n], or None."""
        if given is None:
            return None
        weights: Array = _check_sample_weight(given, X, dtype=np.float32)
        if weights.min() < 0:
            raise ValueError(
                f"{self._name}: sample_weight has {weights.min()}; expected weights of 0 or more."
            )
        return weights

    def _fit(self, data: Batch, stratify: Array | None) -> None:
        """What `fit` does, once the network is there."""
        validation = None
        if self.early_stopping:
            parts = [part for part in (data.x, data.targets, data.weights) if part is not None]
            split = train_test_split(
                *parts,
                test_size=self.validation_fraction,
                stratify=stratify,
                random_state=self._seed,
            )
            data, validation = Batch(*split[::2]), tuple(split[1::2])
        monitor = f"val_{self._score}"
        stopping = EarlyStopping(
            self.n_iter_no_change, monitor, min_delta=self.tol, restore_best=True
        )
        callbacks = [] if validation is None else [stopping]
        trainer = self._train(data, self.epochs, validation, callbacks)
        self.validation_scores_ = [] if validation is None else trainer.history[monitor]

    def _says(self, X: Any, what: str) -> Array:
        """Predict or predict_proba of the network."""
        check_is_fitted(self)
        trainer = self._trainer([])
        found: Array = getattr(trainer, what)(
            self._images(validate_data(self, X, reset=False, **CHECKS))
        )
        return found

    def _trainer(self, callbacks: list[Callback]) -> Trainer:
        trainer = Trainer(
            self.model_, self._optimizer, self._loss(), callbacks=callbacks, metrics=self._metrics()
        )
        trainer.any_scale = True  # `normalization` is that of X
        return trainer

    def _check_parameters(self) -> None:
        what = self._outputs_are
        for name in ("epochs", "batch_size", "n_iter_no_change"):
            value = getattr(self, name)
            if not is_whole(value, 1):
                raise ValueError(
                    f"{self._name}: {name} is {value!r}; expected a whole number from 1."
                )
        share = self.validation_fraction
        if not is_real(share) or not 0 < share < 1:
            raise ValueError(
                f"{self._name}: validation_fraction is {share!r}; expected a share above 0 "
                "and below 1."
            )
        if not is_real(self.tol) or not 0 <= self.tol < math.inf:
            raise ValueError(f"{self._name}: tol is {self.tol!r}; expected a number of 0 or more.")
        image = self.image_shape
        right = isinstance(image, (tuple, list)) and len(image) == 3
        if image is not None and not (right and all(is_whole(n, 1) for n in image)):
            raise ValueError(
                f"{self._name}: image_shape is {image!r}; expected three whole numbers from 1, "
                "(H, W, C), for example (28, 28, 1), or None."
            )
        if isinstance(self.model, Layer):
            raise TypeError(
                f"{self._name}: model is a {type(self.model).__name__}; expected a function that "
                f"makes a new one for each fit: write lambda shape, {what}, rng: Sequential(...), "
                f"for example lambda shape, {what}, rng: models.mnist_cnn(rng)."
            )
        if self.model is not None and not callable(self.model):
            raise TypeError(
                f"{self._name}: model is {self.model!r}; expected None, or a function "
                f"(shape, {what}, rng) -> Module."
            )

    def _images(self, X: Array, reset: bool = False) -> Array:
        """float32 [n, H, W, C], or [n, features]."""
        if self.image_shape is not None and X.ndim == 2:
            if X.shape[1] != math.prod(self.image_shape):
                raise ValueError(
                    f"{self._name}: X has {X.shape[1]} features; expected "
                    f"{math.prod(self.image_shape)} for image_shape={self.image_shape}."
                )
            X = X.reshape(len(X), *self.image_shape)
        if X.ndim not in (2, 4):
            raise ValueError(
                f"{self._name}: X has shape {X.shape}; expected [n, features] or [n, H, W, C]."
            )
        if not reset and X.shape[1:] != self.model_.input_shape:
            raise ValueError(
                f"{self._name}: X has shape {X.shape}; expected {self.model_.input_shape} "
                "for each row, as it was fitted."
            )
        return np.ascontiguousarray(X)

    def _start(self, X: Array, outputs: int) -> None:
        """A new network for X, with so many outputs."""
        self._seed = int(check_random_state(self.random_state).randint(_LARGEST_SEED))
        make = default_model if self.model is None else self.model
        model = make(X.shape[1:], outputs, np.random.default_rng(self._seed))
        if not isinstance(model, Module):
            raise ValueError(
                f"{self._name}: model(...) gave {model!r}; expected a module: "
                "layers.Sequential, layers.Graph or a Module of your own."
            )
        y = model.output_shape((None, *X.shape[1:]))
        if y != (None, outputs):
            raise ValueError(
                f"{self._name}: the model's output is {y}; expected (None, {outputs}), a number "
                f"for {self._each}."
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
        self, data: Batch, epochs: int, validation: Any = None, callbacks: Any = ()
    ) -> Trainer:
        """So many epochs more, by a Trainer of their own."""
        done, steps = self.n_iter_, max(1, round(len(data) / self.batch_size))

        # Not the Trainer's own batches, which drop what is left over: of a small X that is a lot.
        def batches(epoch: int) -> Iterator[tuple[Array, ...]]:
            order = np.random.default_rng([self._seed, 1, done + epoch]).permutation(len(data))
            parts = [part for part in (data.x, data.targets, data.weights) if part is not None]
            for rows in np.array_split(order, steps):
                yield tuple(part[rows] for part in parts)

        lines = [_Lines(done)] if self.verbose else []
        trainer = self._trainer([*lines, *callbacks])
        try:
            trainer.fit(batches, validation, epochs=epochs, steps_per_epoch=steps)
        except Diverged as error:
            raise RuntimeError(
                f"{self._name}: the training diverges with learning_rate={self.learning_rate}; "
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
