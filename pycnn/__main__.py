"""`python -m pycnn`: what is installed here, and the commands there are, which it runs as well.

`python -m pycnn train` is `python -m pycnn.train`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import pycnn
from pycnn._commands.options import DONE, FAILED, _Parser
from pycnn._commands.progress import CannotWrite, abandon_stdout, writing

COMMANDS = {
    "train": "train a network on MNIST, by default the lecture's",
    "predict": "tell the digits in pictures with a saved model",
    "onnx": "tell what is in an ONNX file, and how fast it runs",
}


def _commands() -> str:
    lines = [f"  {f'python -m pycnn.{name}':25} {what}" for name, what in COMMANDS.items()]
    return "\n".join(["commands (each has --help):", *lines])


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's options; it ends the process after --help and usage errors."""
    parser = _Parser(
        prog="python -m pycnn",
        description="Print the version, the settings of this machine and the commands.",
        epilog=f"{_commands()}\n\nExit codes: 0 done, 1 failed, 2 usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = f"pycnn {pycnn.__version__}"
    parser.add_argument("--version", action="version", version=version, help="print the version")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argv has no program name, by default sys.argv's.

    Raises SystemExit, as argparse does, for --help and --version (0) and for a usage error (2).
    """
    try:
        arguments = sys.argv[1:] if argv is None else list(argv)
        if arguments and arguments[0] in COMMANDS:
            command = importlib.import_module(f"pycnn.{arguments[0]}")
            if not hasattr(command, "main"):  # a package
                command = importlib.import_module(f"{command.__name__}.__main__")
            return int(command.main(arguments[1:]))
        make_parser().parse_args(arguments)
        with writing():
            print(f"{pycnn.show_config()}\n\n{_commands()}", flush=True)
        return DONE
    except CannotWrite as error:
        abandon_stdout("pycnn", error)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
