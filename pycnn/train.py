"""`python -m pycnn.train`: a network learns MNIST; by default the lecture's, with its settings.

The loop is `pycnn.Trainer`, the settings are a `Recipe`; here is what the command adds: files,
lines and exit codes. Options stand in `_commands/options.py`, what a signal does in
`_commands/signals.py`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from os.path import realpath
from pathlib import Path
from typing import Any

import pycnn
from pycnn import checkpoint, datasets, modelfile, recipes
from pycnn._commands.data import check_validated, load, read
from pycnn._commands.job import Job
from pycnn._commands.options import DIVERGED, DONE, FAILED, MISSED, given_settings, make_parser
from pycnn._commands.outputs import check_evaluation, check_outputs
from pycnn._commands.progress import CannotWrite, Screen, abandon_stdout, complain, counted
from pycnn._commands.signals import Signals, Stopped, stoppable
from pycnn._formats.files import FileError
from pycnn.callbacks import (
    Callback,
    Checkpoint,
    Diverged,
    JsonLog,
    LearningRateLog,
    LectureLog,
    NanGuard,
    ProgressBar,
    TargetAccuracy,
    TimeLimit,
)
from pycnn.recipes import ConfigError, Recipe
from pycnn.trainer import OtherDataError, Trainer

NUMBERS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


class _Once(Callback):
    """--dry-run: the first step is the last."""

    def on_step_end(self, trainer: Trainer) -> None:
        """Stop."""
        trainer.stop("dry run")


def make_trainer(
    recipe: Recipe,
    options: argparse.Namespace,
    screen: Screen,
    data: datasets.Splits,
    communicator: Any = None,
) -> Trainer:
    """The Trainer of this recipe, with the callbacks that the options ask for."""
    callbacks: list[Callback] = [NanGuard()]
    if options.dry_run:
        callbacks.append(_Once())
    callbacks.append(LectureLog(options.log_interval, screen.line))
    if not options.quiet:
        callbacks.append(ProgressBar())
    if options.json_log is not None:
        callbacks.append(JsonLog(options.json_log, options.log_interval))
    if options.target_accuracy is not None:
        callbacks.append(TargetAccuracy(options.target_accuracy))
    if options.time_limit is not None:
        callbacks.append(TimeLimit(options.time_limit))
    if options.plot is not None or options.report is not None:
        callbacks.append(LearningRateLog())
    if options.checkpoint_dir is not None:  # last: it saves what the others have done
        folder: Path = options.checkpoint_dir
        log = folder / "log.jsonl"
        if options.json_log is None or realpath(options.json_log) != realpath(log):
            callbacks.append(JsonLog(log, options.log_interval))
        callbacks.append(Checkpoint(folder, options.save_every, recipe=recipe.to_dict()))
    trainer = recipe.make_trainer(
        len(data.train),
        callbacks,
        input_shape=data.train.images.shape[1:],
        classes=datasets.classes_of(data),
        communicator=communicator,
        shard_optimizer=options.shard_optimizer,
    )
    trainer.evaluation_batch = options.test_batch_size or trainer.evaluation_batch
    return trainer


def _recipe(options: argparse.Namespace, metadata: dict[str, Any] | None) -> Recipe:
    """Of the checkpoint, or of --recipe and --config, with the settings that were given."""
    given = given_settings(options)
    if options.mpi and metadata is None:
        given.setdefault("slots", 8)
    if metadata is None:
        if options.config is None:
            return recipes.get(options.recipe or "lecture").with_settings(given)
        return recipes.load_config(options.config, options.recipe).with_settings(given)
    for option in ("recipe", "config"):
        if getattr(options, option) is not None:
            raise ConfigError(
                f"--{option} with --resume: a resumed run has the recipe of its checkpoint; leave "
                "it out."
            )
    if not metadata["recipe"]:
        raise FileError(
            f"{options.resume}: found a checkpoint without a recipe, of a program of its own; "
            "expected one of this command: go on with checkpoint.load(trainer, file) there."
        )
    try:
        before = recipes.restored(metadata["recipe"])
    except (ConfigError, TypeError) as error:
        raise FileError(f"{options.resume}: found another recipe: {error}") from error
    if options.mpi and not before.slots:
        raise ConfigError(
            "--mpi with --resume: the checkpoint is of a run without slots, which one process goes "
            "on with; expected one that was begun with --slots or --mpi."
        )
    recipe = before.with_settings(given)
    changed = [name for name in given if getattr(recipe, name) != getattr(before, name)]
    if set(changed) - {"epochs"}:
        raise ConfigError(
            f"--resume with another {', '.join(sorted(set(changed) - {'epochs'}))}: a resumed run "
            "has the settings of its checkpoint, only --epochs may differ; leave it out."
        )
    return recipe


def _head(data: datasets.Splits, screen: Screen) -> None:
    """The lecture's first lines: sizes of training, test and validation set, and shapes."""
    screen.line(f"{len(data.train)} {len(data.test)} {len(data.validation)}")
    for name, split in (("train", data.train), ("test", data.test)):
        screen.line(f"{name} image shape = {split.images.shape}")
        screen.line(f"{name} label shape = {split.labels.shape}")
    screen.line(f"pycnn {pycnn.__version__}, {pycnn.isa()}, {pycnn.get_num_threads()} thread(s)")


