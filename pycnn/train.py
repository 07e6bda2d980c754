"""`python -m pycnn.train`: the lecture's network learns MNIST, with the lecture's settings.

Read `train` first: it is the whole loop. The rest is lines and exit codes; the options stand in
`_options.py`, what a signal does in `_signals.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import pycnn
from pycnn import datasets, layers, losses, models, ops, optim
from pycnn._options import DIVERGED, DONE, FAILED, make_parser
from pycnn._progress import CannotWrite, Screen, abandon_stdout, complain
from pycnn._signals import Stopped, stoppable

_EVALUATION_BATCH = 500


class Diverged(Exception):
    """The loss, or an output of the network, is NaN or infinite."""


@dataclass
class Progress:
    """What a run has reached, for the lines at its end and after an interruption."""

    epoch: int = 0
    step: int = 0
    steps_done: int = 0
    images_done: int = 0
    training_seconds: float = 0.0


def train(
    model: layers.Sequential,
    data: datasets.Splits,
    options: argparse.Namespace,
    progress: Progress,
    screen: Screen,
) -> None:
    """Train model on data.train with Adam; print the lecture's lines.

    Each epoch visits the images in a new order, drawn from one Generator of options.seed, in
    num_examples // batch_size steps, as the lecture; what is left over is dropped.
    """
    size, total_batch = options.batch_size, len(data.train) // options.batch_size
    loss_of = losses.SoftmaxCrossEntropy()
    optimizer = optim.Adam(model.parameters(), lr=options.lr)
    rng = np.random.default_rng([options.seed, 1])  # another stream than the initial values
    x = np.empty((size, *data.train.images.shape[1:]), np.float32)
    screen.start(options.epochs * total_batch * size)
    for epoch in range(options.epochs):
        start = time.perf_counter()
        model.train()
        order = rng.permutation(len(data.train))
        for step in range(total_batch):
            batch = order[step * size : (step + 1) * size]
            ops.gather_images(data.train.images, batch, out=x)
            loss, dlogits = loss_of(model.forward(x), data.train.labels[batch])
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} at epoch {epoch}, step {step}")
            optimizer.zero_grad()
            model.backward(dlogits, input_gradient=False)
            optimizer.step()
            progress.epoch, progress.step = epoch, step
            progress.steps_done += 1
            progress.images_done += size
            screen.advance(size)
            if step % options.log_interval == 0:
                screen.line(f"epochs = {epoch}, step = {step}, loss_val = {loss:.6f}")
        progress.training_seconds += time.perf_counter() - start
        if len(data.validation):
            accuracy = evaluate(model, data.validation)
            screen.line(f"epochs = {epoch}, validation accuracy = {accuracy:.4f}")
    screen.finish()


def evaluate(model: layers.Sequential, split: datasets.Split) -> float:
    """The share of split's images whose largest logit is that of their label.

    Raises Diverged for a NaN or infinite logit: the largest would mean nothing.
    """
    model.eval()
    right = 0
    for first in range(0, len(split), _EVALUATION_BATCH):
        batch = np.arange(first, min(first + _EVALUATION_BATCH, len(split)))
        logits = model.forward(ops.gather_images(split.images, batch))
        if not np.isfinite(logits).all():
            raise Diverged("an output of the network is NaN or infinite in an evaluation")
        right += int(np.count_nonzero(logits.argmax(axis=1) == split.labels[batch]))
    return right / len(split)


def _load(options: argparse.Namespace, parser: argparse.ArgumentParser) -> datasets.Splits:
    try:
        data = datasets.load_mnist(options.data_dir, options.validation_size)
    except datasets.IdxError:
        raise
    except ValueError as error:
        parser.error(f"argument --validation-size: {str(error).rstrip('.')}")
    if options.limit_train is not None:
        _check_fits("--limit-train", options.limit_train, data, parser)
        kept = slice(options.limit_train)
        first = datasets.Split(data.train.images[kept], data.train.labels[kept])
        data = datasets.Splits(first, data.validation, data.test)
    _check_fits("--batch-size", options.batch_size, data, parser)
    return data


def _check_fits(
    option: str, value: int, data: datasets.Splits, parser: argparse.ArgumentParser
) -> None:
    if value > len(data.train):
        parser.error(
            f"argument {option}: {value} is more than the {len(data.train)} training images there "
            "are"
        )


def _head(data: datasets.Splits, screen: Screen) -> None:
    """The lecture's first lines: sizes and shapes."""
    screen.line(f"{len(data.train)} {len(data.test)} {len(data.validation)}")
    for name, split in (("train", data.train), ("test", data.test)):
        screen.line(f"{name} image shape = {split.images.shape}")
        screen.line(f"{name} label shape = {split.labels.shape}")
    screen.line(f"pycnn {pycnn.__version__}, {pycnn.isa()}, {pycnn.get_num_threads()} thread(s)")


def _result(accuracy: float, elapsed: float, epochs: int, progress: Progress) -> str:
    values = {
        "test_accuracy": accuracy,
        "elapsed_s": round(elapsed, 3),
        "epochs": epochs,
        "steps": progress.steps_done,
        "images_per_s": round(progress.images_done / progress.training_seconds, 1),
    }
    return f"RESULT {json.dumps(values)}"


def _reached(progress: Progress) -> str:
    if progress.steps_done == 0:
        return "no step was finished"
    return (
        f"{progress.steps_done} steps were finished, the last one epoch {progress.epoch}, "
        f"step {progress.step}"
    )


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser, progress: Progress) -> None:
    threads = options.threads or pycnn.get_num_threads()
    with pycnn.num_threads(threads), Screen(options.quiet) as screen:
        data = _load(options, parser)
        _head(data, screen)
        model = models.mnist_cnn(rng=options.seed, init="lecture")
        start = time.perf_counter()
        train(model, data, options, progress, screen)
        elapsed = time.perf_counter() - start
        screen.line(f"elapsed time = {elapsed:.3f} s")
        accuracy = evaluate(model, data.test)
        screen.line(f"Accuracy = {accuracy:.4f}")
        screen.result(_result(accuracy, elapsed, options.epochs, progress))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argv has no program name, by default sys.argv's.

    Raises SystemExit, as argparse does, for --help (0) and for a usage error (2).
    """
    progress = Progress()
    with stoppable():
        try:
            parser = make_parser()
            _run(parser.parse_args(argv), parser, progress)
        except Stopped as stop:
            name = signal.Signals(stop.number).name
            complain(f"pycnn.train: stopped by {name}; {_reached(progress)}.")
            return 128 + stop.number
        except Diverged as error:
            complain(f"pycnn.train: diverged: {error}; {_reached(progress)}. Try a smaller --lr.")
            return DIVERGED
        except CannotWrite as error:
            if not isinstance(error.reason, BrokenPipeError):  # or the reader has left
                reason = error.reason.strerror or error.reason
                complain(f"pycnn.train: cannot write its lines: {reason}.")
            abandon_stdout()
            return FAILED
        except datasets.IdxError as error:
            complain(f"pycnn.train: {error}")
            return FAILED
        except MemoryError as error:
            complain(f"pycnn.train: out of memory: {error or 'try a smaller --batch-size'}.")
            return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
