"""200 training steps with a busy process beside them: what it costs a step that uses all CPUs."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .bench_training import training_batches
from .peers import network
from .peers.contest import PAUSE_S, Contestant, Worker, WorkerError
from .timing import table

STEPS, BLOCK = 200, 20
KINDS = (
    Contestant("pycnn", "peer_pycnn"),
    Contestant("pycnn after PyTorch", "peer_pycnn_after_torch"),
)


class Neighbour:
    """A pure spin loop on the CPUs of the steps, not pinned to one; asleep outside of `with`."""

    def __init__(self, cpus: list[int]) -> None:
        code = "while True: pass"
        self._process = subprocess.Popen([sys.executable, "-c", code])
        os.sched_setaffinity(self._process.pid, cpus)
        self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Neighbour:
        self._process.send_signal(signal.SIGCONT)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGSTOP)


def run(*, threads: int, batch: int, quick: bool, peers_python: str) -> dict[str, Any]:
    """Measure, print, return what goes to the JSON file. `threads`: of the steps that suffer."""
    images, labels, source = training_batches(batch)
    report: dict[str, Any] = {"batch": batch, "images": source, "steps": 0, "kinds": {}}
    report.update(threads=threads, left_out={})
    rounds, calls = (2, 5) if quick else (STEPS // BLOCK, BLOCK)
    report["steps"] = rounds * calls
    with tempfile.TemporaryDirectory() as folder:
        data = network.save(Path(folder), network.lecture_parameters(), images, labels)
        for kind in KINDS:
            python = sys.executable if kind.module == "peer_pycnn" else peers_python
            try:
                seconds = _measure(kind, python, data, threads, rounds, calls)
            except WorkerError as error:
                print(f"\n{kind.name} is left out: {error}")
                report["left_out"][kind.name] = str(error)
                continue
            report["kinds"][kind.name] = summary(seconds)
            print(text(kind.name, report["kinds"][kind.name], batch))
    return report


def _measure(
    kind: Contestant, python: str, data: Path, threads: int, rounds: int, calls: int
) -> dict[str, list[float]]:
    """Seconds of all steps under each condition, in interleaved blocks."""
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    with ExitStack() as stack:
        single = stack.enter_context(Worker(kind, python, "training", 1, data))
        several = stack.enter_context(Worker(kind, python, "training", threads, data))
        for worker in (single, several):
            worker.prepare()
            worker.block(calls)
        neighbour = Neighbour(cpus)
        stack.callback(neighbour.close)
        seconds: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, worker in (("1 thread", single), (f"{threads} threads", several)):
                time.sleep(PAUSE_S)
                seconds.setdefault(f"{name}, quiet", []).extend(worker.block(calls)["seconds"])
            time.sleep(PAUSE_S)
            with neighbour:
                busy = several.block(calls)["seconds"]
            seconds.setdefault(f"{threads} threads, busy", []).extend(busy)
    return seconds


def summary(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Mean, median and maximum by condition; the ratio of the last mean to the first."""
    conditions = {
        name: {
            "mean_s": statistics.mean(values),
            "median_s": statistics.median(values),
            "max_s": max(values),
            "steps": len(values),
        }
        for name, values in seconds.items()
    }
    means = [condition["mean_s"] for condition in conditions.values()]
    return {"conditions": conditions, "ratio": means[-1] / means[0]}


def text(name: str, result: dict[str, Any], batch: int) -> str:
    """A line a condition, and the ratio."""
    conditions = result["conditions"]
    keys = ("mean_s", "median_s", "max_s")
    rows = [
        [condition, *(f"{values[key] * 1e3:.2f}" for key in keys)]
        for condition, values in conditions.items()
    ]
    quiet, *_, busy = conditions
    steps = conditions[busy]["steps"]
    return "\n".join(
        [
            f"\n{name}, {steps} steps of batch {batch} under each condition",
            table(("", "mean ms", "median ms", "max ms"), rows),
            f"mean of {busy} / mean of {quiet}: {result['ratio']:.2f}",
        ]
    )
