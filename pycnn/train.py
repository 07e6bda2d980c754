"""`python -m pycnn.train`: the lecture's network learns MNIST, with the lecture's settings.

Read `train` first: it is the whole loop. The rest is options, lines and exit codes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import pycnn
from pycnn import datasets, layers, losses, models, ops, optim

DONE, FAILED, USAGE, DIVERGED = 0, 1, 2, 3
_EVALUATION_BATCH = 500


class Diverged(Exception):
    """The loss is NaN or infinite."""


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived; a BaseException, so that no handler of errors swallows it."""

    def __init__(self, number: int) -> None:
        """Remember the signal's number."""
        super().__init__(number)
        self.number = number


@dataclass
class Progress:
    """What a run has reached, for the lines at its end and after an interruption."""

    epoch: int = 0
    step: int = 0
    steps_done: int = 0
    images_done: int = 0
    training_seconds: float = 0.0


def train(
    model: layers.Sequential, data: datasets.Splits, options: argparse.Namespace, progress: Progress
) -> None:
    """Train model on data.train with Adam; print the lecture's lines.

    Each epoch visits the images in a new order, drawn from one Generator of options.seed, in
    num_examples // batch_size steps, as the lecture; what is left over is dropped.
    """
    loss_of = losses.SoftmaxCrossEntropy()
    optimizer = optim.Adam(model.parameters(), lr=options.lr)
    rng = np.random.default_rng([options.seed, 1])  # another stream than the initial values
    x = np.empty((options.batch_size, *data.train.images.shape[1:]), np.float32)
    for epoch in range(options.epochs):
        start = time.perf_counter()
        model.train()
        order = rng.permutation(len(data.train))
        for step, batch in enumerate(_batches(order, options, epoch)):
            ops.gather_images(data.train.images, batch, out=x)
            loss, dlogits = loss_of(model.forward(x), data.train.labels[batch])
            if not math.isfinite(loss):
                raise Diverged(f"the loss is {loss} at epoch {epoch}, step {step}")
            optimizer.zero_grad()
            model.backward(dlogits, input_gradient=False)
            optimizer.step()
            progress.epoch, progress.step = epoch, step
            progress.steps_done += 1
            progress.images_done += len(batch)
            if step % options.log_interval == 0:
                _say(options, f"epochs = {epoch}, step = {step}, loss_val = {loss:.6f}")
        progress.training_seconds += time.perf_counter() - start
        if len(data.validation):
            accuracy = evaluate(model, data.validation)
            _say(options, f"epochs = {epoch}, validation accuracy = {accuracy:.4f}")


def evaluate(model: layers.Sequential, split: datasets.Split) -> float:
    """The share of split's images whose largest logit is that of their label."""
    model.eval()
    right = 0
    for first in range(0, len(split), _EVALUATION_BATCH):
        batch = np.arange(first, min(first + _EVALUATION_BATCH, len(split)))
        logits = model.forward(ops.gather_images(split.images, batch))
        right += int((logits.argmax(axis=1) == split.labels[batch]).sum())
    return right / len(split)


def _batches(
    order: npt.NDArray[np.int64], options: argparse.Namespace, epoch: int
) -> Iterator[npt.NDArray[np.int64]]:
    """The batches of one epoch, under a progress bar if a person watches."""
    steps = len(order) // options.batch_size
    with tqdm(
        total=steps * options.batch_size,
        desc=f"epoch {epoch}",
        unit=" images",
        unit_scale=True,
        leave=False,
        disable=options.quiet or not sys.stderr.isatty(),
    ) as bar:
        for step in range(steps):
            yield order[step * options.batch_size : (step + 1) * options.batch_size]
            bar.update(options.batch_size)


def _say(options: argparse.Namespace, line: str = "") -> None:
    """Print a line for a person, above the progress bar; the RESULT line is printed without it."""
    if not options.quiet:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


