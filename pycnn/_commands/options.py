"""The options of `python -m pycnn.train`: what they mean, their defaults, and what they refuse."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pycnn import datasets, models, recipes
from pycnn._commands.job import Job
from pycnn._commands.progress import writing
from pycnn._formats import toml
from pycnn._runtime.machine import MAX_THREADS

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

DONE, FAILED, USAGE, DIVERGED, MISSED = 0, 1, 2, 3, 4  # exit codes; --help explains them


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


def _number_above_0(what: str, high: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number above 0, at most `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and 0.0 < value <= high):
            bound = "" if high == math.inf else f", at most {high:g}"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {what}; expected a number above 0{bound}"
            )
        return value

    return parse


def _setting(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    try:
        found = toml.loads(f"value = {value}")["value"] if equals else None
    except toml.TomlError:
        found = value.strip()  # a word without quotes
    if not equals or not name.strip() or found == "":
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; expected NAME=VALUE")
    return name.strip(), found


def _folder(text: str) -> Path:
    path = Path(text)
    try:
        found = datasets.idx.is_folder(path)
    except datasets.IdxError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a folder; expected one with IDX files, CIFAR-10's, or pictures"
        )
    return path


def _path(text: str) -> Path:
    if not text or "\0" in text:  # Path("") is the current folder
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file or folder")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage that would hide it."""

    job: Job | None = None

    def error(self, message: str) -> NoReturn:
        sentence = f"{self.prog}: {message} (see --help)."
        if self.job is None:
            self.exit(USAGE, f"{sentence}\n")
        self.job.complain(sentence)
        self.exit(self.job.end(USAGE))

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
        if action.default in (None, False, []):
            return action.help
        return super()._get_help_string(action)


def make_parser(job: Job | None = None) -> argparse.ArgumentParser:
    """The parser of the command's options; it ends the process, or all of the job, after an error.

    A setting of the recipe is in the result only if its option was given.
    """
    parser = _Parser(
        prog="python -m pycnn.train",
        description="Train a network on MNIST, on the CPU: by default the lecture's, as it did.",
        formatter_class=_Help,
        epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 diverged (NaN), 4 target accuracy not "
        "reached, 130 interrupted (SIGINT), 143 ended (SIGTERM). A signal waits for the end of the "
        "step, longer for a larger --batch-size, and saves the state with --checkpoint-dir; a "
        "second one ends at once. The last line of a run is RESULT and a JSON object: elapsed_s is "
        "the time of all epochs with their validation, images_per_s the speed of training alone. "
        "No file is written without an option that names it.",
        allow_abbrev=False,
    )
    parser.job = job
    _recipe_options(parser.add_argument_group("recipe"))
    _training_options(parser.add_argument_group("training: settings of the recipe"))
    _data_options(parser.add_argument_group("data"))
    _ending_options(parser.add_argument_group("ending"))
    _file_options(parser.add_argument_group("files"))
    _other_options(parser.add_argument_group("machine and output"))
    return parser


def _option(
    group: argparse._ArgumentGroup,
    name: str,
    kind: Callable[[str], object],
    meaning: str,
    metavar: str = "N",
    default: object = None,
) -> None:
    group.add_argument(name, type=kind, default=default, metavar=metavar, help=meaning)


def _of_recipe(group: argparse._ArgumentGroup, name: str, more: str = "") -> None:
    """The option of a setting; all but `more` of its help is what the recipe says of it."""
    setting, default = recipes.SETTINGS[name], getattr(recipes.Recipe(), name)
    kind: Callable[[str], object]
    if setting.choices:
        kind, metavar = str, "NAME"
    elif isinstance(default, int):
        kind, metavar = _whole_number(int(setting.above_0), setting.option), "N"
    else:
        kind, metavar = _number_above_0(setting.option, setting.high), "X"
    group.add_argument(
        f"--{name.replace('_', '-')}",
        type=kind,
        choices=setting.choices or None,
        default=argparse.SUPPRESS,
        metavar=metavar,
        help=f"{setting.meaning}{more} (lecture: {default})".replace("%", "%%"),
    )


def _recipe_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--recipe",
        choices=list(recipes.RECIPES),
        default=None,
        help="lecture (default); fast: less than half an epoch; best: the most accurate, 20 epochs"
        "; residual: for clothes and other small images, 20 epochs",
    )
    meaning = "a TOML file of settings, as --print-config writes it; options win over it"
    _option(group, "--config", _path, meaning, "FILE")
    group.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting of the recipe, for example --set ema=0.999; may be repeated",
    )
    group.add_argument(
        "--print-config", action="store_true", help="print all settings as TOML, explained, and end"
    )


