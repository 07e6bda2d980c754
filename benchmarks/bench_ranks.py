"""Steps on ranks of MPI beside one process and PyTorch's DDP; what sums cost, and what they hide.

Every contestant is a job of its own, started anew in each round: `ranks_worker`, `peers.torch_ddp`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import machine
from .simulate_ranks import LINKS
from .timing import duration, table

STEPS = {"resnet20": ("ResNet-20, batch 128", 128, 8), "lecture": ("lecture, batch 800", 800, 12)}
PLACES: dict[str, dict[str, Any]] = {
    "1 process x 2 threads": {"slots": 1, "threads": 2},
    "1 process x 2 threads, 8 slots": {"slots": 8, "threads": 2},
    "2 ranks x 1 thread, 8 slots": {"slots": 8, "threads": 1, "mpi": True},
}
SLOW = LINKS[1]  # 10 GbE
DDP = "PyTorch DDP, gloo, 2 x 1 thread"
PLAIN, SLOTS, RANKS = PLACES
SIZES = [4 << 2 * i for i in range(12)] + [44_000_000]  # 4 bytes to 16 MB, then ResNet-18's


class JobError(RuntimeError):
    """A job ended with an error; the message is the last line of what it said."""


def mpiexec(ranks: int) -> list[str]:
    """The beginning of a command: the mpiexec beside this interpreter, or that of the system."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise JobError("there is no mpiexec: pip install 'pycnn[mpi]'")
    return [found, "-n", str(ranks)]


def command(job: dict[str, Any]) -> list[str]:
    """What starts a job of `ranks_worker`."""
    worker = [sys.executable, "-m", "benchmarks.ranks_worker", json.dumps(job)]
    return [*mpiexec(2), *worker] if job.get("mpi") else worker


def answer(started: list[str]) -> dict[str, Any]:
    """The last line that a command prints, which is JSON."""
    run = subprocess.run(started, capture_output=True, text=True, check=False)
    if run.returncode:
        raise JobError((run.stderr.strip().splitlines() or ["it said nothing"])[-1])
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def ddp(python: str, batch: int, steps: int) -> dict[str, Any]:
    """Seconds of the steps of two processes of PyTorch."""
    with TemporaryDirectory() as folder:
        start = [python, "-m", "benchmarks.peers.torch_ddp"]
        rest = ["2", f"{folder}/meeting", str(batch), str(steps)]
        second = subprocess.Popen([*start, "1", *rest], stderr=subprocess.DEVNULL)
        try:
            return answer([*start, "0", *rest])
        except JobError:
            second.kill()
            raise
        finally:
            second.wait()


def step_times(rounds: int, peers_python: str) -> dict[str, Any]:
    """For each network and contestant: seconds, and the means of waiting and moving a round."""
    found: dict[str, Any] = {}
    left_out: str | None = None
    for network, (_, batch, steps) in STEPS.items():
        entries: dict[str, Any] = {}
        for _ in range(rounds):
            for name, place in PLACES.items():
                job = {"job": "steps", "network": network, "batch": batch, "steps": steps, **place}
                _add(entries, name, answer(command(job)))
            if network == "resnet20" and left_out is None:
                try:
                    _add(entries, DDP, ddp(peers_python, batch, steps))
                except JobError as error:
                    left_out = str(error)
                    print(f"{DDP}: left out: {left_out}")
        found[network] = entries
    return found


def _add(entries: dict[str, Any], name: str, result: dict[str, Any]) -> None:
    entry = entries.setdefault(name, {"seconds": [], "waiting": [], "moving": []})
    entry["seconds"] += result["seconds"]
    for part in ("waiting", "moving"):
        if part in result:
            entry[part].append(result[part])


def hidden(found: dict[str, list[float]]) -> dict[str, float]:
    """The share of the sums that overlap hides, and what the sums take.

    Of minima, and of medians of the differences in each turn: the sums are small beside a step, so
    the difference of medians would be that of slow and fast minutes.
    """
    turns = zip(found["with"], found["without"], found["no sums"], strict=True)
    left, sums = zip(*((a - c, b - c) for a, b, c in turns), strict=True)
    bare = min(found["no sums"])
    report = {}
    for name, part, whole in (
        ("min", min(found["with"]) - bare, min(found["without"]) - bare),
        ("median", statistics.median(left), statistics.median(sums)),
    ):
        report |= {f"left_{name}_s": part, f"sums_{name}_s": whole}
        report[f"hidden_{name}"] = 1 - part / whole
    return report


def overlap(rounds: int, steps: int, link: tuple[float, float] | None = None) -> dict[str, Any]:
    """Steps of a network with 47 MB of gradients: with overlap, without, and without sums.

    link: (alpha, beta), to which messages are slowed down.
    """
    found: dict[str, list[float]] = {"with": [], "without": [], "no sums": []}
    job = {"job": "overlap", "network": "resnet18", "batch": 8, "slots": 8, "threads": 1}
    slow = {} if link is None else {"link": link}
    for _ in range(rounds):
        result = answer(command({**job, **slow, "steps": steps, "mpi": True}))
        for name, seconds in found.items():
            seconds += result[name]
    return {"seconds": found, **hidden(found)}


