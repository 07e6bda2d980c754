"""`Trainer`: the training loop, with all that a run of hours needs around it.

Read `Trainer._run_step` first: that is the whole of a step.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn import losses, ops, optim, schedules
from pycnn._arrays import Array
from pycnn._files import FileError
from pycnn.augment import Augmentation
from pycnn.callbacks.base import Callback
from pycnn.datasets import Split
from pycnn.layers import Sequential
from pycnn.preprocessing import Normalization

Data = Split | tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass
class History:
    """What each epoch has reached: `history["val_accuracy"]` is the list over the epochs.

    rows: one dict an epoch: "epoch" (from 0), "step" (steps done, of all epochs), "lr" (of the
    last step), "loss" and "accuracy" (means over the epoch's batches, while the weights changed,
    with augmentation and dropout), and with validation data "val_loss", "val_accuracy". seconds:
    of each epoch of this process with its validation; not in checkpoints.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        """The values of one column; KeyError names those there are."""
        if self.rows and name not in self.rows[-1]:
            raise KeyError(f"{name!r}; this run has {', '.join(self.rows[-1])}")
        return [row[name] for row in self.rows]

    def __len__(self) -> int:
        """The number of epochs."""
        return len(self.rows)


class _Stop(Exception):
    """Ends an evaluation within fit, when `stop` was called."""