def _training_options(group: argparse._ArgumentGroup) -> None:
    meaning = f"a network of pycnn.models instead of stages: {', '.join(models.NETWORKS)}"
    group.add_argument(
        "--model",
        dest="network",
        choices=list(models.NETWORKS),
        default=argparse.SUPPRESS,
        metavar="NAME",
        help=meaning,
    )
    for name in ("epochs", "batch_size", "lr", "optimizer", "schedule"):
        _of_recipe(group, name)
    _of_recipe(group, "gamma", "; alone it chooses that schedule")
    _of_recipe(group, "seed")
    _of_recipe(group, "slots", "; with --mpi 8, unless it is given")
    group.add_argument(
        "--dry-run", action="store_true", help="one step and an evaluation only; no checkpoint"
    )


def _data_options(group: argparse._ArgumentGroup) -> None:
    meaning = (
        "a folder instead of the embedded MNIST: of four IDX files, plain or .gz, of CIFAR-10's "
        "binary files, or of pictures, train/CLASS/NAME.png and test/CLASS/NAME.png"
    )
    _option(group, "--data-dir", _folder, meaning, "DIR")
    kind = _whole_number(1, "a size", datasets.folder.MOST_SIDE)
    _option(group, "--image-size", kind, "scale pictures of --data-dir to N x N pixels")
    _of_recipe(group, "validation_size")
    kind = _whole_number(1, recipes.SETTINGS["limit_train"].option)
    meaning = (
        "train on the first N of the other images only; by default on all. From the "
        "lecture's initial values 50 steps are too few to leave the accuracy of guessing, 10 %%"
    )
    _option(group, "--limit-train", kind, meaning, default=argparse.SUPPRESS)
    meaning = "images at once in an evaluation; by default 500, or what the checkpoint says"
    _option(group, "--test-batch-size", _whole_number(1, "a batch size"), meaning)


def _ending_options(group: argparse._ArgumentGroup) -> None:
    meaning = "stop after the epoch that reaches this validation accuracy; else exit code 4"
    kind = _number_above_0("an accuracy", 1)
    _option(group, "--target-accuracy", kind, meaning, "SHARE")
    _option(group, "--time-limit", _number_above_0("a time"), "stop after so many", "SECONDS")


def _file_options(group: argparse._ArgumentGroup) -> None:
    meaning = "write last.safetensors, best.safetensors and log.jsonl there"
    _option(group, "--checkpoint-dir", _path, meaning, "DIR")
    meaning = "steps between two checkpoints; by default after each epoch only"
    _option(group, "--save-every", _whole_number(1, "a number of steps"), meaning)
    meaning = (
        "go on from a checkpoint, or from last.safetensors of a folder, with its recipe, and save "
        "there; give the options that are no settings of the recipe again"
    )
    _option(group, "--resume", _path, meaning, "FILE_OR_DIR")
    _option(group, "--save-model", _path, "write the trained model there", "FILE")
    meaning = "do not train: evaluate this model or checkpoint on the test images"
    _option(group, "--eval", _path, meaning, "FILE")
    _option(group, "--json-log", _path, "write the log there, one JSON object a line", "FILE")
    meaning = "draw the learning curves, .png or .svg; needs the extra plot"
    _option(group, "--plot", _path, meaning, "FILE")
    meaning = "write a report with all pictures, one HTML file; needs the extra plot"
    _option(group, "--report", _path, meaning, "FILE")


def _other_options(group: argparse._ArgumentGroup) -> None:
    kind = _whole_number(1, "a number of threads", MAX_THREADS)
    meaning = (
        "threads to use; by default PYCNN_NUM_THREADS, OMP_NUM_THREADS, or the CPUs of this process"
    )
    _option(group, "--threads", kind, meaning)
    kind = _whole_number(1, "a number of steps")
    _option(group, "--log-interval", kind, "steps between two lines with the loss", default=100)
    group.add_argument(
        "--mpi",
        action="store_true",
        help="train on all ranks: mpiexec -n 4 python -m pycnn.train --mpi; needs the extra mpi",
    )
    group.add_argument(
        "--shard-optimizer",
        action="store_true",
        help="with --mpi: each rank keeps and moves its part of the optimizer's state only",
    )
    group.add_argument("--quiet", action="store_true", help="print the RESULT line only")


def given_settings(options: argparse.Namespace) -> dict[str, object]:
    """The settings of the recipe that were given as options."""
    given = {name: value for name, value in vars(options).items() if name in recipes.NAMES}
    if "gamma" in given and "schedule" not in given:
        given["schedule"] = "step"
    return {**given, **dict(options.set)}