def _result(accuracy: float, elapsed: float, trainer: Trainer) -> str:
    seconds = trainer.training_seconds
    images = trainer.steps_of_fit * trainer.batch_size
    values = {
        "test_accuracy": accuracy,
        "elapsed_s": round(elapsed, 3),
        "epochs": trainer.epoch,
        "steps": trainer.steps_done,
        "images_per_s": round(images / seconds, 1) if images else 0.0,
    }
    return f"RESULT {json.dumps(values)}"


def _reached(trainer: Trainer | None) -> str:
    if trainer is None or trainer.steps_done == 0:
        return "no step was finished"
    epoch, step = trainer.last_step
    done, were = counted(trainer.steps_done, "step"), "was" if trainer.steps_done == 1 else "were"
    return f"{done} {were} finished, the last one epoch {epoch}, step {step}"


def _go_on(trainer: Trainer | None) -> str:
    """How to go on after a stop, if the state is saved."""
    for callback in [] if trainer is None else trainer.callbacks:
        if isinstance(callback, Checkpoint) and callback.last.is_file():
            return f"; --resume {callback.folder} goes on"
    return ""


def _evaluate(options: argparse.Namespace, screen: Screen) -> int:
    """--eval: the accuracy of a saved model on the test images."""
    began = time.perf_counter()
    model = modelfile.load_model(options.eval)
    data = read(options, 0)
    try:
        trainer = Trainer(model, pycnn.optim.SGD(model.parameters(), 1.0), callbacks=[NanGuard()])
        trainer.evaluation_batch = options.test_batch_size or trainer.evaluation_batch
        found = trainer.evaluate(data.test)
    except Diverged as error:
        raise FileError(f"{options.eval}: {error}.") from error
    except (TypeError, ValueError) as error:
        raise FileError(f"{options.eval}: the model does not fit the images: {error}") from error
    screen.line(f"Accuracy = {found['accuracy']:.4f}")
    values = {
        "test_accuracy": found["accuracy"],
        "test_loss": found["loss"],
        "elapsed_s": round(time.perf_counter() - began, 3),
    }
    screen.result(f"RESULT {json.dumps(values)}")
    return DONE


