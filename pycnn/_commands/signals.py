"""SIGINT and SIGTERM end the command with a sentence and an exit code of their own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from pycnn._runtime import startup

if TYPE_CHECKING:
    from pycnn.trainer import Trainer


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived; a BaseException, so that no handler of errors swallows it."""

    def __init__(self, number: int) -> None:
        """Remember the signal's number."""
        super().__init__(number)
        self.number = number


def _stop_while_starting(number: int, frame: FrameType | None) -> None:
    """End the process at once: a library that is being imported may catch an exception."""
    with suppress(OSError):
        os.write(2, b"pycnn.train: stopped by SIGINT; no step was finished.\n")
    os._exit(128 + number)


def answer_while_starting() -> None:
    """If this process is `python -m pycnn.train`: answer SIGINT from now on, not only in `main`.

    For any other program an import changes no handler.
    """
    if startup.command() == "pycnn.train" and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, _stop_while_starting)


class Signals:
    """What SIGINT and SIGTERM do: `number` is the first that came.

    While `trainer` trains, the first one ends its run after the step; any other raises Stopped.
    """

    def __init__(self) -> None:
        """No signal, no trainer."""
        self.number: int | None = None
        self.trainer: Trainer | None = None
        self._raised = False

    def arrived(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        first = self.number is None
        if first:
            self.number = number
        if first and self.trainer is not None and self.trainer.fitting:
            self.trainer.stop(signal.Signals(number).name)
        elif not self._raised:
            self._raised = True
            raise Stopped(self.number or number)


@contextmanager
def stoppable() -> Iterator[Signals]:
    """SIGINT and SIGTERM go to the `Signals` in here.

    A signal that is ignored stays ignored: `nohup` and a shell's `command &` ask for that.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals  # Python delivers signals to the main thread only
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in list(before.items()):
        if handler is signal.SIG_IGN or handler is None:  # None: set outside of Python, for good
            del before[number]
        else:
            signal.signal(number, signals.arrived)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            started = handler is _stop_while_starting  # then the run has been, and this is the end
            signal.signal(number, signal.SIG_DFL if started else handler)
