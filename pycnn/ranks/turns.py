"""Slots that meet halfway: each runs in a thread of its own, and only one runs at a time.

Synchronised normalisation needs the moments of all slots before it can normalise any. So slot 0
runs until it meets, then slot 1, and so on; when the last one has met, slot 0 goes on. The order
never changes, and threads of the operators serve one slot at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class _BrokenOff(Exception):
    """Another slot has raised an error."""


class Turns:
    """Runs bodies in turns; `join(values)` makes one result of what all of them bring."""

    def __init__(self, count: int, join: Callable[[list[Any]], Any]) -> None:
        """For so many bodies."""
        self._count, self._join = count, join
        self._turn, self._result = 0, None
        self._values: list[Any] = []
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def run(self, body: Callable[[int], None]) -> None:
        """body(0), body(1), ... in turns, to their ends; the first error is raised here."""
        self._turn = 0
        threads = [
            threading.Thread(target=self._one, args=(body, i), daemon=True)
            for i in range(self._count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def meet(self, number: int, value: Any) -> Any:
        """Bring a value; returns, at this body's next turn, what `join` made of all of them."""
        self._values.append(value)
        if number == self._count - 1:
            values, self._values = self._values, []
            self._result = self._join(values)
            self._pass_to(0)
        else:
            self._pass_to(number + 1)
        self._wait(number)
        return self._result

    def _one(self, body: Callable[[int], None], number: int) -> None:
        try:
            self._wait(number)
            body(number)
            self._pass_to(number + 1)
        except _BrokenOff:
            pass
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _pass_to(self, number: int) -> None:
        with self._changed:
            self._turn = number
            self._changed.notify_all()

    def _wait(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._turn == number or self._error is not None)
            if self._error is not None:
                raise _BrokenOff
