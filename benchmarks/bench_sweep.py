"""Every convolution of `shapes`, each direction, beside PyTorch channels_last.

And forward of one image beside oneDNN's best: both sides with weights packed once.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pycnn.ops.conv2d import conv2d_shape

from . import machine, plots
from .peers.contest import Contestant, Worker, WorkerError
from .shapes import DIRECTIONS, Point, points
from .timing import duration, geometric_mean, table


@dataclass(frozen=True)
class Comparison:
    """Two contestants, and what of the points they do."""

    name: str
    theirs: Contestant
    ours: Contestant
    directions: tuple[str, ...] = DIRECTIONS
    most_images: int | None = None
    packed: bool = False  # weights, before the clock runs


COMPARISONS = (
    Comparison(
        "PyTorch channels_last",
        Contestant("PyTorch channels_last", "peer_torch", "channels_last"),
        Contestant("pycnn", "peer_pycnn"),
    ),
    Comparison(
        "oneDNN's best",
        Contestant("PyTorch, packed", "peer_torch", "packed"),
        Contestant("pycnn, compiled", "peer_pycnn", "compiled"),
        directions=("forward",),
        most_images=1,
        packed=True,
    ),
)
# GNU OpenMP's threads fall asleep after some milliseconds; `idle_cpu_s` tells if they do not.
PAUSE_S = 0.03
SAMPLE_S, SAMPLES = 0.004, 3
BUDGET_S = 3.0  # of both sides' calls in one direction of one convolution; then fewer rounds
LEAST_ROUNDS = 2
WORST = 10
# PyTorch allocates its results, pycnn gets `out=`. Without these PyTorch's large results would
# come from mmap each time, and their page faults would count as its time.
ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


@dataclass
class Row:
    """One direction of one convolution at one batch size."""

    point: Point
    direction: str
    algorithm: str
    rounds: int = 0
    theirs: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    def as_json(self, peak: float | None) -> dict[str, Any]:
        """Names, times, ratios (above 1: pycnn is faster); the share is of `peak` GFLOP/s."""
        convolution, batch = self.point.convolution, self.point.batch
        row = {
            "network": self.point.network,
            "shape": str(convolution),
            "convolution": asdict(convolution),
            "batch": batch,
            "direction": self.direction,
            "algorithm": self.algorithm,
            "rounds": self.rounds,
            "pytorch_min_s": min(self.theirs),
            "pytorch_median_s": statistics.median(self.theirs),
            "pycnn_min_s": min(self.ours),
            "pycnn_median_s": statistics.median(self.ours),
        }
        for key in ("min", "median"):
            row[f"ratio_{key}"] = row[f"pytorch_{key}_s"] / row[f"pycnn_{key}_s"]
        row["gflops"] = convolution.flop(batch) / row["pycnn_min_s"] / 1e9
        row["share_of_peak"] = row["gflops"] / peak if peak else None
        return row


def run(
    *,
    threads: list[int],
    rounds: int,
    networks: list[str],
    quick: bool,
    peers_python: str,
    peak: dict[int, float],
    plot: Path | None,
) -> dict[str, Any]:
    """Measure, print, plot, return what goes to the JSON file."""
    chosen = points(networks, quick=quick)
    report: dict[str, Any] = {"rounds": rounds, "contests": [], "notes": []}
    for count, comparison in itertools.product(threads, COMPARISONS):
        began = time.perf_counter()
        try:
            versions, rows, notes = compare(comparison, chosen, count, rounds, peers_python)
        except WorkerError as error:
            report["notes"].append(str(error))
            print(f"\nsweep, {comparison.name}, {count} thread(s): left out: {error}")
            continue
        contest: dict[str, Any] = {"threads": count, "versions": versions}
        contest["comparison"] = comparison.name
        contest["seconds"] = time.perf_counter() - began
        contest["rows"] = [row.as_json(peak.get(count)) for row in rows]
        contest["summary"] = summary(contest["rows"])
        report["contests"].append(contest)
        report["notes"] += notes
        print(text(contest, rounds))
        print(*notes, sep="\n", end="\n" if notes else "")
    if plot and report["contests"]:
        plots.ratios(report["contests"], plot)
    return report


def compare(
    comparison: Comparison, chosen: list[Point], threads: int, rounds: int, peers_python: str
) -> tuple[dict[str, str], list[Row], list[str]]:
    """Time the comparison's part of all points on both sides in turn: versions, rows, notes."""
    rows: list[Row] = []
    busy: list[float] = []
    contestants = comparison.theirs, comparison.ours
    idle: dict[str, list[float]] = {c.name: [] for c in contestants}
    most = comparison.most_images
    chosen = [point for point in chosen if most is None or point.batch <= most]
    with ExitStack() as stack:
        workers, versions = [], {}
        for contestant in contestants:
            python = sys.executable if contestant.module == "peer_pycnn" else peers_python
            worker = Worker(contestant, python, "convolution", threads, environment=ENVIRONMENT)
            workers.append(stack.enter_context(worker))
            try:
                versions[contestant.name] = worker.prepare()
            except WorkerError as error:
                raise WorkerError(f"{contestant.name}: {error}") from error
        for i, point in enumerate(chosen):
            if sys.stderr.isatty():
                print(f"\r{i + 1}/{len(chosen)} {point.convolution}\033[K", end="", file=sys.stderr)
            call_s = _build(point, workers, comparison)
            for row in _rows_of(point, comparison):
                row.rounds = rounds_for(sum(call_s[row.direction]), rounds)
                _time(row, workers, busy, idle)
                rows.append(row)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return versions, rows, _notes(rows, rounds, busy, idle)


