"""`Trainer`: the training loop, with all that a run of hours needs around it.

Read `Trainer._run_step` first: that is the whole of a step.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn import losses, optim, schedules
from pycnn.augment import Augmentation
from pycnn.layers import Module
from pycnn.metrics import Metric
from pycnn.ops.arrays import Array
from pycnn.ranks import Ranks, Slot
from pycnn.ranks.shard import Shard
from pycnn.trainer.batches import Source, Stream
from pycnn.trainer.beginning import (
    OtherDataError,
    check_complete,
    check_goes_on,
    check_ranks,
    check_samples,
    check_validation,
    labelled,
    nothing_to_do,
    source_of,
    unlabelled,
)  # fmt: skip
from pycnn.trainer.callback import Callback, call_all, overridden
from pycnn.trainer.data import (
    Batches,
    Data,
    Function,
    above_zero,
    callbacks_of,
    expect,
    take_names,
    whole,
)  # fmt: skip
from pycnn.trainer.evaluation import Broken, answers, means
from pycnn.trainer.gathering import gather_of, mixup_of
from pycnn.trainer.guard import NanGuard
from pycnn.trainer.history import History
from pycnn.trainer.loss import check_loss, loss_of, weigher
from pycnn.trainer.measures import Measures, add
from pycnn.trainer.targets import Batch

__all__ = ["History", "OtherDataError", "Trainer"]


class Trainer:
    """Trains a network on images, or on samples of any other shape, evaluates it, predicts.

    model: a `Sequential`, or another `Module`, that maps samples [N, ...] to logits [N, K], maps of
    them [N, H, W, K], or numbers [N, ...]; its `normalization` (mean and standard deviation) is
    applied to every batch, before any padding. optimizer: one of `optim`, made for
    model.parameters(). loss: one of `losses`, by default `SoftmaxCrossEntropy()`, or a function
    (outputs, labels) -> (loss, its gradient), for weighted samples (outputs, labels, weights).
    schedule: one of `schedules`, a factor on the lr that the optimizer has when fit begins; by
    default constant. callbacks: see `pycnn.callbacks`. seed: of the order of samples and their
    augmentation. metrics: a list of `pycnn.metrics`, measured in each epoch and evaluation; by
    default [Accuracy()] where labels are classes.

    augmentation: a `pycnn.augment.Augmentation` of the training images; plain_epochs: the last so
    many epochs go without it. clip_norm: gradients are scaled down to this norm together.
    nan_guard: stop with `callbacks.Diverged` at the first loss that is no finite number.

    communicator: of mpi4py, for training in many processes; slots: the parts that a batch is cut
    into, a power of two, with a communicator 8 by default. The result depends on the slots, never
    on the ranks: see docs/ranks.md. All ranks make the same calls with the same data.
    shard_optimizer: each rank keeps and moves its part of the optimizer's state only.
    sync_batch_norm: normalisation takes the moments of the whole batch, not of a slot.

        model = pycnn.models.mnist_cnn(init="he")
        trainer = pycnn.Trainer(model, pycnn.optim.Adam(model.parameters()))
        history = trainer.fit(mnist.train, mnist.validation, epochs=2, batch_size=100)
        print(trainer.evaluate(mnist.test)["accuracy"])

    Data is a split of `datasets.load_mnist`; or (x, labels): x float32, or uint8 of which 0 to 255
    is mapped to 0 to 1, rows [n, features], images [n, H, W, C] or any other [n, ...], also a
    memory map, labels integers [n] or [n, 1], of pixels [n, H, W], or float32 of the outputs'
    shape; or (x, labels, weights), float32 [n]; or batches, each a tuple of that kind, of
    any sizes: an iterable, as a list or a DataLoader of PyTorch, or a function that returns one,
    which is called for each epoch, with its number if it takes an argument.

    Attributes while it trains and afterwards: `epoch` and `step`, the finished epochs and steps of
    this epoch; `steps_done`, of all epochs; `loss`, of the last step; `history`; `stop_reason`.
    """

    def __init__(
        self,
        model: Module,
        optimizer: optim.Optimizer,
        loss: Function | None = None,
        schedule: schedules.Schedule | None = None,
        callbacks: Iterable[Callback] = (),
        seed: int = 0,
        *,
        metrics: Iterable[Metric] | None = None,
        augmentation: Augmentation | None = None,
        plain_epochs: int = 0,
        clip_norm: float | None = None,
        nan_guard: bool = True,
        communicator: Any = None,
        slots: int | None = None,
        shard_optimizer: bool = False,
        sync_batch_norm: bool = False,
    ) -> None:
        """Raises TypeError for arguments of another kind, ValueError for numbers out of range."""
        default = 1 if communicator is None else 8
        slots = default if slots is None else slots
        self.ranks = Ranks(communicator, slots, sync_batch_norm=sync_batch_norm and slots != 1)
        expect(isinstance(model, Module), "model", model, "a layers.Module, as Sequential")
        expect(isinstance(optimizer, optim.Optimizer), "optimizer", optimizer, "one of optim")
        own = {id(parameter) for parameter in model.parameters()}
        if not own.issuperset(id(parameter) for parameter in optimizer.parameters):
            raise ValueError(
                "Trainer: optimizer has parameters that are not the model's; expected one made for "
                f"this model: write optim.{type(optimizer).__name__}(model.parameters(), ...)."
            )
        good = schedule is None or isinstance(schedule, schedules.Schedule)
        expect(good, "schedule", schedule, "one of schedules, or None")
        given = callbacks_of(callbacks)
        switches = {"nan_guard": nan_guard, "shard_optimizer": shard_optimizer}
        for name, value in {**switches, "sync_batch_norm": sync_batch_norm}.items():
            expect(isinstance(value, bool), name, value, "True or False")
        if nan_guard and not any(isinstance(callback, NanGuard) for callback in given):
            given.insert(0, NanGuard())
        self.callbacks = sorted(given, key=lambda callback: callback.saves)
        good = augmentation is None or isinstance(augmentation, Augmentation)
        expect(good, "augmentation", augmentation, "an augment.Augmentation, or None")
        self.model, self.optimizer = model, optimizer
        self.loss_function = losses.SoftmaxCrossEntropy() if loss is None else check_loss(loss)
        self.measures = Measures(metrics, self.loss_function)
        self.schedule = schedule or schedules.Constant()
        self.seed = whole("seed", seed, 0)
        self.augmentation = augmentation
        self.plain_epochs = whole("plain_epochs", plain_epochs, 0)
        self.clip_norm = above_zero("clip_norm", clip_norm)
        self._shard: Shard | None = None
        if shard_optimizer and self.ranks.size > 1:
            norm = self.clip_norm is not None
            self._shard = Shard(self.ranks.gradients, optimizer, whole_gradients=norm)
        self._start()

    def _start(self) -> None:
        """Have done nothing yet."""
        self.base_lr = self.optimizer.lr
        self.epoch = self.step = self.steps_done = 0
        self.epochs = self.steps_per_epoch = 0  # steps: 0 if not known, or those of the last epoch
        self.batch_size = 0  # samples a step; of batches of the user's, those of the last step
        self.loss = float("nan")
        self.data_id: list[int] | None = None
        self.history = History()
        self.stop_reason: str | None = None
        self.fitting = False
        self.resumed_from: str | None = None  # the checkpoint's file
        self.any_scale = False  # float images of 0 to 255 are meant: the normalization knows them
        self.validating = False
        self._wish: str | None = None  # to stop, which all ranks have to know
        self._by_sample = False  # batches differ in size: means are weighted by it
        self._known: tuple[tuple[int, ...], tuple[int, ...]] = (), ()  # shapes: a sample, outputs
        self.x: Array | None = None  # of the last step
        self.evaluation_batch = 500  # samples at once in evaluate and predict
        self.training_seconds = 0.0  # of this process, without evaluations
        self.steps_of_fit = 0  # that the last fit has done
        self.last_step = 0, 0  # epoch and step of the last step

    def fit(
        self,
        train: Data | Batches,
        validation: Data | Batches | None = None,
        *,
        epochs: int,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> History:
        """Train until `epochs` epochs are done, those before a checkpoint or this call included.

        Each epoch visits the samples of arrays in an order of its own, drawn from (seed, epoch), in
        n // batch_size steps (batch_size None: 100, or all); what is left over is dropped. Batches
        of your own are taken as they come; schedules over the whole run need their number where
        train has no len(). `steps_per_epoch` ends an epoch earlier: one of arrays has then seen
        only the first samples of its order. After an epoch the model is evaluated on `validation`.
        Returns `self.history`. Same seed, same bits, whatever the thread count.

        Another call goes on where the last one ended, with the same data: for other data make a new
        Trainer; a call that finds nothing left to do says so in a UserWarning. At the end the
        optimizer has its own lr again, and the model is in train mode; `evaluate` and `predict` use
        eval mode by themselves, `model(x)` does not. A model without `input_shape` gets that of the
        samples, one without `class_names` those of a split.

        Raises ValueError for a batch size above the number of samples, TypeError or ValueError for
        data that does not fit, `FileError` for other data than a resumed run began with, `Diverged`
        (see nan_guard), and what callbacks raise.
        """
        self.epochs = whole("epochs", epochs, 1)
        source = source_of(self, train, batch_size, steps_per_epoch)
        take_names(self.model, train)
        check_validation(self, validation)
        check_goes_on(self, source)
        check_ranks(self, source)
        if self.epoch >= self.epochs and self.resumed_from is None:
            warnings.warn(nothing_to_do(self), UserWarning, stacklevel=2)
        self._by_sample = isinstance(source, Stream)
        self.batch_size = 0 if isinstance(source, Stream) else source.size
        self.steps_per_epoch = source.steps or 0
        if source.steps is not None:
            self.schedule.bind(self.epochs * source.steps, source.steps)
        self.base_lr = self.optimizer.lr
        self.stop_reason = self._wish = None
        self.steps_of_fit = 0
        self.fitting = True
        try:
            self._call("on_fit_begin")
            self._agree()
            while self.epoch < self.epochs and self.stop_reason is None:
                self._run_epoch(source, validation)
            self._call("on_pause")
        except SystemExit as error:
            self.ranks.end(error)
            raise
        finally:
            self.fitting = False
            self.optimizer.lr = self.base_lr
            call_all(self._called, "on_fit_end", self)
        return self.history

    def stop(self, reason: str) -> None:
        """End the run after this step, or after this batch of an evaluation; on all ranks."""
        if self.ranks.size == 1:
            self.stop_reason = self.stop_reason or reason
        else:  # a signal may have come to one rank only
            self._wish = self._wish or reason

    @property
    def _called(self) -> list[Callback]:
        """The callbacks of this rank."""
        return [c for c in self.callbacks if self.ranks.rank == 0 or not c.first_rank_only]

    def _agree(self) -> None:
        """Stop if any rank wishes to."""
        if self.ranks.size > 1 and self.stop_reason is None:
            self.stop_reason = self.ranks.first_of(self._wish)

    def evaluate(self, data: Data | Batches) -> dict[str, float]:
        """{"loss", "accuracy"}, or other metrics: over the samples, in eval mode, not augmented.

        Each metric keeps its sums: `metric.compute()`. Raises TypeError for data of another kind,
        ValueError for none, labels out of range, and images of bytes that were cast to floats, as
        predict and predict_proba do.
        """
        parts = labelled(self, data)
        self._call("on_evaluation_begin")
        result = None
        try:
            result = means(self, parts)
        finally:
            call_all(self._called, "on_evaluation_end", self, result)
        return result

    def predict(self, x: npt.NDArray[Any] | Batches) -> npt.NDArray[Any]:
        """What the model says; x: an array, or batches, of x alone or of pairs.

        The class of each sample, int64 [n], or of its pixels; with BinaryCrossEntropy booleans, and
        with losses of numbers the outputs, float32 [n, ...].
        """
        return answers(self, unlabelled(self, x), "answers", x)

    def predict_proba(self, x: npt.NDArray[Any] | Batches) -> npt.NDArray[np.float32]:
        """Probabilities: softmax of the logits, or sigmoid, float32 [n, ...]; x as in predict."""
        return answers(self, unlabelled(self, x), "probabilities", x)

    def state_arrays(self) -> dict[str, Array]:
        """The model's own arrays by the names of `state_dict()`: parameters and statistics."""
        return dict(self.model.named_arrays())

    def gather(self) -> None:
        """Make the optimizer's state whole, on all ranks together, where it is cut over them."""
        if self._shard is not None:
            self._shard.gather()

    def evaluated_state(self) -> dict[str, Array]:
        """A copy of the weights that validation has seen: the average, if there is an `Ema`."""
        for callback in self.callbacks:
            average: dict[str, Array] | None = getattr(callback, "average", None)
            if average:
                return {name: array.copy() for name, array in average.items()}
        return self.model.state_dict()

    def outputs_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the model makes of one sample; ValueError if it refuses them."""
        if shape != self._known[0]:
            made = self.model.output_shape((None, *shape))[1:]
            self._known = shape, tuple(int(size) for size in made if size is not None)
        return self._known[1]

    def _run_epoch(self, source: Source, validation: Data | Batches | None) -> None:
        began = time.perf_counter()
        self.model.train()
        if self.step == 0:
            self.measures.totals = {}
            self._call("on_epoch_begin")
            self._agree()
        step_end = overridden(self._called, "on_step_end")
        if self.stop_reason is None:

            def check(batch: Batch, first: bool) -> None:
                check_samples(self, batch, first)

            how = gather_of(self), check, self.ranks.part, mixup_of(self)
            for batch, samples in source.batches(self.epoch, self.step, *how):
                self._run_step(batch, samples)
                for hook in step_end:
                    hook(self)
                self._agree()
                if self.stop_reason is not None:
                    break
        self.training_seconds += time.perf_counter() - began
        if self.stop_reason is not None and self.step != source.steps:
            return
        check_complete(self, source)
        row = self._row()
        if validation is not None:
            self.validating = True
            try:
                result = self.evaluate(validation)
            except Broken:
                return
            finally:
                self.validating = False
            row.update({f"val_{name}": value for name, value in result.items()})
        self.history.rows.append(row)
        self.history.seconds.append(time.perf_counter() - began)
        self.epoch, self.step = self.epoch + 1, 0
        self.schedule.observe(row)
        self._call("on_epoch_end", row)
        self._agree()

    def _run_step(self, batch: Batch, samples: int) -> None:
        """One batch: forward, loss, backward, optimizer. Without slots it is one slot."""
        self.x = batch.x
        self.optimizer.zero_grad()
        measures = self.measures

        def compute(slot: Slot) -> None:
            part = batch.part(slot.here)
            outputs = self.model.forward(part.x)
            loss, gradient = loss_of(self.loss_function, outputs, part)
            self.model.backward(slot.scaled(gradient), input_gradient=False)
            sums = measures.flat(measures.of(outputs, part))
            slot.note(loss * slot.weight, slot.mass, *sums)

        weigh = weigher(self.loss_function, batch)
        self.ranks.each(samples, compute, weigh)
        self.loss, mass, *sums = self.ranks.reduce(self.optimizer.parameters)
        if self.clip_norm is not None:
            optim.clip_grad_norm(self.optimizer.parameters, self.clip_norm)
        self.optimizer.lr = self.base_lr * self.schedule(self.steps_done)
        (self._shard or self.optimizer).step()
        self.batch_size = samples
        mass = mass if self._by_sample or weigh is not None else 1.0
        add(measures.totals, self.loss * mass, mass, measures.parted(sums))
        self.last_step = self.epoch, self.step
        self.step += 1
        self.steps_done += 1
        self.steps_of_fit += 1

    def _row(self) -> dict[str, float]:
        return {
            "epoch": self.epoch,
            "step": self.steps_done,
            # not the optimizer's: a run that goes on after an epoch's last step has its base_lr
            "lr": self.base_lr * self.schedule(self.steps_done - 1),
            **self.measures.columns(self.measures.totals),
        }

    def _call(self, hook: str, *arguments: Any) -> None:
        for method in overridden(self._called, hook):
            method(self, *arguments)
