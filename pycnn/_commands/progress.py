"""What a run says: lines on stdout, complaints on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from tqdm import tqdm


class CannotWrite(Exception):
    """A write to stdout has failed; `reason` is the system's, BrokenPipeError's is a reader's."""

    def __init__(self, reason: OSError) -> None:
        """Remember the system's reason."""
        super().__init__(reason)
        self.reason = reason


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """An OSError in here is one of stdout, and becomes CannotWrite."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(error) from error


def counted(number: int, what: str) -> str:
    """The number and the word: 1 step, 2,000 steps."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


class Screen:
    """Lines for a person, above a progress bar; quiet: only `result` prints, silent: nothing."""

    def __init__(self, quiet: bool, silent: bool = False) -> None:
        """Print nothing yet."""
        self._quiet, self._silent = quiet or silent, silent

    def line(self, text: str) -> None:
        """Print a line for a person."""
        if not self._quiet:
            with tqdm.external_write_mode(file=sys.stdout):
                self.result(text)

    def result(self, text: str) -> None:
        """Print a line in any case, and at once, so that a reader of a pipe sees it."""
        if self._silent:
            return
        with writing():
            print(text, flush=True)


def complain(text: str) -> None:
    """Print a line on stderr; nobody is left to tell if that fails."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def abandon_stdout(who: str, error: CannotWrite) -> None:
    """Complain, and write no more: or Python tries, and fails, once more when it ends."""
    if not isinstance(error.reason, BrokenPipeError):  # or the reader has left
        complain(f"{who}: cannot write its lines: {error.reason.strerror or error.reason}.")
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
