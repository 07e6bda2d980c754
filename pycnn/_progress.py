"""What a run says: lines on stdout and, while a person watches, a progress bar on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import TracebackType

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


class Screen:
    """Lines and a bar of the images seen, with images/s and the time left; a context manager.

    quiet: only `result` prints. The bar is drawn only if stderr is a terminal, below the lines.
    """

    def __init__(self, quiet: bool) -> None:
        """Draw nothing yet."""
        self._quiet = quiet
        self._bar: tqdm | None = None

    def __enter__(self) -> Screen:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self.finish()

    def start(self, images: int) -> None:
        """Draw the bar: so many images are ahead."""
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm(
                total=images,
                unit=" images",
                unit_scale=True,
                dynamic_ncols=True,
                leave=False,
                file=sys.stderr,
            )

    def advance(self, images: int) -> None:
        """So many images more have been seen."""
        if self._bar is not None:
            self._bar.update(images)

    def finish(self) -> None:
        """Take the bar away, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def line(self, text: str) -> None:
        """Print a line for a person, above the bar."""
        if not self._quiet:
            with tqdm.external_write_mode(file=sys.stdout):
                self.result(text)

    def result(self, text: str) -> None:
        """Print a line in any case, and at once, so that a reader of a pipe sees it."""
        with writing():
            print(text, flush=True)


def complain(text: str) -> None:
    """Print a line on stderr; nobody is left to tell if that fails."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def abandon_stdout() -> None:
    """After a write to stdout has failed: or Python tries, and fails, once more when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
