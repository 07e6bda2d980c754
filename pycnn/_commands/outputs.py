"""What `python -m pycnn.train` checks of its options before it begins: files, and --eval."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pycnn._formats.files import FileError, real_path, replacing
from pycnn.recipes import ConfigError

EVALUATION = {"eval", "data_dir", "test_batch_size", "threads", "quiet"}


def check_evaluation(options: argparse.Namespace, defaults: Mapping[str, Any]) -> None:
    """Refuse options that mean nothing with --eval, and a folder."""
    for name, value in vars(options).items():
        if name not in EVALUATION and (name not in defaults or value != defaults[name]):
            raise ConfigError(
                f"--{name.replace('_', '-')} with --eval, which only evaluates; leave it out."
            )
    folder: Path = options.eval
    for name in ("best.safetensors", "last.safetensors"):
        if (folder / name).is_file():
            raise FileError(
                f"{folder}: this is a folder; expected a file, for example {folder / name}."
            )


def check_outputs(options: argparse.Namespace, source: Path | None) -> None:
    """Say before hours of training what would only fail after them."""
    if options.plot is not None and options.plot.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"argument --plot: {str(options.plot)!r} is no .png or .svg.")
    if options.plot is not None:
        from pycnn import plots

        plots.check(options.plot)
    if options.report is not None:
        from pycnn import report

        report.check(options.report)
    log = None  # --json-log may name that of --checkpoint-dir
    taken = {} if source is None else {real_path(source): "the checkpoint of --resume"}
    if options.checkpoint_dir is not None:
        for name in ("last.safetensors", "best.safetensors"):
            taken[real_path(options.checkpoint_dir / name)] = "a checkpoint"
        log = real_path(options.checkpoint_dir / "log.jsonl")
        taken[log] = "the log of --checkpoint-dir"
        taken[real_path(options.checkpoint_dir / ".lock")] = "the lock of --checkpoint-dir"
    for name in ("save_model", "json_log", "plot", "report"):
        path: Path | None = getattr(options, name)
        if path is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if real_path(path) in taken and not (name == "json_log" and real_path(path) == log):
            raise ConfigError(
                f"argument {option}: {path} is {taken[real_path(path)]}; expected another file."
            )
        taken[real_path(path)] = f"the file of {option} already"
        made = options.checkpoint_dir is not None and path.parent == options.checkpoint_dir
        if name != "json_log" and not made:  # the log may be a pipe, and fails at once in any case
            _try_to_write(path)


def _try_to_write(path: Path) -> None:
    """Raise the FileError that writing this file would raise; it stays as it is."""
    try:
        with replacing(path):
            raise _Enough
    except _Enough:
        pass


class _Enough(Exception):
    """Leaves `replacing` before the file is replaced."""