class Trainer:
    """Trains a model on images and labels, evaluates it, predicts.

    model: a `Sequential` that maps images [N, H, W, C] to logits [N, K]; its `normalization` (mean
    and standard deviation) is applied to every batch, before any padding. optimizer: one of
    `optim`, made for model.parameters(). loss: by default `losses.SoftmaxCrossEntropy()`. schedule:
    one of `schedules`, a factor on the optimizer's lr at the time of the call; by default constant.
    callbacks: see `pycnn.callbacks`. seed: of the order of images and of their augmentation.

    augmentation: a `pycnn.augment.Augmentation` of the training images; plain_epochs: the last so
    many epochs go without it. clip_norm: gradients are scaled down to this norm together.

        model = pycnn.models.mnist_cnn(init="he")
        trainer = pycnn.Trainer(model, pycnn.optim.Adam(model.parameters()))
        history = trainer.fit(mnist.train, mnist.validation, epochs=2, batch_size=100)
        print(trainer.evaluate(mnist.test)["accuracy"])

    Data is a split of `datasets.load_mnist`, or (images, labels): images uint8 [n, H, W, C] (0 to
    255 is mapped to 0 to 1) or float32, labels integers [n].

    Attributes while it trains and afterwards: `epoch` and `step`, the finished epochs and steps of
    this epoch; `steps_done`, of all epochs; `loss`, of the last step; `history`; `stop_reason`.
    """

    def __init__(
        self,
        model: Sequential,
        optimizer: optim.Optimizer,
        loss: Callable[[Array, Array], tuple[float, Array]] | None = None,
        schedule: schedules.Schedule | None = None,
        callbacks: Iterable[Callback] = (),
        seed: int = 0,
        *,
        augmentation: Augmentation | None = None,
        plain_epochs: int = 0,
        clip_norm: float | None = None,
    ) -> None:
        """Raises TypeError for arguments of another kind, ValueError for numbers out of range."""
        _expect(isinstance(model, Sequential), "model", model, "a layers.Sequential")
        _expect(isinstance(optimizer, optim.Optimizer), "optimizer", optimizer, "one of optim")
        good = schedule is None or isinstance(schedule, schedules.Schedule)
        _expect(good, "schedule", schedule, "one of schedules, or None")
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            _expect(isinstance(callback, Callback), "callbacks", callback, "callbacks.Callback")
        good = augmentation is None or isinstance(augmentation, Augmentation)
        _expect(good, "augmentation", augmentation, "an augment.Augmentation, or None")
        self.model, self.optimizer = model, optimizer
        self.loss_function = loss or losses.SoftmaxCrossEntropy()
        self.schedule = schedule or schedules.Constant()
        self.seed = _whole("seed", seed, 0)
        self.augmentation = augmentation
        self.plain_epochs = _whole("plain_epochs", plain_epochs, 0)
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(
                f"Trainer: clip_norm is {clip_norm!r}; expected a number above 0, or None."
            )
        self.clip_norm = clip_norm
        self.base_lr = optimizer.lr
        self.epoch = self.step = self.steps_done = 0
        self.epochs = self.batch_size = self.steps_per_epoch = 0
        self.loss = float("nan")
        self.data_id: list[int] | None = None
        self.history = History()
        self.stop_reason: str | None = None
        self.fitting = False
        self.sums = [0.0, 0.0]  # of this epoch: losses of its steps, images that were right
        self.evaluation_batch = 500  # images at once in evaluate and predict
        self.training_seconds = 0.0  # of this process, without evaluations
        self.steps_of_fit = 0  # that the last fit has done
        self.last_step = 0, 0  # epoch and step of the last step

    def fit(
        self,
        train: Data,
        validation: Data | None = None,
        *,
        epochs: int,
        batch_size: int = 100,
    ) -> History:
        """Train until `epochs` epochs are done, those before a checkpoint or this call included.

        Each epoch visits the images in an order of its own, drawn from (seed, epoch), in
        n // batch_size steps; what is left over is dropped. After it the model is evaluated on
        `validation`. Returns `self.history`. Same seed, same bits, whatever the thread count.

        Raises ValueError for a batch size above the number of images, TypeError or ValueError for
        data that does not fit, `FileError` for other data than a resumed run began with, and what
        callbacks raise.
        """
        images, labels = _checked(train, "train")
        if validation is not None:
            _checked(validation, "validation")
        self.epochs = _whole("epochs", epochs, 1)
        self.batch_size = _whole("batch_size", batch_size, 1)
        if batch_size > len(images):
            raise ValueError(
                f"Trainer.fit: batch_size is {batch_size}; expected at most {len(images)}, the "
                "number of training images."
            )
        self.steps_per_epoch = len(images) // batch_size
        self._identify(images, labels)
        self.schedule.bind(epochs * self.steps_per_epoch, self.steps_per_epoch)
        self.stop_reason = None
        self.steps_of_fit = 0
        self.fitting = True
        try:
            self._call("on_fit_begin")
            while self.epoch < epochs and self.stop_reason is None:
                self._run_epoch(images, labels, validation)
            self._call("on_pause")
        finally:
            self.fitting = False
            self.optimizer.lr = self.base_lr
            self._call("on_fit_end")
        return self.history

    def stop(self, reason: str) -> None:
        """End the run after this step, or after this batch of an evaluation."""
        self.stop_reason = self.stop_reason or reason

    def evaluate(self, data: Data) -> dict[str, float]:
        """{"loss", "accuracy"}: means over the images, in eval mode, without augmentation."""
        images, labels = _checked(data, "data")
        self._call("on_evaluation_begin")
        result = None
        try:
            total, right = 0.0, 0
            for first, logits in self._outputs(images):
                target = labels[first : first + len(logits)]
                loss, _ = self.loss_function(logits, target)
                total += loss * len(logits)
                right += int(np.count_nonzero(logits.argmax(axis=1) == target))
            count = max(len(images), 1)
            result = {"loss": total / count, "accuracy": right / count}
        finally:
            self._call("on_evaluation_end", result)
        return result

    def predict(self, images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The class of each image: int64 [n]."""
        found = [logits.argmax(axis=1) for _, logits in self._outputs(_images(images, "images"))]
        return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)

    def predict_proba(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The probability of each class: softmax of the logits, float32 [n, K]."""
        checked = _images(images, "images")
        found = [ops.softmax(logits) for _, logits in self._outputs(checked)]
        classes = self.model.output_shape((1, *checked.shape[1:]))[-1]
        return np.concatenate(found) if found else np.empty((0, classes or 0), np.float32)

    def state_arrays(self) -> dict[str, Array]:
        """The model's own arrays by the names of `state_dict()`: parameters and statistics."""
        arrays = {name: parameter.data for name, parameter in self.model._named_parameters()}
        arrays.update(self.model._named_buffers())
        return arrays

    def evaluated_state(self) -> dict[str, Array]:
        """A copy of the weights that validation has seen: the average, if there is an `Ema`."""
        for callback in self.callbacks:
            average: dict[str, Array] | None = getattr(callback, "average", None)
            if average:
                return {name: array.copy() for name, array in average.items()}
        return self.model.state_dict()

    def _identify(self, images: Array, labels: Array) -> None:
        """Remember which data this is; a checkpoint goes on with the same only."""
        sums = [zlib.crc32(np.ascontiguousarray(a).data) for a in (labels, images[:1000])]
        found = [len(images), *sums, self.batch_size]
        if self.data_id is not None and self.steps_done and self.data_id != found:
            raise FileError(
                f"Trainer.fit: got {found[0]} training images in batches of {found[3]}; expected "
                f"the {self.data_id[0]} images in batches of {self.data_id[3]} that this run began "
                "with, in the same order."
            )
        self.data_id = found

    def _run_epoch(self, images: Array, labels: Array, validation: Data | None) -> None:
        began = time.perf_counter()
        self.model.train()
        if self.step == 0:
            self.sums = [0.0, 0.0]
            self._call("on_epoch_begin")
        order = np.random.default_rng([self.seed, 1, self.epoch]).permutation(len(images))
        x = np.empty((self.batch_size, *images.shape[1:]), np.float32)
        step_end = self._overridden("on_step_end")
        while self.step < self.steps_per_epoch and self.stop_reason is None:
            first = self.step * self.batch_size
            self._run_step(images, labels, order[first : first + self.batch_size], x)
            for hook in step_end:
                hook(self)
        self.training_seconds += time.perf_counter() - began
        if self.step < self.steps_per_epoch:
            return  # stopped
        row = self._row()
        if validation is not None:
            try:
                result = self.evaluate(validation)
            except _Stop:
                return
            row.update(val_loss=result["loss"], val_accuracy=result["accuracy"])
        self.history.rows.append(row)
        self.history.seconds.append(time.perf_counter() - began)
        self.epoch, self.step = self.epoch + 1, 0
        if isinstance(self.schedule, schedules.ReduceOnPlateau):
            self.schedule.observe(row)
        self._call("on_epoch_end", row)

    def _run_step(self, images: Array, labels: Array, batch: Array, x: Array) -> None:
        """One batch: gather, forward, loss, backward, optimizer."""
        self._gather(images, batch, x)
        target = labels[batch]
        logits = self.model.forward(x)
        self.loss, dlogits = self.loss_function(logits, target)
        self.optimizer.zero_grad()
        self.model.backward(dlogits, input_gradient=False)
        if self.clip_norm is not None:
            optim.clip_grad_norm(self.optimizer.parameters, self.clip_norm)
        self.optimizer.lr = self.base_lr * self.schedule(self.steps_done)
        self.optimizer.step()
        self.sums[0] += self.loss
        self.sums[1] += int(np.count_nonzero(logits.argmax(axis=1) == target))
        self.last_step = self.epoch, self.step
        self.step += 1
        self.steps_done += 1
        self.steps_of_fit += 1

    def _gather(self, images: Array, batch: Array, x: Array) -> None:
        how = self.model.normalization
        if self.augmentation is None or self.epoch >= self.epochs - self.plain_epochs:
            ops.gather_images(images, batch, mean=how.mean, std=how.std, out=x)
        else:
            self.augmentation.gather(
                images, batch, seed=self.seed, epoch=self.epoch, mean=how.mean, std=how.std, out=x
            )

    def _outputs(self, images: Array) -> Iterable[tuple[int, Array]]:
        """(index of the first image, logits) of one batch after the other, in eval mode."""
        how: Normalization = self.model.normalization
        training = self.model.training
        self.model.eval()
        try:
            for first in range(0, len(images), self.evaluation_batch):
                if self.fitting and self.stop_reason is not None:
                    raise _Stop
                batch = np.arange(first, min(first + self.evaluation_batch, len(images)))
                x = ops.gather_images(images, batch, mean=how.mean, std=how.std)
                yield first, self.model.forward(x)
        finally:
            if training:
                self.model.train()

    def _row(self) -> dict[str, float]:
        return {
            "epoch": self.epoch,
            "step": self.steps_done,
            "lr": self.optimizer.lr,
            "loss": self.sums[0] / self.steps_per_epoch,
            "accuracy": self.sums[1] / (self.steps_per_epoch * self.batch_size),
        }

    def _overridden(self, hook: str) -> list[Callable[..., None]]:
        """The methods of the callbacks that do something."""
        return [
            getattr(callback, hook)
            for callback in self.callbacks
            if getattr(type(callback), hook) is not getattr(Callback, hook)
        ]

    def _call(self, hook: str, *arguments: Any) -> None:
        for method in self._overridden(hook):
            method(self, *arguments)


def _expect(right: bool, name: str, value: object, expected: str) -> None:
    if not right:
        raise TypeError(f"Trainer: {name} is {value!r}; expected {expected}.")


def _whole(name: str, value: object, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"Trainer: {name} is {value!r}; expected a whole number, {low} or more.")
    return int(value)


def _images(images: object, name: str) -> npt.NDArray[Any]:
    good = isinstance(images, np.ndarray) and images.dtype in (np.uint8, np.float32)
    if not (good and images.ndim == 4):  # type: ignore[attr-defined]
        found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else repr(images)
        raise TypeError(
            f"Trainer: {name} is {found}; expected images [n, H, W, C], uint8 or float32: write "
            "x.reshape(-1, 28, 28, 1), x.astype(np.float32)."
        )
    return images  # type: ignore[return-value]


def _checked(data: object, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The images and labels of a split or a pair."""
    if isinstance(data, Split):
        return data.images, data.labels
    if not (isinstance(data, Sequence) and len(data) == 2):
        raise TypeError(
            f"Trainer: {name} is a {type(data).__name__}; expected a split of load_mnist, or "
            "(images, labels)."
        )
    images, labels = _images(data[0], f"{name} images"), np.asarray(data[1])
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise TypeError(
            f"Trainer: {name} labels are {labels.dtype} {labels.shape}; expected integers "
            f"[{len(images)}], one for each image: for one-hot rows write labels.argmax(axis=1)."
        )
    return images, labels
