"""The options of `python -m pycnn.train`: what they mean, their defaults, and what they refuse."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pycnn import datasets
from pycnn._config import MAX_THREADS
from pycnn._progress import writing

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

DONE, FAILED, USAGE, DIVERGED = 0, 1, 2, 3  # exit codes; --help explains them


def _whole_number(low: int, what: str, high: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number, `low` or more, at most `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text) if text.isascii() and text.isdigit() else low - 1
        except ValueError:  # Python reads no number of thousands of digits
            value = low - 1
        if value < low or (high is not None and value > high):
            bound = f"{low} or more" if high is None else f"{low} to {high}"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {what}; expected a whole number, {bound}"
            )
        return value

    return parse


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
    try:
        found = datasets.idx.is_folder(path)
    except datasets.IdxError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder; expected one with IDX files")
    return path


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage that would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (see --help).\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Without argparse's silence about a stdout that takes nothing."""
        if file is sys.stdout:
            with writing():
                print(message, end="", flush=True)
        else:
            super()._print_message(message, file)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's options; it ends the process after --help and usage errors."""
    parser = _Parser(
        prog="python -m pycnn.train",
        description="Train the lecture's network on MNIST, on the CPU.",
        formatter_class=_Help,
        epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 diverged (NaN), 130 interrupted (SIGINT), "
        "143 ended (SIGTERM). A signal waits for the operator that runs, longer for a larger "
        "--batch-size. The last line of a run is RESULT and a JSON object: elapsed_s is the "
        "time of all epochs with their validation, images_per_s the speed of training alone. "
        "No file is written.",
        allow_abbrev=False,
    )
    _training_options(parser.add_argument_group("training"))
    _data_options(parser.add_argument_group("data"))
    _other_options(parser.add_argument_group("machine and output"))
    return parser


def _option(
    group: argparse._ArgumentGroup,
    name: str,
    kind: Callable[[str], object],
    default: float | None,
    meaning: str,
    metavar: str = "N",
) -> None:
    group.add_argument(name, type=kind, default=default, metavar=metavar, help=meaning)


def _training_options(group: argparse._ArgumentGroup) -> None:
    kind = _whole_number(1, "a number of epochs")
    _option(group, "--epochs", kind, 30, "passes over the training images")
    kind = _whole_number(1, "a batch size")
    meaning = "images a step; those at the end of an epoch that are too few for one are dropped"
    _option(group, "--batch-size", kind, 100, meaning)
    _option(group, "--lr", _learning_rate, 0.001, "learning rate of Adam", metavar="X")
    kind = _whole_number(0, "a seed")
    _option(group, "--seed", kind, 0, "of the initial values and of the order of images")


def _data_options(group: argparse._ArgumentGroup) -> None:
    meaning = "a folder of four IDX files, plain or .gz, instead of the embedded MNIST"
    _option(group, "--data-dir", _folder, None, meaning, metavar="DIR")
    kind = _whole_number(0, "a number of images")
    meaning = "first training images that are set aside for validation"
    _option(group, "--validation-size", kind, 5000, meaning)
    kind = _whole_number(1, "a number of images")
    meaning = (
        "train on the first N of the other images only; by default on all. From the "
        "lecture's initial values 50 steps are too few to leave the accuracy of guessing, 10 %%"
    )
    _option(group, "--limit-train", kind, None, meaning)


def _other_options(group: argparse._ArgumentGroup) -> None:
    kind = _whole_number(1, "a number of threads", MAX_THREADS)
    meaning = (
        "threads to use; by default PYCNN_NUM_THREADS, OMP_NUM_THREADS, or the CPUs of this process"
    )
    _option(group, "--threads", kind, None, meaning)
    kind = _whole_number(1, "a number of steps")
    _option(group, "--log-interval", kind, 100, "steps between two lines with the loss")
    group.add_argument("--quiet", action="store_true", help="print the RESULT line only")