def exchanges(samples: int) -> dict[str, Any]:
    """What messages between two ranks of this machine take, and alpha, beta, gamma of the model."""
    job = {"job": "exchange", "bytes": SIZES, "samples": samples, "mpi": True, "threads": 1}
    return {**(found := answer(command(job))), **line(found)}


def line(found: dict[str, Any]) -> dict[str, float]:
    """alpha: half of a ping-pong of 4 bytes; beta, gamma: seconds a byte of exchanging, adding."""
    small, large = str(SIZES[0]), str(SIZES[-1])
    report = {}
    for name, pick in (("min", min), ("median", statistics.median)):
        report[f"alpha_{name}_s"] = alpha = pick(found["ping-pong"][small])
        report[f"beta_{name}_s"] = (pick(found["exchange"][large]) - alpha) / SIZES[-1]
        report[f"gamma_{name}_s"] = pick(found["addition"])
    return report


def kill() -> float:
    """Seconds from the SIGKILL of one of two ranks to the end of the job."""
    job = {"job": "endless", "network": "resnet20", "batch": 128, "slots": 8, "mpi": True}
    started = command({**job, "threads": 1})
    with subprocess.Popen(
        started, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout
        pid = json.loads(run.stdout.readline())["pid"]
        time.sleep(0.3)  # somewhere in a step
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        try:
            code = run.wait(60)
        except subprocess.TimeoutExpired:
            run.terminate()
            return float("inf")
        elapsed = time.perf_counter() - began
    if code == 0:
        raise JobError("a job ended with 0, though one of its ranks was killed")
    return elapsed


def run(*, rounds: int, quick: bool, peers_python: str) -> dict[str, Any]:
    """Measure, print, return what goes to the JSON file; {"left_out": why} without MPI."""
    rounds = 1 if quick else rounds
    try:
        report: dict[str, Any] = {
            "rounds": rounds,
            "exchange": exchanges(3 if quick else 9),
            "steps": step_times(rounds, peers_python),
            "overlap": {
                name: overlap(max(1, rounds // 3), 2 if quick else 15, link)
                for name, link in (
                    ("shared memory", None),
                    (f"slowed to {SLOW.name}", (SLOW.alpha, SLOW.beta)),
                )
            },
            "kill": [kill() for _ in range(1 if quick else 3)],
        }
    except JobError as error:
        print(f"ranks: left out: {error}")
        return {"left_out": str(error)}
    report["figures"] = figures(report)
    print(text(report))
    return report


def figures(report: dict[str, Any]) -> dict[str, list[float]]:
    """[of minima, of medians] of the ratios that the page quotes."""
    found = {}
    for network, entries in report["steps"].items():
        for title, above, below in (
            ("1 process / 2 ranks", PLAIN, RANKS),
            ("8 slots / none, 1 process", SLOTS, PLAIN),
            ("PyTorch DDP / pycnn, 2 ranks", DDP, RANKS),
        ):
            if above in entries:
                pairs = [
                    pick(entries[above]["seconds"]) / pick(entries[below]["seconds"])
                    for pick in (min, statistics.median)
                ]
                found[f"{title}, {STEPS[network][0]}"] = pairs
    for name, hide in report["overlap"].items():
        title = f"share of the sums hidden, ResNet-18, {name}"
        found[title] = [hide["hidden_min"], hide["hidden_median"]]
    return found


def text(report: dict[str, Any]) -> str:
    """Tables of steps, of messages, of overlap, and of the figures."""
    lines = [f"\nRanks, {machine.cpu_name()}, {report['rounds']} rounds"]
    rows = []
    for network, entries in report["steps"].items():
        for name, entry in entries.items():
            parts = [
                duration(statistics.median(entry[part])) if entry[part] else "-"
                for part in ("waiting", "moving")
            ]
            rows.append([STEPS[network][0], name, *both(entry["seconds"]), *parts])
    lines.append(table(("step", "", "min", "median", "waiting", "moving"), rows))
    rows = [
        [f"{size:,}", *both(report["exchange"]["ping-pong"][str(size)]),
         *both(report["exchange"]["exchange"][str(size)])]
        for size in SIZES
    ]  # fmt: skip
    headers = ("bytes", "half a ping-pong, min", "median", "both at once, min", "median")
    lines += ["", table(headers, rows), _model(report["exchange"])]
    rows = [
        [link, name, *both(seconds)]
        for link, found in report["overlap"].items()
        for name, seconds in found["seconds"].items()
    ]
    lines += ["", table(("ResNet-18, 2 ranks", "overlap", "min", "median"), rows), ""]
    rows = [
        [name, *(f"{value:.2f}" for value in values)] for name, values in report["figures"].items()
    ]
    lines.append(table(("", "of minima", "of medians"), rows))
    ends = both(report["kill"])
    lines.append(f"from the kill of a rank to the end of the job: {ends[0]} / {ends[1]}")
    return "\n".join(lines)


def both(seconds: list[float]) -> list[str]:
    """Minimum and median."""
    return [duration(min(seconds)), duration(statistics.median(seconds))]


def _model(found: dict[str, Any]) -> str:
    return "; ".join(
        f"{name}: {duration(found[f'alpha_{pick}_s'])}, {1e-9 / found[f'beta_{pick}_s']:.2f} GB/s, "
        f"additions {1e-9 / found[f'gamma_{pick}_s']:.2f} GB/s"
        for name, pick in (("of minima", "min"), ("of medians", "median"))
    )