def rounds_for(pair_s: float, rounds: int, budget_s: float = BUDGET_S) -> int:
    """Rounds of one direction when a call of both sides takes so long; a round has at least three.

    One warms the caches, `SAMPLES` (one if a call is long) are timed.
    """
    a_round = pair_s * (1 + samples_for(pair_s))
    return max(LEAST_ROUNDS, min(rounds, int(budget_s / max(a_round, 1e-9))))


def samples_for(pair_s: float) -> int:
    """Samples in a round."""
    return SAMPLES if pair_s < 0.1 else 1


def _build(point: Point, workers: list[Worker], comparison: Comparison) -> dict[str, list[float]]:
    """Let all sides build the convolution, compare their results; each one's seconds a call."""
    replies = []
    for worker in workers:
        time.sleep(PAUSE_S)
        job = point.convolution.as_job(point.batch)
        replies.append(worker.ask({"build": job}))
    for direction in comparison.directions:
        theirs, ours = (np.array(reply["values"][direction]) for reply in replies)
        # Far above float32's rounding, Winograd's too, and far below any mistake.
        limit = 1e-3 * float(np.abs(theirs).max()) + 1e-6
        if not (np.abs(theirs - ours) <= limit).all():
            raise RuntimeError(f"pycnn and PyTorch disagree: {point}, {direction}")
    return {d: [reply["call_s"][d] for reply in replies] for d in comparison.directions}


def _rows_of(point: Point, comparison: Comparison) -> list[Row]:
    convolution = point.convolution
    shape = conv2d_shape(
        "sweep",
        convolution.input_shape(point.batch),
        convolution.weight_shape,
        convolution.stride,
        convolution.padding,
        dilation=1,
        groups=convolution.groups,
    )
    return [
        Row(point, direction, shape.choice(direction, comparison.packed)[0])
        for direction in comparison.directions
    ]


def _time(row: Row, workers: list[Worker], busy: list[float], idle: dict[str, list[float]]) -> None:
    samples = SAMPLES
    for _ in range(row.rounds):
        for worker, seconds in zip(workers, (row.theirs, row.ours), strict=True):
            busy.append(machine.busy_share(PAUSE_S))
            request = {"direction": row.direction, "samples": samples, "sample_s": SAMPLE_S}
            reply = worker.ask(request)
            seconds += reply["seconds"]
            idle[worker.name].append(reply["idle_cpu_s"])
        samples = samples_for(min(row.theirs) + min(row.ours))