def _train(options: argparse.Namespace, screen: Screen, signals: Signals, job: Job) -> int:
    source = metadata = None
    if options.shard_optimizer and not options.mpi:
        raise ConfigError(
            "--shard-optimizer without --mpi: one process keeps all of the optimizer's state; "
            "expected mpiexec -n 4 python -m pycnn.train --mpi --shard-optimizer, or leave it out."
        )
    if options.dry_run:
        if options.resume is not None:
            raise ConfigError("--dry-run with --resume: a dry run saves nothing; leave one out.")
        options.checkpoint_dir = None
    if options.resume is not None:
        source = checkpoint.checkpoint_in(options.resume)
        _, metadata = checkpoint.read(source)
        if options.checkpoint_dir is None:
            options.checkpoint_dir = source.parent
    recipe = _recipe(options, metadata)
    if options.print_config:
        screen.result(recipe.to_toml().rstrip("\n"))
        return DONE
    if job.speaks:
        check_outputs(options, source)
    data = load(options, recipe)
    check_validated(options, recipe, data)
    try:
        trainer = make_trainer(recipe, options, screen, data, job.communicator)
        signals.trainer = trainer
    except (TypeError, ValueError) as error:  # of a layer, an optimizer, the augmentation
        raise ConfigError(str(error)) from error
    _head(data, screen)
    if source is not None:
        checkpoint.load(trainer, source, same_settings=False)  # _recipe has compared them
        if options.test_batch_size not in (None, trainer.evaluation_batch):
            raise ConfigError(
                f"--resume with another --test-batch-size: that of the checkpoint is "
                f"{trainer.evaluation_batch}, and it rounds the loss of the validation; leave it "
                "out."
            )
        screen.line(f"goes on after epoch {trainer.epoch}, step {trainer.step} of {source}")
    validation = data.validation if len(data.validation) else None
    start = time.perf_counter()
    try:
        trainer.fit(data.train, validation, **recipe.lengths(len(data.train)))
    except OtherDataError as error:
        raise FileError(
            f"{source}: the run began with other data: give --data-dir again, as it was ({error})"
        ) from error
    except ValueError as error:  # of a layer: these images in these batches
        raise ConfigError(str(error)) from error
    elapsed = time.perf_counter() - start
    number = signals.number or NUMBERS.get(trainer.stop_reason or "")  # another rank's signal
    if number is not None:
        raise Stopped(number)
    screen.line(f"elapsed time = {elapsed:.3f} s")
    if trainer.stop_reason:
        screen.line(f"stopped: {trainer.stop_reason}")
    elif not trainer.steps_of_fit:
        screen.line(
            f"nothing to do: {trainer.epoch} epochs were done before, --epochs is {recipe.epochs}"
        )
    accuracy = trainer.evaluate(data.test)["accuracy"]
    screen.line(f"Accuracy = {accuracy:.4f}")
    if job.speaks:
        with trainer.ranks.alone():
            if options.save_model is not None:
                modelfile.save_model(trainer.model, options.save_model)
            _pictures(options, trainer, data, recipe)
    screen.result(_result(accuracy, elapsed, trainer))
    targets = [c for c in trainer.callbacks if isinstance(c, TargetAccuracy)]
    if targets and not targets[0].reached and not options.dry_run:
        if job.speaks:
            complain(
                f"pycnn.train: the target accuracy {options.target_accuracy:g} was not reached."
            )
        return MISSED
    return DONE


def _pictures(
    options: argparse.Namespace, trainer: Trainer, data: datasets.Splits, recipe: Recipe
) -> None:
    if options.plot is not None:
        from pycnn import plots

        rates = next(c for c in trainer.callbacks if isinstance(c, LearningRateLog))
        plots.save(plots.learning_curves(trainer.history, rates), options.plot)
    if options.report is not None:
        from pycnn import report

        report.write(options.report, trainer, data.test, recipe.to_dict())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argv has no program name, by default sys.argv's.

    Raises SystemExit, as argparse does, for --help (0) and for a usage error (2).
    """
    with stoppable() as signals:
        try:
            job = Job(argv)
        except ImportError as error:
            complain(f"pycnn.train: {error}")
            return FAILED
        return _run(argv, signals, job)


def _run(argv: Sequence[str] | None, signals: Signals, job: Job) -> int:
    def failed(sentence: str, code: int = FAILED) -> int:
        job.complain(f"pycnn.train: {sentence}")
        return job.end(code)

    try:
        parser = make_parser(job)
        options = parser.parse_args(argv)
        screen = Screen(options.quiet, not job.speaks)
        try:
            with pycnn.num_threads(options.threads) if options.threads else nullcontext():
                if options.eval is not None:
                    check_evaluation(options, vars(parser.parse_args([])))
                    return _evaluate(options, screen)
                return job.end(_train(options, screen, signals, job), together=True)
        except ConfigError as error:
            parser.error(str(error).rstrip("."))
    except Stopped as stop:
        name = signal.Signals(stop.number).name
        together = signals.trainer is not None and signals.trainer.stop_reason == name
        if job.speaks or not together:
            saved = _go_on(signals.trainer)
            job.complain(f"pycnn.train: stopped by {name}; {_reached(signals.trainer)}{saved}.")
        return job.end(128 + stop.number, together)
    except Diverged as error:
        return failed(f"diverged: {error}; {_reached(signals.trainer)}.", DIVERGED)
    except CannotWrite as error:
        abandon_stdout("pycnn.train", error)
        return job.end(FAILED)
    except (datasets.IdxError, FileError, ImportError) as error:
        return failed(str(error))
    except MemoryError as error:
        return failed(f"out of memory: {error or 'try a smaller --batch-size'}.")


if __name__ == "__main__":
    sys.exit(main())
