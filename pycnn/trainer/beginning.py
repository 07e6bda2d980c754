"""What `Trainer` looks at before the first step and at the end of an epoch, and its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pycnn import schedules
from pycnn._formats.files import FileError
from pycnn._runtime import machine
from pycnn.ops.arrays import kind_of
from pycnn.trainer.batches import ArrayBatches, Source, Stream, arrays_of, inputs_of, pieces
from pycnn.trainer.callback import Callback, keeps_state
from pycnn.trainer.data import no_bytes, only_images, samples_of, some, whole
from pycnn.trainer.loss import check_takes_weights, kind_of_targets
from pycnn.trainer.targets import Batch, check_targets

if TYPE_CHECKING:
    from pycnn.trainer import Trainer

BATCH_SIZE = 100


class OtherDataError(FileError):
    """The data is not that of the checkpoint which the run goes on from."""


def source_of(trainer: Trainer, train: Any, batch_size: int | None, steps: int | None) -> Source:
    """The batches of the training data, checked as far as they can be seen."""
    arrays = arrays_of(train, "train", kind_of_targets(trainer.loss_function))
    if arrays is None:
        steps = None if steps is None else whole("steps_per_epoch", steps, 1)
        stream = _stream(trainer, train, "train", steps)
        if batch_size is not None:
            raise ValueError(
                f"Trainer.fit: batch_size is {batch_size!r}, and train gives batches with sizes of "
                "their own; expected no batch_size: leave it out."
            )
        _check_repeats(trainer, stream, "train")
        _check_length(trainer, stream)
        return stream
    n = len(arrays)
    some(arrays.x, "train")
    default = min(BATCH_SIZE, n)
    size = whole("batch_size", default if batch_size is None else batch_size, 1)
    if size > n:
        raise ValueError(
            f"Trainer.fit: batch_size is {size}; expected at most {n}, the number of training "
            "samples."
        )
    if steps is not None and whole("steps_per_epoch", steps, 1) > n // size:
        raise ValueError(
            f"Trainer.fit: steps_per_epoch is {steps}; expected at most {n // size}, the "
            f"batches of {size} in the {n} training samples."
        )
    check_samples(trainer, arrays, first=True)
    return ArrayBatches(arrays, size, trainer.seed, trainer.augmentation is not None, steps)


def check_samples(trainer: Trainer, batch: Batch, first: bool) -> None:
    """Whether the model and the augmentation take these samples, before a step is made."""
    if first and not trainer.any_scale:
        no_bytes(batch.x, "train x")
    if trainer.augmentation is not None:
        only_images(batch.x, "train x")
    _check(trainer, batch, "train")
    if trainer.model.input_shape is None:
        trainer.model.input_shape = batch.x.shape[1:]  # saved with the model, for prediction


def _check(trainer: Trainer, batch: Batch, name: str) -> None:
    if batch.weights is not None:
        check_takes_weights(trainer.loss_function)
    check_targets(batch, trainer.outputs_of(batch.x.shape[1:]), name, trainer.loss_function)


def _stream(trainer: Trainer, data: Any, name: str, steps: int | None = None) -> Stream:
    return Stream(data, name, steps, classes=kind_of_targets(trainer.loss_function))


def _check_repeats(trainer: Trainer, stream: Stream, name: str) -> None:
    """Refuse a generator, which is empty after its first epoch, for more than one."""
    if stream.once and trainer.epochs - trainer.epoch > 1:
        raise ValueError(
            f"Trainer.fit: {name} is {kind_of(stream.data)}, which is empty after one epoch, and "
            f"{trainer.epochs - trainer.epoch} epochs are to do; expected batches that begin anew: "
            "give the generator function itself, batches instead of batches()."
        )


def _check_length(trainer: Trainer, stream: Stream) -> None:
    """Refuse a schedule over the whole run, whose length nobody knows."""
    if stream.steps is None and trainer.schedule.needs_steps:
        raise ValueError(
            f"Trainer.fit: the schedule {type(trainer.schedule).__name__} needs the number of "
            "steps, and train has no len(); expected it from you: write steps_per_epoch=..., the "
            "number of batches in an epoch, or give the schedule its own number of steps."
        )


def check_validation(trainer: Trainer, validation: Any) -> None:
    """Whether the validation data can be evaluated after each epoch, and is there if needed."""
    if validation is not None:
        arrays = arrays_of(validation, "validation", kind_of_targets(trainer.loss_function))
        if arrays is None:
            _check_repeats(trainer, _stream(trainer, validation, "validation"), "validation")
            return
        some(arrays.x, "validation")
        if not trainer.any_scale:  # here as well: an evaluation comes after an epoch
            no_bytes(arrays.x, "validation x")
        _check(trainer, arrays, "validation")
        return
    parts: list[schedules.Schedule | Callback] = [trainer.schedule, *trainer.callbacks]
    for part in parts:
        if part.needs_validation:
            raise ValueError(
                f"Trainer.fit: {type(part).__name__} looks at the validation, and there is "
                "none; expected validation data: fit(train, validation, ...)."
            )


def check_ranks(trainer: Trainer, source: Source) -> None:
    """Whether all ranks begin with the same; then they get the arrays of rank 0."""
    ranks = trainer.ranks
    if isinstance(source, ArrayBatches):
        ranks.cut(source.size)
    if ranks.size == 1:
        return
    position = trainer.epoch, trainer.step, trainer.steps_done, trainer.epochs
    schedule, optimizer = trainer.schedule, trainer.optimizer
    ranks.same(
        {
            **machine.build(),
            "fused multiply-add": machine.isa() != "baseline",
            "slots": ranks.slots,
            "seed": trainer.seed,
            "position": position,
            "data": source.identity(),
            "arrays": [(n, a.shape, str(a.dtype)) for n, a in trainer.model.named_arrays()],
            "lr": trainer.base_lr,
            "optimizer": _settings(optimizer),
            "schedule": _settings(schedule),
            "clip_norm": trainer.clip_norm,
            "augmentation": repr(trainer.augmentation),
            "plain_epochs": trainer.plain_epochs,
            "loss": _settings(trainer.loss_function),
            "metrics": trainer.measures.settings(),
            "normalization": repr(trainer.model.normalization),
            "evaluation_batch": trainer.evaluation_batch,
            "callbacks": [_settings(c) for c in trainer.callbacks if keeps_state(c)],
            "shards": ranks.gradients.keeps_sums,
            "sync_batch_norm": ranks.sync_batch_norm,
        }
    )
    ranks.broadcast(trainer.model, optimizer)


def _settings(part: Any) -> list[Any]:
    """The kind and the settings() of a part, if it tells them."""
    kind = getattr(part, "__name__", type(part).__name__)
    return [kind, part.settings() if hasattr(part, "settings") else {}]


def check_goes_on(trainer: Trainer, source: Source) -> None:
    """Whether this is the data that the run began with, and its next batch can be found."""
    found, before = source.identity(), trainer.data_id
    if before is not None and trainer.steps_done and before != found:
        like = len(before) == len(found) > 1 and (before[0], before[3:]) == (found[0], found[3:])
        other = "other samples or labels, " if like else ""
        raise OtherDataError(
            f"Trainer.fit: got {other}{_data(found)}; expected the {_data(before)} that this run "
            "began with, in the same order. For other data make a new Trainer."
        )
    goes_on = trainer.steps_done and (trainer.step or trainer.resumed_from is not None)
    if goes_on and not source.again:
        raise ValueError(
            f"Trainer.fit: the run goes on after epoch {trainer.epoch}, step {trainer.step}, and "
            "train cannot be asked for the batches of an epoch; expected a function that is told "
            "its number (def batches(epoch): ...), an object with set_epoch(epoch), a list, or "
            "arrays."
        )
    trainer.data_id = found


def _data(identity: list[int]) -> str:
    if len(identity) == 1:
        return f"{identity[0]} batches an epoch" if identity[0] else "batches of unknown number"
    cut = f", {identity[4]} an epoch" if len(identity) > 4 else ""
    return f"{identity[0]} training samples in batches of {identity[3]}{cut}"


def labelled(trainer: Trainer, data: Any) -> Iterator[Batch]:
    """One batch of an evaluation after the other; arrays are checked at once."""
    arrays = arrays_of(data, "data", kind_of_targets(trainer.loss_function))
    if arrays is None:
        return _in_range(trainer, _stream(trainer, data, "data").given(trainer.epoch))
    some(arrays.x, "data")
    _check(trainer, arrays, "data")
    return pieces(arrays, trainer.evaluation_batch)


def _in_range(trainer: Trainer, parts: Iterator[Batch]) -> Iterator[Batch]:
    for part in parts:
        some(part.x, "a batch of data")
        _check(trainer, part, "data")
        yield part


def unlabelled(trainer: Trainer, x: Any) -> Iterator[Batch]:
    """One batch of a prediction after the other."""
    whole_x = inputs_of(x)
    if whole_x is None:
        return Stream(x, "x", pairs=False).given(trainer.epoch)
    return pieces(Batch(samples_of(whole_x, "x")), trainer.evaluation_batch)


def nothing_to_do(trainer: Trainer) -> str:
    """What fit says instead of training for no epochs at all."""
    return (
        f"Trainer.fit: epochs is {trainer.epochs}, and this trainer has done {trainer.epoch} (see "
        "its history), so nothing was trained; epochs counts those of all calls: write "
        f"epochs={trainer.epoch + 1} for one more."
    )


def check_complete(trainer: Trainer, source: Source) -> None:
    """Whether an epoch that was not stopped had all its batches; then their number is known."""
    if trainer.step == 0:
        raise ValueError(
            f"Trainer.fit: train gave no batches in epoch {trainer.epoch}; expected at least one. "
            "A generator is empty after one epoch: give the generator function itself."
        )
    if source.steps is not None and trainer.step < source.steps:
        raise ValueError(
            f"Trainer.fit: train gave {trainer.step} batches in epoch {trainer.epoch}; expected "
            f"{source.steps}, its len() or steps_per_epoch: write steps_per_epoch={trainer.step}."
        )
    trainer.steps_per_epoch = trainer.step
