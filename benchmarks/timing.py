"""Interleaved timing, and tables of plain text.

A machine has fast and slow minutes. So cases that are compared are timed in turn, several rounds,
and both the minimum and the median of a case's samples are reported: the minimum says what the code
can do, the median what it did.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Case:
    """Something to time: a call without arguments, and what one call works through.

    `setup` runs before each round of the case and is not timed. `flop` and `moved_bytes` are those
    of one call.
    """

    name: str
    run: Callable[[], object]
    setup: Callable[[], object] | None = None
    flop: float | None = None
    moved_bytes: float | None = None
    seconds: list[float] = field(default_factory=list)
    calls: int = 0

    @property
    def minimum(self) -> float:
        """Seconds per call, the best sample."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Seconds per call, the middle sample."""
        return statistics.median(self.seconds)


def seconds_per_call(run: Callable[[], object], calls: int) -> float:
    """Mean seconds of `calls` calls in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def calibrate(case: Case, sample_seconds: float) -> None:
    """Set `case.calls` so that one sample lasts about `sample_seconds`; also the warm-up."""
    if case.setup:
        case.setup()
    case.run()
    case.calls, elapsed = 1, 0.0
    while True:
        elapsed = seconds_per_call(case.run, case.calls) * case.calls
        if elapsed >= sample_seconds / 4:
            break
        case.calls *= 4
    case.calls = max(1, math.ceil(case.calls * sample_seconds / elapsed))


def interleave(
    cases: Sequence[Case],
    repeats: int,
    *,
    sample_seconds: float = 0.004,
    samples: int = 3,
    before_round: Callable[[], object] | None = None,
) -> None:
    """Time every case `repeats` rounds, one after another in each round; fills `case.seconds`."""
    for case in cases:
        if not case.calls:
            calibrate(case, sample_seconds)
    for _ in range(repeats):
        if before_round:
            before_round()
        for case in cases:
            if case.setup:
                case.setup()
            case.run()  # brings this case's arrays and code back into the caches
            case.seconds += [seconds_per_call(case.run, case.calls) for _ in range(samples)]


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log(values)))."""
    return math.exp(sum(math.log(value) for value in values) / len(values))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (headers, *rows)) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join((first, *others)).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, rows)])


def duration(seconds: float) -> str:
    """Milliseconds from 1 ms on, microseconds below."""
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.2f} us"
