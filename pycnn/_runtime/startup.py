"""The start of `python -m pycnn.train` and its like: Python imports pycnn before their own line."""

from __future__ import annotations

import contextlib
import sys

COMMANDS = ("pycnn", "pycnn.train", "pycnn.predict", "pycnn.onnx")
_FAILED, _USAGE = 1, 2  # as in _commands/options.py, which imports pycnn


def command() -> str:
    """Which command this process is starting, or "": then an import must change nothing.

    `-m` imports pycnn, and with it NumPy, before the first line of train.py; that is nearly all of
    the start. While it does, sys.argv is ["-m", *arguments].
    """
    module = sys.orig_argv[-len(sys.argv)] if sys.argv[:1] == ["-m"] else ""
    name = module.removeprefix("-m")
    longer = ".".join([name, *sys.argv[1:2]])  # python -m pycnn train
    return next((known for known in (longer, name) if known in COMMANDS), "")


def end_command(error: ImportError) -> None:
    """End a command with the sentence in which pycnn refuses to be imported, without a traceback.

    A wrong PYCNN_ISA or PYCNN_NUM_THREADS is a usage error. Does nothing for another program, or
    where something else than pycnn failed.
    """
    sentence = str(error).removeprefix("pycnn: ")
    usage = sentence.startswith("PYCNN_")
    if not command() or not (usage or sentence != str(error)):
        return
    with contextlib.suppress(OSError):
        print(f"{command()}: {sentence}", file=sys.stderr, flush=True)
    sys.exit(_USAGE if usage else _FAILED)