def _whole_number(low: int, what: str) -> type[int]:
    """An argparse type: a whole number, `low` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {what}; expected a whole number, {low} or more"
            )
        return value

    return parse  # type: ignore[return-value]


def _learning_rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0.0):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a learning rate; expected a number above 0"
        )
    return value


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder; expected one with IDX files")
    return path


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage that would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}. See --help.\n")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m pycnn.train",
        description="Train the lecture's network on MNIST, on the CPU.",
        formatter_class=_Help,
        epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 diverged (NaN), 130 interrupted (SIGINT), "
        "143 ended (SIGTERM). The last line of a run is RESULT and a JSON object.",
        allow_abbrev=False,
    )
    run = parser.add_argument_group("training")
    run.add_argument(
        "--epochs",
        type=_whole_number(1, "a number of epochs"),
        default=30,
        metavar="N",
        help="passes over the training images",
    )
    run.add_argument(
        "--batch-size",
        type=_whole_number(1, "a batch size"),
        default=100,
        metavar="N",
        help="images a step",
    )
    run.add_argument(
        "--lr", type=_learning_rate, default=0.001, metavar="X", help="learning rate of Adam"
    )
    run.add_argument(
        "--seed",
        type=_whole_number(0, "a seed"),
        default=0,
        metavar="N",
        help="of the initial values and of the order of images",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data-dir",
        type=_folder,
        default=None,
        metavar="DIR",
        help="a folder of four IDX files, plain or .gz, instead of the embedded MNIST",
    )
    data.add_argument(
        "--validation-size",
        type=_whole_number(0, "a number of images"),
        default=5000,
        metavar="N",
        help="first training images that are set aside for validation",
    )
    data.add_argument(
        "--limit-train",
        type=_whole_number(1, "a number of images"),
        default=None,
        metavar="N",
        help="train on the first N images only",
    )
    machine = parser.add_argument_group("machine and output")
    machine.add_argument(
        "--threads",
        type=_whole_number(1, "a number of threads"),
        default=None,
        metavar="N",
        help="threads to use; by default PYCNN_NUM_THREADS, "
        "OMP_NUM_THREADS, or the CPUs of this process",
    )
    machine.add_argument(
        "--log-interval",
        type=_whole_number(1, "a number of steps"),
        default=100,
        metavar="N",
        help="steps between two lines with the loss",
    )
    machine.add_argument("--quiet", action="store_true", help="print the RESULT line only")
    return parser


def _load(options: argparse.Namespace, parser: argparse.ArgumentParser) -> datasets.Splits:
    try:
        data = datasets.load_mnist(options.data_dir, options.validation_size)
    except datasets.IdxError:
        raise
    except ValueError as error:
        parser.error(f"argument --validation-size: {str(error).rstrip('.')}")
    if options.limit_train is not None:
        if options.limit_train > len(data.train):
            parser.error(
                f"argument --limit-train: {options.limit_train} is more than the {len(data.train)} "
                "training images there are"
            )
        kept = slice(options.limit_train)
        train_split = datasets.Split(data.train.images[kept], data.train.labels[kept])
        data = datasets.Splits(train_split, data.validation, data.test)
    if options.batch_size > len(data.train):
        parser.error(
            f"argument --batch-size: {options.batch_size} is more than the {len(data.train)} "
            "training images there are"
        )
    return data


def _head(options: argparse.Namespace, data: datasets.Splits) -> None:
    """The lecture's first lines: sizes and shapes."""
    _say(options, f"{len(data.train)} {len(data.test)} {len(data.validation)}")
    for name, split in (("train", data.train), ("test", data.test)):
        _say(options, f"{name} image shape = {split.images.shape}")
        _say(options, f"{name} label shape = {split.labels.shape}")
    _say(options, f"pycnn {pycnn.__version__}, {pycnn.isa()}, {pycnn.get_num_threads()} thread(s)")


def _result(
    accuracy: float, elapsed: float, options: argparse.Namespace, progress: Progress
) -> str:
    values = {
        "test_accuracy": accuracy,
        "elapsed_s": round(elapsed, 3),
        "epochs": options.epochs,
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
    if options.threads is not None:
        pycnn.set_num_threads(options.threads)
    data = _load(options, parser)
    _head(options, data)
    model = models.mnist_cnn(rng=options.seed, init="lecture")
    start = time.perf_counter()
    train(model, data, options, progress)
    elapsed = time.perf_counter() - start
    _say(options, f"elapsed time = {elapsed:.3f} s")
    accuracy = evaluate(model, data.test)
    _say(options, f"Accuracy = {accuracy:.4f}")
    print(_result(accuracy, elapsed, options, progress), flush=True)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argv has no program name, by default sys.argv's."""
    parser = _parser()
    options = parser.parse_args(argv)
    progress = Progress()
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _run(options, parser, progress)
    except Stopped as stop:
        name = signal.Signals(stop.number).name
        print(f"pycnn.train: stopped by {name}; {_reached(progress)}.", file=sys.stderr)
        return 128 + stop.number
    except Diverged as error:
        print(
            f"pycnn.train: diverged: {error}; {_reached(progress)}. Try a smaller --lr.",
            file=sys.stderr,
        )
        return DIVERGED
    except BrokenPipeError:  # the reader of our lines has gone: nobody is left to talk to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (datasets.IdxError, OSError, MemoryError) as error:
        print(f"pycnn.train: {error or 'out of memory'}", file=sys.stderr)
        return FAILED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
