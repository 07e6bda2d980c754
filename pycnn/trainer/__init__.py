"""`Trainer`: the training loop, with all that a run of hours needs around it.

Read `Trainer._run_step` first: that is the whole of a step.
"""

from __future__ import annotations

import contextlib
import math
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn import losses, ops, optim, schedules
from pycnn._formats.files import FileError
from pycnn.augment import Augmentation
from pycnn.callbacks.base import Callback
from pycnn.layers import Sequential
from pycnn.ops.arrays import Array
from pycnn.preprocessing import Normalization
from pycnn.trainer.data import Data, checked, expect, images_of, some, take_names, whole


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
        """The values of one column, NaN in epochs without it; KeyError names those there are."""
        names = list(dict.fromkeys(key for row in self.rows for key in row))
        if names and name not in names:
            raise KeyError(f"{name!r}; this run has {', '.join(names)}")
        return [row.get(name, math.nan) for row in self.rows]

    def __len__(self) -> int:
        """The number of epochs."""
        return len(self.rows)


class OtherDataError(FileError):
    """The data is not that of the checkpoint which the run goes on from."""


class _Stop(Exception):
    """Ends an evaluation within fit, when `stop` was called."""


class Trainer:
    """Trains a model on images and labels, evaluates it, predicts.

    model: a `Sequential` that maps images [N, H, W, C] to logits [N, K]; its `normalization` (mean
    and standard deviation) is applied to every batch, before any padding. optimizer: one of
    `optim`, made for model.parameters(). loss: by default `losses.SoftmaxCrossEntropy()`. schedule:
    one of `schedules`, a factor on the lr that the optimizer has when fit begins; by default
    constant. callbacks: see `pycnn.callbacks`. seed: of the order of images and their augmentation.

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
        expect(isinstance(model, Sequential), "model", model, "a layers.Sequential")
        expect(isinstance(optimizer, optim.Optimizer), "optimizer", optimizer, "one of optim")
        own = {id(parameter) for parameter in model.parameters()}
        if not own.issuperset(id(parameter) for parameter in optimizer.parameters):
            raise ValueError(
                "Trainer: optimizer has parameters that are not the model's; expected one made for "
                f"this model: write optim.{type(optimizer).__name__}(model.parameters(), ...)."
            )
        good = schedule is None or isinstance(schedule, schedules.Schedule)
        expect(good, "schedule", schedule, "one of schedules, or None")
        several = isinstance(callbacks, Iterable)
        expect(several, "callbacks", callbacks, "a list: write callbacks=[...]")
        given = list(callbacks)
        for callback in given:
            expect(isinstance(callback, Callback), "callbacks", callback, "callbacks.Callback")
        self.callbacks = sorted(given, key=lambda callback: callback.saves)
        good = augmentation is None or isinstance(augmentation, Augmentation)
        expect(good, "augmentation", augmentation, "an augment.Augmentation, or None")
        self.model, self.optimizer = model, optimizer
        self.loss_function = loss or losses.SoftmaxCrossEntropy()
        self.schedule = schedule or schedules.Constant()
        self.seed = whole("seed", seed, 0)
        self.augmentation = augmentation
        self.plain_epochs = whole("plain_epochs", plain_epochs, 0)
        real = isinstance(clip_norm, (int, float, np.number)) and not isinstance(clip_norm, bool)
        if clip_norm is not None and not (real and 0 < clip_norm < math.inf):
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
        self.resumed_from: str | None = None  # the checkpoint's file
        self._validating = False
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

        Another call goes on where the last one ended, with the same data: for other data make a new
        Trainer. At the end the optimizer has its own lr again, and the model is in train mode;
        `evaluate` and `predict` use eval mode by themselves, `model(x)` does not. A model without
        `input_shape` gets that of the images, one without `class_names` those of a split.

        Raises ValueError for a batch size above the number of images, TypeError or ValueError for
        data that does not fit, `FileError` for other data than a resumed run began with, and what
        callbacks raise.
        """
        images, labels = checked(train, "train")
        if validation is not None:
            some(checked(validation, "validation")[0], "validation")
        parts: list[schedules.Schedule | Callback] = [self.schedule, *self.callbacks]
        for part in parts:
            if part.needs_validation and validation is None:
                raise ValueError(
                    f"Trainer.fit: {type(part).__name__} looks at the validation, and there is "
                    "none; expected validation data: fit(train, validation, ...)."
                )
        self.epochs = whole("epochs", epochs, 1)
        self.batch_size = whole("batch_size", batch_size, 1)
        if self.batch_size > len(images):
            raise ValueError(
                f"Trainer.fit: batch_size is {batch_size}; expected at most {len(images)}, the "
                "number of training images."
            )
        self.steps_per_epoch = len(images) // self.batch_size
        self._identify(images, labels)
        if self.model.input_shape is None:
            self.model.input_shape = images.shape[1:]  # saved with the model, for prediction
        take_names(self.model, train)
        self.schedule.bind(self.epochs * self.steps_per_epoch, self.steps_per_epoch)
        self.base_lr = self.optimizer.lr
        self.stop_reason = None
        self.steps_of_fit = 0
        self.fitting = True
        try:
            self._call("on_fit_begin")
            while self.epoch < self.epochs and self.stop_reason is None:
                self._run_epoch(images, labels, validation)
            self._call("on_pause")
        finally:
            self.fitting = False
            self.optimizer.lr = self.base_lr
            self._call_all("on_fit_end")
        return self.history

    def stop(self, reason: str) -> None:
        """End the run after this step, or after this batch of an evaluation."""
        self.stop_reason = self.stop_reason or reason

    def evaluate(self, data: Data) -> dict[str, float]:
        """{"loss", "accuracy"}: means over the images, in eval mode, without augmentation.

        Raises TypeError for data of another kind, ValueError for none or labels out of range.
        """
        images, labels = checked(data, "data")
        some(images, "data")
        self._call("on_evaluation_begin")
        result = None
        try:
            total, right = 0.0, 0
            for first, logits in self._outputs(images):
                target = labels[first : first + len(logits)]
                loss, _ = self.loss_function(logits, target)
                total += loss * len(logits)
                right += int(np.count_nonzero(logits.argmax(axis=1) == target))
            result = {"loss": total / len(images), "accuracy": right / len(images)}
        finally:
            self._call_all("on_evaluation_end", result)
        return result

    def predict(self, images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The class of each image: int64 [n]; ValueError for bytes that were cast to floats."""
        found = [logits.argmax(axis=1) for _, logits in self._outputs(images_of(images, "images"))]
        return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)

    def predict_proba(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The probability of each class: softmax of the logits, float32 [n, K]."""
        some_images = images_of(images, "images")
        found = [ops.softmax(logits) for _, logits in self._outputs(some_images)]
        classes = self.model.output_shape((1, *some_images.shape[1:]))[-1]
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
            same = found[0] == self.data_id[0] and found[3] == self.data_id[3]
            other = "other images or labels, " if same else ""
            raise OtherDataError(
                f"Trainer.fit: got {other}{found[0]} training images in batches of {found[3]}; "
                f"expected the {self.data_id[0]} images in batches of {self.data_id[3]} that this "
                "run began with, in the same order. For other data make a new Trainer."
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
            self._validating = True
            try:
                result = self.evaluate(validation)
            except _Stop:
                return
            finally:
                self._validating = False
            row.update(val_loss=result["loss"], val_accuracy=result["accuracy"])
        self.history.rows.append(row)
        self.history.seconds.append(time.perf_counter() - began)
        self.epoch, self.step = self.epoch + 1, 0
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
                if self._validating and self.stop_reason is not None:
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

    def _call_all(self, hook: str, *arguments: Any) -> None:
        """All of them in order, even if one raises; its error follows."""
        with contextlib.ExitStack() as stack:
            for method in reversed(self._overridden(hook)):
                stack.callback(method, self, *arguments)