def _notes(
    rows: list[Row], rounds: int, busy: list[float], idle: dict[str, list[float]]
) -> list[str]:
    fewer = [row for row in rows if row.rounds < rounds]
    notes = []
    if fewer:
        least = min(row.rounds for row in fewer)
        longest = max(max(row.theirs) + max(row.ours) for row in fewer)
        notes.append(
            f"{len(fewer)} of {len(rows)} cases had fewer than {rounds} rounds (column `rounds`, "
            f"least {least}), so that none takes much more than {BUDGET_S:.0f} s; their longest "
            f"pair of calls took {duration(longest)}."
        )
    return notes + notes_of_quiet(busy, idle, PAUSE_S)


def notes_of_quiet(busy: list[float], idle: dict[str, list[float]], pause_s: float) -> list[str]:
    """Sentences, if the machine was busy in the pauses, or a contestant's threads spun."""
    notes = []
    share = statistics.mean(busy)
    if share > machine.BUSY_SHARE:
        notes.append(
            f"WARNING: other processes took {share:.0%} of the CPUs in the pauses: repeat it on a "
            "quiet machine."
        )
    for name, seconds in idle.items():
        if statistics.median(seconds) > pause_s / 2:
            notes.append(
                f"WARNING: {name} took {statistics.median(seconds) * 1e3:.0f} ms of CPU time in "
                "the median between two of its blocks: its threads spin."
            )
    return notes


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Geometric means of the ratios, per direction and of all."""
    means: dict[str, dict[str, float]] = {}
    for name in (*dict.fromkeys(row["direction"] for row in rows), "all"):
        mine = [row for row in rows if name in ("all", row["direction"])]
        means[name] = {
            f"geometric_mean_{key}": geometric_mean([row[f"ratio_{key}"] for row in mine])
            for key in ("min", "median")
        }
        means[name]["worst"] = min(row["ratio_min"] for row in mine)
        means[name]["below_one"] = sum(row["ratio_min"] < 1 for row in mine)
        means[name]["cases"] = len(mine)
    return means


HEADERS = (
    "convolution", "N", "direction", "auto", "PyTorch", "pycnn", "ratio", "median",
    "GFLOP/s", "% of peak", "rounds",
)  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    """One line of the table; times are minima."""
    share = row["share_of_peak"]
    return [
        f"{row['network']} {row['shape']}",
        str(row["batch"]),
        row["direction"],
        row["algorithm"],
        duration(row["pytorch_min_s"]),
        duration(row["pycnn_min_s"]),
        f"{row['ratio_min']:.2f}",
        f"{row['ratio_median']:.2f}",
        f"{row['gflops']:.1f}",
        "-" if share is None else f"{share:.0%}",
        str(row["rounds"]),
    ]


def text(contest: dict[str, Any], rounds: int) -> str:
    """The table, the geometric means, the worst ten."""
    rows, names = contest["rows"], ", ".join(f"{k} {v}" for k, v in contest["versions"].items())
    worst = sorted(rows, key=lambda row: row["ratio_min"])[:WORST]
    means = [
        [
            name,
            f"{value['geometric_mean_min']:.3f}",
            f"{value['geometric_mean_median']:.3f}",
            f"{value['worst']:.2f}",
            f"{value['below_one']} of {value['cases']}",
        ]
        for name, value in contest["summary"].items()
    ]
    parts = [
        f"\nConvolutions beside {contest['comparison']}, {contest['threads']} thread(s), {names}, "
        f"{rounds} rounds, "
        f"{contest['seconds']:.0f} s. Times are minima, ratios PyTorch / pycnn.",
        table(HEADERS, [cells(row) for row in rows]),
        "\nPyTorch / pycnn, geometric mean (above 1: pycnn is faster)",
        table(("direction", "of minima", "of medians", "worst minima", "minima below 1"), means),
        f"\nThe worst {len(worst)}",
        table(HEADERS, [cells(row) for row in worst]),
    ]
    return "\n".join(parts)
